"""Effects are done once, in order, and all or nothing."""

from __future__ import annotations

import pytest

from janus_lite.errors import Code
from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation
from tests.differential.programs import faults

FILES = ("draws", "effects", "outside")
CASES = [pytest.param(f, n, e, id=n) for f in FILES for n, e in expectations(f).items()]


@pytest.mark.parametrize(("file", "name", "expectation"), CASES)
def test_a_program_equals_eager(file: str, name: str, expectation: Expectation) -> None:
    outcome = equal_calls(file, name)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    if expectation.code is not None:
        assert outcome.stats.hits == 0
        assert expectation.code in {reason.code.value for reason in outcome.reasons}


FAULTS = [pytest.param(n, e, id=n) for n, e in expectations("faults").items()]


@pytest.mark.parametrize(("name", "expectation"), FAULTS)
def test_a_failure_anywhere_leaves_what_eager_leaves(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("faults", name, calls=faults.CALLS)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    assert not outcome.reasons or {r.code for r in outcome.reasons} == {Code.VALUE_VARIES}
