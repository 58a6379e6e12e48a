"""Shadow runs find nothing where nothing is wrong, and disturb nothing."""

from __future__ import annotations

import pytest

from janus_lite.errors import Code
from tests.differential.harness import equal_calls, expectations

PROGRAMS = [
    pytest.param(file, name, id=name)
    for file in ("effects", "varying", "changed_torch")
    for name in expectations(file)
]


# What is verified is never merged: one of the two runs says it all.
@pytest.mark.parametrize("forced", [True], ids=["fingerprint"], indirect=True)
@pytest.mark.parametrize(("file", "name"), PROGRAMS)
def test_a_verified_program_equals_eager(file: str, name: str) -> None:
    outcome = equal_calls(file, name, verify="always")

    assert Code.UNEQUAL not in {reason.code for reason in outcome.reasons}
