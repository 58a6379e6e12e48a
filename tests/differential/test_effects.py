"""Effects are done once, in order, and all or nothing."""

from __future__ import annotations

import pytest

from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation

CASES = [pytest.param(n, e, id=n) for n, e in expectations("effects").items()]


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_a_program_equals_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("effects", name)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    if expectation.code is not None:
        assert outcome.stats.hits == 0
        assert expectation.code in {reason.code.value for reason in outcome.reasons}
