"""Comparing results: bitwise means bits, and every difference is named."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.equality import Comparison, Verdict, compare, worst

pytestmark = pytest.mark.tiny


@dataclass
class Output:
    logits: Tensor
    cache: Any = None


class Cache:
    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self.layers = [self]


def _name(value: object) -> str:
    """The same in every process: no addresses."""
    return re.sub(r" object at 0x\w+", "", str(value))


NAN = torch.tensor([float("nan"), 1.0])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (torch.ones(3), torch.ones(3)),
        (NAN, NAN.clone()),
        ((1, [torch.zeros(2)], {"a": None}), (1, [torch.zeros(2)], {"a": None})),
        (Output(torch.ones(2)), Output(torch.ones(2))),
        (Output(torch.ones(2), Cache(NAN)), Output(torch.ones(2), Cache(NAN.clone()))),
        (OrderedDict(a=1.5), OrderedDict(a=1.5)),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2j])),
        (torch.tensor([True]), torch.tensor([True])),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        (float("nan"), float("nan")),
    ],
    ids=_name,
)
def test_equal_bits_are_bitwise(left: Any, right: Any) -> None:
    assert compare(left, right) == Comparison(Verdict.BITWISE)


@pytest.mark.parametrize(
    ("left", "right", "where"),
    [
        (torch.ones(3), torch.ones(3).double(), "dtype"),
        (torch.ones(3), torch.ones(1, 3), "shape"),
        (torch.ones(2, 3), torch.ones(3, 2).t(), "stride"),
        (torch.ones(3), torch.ones(3, requires_grad=True), "requires_grad"),
        (torch.ones(3), [1.0, 1.0, 1.0], "type Tensor"),
        ((1, 2), [1, 2], "type tuple"),
        ((1, 2), (1, 3), r"\[1\]: expected 2, found 3"),
        (True, 1, "type bool"),
        (1.0, 1, "type float"),
        (0.0, -0.0, "-0.0"),
        ({"a": 1}, {"b": 1}, "parts"),
        ({"a": 1}, {"a": 1, "b": 1}, "parts"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "parts"),
        (Output(torch.ones(2)), Output(torch.zeros(2)), r"\.logits: .* found 0"),
        (Cache(torch.ones(2)), Cache(torch.zeros(2)), r"\.keys"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "flat index 1"),
        (torch.ones(2), NAN, "flat index 0"),
    ],
    ids=_name,
)
def test_a_difference_is_wrong_and_named(left: Any, right: Any, where: str) -> None:
    comparison = compare(left, right)

    assert comparison.verdict is Verdict.WRONG
    assert re.search(where, comparison.where), comparison.where


def test_other_bits_of_nearly_equal_values_are_close_and_not_bitwise() -> None:
    value = torch.tensor([1.0, 2.0])

    comparison = compare({"y": value}, {"y": value + 1e-7})

    assert comparison.verdict is Verdict.CLOSE
    assert "['y']" in comparison.where


@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [
        (torch.float64, 1e-10, 1e-8),
        (torch.float32, 1e-5, 1e-3),
        (torch.bfloat16, 1e-2, 1e-1),
        (torch.complex64, 1e-5, 1e-3),
    ],
)
def test_what_another_rounding_explains_is_close_and_more_is_wrong(
    dtype: torch.dtype, near: float, far: float
) -> None:
    value = torch.tensor([0.0, 1.0, 100.0], dtype=dtype)

    assert compare(value, value + 100 * near).verdict is Verdict.CLOSE
    assert compare(value, value + 100 * far).verdict is Verdict.WRONG


def test_whole_numbers_have_no_rounding() -> None:
    value = torch.tensor([1_000_000])

    assert compare(value, value + 1).verdict is Verdict.WRONG


@pytest.mark.parametrize("other", [float("inf"), float("nan"), 1.0])
def test_what_is_not_finite_must_be_the_same(other: float) -> None:
    value = torch.tensor([-float("inf"), 1.0])

    assert compare(value, torch.tensor([other, 1.0])).verdict is Verdict.WRONG
    assert compare(value, value + torch.tensor([0.0, 1e-6])).verdict is Verdict.CLOSE
    assert compare(NAN, torch.ones(2)).verdict is Verdict.WRONG


def test_negative_zero_is_not_bitwise_zero() -> None:
    assert compare(torch.zeros(2), -torch.zeros(2)).verdict is Verdict.CLOSE


def test_one_wrong_part_outweighs_close_parts() -> None:
    left = [torch.ones(1), torch.ones(1)]
    right = [torch.ones(1) + 1e-7, torch.zeros(1)]

    assert compare(left, right).verdict is Verdict.WRONG


def test_the_worst_of_several_comparisons_counts() -> None:
    close, wrong = Comparison(Verdict.CLOSE, "a"), Comparison(Verdict.WRONG, "b")

    assert worst([Comparison(Verdict.BITWISE), close, wrong]) == wrong
    assert worst([close, Comparison(Verdict.BITWISE)]) == close
    assert worst([]) == Comparison(Verdict.BITWISE)
