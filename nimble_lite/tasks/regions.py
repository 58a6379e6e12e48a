"""Branches and loops that are decided on tensor values, as one task each.

In: a predicate or an index on the device, functions of tensors, operands. Out: tensors of their
own bytes: a result never shares memory with an operand or with another result.

This is the protocol by which a graph states control flow. Called plainly, the functions are an
`if` and a `while`. While a recording listens, every arm is recorded as a task graph and the call
becomes one task with a `Region` as its target: emitted as Python `if` and `while` on the CPU, as
conditional nodes of the CUDA graph on a device. Arms are pure: they write nothing from outside,
take from the run what they are given as operands, and all return tensors of one form.
`torch.ops.higher_order.cond`, `while_loop` and `switch` nodes of a `GraphModule` are read as
these (`origins.NodeTracker`).

Example:
    >>> def newton(x, target):
    ...     (x,) = while_loop(
    ...         lambda x: (x * x - target).abs() > 1e-6,
    ...         lambda x: ((x + target / x) / 2,), (x,))
    ...     return x
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from nimble_lite.errors import BackendError, StaleValueError
from nimble_lite.tasks.graph import (
    Arm,
    Origin,
    Ref,
    Region,
    RegionKind,
    StorageKind,
    TaskGraph,
    TensorMeta,
)

DEFAULT_CAP = 1_000_000

_Function = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One call of a region.

    Attributes:
        kind: of choice.
        functions: the arms as they were given.
        selector: predicate or index; `None` for a loop.
        carried: first state of a loop; empty for a branch.
        additional: tensors that each arm gets too.
        cap: most iterations.
    """

    kind: RegionKind
    functions: tuple[_Function, ...]
    selector: torch.Tensor | None
    carried: tuple[torch.Tensor, ...]
    additional: tuple[torch.Tensor, ...]
    cap: int = DEFAULT_CAP


class Listener(Protocol):
    """A recording that turns calls into tasks."""

    def region(self, call: Call) -> Any:
        """Record a call and return its results."""


_active = threading.local()


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Hand the calls of this thread to a listener."""
    before = getattr(_active, "listener", None)
    _active.listener = listener
    try:
        yield
    finally:
        _active.listener = before


def cond(
    predicate: torch.Tensor | bool,  # noqa: FBT001 - as torch.cond takes it
    then: _Function,
    otherwise: _Function,
    operands: Sequence[torch.Tensor],
) -> Any:
    """Return what `then` returns where `predicate: bool[]` holds, else what `otherwise` does."""
    if isinstance(predicate, bool):
        return (then if predicate else otherwise)(*operands)
    return _call(RegionKind.IF, (then, otherwise), predicate, operands)


def switch(index: torch.Tensor, arms: Sequence[_Function], operands: Sequence[torch.Tensor]) -> Any:
    """Return what `arms[index]` returns, for an integer `index[]` clamped to the arms there are."""
    return _call(RegionKind.SWITCH, tuple(arms), index, operands)


def while_loop(
    condition: _Function,
    body: _Function,
    carried: Sequence[torch.Tensor],
    additional: Sequence[torch.Tensor] = (),
    *,
    cap: int = DEFAULT_CAP,
) -> tuple[torch.Tensor, ...]:
    """Repeat `carried = body(*carried, *additional)` while the condition holds on the same.

    Args:
        condition: returns `bool[]`.
        body: returns tensors of the form of `carried`, in a tuple or list.
        carried: state, copied first.
        additional: tensors that stay as they are.
        cap: most iterations; a loop that is not done by then raises NL0208.
    """
    call = Call(
        kind=RegionKind.WHILE,
        functions=(condition, body),
        selector=None,
        carried=tuple(carried),
        additional=tuple(additional),
        cap=cap,
    )
    results: tuple[torch.Tensor, ...] = tuple(_heard(call))
    return results


def _call(
    kind: RegionKind,
    functions: tuple[_Function, ...],
    selector: torch.Tensor,
    operands: Sequence[torch.Tensor],
) -> Any:
    call = Call(
        kind=kind,
        functions=functions,
        selector=selector,
        carried=(),
        additional=tuple(operands),
    )
    return _heard(call)


def _heard(call: Call) -> Any:
    listener: Listener | None = getattr(_active, "listener", None)
    return run_plainly(call) if listener is None else listener.region(call)


def run_plainly(call: Call) -> Any:
    """Run a call as a Python `if` or `while`."""
    if call.selector is not None:
        chosen = int(call.selector)
        if call.kind is RegionKind.IF:
            place = 0 if chosen else 1
        else:
            place = min(max(chosen, 0), len(call.functions) - 1)
        return _own(call.functions[place](*call.additional), call.additional)
    condition, body = call.functions
    state = [tensor.clone() for tensor in call.carried]
    count = 0
    while condition(*state, *call.additional):
        if count == call.cap:
            raise cap_reached("a loop", call.cap)
        count += 1
        state = list(_own(tuple(body(*state, *call.additional)), call.additional))
    return state


def cap_reached(what: str, cap: int) -> StaleValueError:
    """Make the error for a loop that does not end."""
    return StaleValueError(
        "NL0208",
        what=f"{what} was not done after the most iterations it may take",
        found=f"{cap:,} iterations and a condition that still holds",
        expected="a condition that turns false before",
        hint="raise cap, or see why the loop does not converge for these inputs",
    )


def _own(result: Any, others: Sequence[torch.Tensor]) -> Any:
    """Give every result bytes of its own."""
    leaves, spec = tree_flatten(result)
    seen = {tensor.untyped_storage()._cdata for tensor in others}
    kept: list[Any] = []
    for leaf in leaves:
        storage = leaf.untyped_storage()._cdata if isinstance(leaf, torch.Tensor) else 0
        kept.append(leaf.clone() if storage in seen else leaf)
        seen.add(storage)
    return tree_unflatten(kept, spec)


def make_region(
    call: Call, graphs: Sequence[TaskGraph], origin: Origin
) -> tuple[Region, tuple[torch.Tensor, ...]]:
    """Put the recorded arms of a call together.

    Args:
        call: what was called.
        graphs: one recording per function, of the operands.
        origin: the user's line, for errors.

    Returns:
        The region, and its operands in order: selector or state, additional tensors, and every
        tensor that an arm found elsewhere.
    """
    if not all(isinstance(tensor, torch.Tensor) for tensor in call.additional):
        raise _refusal(origin, "an operand that is no tensor", "tensors")
    _refuse_impure(graphs, origin)
    heads = (call.selector,) if call.selector is not None else call.carried
    given = len(heads) + len(call.additional)
    outside = {id(c.tensor): c.tensor for graph in graphs for c in graph.constants}
    place = {key: given + number for number, key in enumerate(outside)}
    first = 0 if call.selector is None else 1
    arms = tuple(_arm(call, graph, place, first) for graph in graphs)
    returning = arms[1:] if call.kind is RegionKind.WHILE else arms
    results = [_result_forms(arm) for arm in returning]
    if call.kind is RegionKind.WHILE:
        results.append([_form(_bare_meta(tensor.clone())) for tensor in call.carried])
        condition = _result_forms(arms[0])
        if [form[:2] for form in condition] != [(torch.bool, ())]:
            raise _refusal(origin, f"a condition that returns {condition}", "one bool[]")
    _require_one_form(results, [graph.output_spec for graph in graphs], call.kind, origin)
    region = Region(
        kind=call.kind,
        arms=arms,
        carried=len(call.carried),
        cap=call.cap,
        results=tuple(
            _with_form(arm_meta, form)
            for arm_meta, form in zip(_output_metas(returning[0].graph), results[-1], strict=True)
        ),
    )
    return region, (*heads, *call.additional, *outside.values())


_Form = tuple[torch.dtype, tuple[int, ...], tuple[int, ...], torch.device]


def _arm(call: Call, graph: TaskGraph, place: dict[int, int], first: int) -> Arm:
    """Turn what a recording took from elsewhere into operands."""
    refs = [leaf for leaf in graph.inputs if isinstance(leaf, Ref)]
    where = {ref.value: first + number for number, ref in reversed(list(enumerate(refs)))}
    where |= {c.value: place[id(c.tensor)] for c in graph.constants}
    storages = tuple(
        replace(s, kind=StorageKind.INPUT) if s.kind is StorageKind.CONSTANT else s
        for s in graph.storages
    )
    inputs = (*refs, *(Ref(c.value) for c in graph.constants))
    lifted = replace(graph, inputs=inputs, constants=(), storages=storages)
    return Arm(
        graph=lifted,
        operands=tuple(where[value] for value in sorted(where)),
        copied=_copied(lifted, where, len(call.carried)),
    )


def _copied(graph: TaskGraph, where: dict[int, int], carried: int) -> tuple[bool, ...]:
    """Outputs on the bytes of an operand (but a loop's own state) or of an earlier output."""
    foreign = {graph.values[value].storage for value, place in where.items() if place >= carried}
    copied = []
    for meta in _output_metas(graph):
        copied.append(meta.storage in foreign)
        foreign.add(meta.storage)
    return tuple(copied)


def _output_metas(graph: TaskGraph) -> list[TensorMeta]:
    return [graph.values[leaf.value] for leaf in graph.outputs if isinstance(leaf, Ref)]


def _result_forms(arm: Arm) -> list[_Form]:
    """Form of each result after the copies."""
    pairs = zip(_output_metas(arm.graph), arm.copied, strict=True)
    return [_form(_copied_meta(meta) if is_copied else meta) for meta, is_copied in pairs]


def _form(meta: TensorMeta) -> _Form:
    return meta.dtype, meta.shape, meta.stride, meta.device


def _bare_meta(tensor: torch.Tensor) -> TensorMeta:
    return TensorMeta(
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        stride=tuple(tensor.stride()),
        offset=0,
        device=tensor.device,
        requires_grad=False,
        storage=-1,
    )


def _copied_meta(meta: TensorMeta) -> TensorMeta:
    """Metadata of a clone, which keeps the layout of what is dense and packs the rest."""
    like = torch.empty_strided(meta.shape, meta.stride, dtype=meta.dtype, device="meta")
    return replace(meta, stride=tuple(like.clone().stride()), offset=0)


def _with_form(meta: TensorMeta, form: _Form) -> TensorMeta:
    return replace(meta, stride=form[2], offset=0, requires_grad=False, storage=-1)


def _require_one_form(
    results: Sequence[list[_Form]], specs: Sequence[TreeSpec], kind: RegionKind, origin: Origin
) -> None:
    for other in results[1:]:
        if other != results[0]:
            raise _refusal(
                origin, f"results {_text(results[0])} and {_text(other)}", "one form for all arms"
            )
    if kind is not RegionKind.WHILE and any(spec != specs[0] for spec in specs):
        raise _refusal(origin, "arms that return different structures", "one structure")


def _text(forms: list[_Form]) -> str:
    shown = (f"{str(d).removeprefix('torch.')}{list(s)} stride {list(t)}" for d, s, t, _ in forms)
    return f"({', '.join(shown)})"


def _refuse_impure(graphs: Sequence[TaskGraph], origin: Origin) -> None:
    for graph in graphs:
        for task in graph.tasks:
            if any(graph.storages[number].kind is not StorageKind.BORN for number in task.writes):
                raise _refusal(
                    origin,
                    f"{task.name} at {task.origin} writes a tensor from outside",
                    "pure arms",
                )
        if any(not isinstance(leaf, Ref) for leaf in graph.outputs):
            raise _refusal(origin, "an arm that returns something else than tensors", "tensors")


def _refusal(origin: Origin, found: str, expected: str) -> BackendError:
    return BackendError(
        "NL0404",
        what=f"the region at {origin} cannot be decided on the device",
        found=found,
        expected=expected,
        hint="return tensors of one form from every arm and hand tensors in as operands",
    )
