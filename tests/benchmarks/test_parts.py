"""The parts of a call are the real ones: they hold while nothing changed, and fail when it did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from benchmarks.baselines import VARIANTS
from benchmarks.cases import Runner, start
from benchmarks.catalogue import CALLS
from benchmarks.measure import CONVERSION_SEED
from benchmarks.parts import PARTS, parts_of


def replayed(name: str) -> Runner:
    case = next(case for case in CALLS if case.name == name)
    runner = start(case, "cpu")
    runner.apply(VARIANTS["janus"], CONVERSION_SEED)
    for _ in range(2):
        runner.outcome(CONVERSION_SEED)
    return runner


@pytest.fixture(autouse=True)
def without_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_a_module_has_all_parts_and_they_hold() -> None:
    runner = replayed("ten_linear_8")

    parts = parts_of(runner)

    assert tuple(parts) == PARTS
    assert isinstance(parts["entry_check"](), tuple)
    assert parts["module_tree"]() is True


def test_a_changed_module_fails_both_parts() -> None:
    runner = replayed("ten_linear_8")
    parts = parts_of(runner)

    assert isinstance(runner.module, nn.Sequential)
    runner.module[3] = nn.Identity()

    assert not isinstance(parts["entry_check"](), tuple)
    assert parts["module_tree"]() is False


def test_a_function_with_few_guards_has_no_module_tree() -> None:
    assert tuple(parts_of(replayed("x_plus_1"))) == ("entry_check",)


def test_the_time_of_a_miss_is_refused() -> None:
    runner = replayed("ten_linear_8")
    assert isinstance(runner.module, nn.Sequential)
    runner.module[3] = nn.Identity()

    with pytest.raises(RuntimeError, match="the guards do not hold"):
        parts_of(runner)
