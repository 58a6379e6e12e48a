"""A fault at every operation: what eager would have left behind, a replay leaves behind.

The same ATen operator, counted from the start of the call, raises in the plain copy of a program
and in the replay of the speculated one. Then an assertion fails after every operation of the graph.
Objects, gradients, random numbers and the error itself are compared after each call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from janus_lite import function
from janus_lite.errors import Code, Reason
from janus_lite.function import SpeculativeFunction
from janus_lite.program.generalize import Program, generalize
from janus_lite.record.trace import Operation, OperationKind, Ref, Trace
from janus_lite.runtime import ambient, emit
from tests.differential.harness import PROGRAMS, compare, load, observe, speculate
from tests.differential.kit import World

FILE = PROGRAMS / "interrupted.py"
NAMES = [
    name
    for name, build in vars(load(FILE)).items()
    if getattr(build, "__code__", None) is not None
    and build.__code__.co_filename == str(FILE)
    and build.__code__.co_argcount == 0
]
NEVER = 1_000_000


class FaultError(RuntimeError):
    """Raised in place of an operator."""


class Faulty(TorchDispatchMode):
    """Lets one operator raise, counted from the start or from the last fault.

    A fault starts the count anew: where a replay that failed is made up for by an imperative run,
    that run meets the same fault at the same place. What only looks at a tensor is not counted: a
    replay may look once where eager looks twice.
    """

    def __init__(self, at: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch gives it no types
        self._at = at
        self._count = 0
        self.seen: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count an operator, then run it or raise."""
        if func.is_view:
            return func(*args, **(kwargs or {}))
        self.seen.append(str(func))
        self._count += 1
        if self._count > self._at:
            self._count = 0
            raise FaultError(f"instead of {func}")
        return func(*args, **(kwargs or {}))


class Pair:
    """A program plain and speculated."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.worlds = self._build(), self._build()
        self.speculative: SpeculativeFunction = speculate(self.worlds[1])
        self._step = 0

    def _build(self) -> World:
        torch.manual_seed(0)
        world = getattr(load(FILE), self.name)()
        assert isinstance(world, World)
        return world

    def call(self, at: int | None = None) -> tuple[list[str], list[str]]:
        """Call both and compare; return the operators that each ran, up to the fault."""
        self._step += 1
        seen, shown = [], []
        for world in self.worlds:
            mode = Faulty(NEVER if at is None else at)
            original = world.call
            world.state = (
                {**world.state, "subject": original} if _is_module(original) else world.state
            )
            if at is not None:
                world.call = _under(mode, original)
            try:
                shown.append(observe(world, self._step))
            finally:
                world.call = original
            seen.append(mode.seen)
        compare(shown[0], shown[1], f"{self.name}, fault at {at}, {self.speculative.stats}")
        return seen[0], seen[1]


def _is_module(value: object) -> bool:
    return isinstance(value, torch.nn.Module)


def _under(mode: Faulty, call: Callable[..., Any]) -> Callable[..., Any]:
    def under(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return call(*args, **kwargs)

    return under


@pytest.fixture
def blind_to_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a replay run although the mode that raises is active, as nothing else would."""
    monkeypatch.setattr(ambient, "modes_are_off", lambda: True)
    monkeypatch.setattr(emit, "tensor_guard", lambda *_: lambda *_: True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("blind_to_modes")
def test_an_error_in_any_operator_leaves_what_eager_leaves(name: str) -> None:
    pair = Pair(name)
    pair.call()
    pair.call()
    assert pair.speculative.stats.hits == 1, pair.speculative.explain()
    plain, replayed = pair.call(at=NEVER)
    assert pair.speculative.stats.hits == 2
    assert replayed == plain, "a replay computes what eager computes"

    for at in range(len(plain)):
        hits = pair.speculative.stats.hits
        before, _ = pair.call(at=at)
        assert len(before) >= at
        pair.call()
        assert pair.speculative.stats.hits == hits + 1, "the next call replays, and is right"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_failed_assertion_at_any_operation_leaves_what_eager_leaves(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = _operations(name)
    failed = refused = 0

    for at in range(count):
        monkeypatch.setattr(function, "generalize", _with_a_false_assertion(at))
        pair = Pair(name)
        for _ in range(3):
            pair.call()
        stats = pair.speculative.stats
        codes = {reason.code for reason in pair.speculative.reasons}
        failed += stats.assertion_failures > 0
        refused += Code.LATE_ASSERTION in codes and stats.converted == 0
        assert stats.hits == 0 or stats.assertion_failures == 0
    assert failed + refused > 0


def _operations(name: str) -> int:
    pair = Pair(name)
    pair.call()
    (conversion,) = pair.speculative.conversions
    return len(conversion.program.operations)


def _with_a_false_assertion(at: int) -> Callable[..., Program | Reason]:
    """`generalize`, after operation `at` has been made one whose shape is never as recorded."""

    def changed(trace: Trace, *rest: Any, **named: Any) -> Program | Reason:
        operations = list(trace.operations)
        if at < len(operations) and _may_be_checked(operations[at]):
            operations[at] = replace(operations[at], kind=OperationKind.SHAPE, expected=(-1,))
        return generalize(replace(trace, operations=tuple(operations)), *rest, **named)

    return changed


def _may_be_checked(operation: Operation) -> bool:
    """Whether it is an operation that data could give another shape: it makes a tensor."""
    target = getattr(operation.target, "__name__", "")
    is_in_place = target.endswith("_") or target == "__setitem__"
    is_computed = operation.kind is OperationKind.COMPUTE
    return is_computed and not is_in_place and isinstance(operation.output, Ref)


def test_there_are_enough_programs() -> None:
    assert len(NAMES) >= 20
