"""Every way to write Python gives what eager gives, with its graph or its coded reason and line."""

from __future__ import annotations

from pathlib import Path

import pytest

import janus_lite
from tests.differential.harness import (
    PROGRAMS,
    build,
    equal_calls,
    expectations,
    observe,
    speculate,
)
from tests.differential.kit import Expectation

CASES = [pytest.param(n, e, id=n) for n, e in expectations("nasty").items()]
REFUSED = [case for case in CASES if case.values[1].code]  # type: ignore[union-attr] # an Expectation


@pytest.mark.parametrize(("name", "expectation"), CASES)
def test_a_program_equals_eager(name: str, expectation: Expectation) -> None:
    outcome = equal_calls("nasty", name)

    assert outcome.stats.hits >= expectation.hits, outcome.speculative.explain()
    if expectation.code is not None:
        assert outcome.stats.hits == 0
        assert expectation.code in {reason.code.value for reason in outcome.reasons}


@pytest.mark.parametrize(("name", "expectation"), REFUSED)
def test_strict_raises_the_reason_with_the_users_line(name: str, expectation: Expectation) -> None:
    world = build("nasty", name)
    speculative = speculate(world, strict=True)

    world.change = None
    seen = observe(world, 0)

    assert seen.error is not None
    assert seen.error[0] == "ConversionError"
    (reason,) = speculative.reasons
    assert seen.error[1] == str(reason)
    assert reason.code.value == expectation.code
    assert reason.site is not None
    assert Path(reason.site.file) == PROGRAMS / "nasty.py" or reason.site.file == "<string>"
    assert reason.site.line > 0
    assert str(reason.site.line) in str(janus_lite.explain(speculative))


def test_there_are_enough_programs() -> None:
    assert len(CASES) >= 60
    assert len(REFUSED) >= 30
