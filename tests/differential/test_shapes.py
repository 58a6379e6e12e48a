"""Tensors of another size in every call: the right answer each time, after few recordings."""

from __future__ import annotations

import pytest

from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation

CASES = [pytest.param(n, e, id=n) for n, e in expectations("shapes").items()]
COUNT = 24


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_calls_of_all_sizes_equal_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("shapes", name, COUNT)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
