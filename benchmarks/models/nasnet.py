"""NASNet-A mobile and large for ImageNet, after Zoph et al. (2018).

Written from the paper's cells with the stacking of the published checkpoints: a strided stem
convolution, two reducing stem cells, three groups of normal cells with a reduction between
them. In the mobile network, whose maps have even sizes, strided operations pad by one pixel more
at the top left and crop it off again, as TensorFlow's "SAME" padding requires. Evaluation only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3


class Separable(nn.Module):
    """Two rectified depthwise-separable convolutions; the first one may be strided and padded."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, *, is_padded: bool = False
    ) -> None:
        super().__init__()
        self.is_padded = is_padded
        self.depthwise_1 = nn.Conv2d(
            inputs, inputs, size, stride, size // 2, groups=inputs, bias=False
        )
        self.pointwise_1 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.depthwise_2 = nn.Conv2d(
            outputs, outputs, size, 1, size // 2, groups=outputs, bias=False
        )
        self.pointwise_2 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.norm_2 = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps with `outputs` channels."""
        maps = torch.relu(maps)
        if self.is_padded:
            maps = _cropped(self.pointwise_1(self.depthwise_1(_shifted(maps))))
        else:
            maps = self.pointwise_1(self.depthwise_1(maps))
        maps = torch.relu(self.norm_1(maps))
        result: Tensor = self.norm_2(self.pointwise_2(self.depthwise_2(maps)))
        return result


def _cropped(maps: Tensor) -> Tensor:
    return maps[:, :, 1:, 1:].contiguous()


def _shifted(maps: Tensor) -> Tensor:
    return F.pad(maps, (1, 0, 1, 0))


def _average(maps: Tensor, stride: int) -> Tensor:
    return F.avg_pool2d(maps, 3, stride, 1, count_include_pad=False)


class Adapt(nn.Module):
    """Rectify, convolve one by one, normalise."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps with `outputs` channels."""
        result: Tensor = self.norm(self.conv(torch.relu(maps)))
        return result


class Halve(nn.Module):
    """Bring maps of twice the resolution to a cell's own: two shifted grids, concatenated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of half the height and width."""
        maps = torch.relu(maps)
        even = self.even(F.avg_pool2d(maps, 1, 2, count_include_pad=False))
        shifted = F.pad(maps, (0, 1, 0, 1))[:, :, 1:, 1:]
        odd = self.odd(F.avg_pool2d(shifted, 1, 2, count_include_pad=False))
        result: Tensor = self.norm(torch.cat([even, odd], 1))
        return result


class NormalCell(nn.Module):
    """Five sums of two operations, and the older input passed on."""

    def __init__(self, before_last: int, last: int, filters: int, *, is_first: bool) -> None:
        super().__init__()
        self.older = (Halve if is_first else Adapt)(before_last, filters)
        self.newer = Adapt(last, filters)
        self.newer_5 = Separable(filters, filters, 5)
        self.older_3 = Separable(filters, filters, 3)
        self.older_5 = Separable(filters, filters, 5)
        self.older_3_again = Separable(filters, filters, 3)
        self.newer_3 = Separable(filters, filters, 3)
        self.outputs = 6 * filters

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Return six times `filters` maps."""
        older, newer = self.older(before_last), self.newer(last)
        return torch.cat(
            [
                older,
                self.newer_5(newer) + self.older_3(older),
                self.older_5(older) + self.older_3_again(older),
                _average(newer, 1) + older,
                _average(older, 1) + _average(older, 1),
                self.newer_3(newer) + newer,
            ],
            1,
        )


class ReductionCell(nn.Module):
    """Four sums at half the resolution.

    Args:
        older: brings the older input to `width` channels.
        width: its channels then.
        last: channels of the newer input.
        filters: channels of each sum.
        is_padded: whether strided operations pad and crop.
    """

    def __init__(
        self, older: nn.Module, width: int, last: int, filters: int, *, is_padded: bool
    ) -> None:
        super().__init__()
        self.is_padded = is_padded
        self.older = older
        self.newer = Adapt(last, filters)
        self.newer_5 = Separable(filters, filters, 5, 2, is_padded=is_padded)
        self.older_7 = Separable(width, filters, 7, 2, is_padded=is_padded)
        self.older_7_again = Separable(width, filters, 7, 2, is_padded=is_padded)
        self.older_5 = Separable(width, filters, 5, 2, is_padded=is_padded)
        self.sum_3 = Separable(filters, filters, 3)
        self.outputs = 4 * filters

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Return four times `filters` maps."""
        older, newer = self.older(before_last), self.newer(last)
        first = self.newer_5(newer) + self.older_7(older)
        second = self._max(newer) + self.older_7_again(older)
        third = self._average(newer) + self.older_5(older)
        fourth = _average(first, 1) + second
        fifth = self.sum_3(first) + self._max(newer)
        return torch.cat([second, third, fourth, fifth], 1)

    def _max(self, maps: Tensor) -> Tensor:
        if self.is_padded:
            return _cropped(F.max_pool2d(_shifted(maps), 3, 2, 1))
        return F.max_pool2d(maps, 3, 2, 1)

    def _average(self, maps: Tensor) -> Tensor:
        return _cropped(_average(_shifted(maps), 2)) if self.is_padded else _average(maps, 2)


class NASNetA(nn.Module):
    """NASNet-A.

    Args:
        repeats: normal cells in each of the three groups.
        filters: of the first group; doubled for each next one.
        stem: filters of the stem convolution.
        is_mobile: strided operations pad and crop, and the first cell after a reduction sees the
            last normal cell before it; in the large network it sees the last but one.
        classes: number of classes.
    """

    def __init__(
        self, repeats: int, filters: int, stem: int, *, is_mobile: bool, classes: int = 1000
    ) -> None:
        super().__init__()
        self.is_mobile = is_mobile
        self.stem = nn.Conv2d(3, stem, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(stem, eps=EPSILON)
        quarter, half = filters // 4, filters // 2
        self.stem_0 = ReductionCell(nn.Identity(), stem, stem, quarter, is_padded=False)
        self.stem_1 = ReductionCell(Halve(stem, half), half, filters, half, is_padded=is_mobile)
        before_last, last = filters, 2 * filters
        self.cells = nn.ModuleList()
        for group in range(3):
            width = filters << group
            if group:
                older = Adapt(before_last, width)
                reduction = ReductionCell(older, width, last, width, is_padded=is_mobile)
                self.cells.append(reduction)
                before_last = last if is_mobile else before_last
                last = reduction.outputs
            for index in range(repeats):
                cell = NormalCell(before_last, last, width, is_first=index == 0)
                self.cells.append(cell)
                before_last, last = last, cell.outputs
        self.dropout = nn.Dropout()
        self.classifier = nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `f32[batch, classes]` of `images: f32[batch, 3, height, width]`."""
        start: Tensor = self.norm(self.stem(images))
        before_last: Tensor = self.stem_0(start, start)
        last: Tensor = self.stem_1(start, before_last)
        for cell in self.cells:
            if isinstance(cell, ReductionCell):
                reduced = cell(before_last, last)
                before_last, last = (last if self.is_mobile else before_last), reduced
            else:
                before_last, last = last, cell(before_last, last)
        pooled = torch.relu(last).mean((2, 3))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def nasnet_a_mobile() -> NASNetA:
    """NASNet-A (4 @ 1056), for images of 224 x 224."""
    return NASNetA(repeats=4, filters=44, stem=32, is_mobile=True)


def nasnet_a_large() -> NASNetA:
    """NASNet-A (6 @ 4032), for images of 331 x 331."""
    return NASNetA(repeats=6, filters=168, stem=96, is_mobile=False)
