"""Every kind of outside change is seen by the very next call: no replay answers for the past."""

from __future__ import annotations

import pytest

from tests.differential.harness import Seen, build, differs, equal_calls, expectations, observe
from tests.differential.kit import CHANGE_AT, Expectation, World

PROGRAMS = [
    pytest.param(file, name, expectation, id=name)
    for file in ("changed_python", "changed_torch", "held_out", "attacked")
    for name, expectation in expectations(file).items()
]


@pytest.mark.parametrize(("file", "name", "expectation"), PROGRAMS)
def test_the_next_call_sees_a_change(file: str, name: str, expectation: Expectation) -> None:
    outcome = equal_calls(file, name)

    assert outcome.hits_before_change >= expectation.hits, outcome.speculative.explain()
    assert expectation.code in {None, *(reason.code.value for reason in outcome.reasons)}


@pytest.mark.parametrize(("file", "name", "expectation"), PROGRAMS)
def test_the_change_is_one_that_a_stale_answer_would_miss(
    file: str, name: str, expectation: Expectation
) -> None:
    without = _last_call(build(file, name), with_change=False)
    with_change = _last_call(build(file, name), with_change=True)

    assert differs(with_change, without) or not expectation.is_visible


def _last_call(world: World, *, with_change: bool) -> Seen:
    for step in range(CHANGE_AT):
        observe(world, step)
    return observe(world, CHANGE_AT, with_change=with_change)


def test_there_are_enough_kinds_of_change() -> None:
    assert len(PROGRAMS) >= 60
