"""Branches and loops that hang on data: 40 calls as in eager, few of them recordings."""

from __future__ import annotations

import pytest

from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation

CASES = [pytest.param(n, e, id=n) for n, e in expectations("regions").items()]
COUNT = 40


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_forty_calls_equal_eager(name: str, expectation: Expectation, forced: bool) -> None:
    outcome = equal_calls("regions", name, COUNT)

    if forced:
        assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
