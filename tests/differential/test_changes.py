"""Every kind of outside change is seen by the very next call: a replay never answers for the past."""

from __future__ import annotations

import pytest

from tests.differential.harness import build, differs, equal_calls, expectations, observe
from tests.differential.kit import CHANGE_AT, Expectation

PROGRAMS = [
    pytest.param(file, name, expectation, id=name)
    for file in ("changed_python", "changed_torch")
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
    changed, unchanged = build(file, name), build(file, name)
    if changed.change is None and changed.around is None:
        return  # its inputs are what changes

    for step in range(CHANGE_AT + 1):
        with_change = observe(changed, step)
        without = observe(unchanged, step, with_change=False)

    assert differs(with_change, without) is expectation.is_visible


def test_there_are_enough_kinds_of_change() -> None:
    assert len(PROGRAMS) >= 60
