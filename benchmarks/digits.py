"""Real training on real images: LeNet on the handwritten digits that scikit-learn ships.

Enters: a variant. Leaves: the pairs of step times, both loss curves, both networks and the test
accuracy. Invariant: both networks start equal and see the same batches in the same order, and
are stepped in turn, so that every step is one pair and one comparison.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.architectures.base import WEIGHT_SEED, Call, seeded
from benchmarks.baselines import Target, Variant
from benchmarks.models.lenet import LeNet
from benchmarks.timing import Pairs, measure_steps, stopwatch_for

EPOCHS = 20
BATCH = 32
# What LeNet must reach on images it has not seen; otherwise the run says nothing.
NEEDED_ACCURACY = 0.97


@dataclass(frozen=True, slots=True)
class Digits:
    """Images `f32[n, 1, 32, 32]`, normalised, and labels `i64[n]`; split by a fixed seed."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What came of training both ways."""

    pairs: Pairs
    eager_losses: tuple[float, ...]
    losses: tuple[float, ...]
    eager_weights: dict[str, Tensor]
    weights: dict[str, Tensor]
    accuracy: float
    target: Target


@functools.cache
def load_digits() -> Digits:
    """Return scikit-learn's 1,797 digits of 8 x 8 pixels, enlarged to LeNet's 32 x 32."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    raw = load()
    images = torch.tensor(raw.images, dtype=torch.float32).unsqueeze(1) / 16.0
    images = F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    train, test = train_test_split(
        torch.arange(len(images)).numpy(), test_size=0.25, random_state=0, stratify=raw.target
    )
    images = (images - images[train].mean()) / images[train].std()
    labels = torch.tensor(raw.target)
    return Digits(images[train], labels[train], images[test], labels[test])


class Trainer:
    """One network on its way: `step()` takes the next batch, forward, backward, update."""

    def __init__(self, device: str, digits: Digits) -> None:
        with seeded(WEIGHT_SEED):
            self.network: nn.Module = LeNet().to(device)
        self.target: Target = self.network
        self.losses: list[Tensor] = []
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=3e-3)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimizer, EPOCHS * steps_per_epoch(digits)
        )
        self._batches = iter(_batches(digits, device))

    def step(self) -> None:
        """Train on one batch; only the forward pass belongs to the variant."""
        images, labels = next(self._batches)
        self._optimizer.zero_grad()
        loss = F.cross_entropy(self.target(images), labels)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.losses.append(loss.detach())

    @torch.no_grad()
    def accuracy(self, digits: Digits) -> float:
        """Return the share of test images that the network names rightly."""
        self.network.eval()
        device = next(self.network.parameters()).device
        guesses = self.target(digits.test_images.to(device)).argmax(dim=1).cpu()
        return float((guesses == digits.test_labels).float().mean())


def steps_per_epoch(digits: Digits) -> int:
    """Return how many batches an epoch has; the last one is smaller and counts."""
    return -(-len(digits.train_labels) // BATCH)


def train_both(variant: Variant, device: str, steps: int | None = None) -> Training:
    """Train one network eagerly and one under `variant`, step by step in turn."""
    digits = load_digits()
    eager, subject = Trainer(device, digits), Trainer(device, digits)
    subject.target = variant.prepare(subject.network, Call((digits.train_images[:BATCH],), {}))
    count = steps or EPOCHS * steps_per_epoch(digits)
    pairs = measure_steps(eager.step, subject.step, stopwatch_for(device), count)
    return Training(
        pairs=pairs,
        eager_losses=tuple(torch.stack(eager.losses).tolist()),
        losses=tuple(torch.stack(subject.losses).tolist()),
        eager_weights=_weights(eager.network),
        weights=_weights(subject.network),
        accuracy=subject.accuracy(digits),
        target=subject.target,
    )


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _batches(digits: Digits, device: str) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    count = len(digits.train_labels)
    return [
        (digits.train_images[chosen].to(device), digits.train_labels[chosen].to(device))
        for _ in range(EPOCHS)
        for chosen in torch.randperm(count, generator=generator).split(BATCH)
    ]
