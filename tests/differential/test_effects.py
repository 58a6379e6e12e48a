"""Effects are done once, in order, and all or nothing."""

from __future__ import annotations

import pytest

from janus_lite.errors import Code
from tests.differential.harness import equal_calls, expectations
from tests.differential.kit import Expectation
from tests.differential.programs import faults, training

FILES = ("draws", "effects", "outside")
CASES = [pytest.param(f, n, e, id=n) for f in FILES for n, e in expectations(f).items()]


@pytest.mark.parametrize(("file", "name", "expectation"), CASES)
def test_a_program_equals_eager(file: str, name: str, expectation: Expectation) -> None:
    outcome = equal_calls(file, name)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    if expectation.code is not None:
        assert outcome.stats.hits == 0
        assert expectation.code in {reason.code.value for reason in outcome.reasons}


TRAINING = [pytest.param(n, e, id=n) for n, e in expectations("training").items()]


@pytest.mark.parametrize(("name", "expectation"), TRAINING)
def test_a_train_step_equals_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("training", name, calls=training.CALLS)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    if expectation.code is not None:
        assert outcome.stats.hits == 0
        assert expectation.code in {reason.code.value for reason in outcome.reasons}


LONG = ["step_of_sgd", "step_of_sgd_with_foreach", "step_of_adam", "step_of_adamw_with_foreach"]


@pytest.mark.parametrize("name", [*LONG, "clipped_and_counted", "learning_rate_of_one_cycle"])
def test_fifty_steps_take_few_conversions(name: str) -> None:
    outcome = equal_calls("training", name, calls=50)

    assert outcome.stats.converted <= 3
    assert outcome.stats.hits >= 47


FAULTS = [pytest.param(n, e, id=n) for n, e in expectations("faults").items()]


@pytest.mark.parametrize(("name", "expectation"), FAULTS)
def test_a_failure_anywhere_leaves_what_eager_leaves(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("faults", name, calls=faults.CALLS)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    assert not outcome.reasons or {r.code for r in outcome.reasons} == {Code.VALUE_VARIES}
