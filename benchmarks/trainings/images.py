"""Image classifiers on scikit-learn's digits: LeNet, ResNet-50, Inception-v3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.digits import load_digits
from benchmarks.models.inception import InceptionV3
from benchmarks.models.lenet import LeNet
from benchmarks.models.resnet import ResNet50
from benchmarks.trainings.base import Convert, Training

_TEST_EVERY = 10


class Classification:
    """Momentum SGD on batches; every tenth step also looks at test images, in eval mode.

    Args:
        convert: prepares the network.
        network: its output is logits, or in training those of two heads.
        device: where it runs.
        size: pixels per side.
        channels: the grey images are repeated so many times.
        batch: images per step.
    """

    def __init__(
        self,
        convert: Convert,
        network: nn.Module,
        device: str,
        *,
        size: int,
        channels: int,
        batch: int,
    ) -> None:
        digits = load_digits()
        self._images = _prepared(digits.train_images[: 64 * batch], size, channels).to(device)
        self._labels = digits.train_labels[: 64 * batch].to(device)
        self._test_images = _prepared(digits.test_images[:batch], size, channels).to(device)
        self._test_labels = digits.test_labels[:batch].to(device)
        self._network = network.to(device)
        self._model = convert(self._network, self._images[:batch])
        self._optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
        self._batch = batch
        self._steps = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The classifier."""
        return (self._network,)

    def step(self) -> tuple[Tensor, ...]:
        """Train on the next batch."""
        start = self._steps * self._batch % len(self._images)
        chosen = slice(start, start + self._batch)
        self._optimizer.zero_grad()
        loss = _loss(self._model(self._images[chosen]), self._labels[chosen])
        loss.backward()
        self._optimizer.step()
        self._steps += 1
        if self._steps % _TEST_EVERY:
            return (loss.detach(),)
        return loss.detach(), self._test()

    @torch.no_grad()
    def _test(self) -> Tensor:
        self._network.eval()
        loss = _loss(self._model(self._test_images), self._test_labels)
        self._network.train()
        return loss


def _loss(output: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    if isinstance(output, tuple):
        logits, second = output
        return F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(second, labels)
    return F.cross_entropy(output, labels)


def _prepared(images: Tensor, size: int, channels: int) -> Tensor:
    if size != images.shape[-1]:
        images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    return images.expand(-1, channels, -1, -1).contiguous()


def lenet(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start LeNet on images of 32 x 32."""
    batch = 8 if is_small else 50
    return Classification(convert, LeNet(), device, size=32, channels=1, batch=batch)


def resnet50(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start ResNet-50; small: an eighth of its width and 32 x 32 images."""
    network = ResNet50(width=8 if is_small else 64)
    size, batch = (32, 4) if is_small else (224, 8)
    return Classification(convert, network, device, size=size, channels=3, batch=batch)


def inception_v3(
    convert: Convert,
    device: str,
    is_small: bool,  # noqa: FBT001 # a builder
) -> Training:
    """Start Inception-v3; small: an eighth of its width and 75 x 75 images, the fewest it takes."""
    network = InceptionV3(width=2 if is_small else 16)
    size, batch = (75, 2) if is_small else (299, 8)
    return Classification(convert, network, device, size=size, channels=3, batch=batch)
