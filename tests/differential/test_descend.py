"""What cannot be converted runs imperatively; what it calls is replayed, all of it as in eager."""

from __future__ import annotations

import pytest

from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation
from tests.differential.programs import descend

CASES = [pytest.param(n, e, id=n) for n, e in expectations("descend").items()]


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_a_program_equals_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("descend", name, descend.CALLS)

    below = sum(stats.hits for _, stats in outcome.stats.children)
    assert below >= expectation.hits, outcome.speculative.explain()
    if expectation.code is not None:
        assert outcome.stats.hits == 0
        assert expectation.code in {reason.code.value for reason in outcome.reasons}


def test_there_are_enough_programs() -> None:
    assert len(CASES) >= 30
