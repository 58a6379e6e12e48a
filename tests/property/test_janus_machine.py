"""Random programs, random calls, random changes: speculated equals plain after every call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from janus_lite import function
from janus_lite.record.trace import Read, ReadKind
from janus_lite.runtime import checks, emit, heap_check
from janus_lite.runtime.fingerprint import FingerprintBuilder
from janus_lite.runtime.guards import GuardEmitter
from tests.property.janus_machine import JanusMachine, Tally

NIGHTLY_SEEDS = range(8)
SEQUENCES_PER_SEED = 250


def run(folder: Path, sequences: int, number: int | None = None, *, shrink: bool = True) -> Tally:
    """Run the machine; without a seed it makes the same programs each time.

    Raises:
        AssertionError: a call showed something else than eager.
    """
    settled = Tally()

    @seed(number)
    class Machine(JanusMachine):
        tally = settled

    Machine.folder = folder
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=8,
            deadline=None,
            derandomize=number is None,
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return settled


def assert_it_tests_something(tally: Tally, sequences: int) -> None:
    assert tally.counts["sequences"] >= sequences
    assert tally.share("sequences with hits") > 0.4, tally
    assert tally.share("sequences with a change after a hit") > 0.25, tally
    assert tally.counts["hits"] > 0.25 * tally.counts["calls"], tally


@pytest.mark.slow
def test_random_sequences_equal_eager(tmp_path: Path) -> None:
    tally = run(tmp_path, sequences=150)

    assert_it_tests_something(tally, 150)
    assert len(tally.changes) > 40


@pytest.mark.nightly
@pytest.mark.parametrize("number", NIGHTLY_SEEDS)
def test_many_random_sequences_equal_eager(number: int, tmp_path: Path) -> None:
    tally = run(tmp_path, SEQUENCES_PER_SEED, number)

    assert_it_tests_something(tally, SEQUENCES_PER_SEED)


def test_a_night_is_two_thousand_sequences() -> None:
    assert len(NIGHTLY_SEEDS) * SEQUENCES_PER_SEED >= 2000


# --------------------------------------------------------------------------------- planted bugs


class AnyState:
    """In place of torch's check of its ambient state: whatever it is, it is as recorded."""

    def check(self) -> bool:
        return True


def without_read(kind: ReadKind) -> Callable[[pytest.MonkeyPatch], None]:
    """Forget to check one kind of read, wherever it is checked."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        condition, holds = GuardEmitter.condition, checks.holds

        def no_condition(self: GuardEmitter, read: Read) -> str:
            return "True" if read.kind is kind else condition(self, read)

        def always(read: Read, *call: Any) -> bool:
            return read.kind is kind or holds(read, *call)

        monkeypatch.setattr(GuardEmitter, "condition", no_condition)
        monkeypatch.setattr(heap_check, "holds", always)

    return plant


def without_tensor_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "tensor_guard", lambda _: lambda *_: True)


def without_ambient_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "GLOBAL_STATE_GUARD", AnyState)


def with_a_blind_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    build = FingerprintBuilder.build

    def blind(self: FingerprintBuilder) -> Any:
        fingerprint = build(self)
        fingerprint.read = lambda: b"nothing changes"
        return fingerprint

    monkeypatch.setattr(FingerprintBuilder, "build", blind)


PLANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    **{kind.name: without_read(kind) for kind in ReadKind},
    "tensors": without_tensor_guard,
    "ambient": without_ambient_guard,
    "fingerprint": with_a_blind_fingerprint,
}


@pytest.fixture(params=PLANTS)
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    PLANTS[request.param](monkeypatch)
    return str(request.param)


@pytest.mark.nightly
def test_the_machine_finds_a_planted_bug(planted: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="differs"):
        run(tmp_path, sequences=2000, number=1, shrink=False)
