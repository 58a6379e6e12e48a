"""Recursion: the answer is eager's in each call, and ever-new structures do find their graphs."""

from __future__ import annotations

import pytest

from tests.differential.harness import Outcome, equal_calls, expectations
from tests.differential.kit import Expectation
from tests.differential.programs import recursion

CASES = [pytest.param(n, e, id=n) for n, e in expectations("recursion").items()]


def all_hits(outcome: Outcome) -> int:
    """Replays of the function and of the roots below it."""
    return outcome.stats.hits + sum(stats.hits for _, stats in outcome.stats.children)


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_a_recursive_program_equals_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("recursion", name, recursion.CALLS)

    assert all_hits(outcome) >= expectation.hits, outcome.speculative.explain()


def test_there_are_enough_programs() -> None:
    assert len(CASES) >= 30
