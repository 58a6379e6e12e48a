"""The write-set: what is logged, when it is committed, what is undone."""

from __future__ import annotations

import torch

from janus_lite.errors import Code, Reason, Site
from janus_lite.program.effects import Transaction, plan_transaction
from janus_lite.record.effects import Effect, HostCall, Store, StoreKind, WriteLog
from janus_lite.record.outputs import Constant
from janus_lite.record.source import Pinned
from janus_lite.record.trace import Operation, OperationKind, Ref
from janus_lite.runtime.undo import remember, undo

SITE = Site("program.py", 7, "step")
OWNER = Pinned([], "owner")


# -------------------------------------------------------------------------------- the log


def test_a_place_that_was_written_is_known_by_object_and_key() -> None:
    log, table, other = WriteLog(), {"a": 1}, {"a": 1}

    log.written(table, "a")

    assert log.is_written(table, "a")
    assert not log.is_written(table, "b")
    assert not log.is_written(other, "a")
    assert log.is_changed(table)
    assert not log.is_rewritten(table)
    assert not log.is_changed(other)


def test_a_rewritten_container_is_changed_everywhere() -> None:
    log, values = WriteLog(), [1, 2]

    log.rewritten(values)

    assert log.is_rewritten(values)
    assert log.is_changed(values)
    assert not log.is_written(values, 0)


def test_a_log_keeps_what_it_names_alive() -> None:
    log = WriteLog()
    for number in range(100):
        log.written({number: number}, number)  # an address used again would be taken for this one

    assert len(log._changed) == 100


def test_effects_keep_their_order() -> None:
    log = WriteLog()
    effects: list[Effect] = [store(0), shown(1), store(2)]
    for effect in effects:
        log.add(effect)

    assert log.effects == effects


# ------------------------------------------------------------------------- the commit point


def operation(
    kind: OperationKind = OperationKind.COMPUTE,
    *,
    written: tuple[int, ...] = (),
    mutates: bool = False,
    is_undoable: bool = True,
    draws: bool = False,
    is_guarded: bool = False,
) -> Operation:
    return Operation(
        torch.relu,
        (Ref(0),),
        {},
        Ref(1),
        kind,
        written=tuple(map(Ref, written)),
        mutates=mutates or bool(written),
        is_undoable=is_undoable,
        draws=draws,
        is_guarded=is_guarded,
        site=SITE,
    )


def store(position: int, early: object = 1) -> Store:
    plans = (Constant(1),), (Constant(early),)
    return Store(StoreKind.ITEM, OWNER, 0, plans[0], SITE, position, plans[1])


def shown(position: int, since: int | None = None) -> HostCall:
    return HostCall(print, (), {}, "print", SITE, position, position if since is None else since)


COMPUTE, ASSERT = operation(), operation(OperationKind.ASSERT)
WRITE, DRAW, SHAPE = operation(written=(3,)), operation(draws=True), operation(OperationKind.SHAPE)


def planned(operations: list[Operation], *effects: Effect) -> Transaction:
    plan = plan_transaction(operations, effects)
    assert isinstance(plan, Transaction), plan
    return plan


def test_without_effects_everything_can_be_called_off() -> None:
    assert planned([COMPUTE, COMPUTE]).commit == 2


def test_the_first_effect_is_the_commit_point() -> None:
    assert planned([COMPUTE, COMPUTE, COMPUTE], store(1), store(2)).commit == 1


def test_the_first_change_is_the_commit_point() -> None:
    assert planned([COMPUTE, WRITE, COMPUTE]).commit == 1
    assert planned([COMPUTE, COMPUTE, DRAW]).commit == 2


def test_nothing_is_committed_before_the_last_assertion() -> None:
    for decision in (ASSERT, SHAPE, operation(is_guarded=True)):
        plan = planned([COMPUTE, decision, COMPUTE, COMPUTE], store(0), store(3))

        assert plan.commit == 2


def test_what_is_written_before_the_commit_point_is_undone() -> None:
    plan = planned([WRITE, DRAW, operation(written=(3, 5)), ASSERT, operation(written=(9,))])

    assert plan == Transaction(
        commit=4, undo=(Ref(3), Ref(5)), undoes_draws=True, generators=(), moves=()
    )


def test_what_is_written_after_it_is_not() -> None:
    plan = planned([ASSERT, WRITE, DRAW])

    assert plan == Transaction(commit=1, undo=(), undoes_draws=False, generators=(), moves=())


def test_an_object_that_changed_after_its_store_is_committed_at_the_end() -> None:
    assert planned([COMPUTE, COMPUTE, WRITE], store(1, early=2)).commit == 3
    assert planned([COMPUTE, COMPUTE, WRITE], store(1, early=2)).undo == (Ref(3),)


def refused(operations: list[Operation], *effects: Effect) -> Reason:
    reason = plan_transaction(operations, effects)
    assert isinstance(reason, Reason)
    return reason


def test_a_change_with_history_cannot_be_undone() -> None:
    followed = operation(written=(3,), is_undoable=False)

    assert refused([followed, ASSERT]).code is Code.LATE_ASSERTION
    assert refused([followed, ASSERT]).site == SITE
    assert planned([ASSERT, followed]).commit == 1


def test_text_is_not_shown_late_when_its_tensor_has_changed() -> None:
    change = operation(mutates=True)

    assert refused([change, ASSERT], shown(0)).code is Code.LATE_ASSERTION
    assert refused([DRAW, ASSERT], shown(0)).code is Code.LATE_ASSERTION
    assert planned([COMPUTE, ASSERT], shown(0)).commit == 2
    assert planned([change, ASSERT], shown(1)).commit == 2
    assert planned([ASSERT, change], shown(1)).commit == 1


def test_text_made_before_a_change_is_not_shown_after_it() -> None:
    change = operation(mutates=True)

    assert refused([COMPUTE, change], shown(2, since=1)).code is Code.LATE_ASSERTION
    assert planned([COMPUTE, change], shown(2, since=2)).commit == 2


# --------------------------------------------------------------------------------------- undo


def test_bytes_versions_and_random_states_come_back() -> None:
    whole = torch.arange(6.0)
    view, other = whole[2:4], torch.ones(2)
    generator = torch.Generator().manual_seed(4)
    torch.manual_seed(3)
    states = torch.get_rng_state(), generator.get_state()
    versions = whole._version, other._version

    saved = remember((view, other), (generator,), draws=True)
    whole.mul_(3)
    other.data.zero_()
    torch.rand(3)
    torch.rand(3, generator=generator)
    undo(saved)

    assert whole.tolist() == [0, 1, 2, 3, 4, 5]
    assert other.tolist() == [1, 1]
    assert (whole._version, other._version) == versions
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])


def test_random_states_stay_when_nothing_drew() -> None:
    torch.manual_seed(3)
    saved = remember((), (), draws=False)
    torch.rand(3)
    state = torch.get_rng_state()

    undo(saved)

    assert torch.equal(torch.get_rng_state(), state)


def test_inference_tensors_come_back_too() -> None:
    with torch.inference_mode():
        tensor = torch.ones(3)
        saved = remember((tensor,), (), draws=False)
        tensor.zero_()
        undo(saved)

    assert tensor.tolist() == [1, 1, 1]


def test_nothing_was_kept_yet() -> None:
    undo(None)
