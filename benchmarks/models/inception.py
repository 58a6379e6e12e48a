"""Inception-v3 after Szegedy et al. (2016), with its normalisation written out.

The norm branches on `training` and keeps running averages in Python code, and a second classifier
exists during training only: what a converter must not bake in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Batch normalisation without a learnt scale; averages move in `forward`."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-3) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel by its batch in training, else by the averages."""
        if self.training:
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        else:
            mean, variance = self.mean, self.variance
        scale = torch.rsqrt(variance + self.eps)
        return x * scale[:, None, None] + (self.shift - mean * scale)[:, None, None]


class Conv(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = RunningNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return F.relu(self.norm(self.conv(x)))


class Branches(nn.Module):
    """Towers side by side, their channels concatenated; some pool first."""

    def __init__(self, *towers: nn.Module) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, x: Tensor) -> Tensor:
        """Return all towers' channels."""
        return torch.cat([tower(x) for tower in self.towers], dim=1)


def _average(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(3, 1, padding=1), Conv(inputs, outputs, 1))


def _block_a(inputs: int, pooled: int, w: int) -> Branches:
    return Branches(
        Conv(inputs, 4 * w, 1),
        nn.Sequential(Conv(inputs, 3 * w, 1), Conv(3 * w, 4 * w, 5, padding=2)),
        nn.Sequential(
            Conv(inputs, 4 * w, 1),
            Conv(4 * w, 6 * w, 3, padding=1),
            Conv(6 * w, 6 * w, 3, padding=1),
        ),
        _average(inputs, pooled),
    )


def _block_b(inputs: int, w: int) -> Branches:
    return Branches(
        Conv(inputs, 24 * w, 3, 2),
        nn.Sequential(
            Conv(inputs, 4 * w, 1), Conv(4 * w, 6 * w, 3, padding=1), Conv(6 * w, 6 * w, 3, 2)
        ),
        nn.MaxPool2d(3, 2),
    )


def _row(inputs: int, outputs: int) -> Conv:
    return Conv(inputs, outputs, (1, 7), padding=(0, 3))


def _column(inputs: int, outputs: int) -> Conv:
    return Conv(inputs, outputs, (7, 1), padding=(3, 0))


def _block_c(inputs: int, middle: int, w: int) -> Branches:
    return Branches(
        Conv(inputs, 12 * w, 1),
        nn.Sequential(Conv(inputs, middle, 1), _row(middle, middle), _column(middle, 12 * w)),
        nn.Sequential(
            *(Conv(inputs, middle, 1), _column(middle, middle), _row(middle, middle)),
            *(_column(middle, middle), _row(middle, 12 * w)),
        ),
        _average(inputs, 12 * w),
    )


def _block_d(inputs: int, w: int) -> Branches:
    return Branches(
        nn.Sequential(Conv(inputs, 12 * w, 1), Conv(12 * w, 20 * w, 3, 2)),
        nn.Sequential(
            *(Conv(inputs, 12 * w, 1), _row(12 * w, 12 * w), _column(12 * w, 12 * w)),
            Conv(12 * w, 12 * w, 3, 2),
        ),
        nn.MaxPool2d(3, 2),
    )


def _split(inputs: int, outputs: int) -> Branches:
    return Branches(
        Conv(inputs, outputs, (1, 3), padding=(0, 1)), Conv(inputs, outputs, (3, 1), padding=(1, 0))
    )


def _block_e(inputs: int, w: int) -> Branches:
    return Branches(
        Conv(inputs, 20 * w, 1),
        nn.Sequential(Conv(inputs, 24 * w, 1), _split(24 * w, 24 * w)),
        nn.Sequential(
            Conv(inputs, 28 * w, 1), Conv(28 * w, 24 * w, 3, padding=1), _split(24 * w, 24 * w)
        ),
        _average(inputs, 12 * w),
    )


class InceptionV3(nn.Module):
    """The whole network; `width` 16 is the paper's."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            Conv(3, 2 * w, 3, 2),
            Conv(2 * w, 2 * w, 3),
            Conv(2 * w, 4 * w, 3, padding=1),
            nn.MaxPool2d(3, 2),
            Conv(4 * w, 5 * w, 1),
            Conv(5 * w, 12 * w, 3),
            nn.MaxPool2d(3, 2),
        )
        self.fine = nn.Sequential(
            _block_a(12 * w, 2 * w, w), _block_a(16 * w, 4 * w, w), _block_a(18 * w, 4 * w, w)
        )
        self.middle = nn.Sequential(
            _block_b(18 * w, w),
            *(_block_c(48 * w, middle * w, w) for middle in (8, 10, 10, 12)),
        )
        self.second = nn.Linear(48 * w, classes)
        self.coarse = nn.Sequential(_block_d(48 * w, w), _block_e(80 * w, w), _block_e(128 * w, w))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(128 * w, classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits `f32[batch, classes]`; in training, those of the second head as well."""
        x = self.middle(self.fine(self.stem(images)))
        second = self.second(x.mean(dim=(2, 3))) if self.training else None
        x = self.coarse(x).mean(dim=(2, 3))
        logits: Tensor = self.fc(self.dropout(x))
        return logits if second is None else (logits, second)
