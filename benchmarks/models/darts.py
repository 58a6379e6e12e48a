"""The DARTS and AmoebaNet-A networks for ImageNet, after Liu et al. (2019) and Real et al. (2019).

Both are stacks of one cell that is described by a genotype: pairs of (operation, input). The
cells and the stacking follow the mobile setting of the DARTS paper: three strided stem
convolutions, fourteen cells, two of them reductions. Evaluation only: no auxiliary head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Edge = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genotype:
    """Two inputs per node, and the nodes whose outputs are concatenated, for both cells."""

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]


DARTS = Genotype(
    normal=(
        ("sep_3", 0), ("sep_3", 1), ("sep_3", 0), ("sep_3", 1),
        ("sep_3", 1), ("skip", 0), ("skip", 0), ("dil_3", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max", 0), ("max", 1), ("skip", 2), ("max", 1),
        ("max", 0), ("skip", 2), ("skip", 2), ("max", 1),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip
AMOEBANET = Genotype(
    normal=(
        ("avg", 0), ("max", 1), ("sep_3", 0), ("sep_5", 2), ("sep_3", 0),
        ("avg", 3), ("sep_3", 1), ("skip", 1), ("skip", 0), ("avg", 1),
    ),
    normal_concat=(4, 5, 6),
    reduce=(
        ("avg", 0), ("sep_3", 1), ("max", 0), ("sep_7", 2), ("sep_7", 0),
        ("avg", 1), ("max", 0), ("max", 1), ("conv_7", 0), ("sep_3", 5),
    ),
    reduce_concat=(3, 4, 6),
)  # fmt: skip


def _relu_conv_bn(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
    )


def _depthwise(channels: int, size: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (size - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _separable(size: int) -> Callable[[int, int], nn.Module]:
    return lambda channels, stride: nn.Sequential(
        *_depthwise(channels, size, stride), *_depthwise(channels, size, 1)
    )


def _factorized(channels: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels),
    )


class FactorizedReduce(nn.Module):
    """Halves the resolution by two convolutions on grids shifted by one pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of half the height and width."""
        maps = torch.relu(maps)
        halves = torch.cat([self.even(maps), self.odd(maps[:, :, 1:, 1:])], dim=1)
        reduced: Tensor = self.norm(halves)
        return reduced


def _skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "skip": _skip,
    "avg": lambda _, stride: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "max": lambda _, stride: nn.MaxPool2d(3, stride, 1),
    "sep_3": _separable(3),
    "sep_5": _separable(5),
    "sep_7": _separable(7),
    "dil_3": lambda channels, stride: nn.Sequential(*_depthwise(channels, 3, stride, dilation=2)),
    "conv_7": _factorized,
}


class Cell(nn.Module):
    """Nodes of two operations each; the cell's inputs are the outputs of the two cells before."""

    def __init__(
        self,
        genotype: Genotype,
        before_last: int,
        last: int,
        channels: int,
        *,
        is_reduction: bool,
        follows_reduction: bool,
    ) -> None:
        super().__init__()
        self.edges = genotype.reduce if is_reduction else genotype.normal
        self.concat = genotype.reduce_concat if is_reduction else genotype.normal_concat
        self.outputs = channels * len(self.concat)
        adapt = FactorizedReduce if follows_reduction else _relu_conv_bn
        self.first = adapt(before_last, channels)
        self.second = _relu_conv_bn(last, channels)
        self.operations = nn.ModuleList(
            OPERATIONS[name](channels, 2 if is_reduction and source < 2 else 1)
            for name, source in self.edges
        )

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Return the concatenated nodes."""
        states = [self.first(before_last), self.second(last)]
        for node in range(len(self.edges) // 2):
            left, right = (
                self.operations[i](states[self.edges[i][1]]) for i in (2 * node, 2 * node + 1)
            )
            states.append(left + right)
        return torch.cat([states[index] for index in self.concat], dim=1)


class CellNetwork(nn.Module):
    """The ImageNet network of a genotype.

    Args:
        genotype: the two cells.
        channels: of the first cell; doubled by each reduction.
        cells: number of cells; a third and two thirds of the way stand the reductions.
        classes: number of classes.
    """

    def __init__(
        self, genotype: Genotype, channels: int = 48, cells: int = 14, classes: int = 1000
    ) -> None:
        super().__init__()
        self.stem_0 = nn.Sequential(
            nn.Conv2d(3, channels // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.stem_1 = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        before_last = last = channels
        self.cells = nn.ModuleList()
        follows_reduction = True
        for index in range(cells):
            is_reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if is_reduction else 1
            cell = Cell(
                genotype,
                before_last,
                last,
                channels,
                is_reduction=is_reduction,
                follows_reduction=follows_reduction,
            )
            self.cells.append(cell)
            before_last, last, follows_reduction = last, cell.outputs, is_reduction
        self.pool = nn.AvgPool2d(7)
        self.classifier = nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `f32[batch, classes]` of `images: f32[batch, 3, 224, 224]`."""
        before_last: Tensor = self.stem_0(images)
        last: Tensor = self.stem_1(before_last)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        logits: Tensor = self.classifier(self.pool(last).flatten(1))
        return logits


def darts() -> CellNetwork:
    """DARTS (second order) in the mobile setting."""
    return CellNetwork(DARTS, channels=48)
