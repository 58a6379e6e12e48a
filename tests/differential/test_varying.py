"""Numbers that vary from call to call: the right answer each time, after two recordings."""

from __future__ import annotations

import pytest

from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation

CASES = [pytest.param(n, e, id=n) for n, e in expectations("varying").items()]
COUNT = 20


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_twenty_calls_equal_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("varying", name, COUNT)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
