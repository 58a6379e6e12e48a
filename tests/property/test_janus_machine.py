"""Random programs, random calls, random changes: speculated equals plain after every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


def run(
    folder: Path,
    sequences: int,
    number: int | None = None,
    *,
    shrink: bool = True,
    changes: tuple[str, ...] = JanusMachine.changes,
) -> Tally:
    """Run the machine; without a seed it makes the same programs each time.

    Raises:
        AssertionError: a call showed something else than eager.
    """
    settled = Tally()

    @seed(number)
    class Machine(JanusMachine):
        tally = settled

    Machine.folder = folder
    Machine.changes = changes
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
@pytest.mark.timeout(1800)
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


def without_reads(*kinds: ReadKind) -> Callable[[pytest.MonkeyPatch], None]:
    """Forget to check some kinds of reads, wherever they are checked."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        condition, holds = GuardEmitter.condition, checks.holds

        def no_condition(self: GuardEmitter, read: Read) -> str:
            return "True" if read.kind in kinds else condition(self, read)

        def always(read: Read, *call: Any) -> bool:
            return read.kind in kinds or holds(read, *call)

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


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug, and changes of the outside that it makes unseen.

    Attributes:
        make: plants it.
        changes: words that the names of the changes contain; all changes when there are none.
    """

    make: Callable[[pytest.MonkeyPatch], None]
    changes: tuple[str, ...] = ()


K = ReadKind
# A second kind sees the same change and goes with the first: the order of a set, the values under
# a replaced dict, the methods of a replaced class.
PLANTS = {
    "IS": Plant(without_reads(K.IS), ("m.helper = ", "m.PART.apply", "m.net.fn")),
    "EQUALS": Plant(without_reads(K.EQUALS)),
    "TYPE": Plant(without_reads(K.TYPE, K.IS), ("__class__",)),
    "ABSENT": Plant(without_reads(K.ABSENT), ('NAMES["c"]', "PART.extra", "m.len", "net.late")),
    "LENGTH": Plant(without_reads(K.LENGTH), ("append", "STEPS[-1:]", "TAGS.add")),
    "KEYS": Plant(without_reads(K.KEYS), ("NAMES", "ORDER")),
    "MEMBERS": Plant(without_reads(K.MEMBERS, K.LENGTH, K.KEYS), ("TAGS",)),
    "SAME": Plant(without_reads(K.SAME), ("net.pair",)),
    "DISTINCT": Plant(without_reads(K.DISTINCT), ("PART.gain",)),
    "INSTANCE_DICT": Plant(without_reads(K.INSTANCE_DICT, K.EQUALS), ("PART.__dict__ = ",)),
    "MRO": Plant(without_reads(K.MRO, K.IS, K.ABSENT), ("__bases__", "m.PART = m.Other")),
    "FUNCTION": Plant(without_reads(K.FUNCTION), ("helper.__",)),
    "RECALL": Plant(without_reads(K.RECALL), ("RATE",)),
    "tensors": Plant(without_tensor_guard),
    "ambient": Plant(without_ambient_guard),
    "fingerprint": Plant(with_a_blind_fingerprint),
}


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLANTS)
def test_the_machine_finds_a_planted_bug(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant = PLANTS[name]
    plant.make(monkeypatch)
    changes = tuple(c for c in JanusMachine.changes if any(w in c for w in plant.changes or ("",)))

    with pytest.raises(AssertionError, match="differs"):
        run(tmp_path, sequences=1000, number=1, shrink=False, changes=changes)


def test_every_kind_of_guard_is_planted() -> None:
    assert set(PLANTS) == {kind.name for kind in ReadKind} | {"tensors", "ambient", "fingerprint"}
