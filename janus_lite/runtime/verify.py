"""Shadow runs: a graph on copies of its inputs, beside the imperative run that answers the call.

A verified call runs the generated operations on copies, keeping every result, then the user's
function for real under the recorder. Operations, results, outside tensors, stores, output and
random states are compared bit for bit. The caller gets the imperative result in any case.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from janus_lite.errors import Code, Reason
from janus_lite.program.generalize import Program
from janus_lite.record.effects import Effect, HostCall
from janus_lite.record.heap import SCALARS
from janus_lite.record.outputs import Built, Constant, Loaded
from janus_lite.record.source import Source
from janus_lite.record.text import Piece, Text
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Operation, Ref, refs_in
from janus_lite.runtime.checks import Call, value_at
from janus_lite.runtime.emit import MISS, RAISED, Emitted, Leave
from janus_lite.runtime.undo import remember, undo
from janus_lite.torch_internals import set_versions

Watch = Callable[[Operation, object], None]
Rerun = Callable[[tuple[Any, ...], dict[str, Any], Watch], tuple[Any, Program | Reason]]
# What they return is whatever stood in memory.
_UNFILLED = frozenset(
    "empty empty_like empty_strided empty_permuted new_empty new_empty_strided".split()
)
_EVERY = re.compile(r"every:([1-9]\d*)")


def schedule(verify: str) -> Callable[[int], bool] | None:
    """Return which replays to verify, by number from 0; `None` for none.

    Args:
        verify: `"off"`, `"first"`, `"every:N"` or `"always"`.

    Raises:
        ValueError: anything else.
    """
    every = _EVERY.fullmatch(verify) if isinstance(verify, str) else None
    if every is not None:
        step = int(every[1])
        return lambda number: number % step == 0
    try:
        return {"off": None, "first": lambda n: n == 0, "always": lambda _: True}[verify]
    except (KeyError, TypeError):
        expected = '"off", "first", "every:N" with N at least 1, or "always"'
        raise ValueError(f"verify expects {expected}, found {verify!r}") from None


class Verifier:
    """Stands in for a graph's `call`; see the module docstring.

    Args:
        program: what the graph was made from.
        emitted: its generated function, with a shadow.
        is_due: which replays to verify.
        rerun: runs the user's function under the recorder; gives its result and its program.
        report: called with the difference; the graph is not to be used again.
    """

    def __init__(
        self,
        program: Program,
        emitted: Emitted,
        is_due: Callable[[int], bool],
        rerun: Rerun,
        report: Callable[[Verifier, Reason], None],
    ) -> None:
        self._program = program
        self._emitted = emitted
        self._is_due = is_due
        self._rerun = rerun
        self._report = report
        self._replays = 0

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replay, or run imperatively beside a shadow when it is due."""
        is_due = self._is_due(self._replays)
        result = self._verified(args, kwargs) if is_due else self._emitted.call(args, kwargs)
        self._replays += type(result) is not Leave
        return result

    def _verified(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self._emitted.shadow is not None
        generators = tuple(g for o in self._program.operations for g in o.generators)
        call = Call(args, kwargs)
        places = {id(s): s for o in self._program.operations for s in o.moves}.values()
        results = _Results(self._program)
        if self._emitted.check(args, kwargs) is MISS:
            return MISS
        moves = tuple(value_at(source, call) for source in places)
        entry = remember((), generators, moves, draws=True)
        try:
            left = self._emitted.shadow(args, kwargs, results.copies, results.add)
        except Exception:
            left = RAISED  # as the imperative run will do
        after = remember((), generators, moves, draws=True)
        undo(entry)
        if type(left) is Leave:
            return left
        result, program = self._rerun(args, kwargs, results.compare)
        reason = _difference(program, self._program, results.difference)
        reason = reason or results.outside()
        ending = remember((), generators, moves, draws=True)
        if reason is None and not _same_random(after, ending):
            reason = Reason(Code.UNEQUAL, "the random generators end in another state")
        if reason is not None:
            self._report(self, reason)
        return result


class _Results:
    """The results of the shadow, compared with those of the imperative run as they appear.

    A value is known by its number, and by how many operations have changed it since.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._kept: dict[int, deque[torch.Tensor | None]] = defaultdict(deque)
        self._inputs: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
        self.difference: Reason | None = None

    def copies(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return what the shadow runs on."""
        copies = _copies(inputs)
        self._inputs = tuple(zip(inputs, copies, strict=True))
        return copies

    def add(self, tensors: dict[int, object], *, are_final: bool = False) -> None:
        """Keep copies of what an operation of the shadow gave."""
        if are_final:  # of a foreign graph, only the last state of a value is seen
            given = (r.index for o in self._program.operations for r in refs_in(o.output))
            for index, times in Counter(given).items():
                self._kept[index].extend([None] * (times - 1))
        for index, tensor in tensors.items():
            if isinstance(tensor, torch.Tensor):  # a number follows from tensors
                self._kept[index].append(tensor.detach().clone())

    def compare(self, operation: Operation, result: object) -> None:
        """Look at what one operation of the imperative run gave."""
        if self.difference is not None:
            return
        for ref, tensor in zip(refs_in(operation.output), _tensors(result), strict=True):
            kept = self._kept[ref.index].popleft() if self._kept[ref.index] else None
            if kept is not None and name_of(operation.target) not in _UNFILLED:
                text = unequal(tensor, kept)
                if text is not None:
                    self.difference = _unequal(operation, text)
                    return

    def outside(self) -> Reason | None:
        """The first outside tensor that the two runs left different."""
        for item, (real, copy) in zip(self._program.inputs, self._inputs, strict=True):
            if (text := unequal(real, copy)) is not None:
                writers = [o for o in self._program.operations if item.ref in o.written]
                if writers:
                    return _unequal(writers[-1], f"leaves {item.source}, which {text}")
        return None


def _unequal(operation: Operation, text: str) -> Reason:
    return Reason(Code.UNEQUAL, f"`{name_of(operation.target)}` {text}", operation.site)


def unequal(expected: torch.Tensor, found: torch.Tensor) -> str | None:
    """Say how two tensors differ, `None` when they are the same bits in the same layout."""
    one, other = expected.detach(), found.detach()
    facts = [(t.dtype, t.device, tuple(t.shape), t.layout) for t in (one, other)]
    if facts[0] != facts[1]:
        return f"gives {facts[0]}, in the graph {facts[1]}"
    if one.device.type == "meta" or torch.equal(_bits(one), _bits(other)):
        return None
    if one.dtype is torch.bool:
        return f"differs in {int((one != other).sum())} of {one.numel()} places"
    wide = torch.complex128 if one.is_complex() else torch.float64
    error = (one.to(wide) - other.to(wide)).abs().max().item()
    return f"differs by at most {error:g}"


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    flat = plain.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8)


def _difference(
    found: Program | Reason, expected: Program, in_values: Reason | None
) -> Reason | None:
    """The first difference of two recordings; one of operations explains one of values."""
    if isinstance(found, Reason):  # whatever was not recorded was not compared
        return in_values
    for one, other in zip_longest(found.operations, expected.operations):
        if one is None or other is None or data(one) != data(other):
            site = (one or other).site
            text = f"runs {_call(one)}, the graph {_call(other)}"
            if in_values is not None and in_values.site == site:
                text += f"; {in_values.found}"
            return Reason(Code.UNEQUAL, text, site)
    if in_values is not None:
        return in_values
    if (reason := _effects_differ(found.effects, expected.effects)) is not None:
        return reason
    if data(found.output) != data(expected.output):
        site = expected.operations[-1].site if expected.operations else None
        return Reason(Code.UNEQUAL, "returns something else", site)
    return None


def _effects_differ(found: Sequence[Effect], expected: Sequence[Effect]) -> Reason | None:
    if len(found) != len(expected):  # a logger's level may have left some out this time
        found, expected = _without_records(found), _without_records(expected)
    for effect, kept in zip_longest(found, expected):
        if effect is None or kept is None or _effect(effect) != _effect(kept):
            return Reason(Code.UNEQUAL, "stores or shows something else", (effect or kept).site)
    return None


def _without_records(effects: Sequence[Effect]) -> list[Effect]:
    return [e for e in effects if not (isinstance(e, HostCall) and e.name.startswith("logging."))]


def _effect(effect: Effect) -> object:
    if isinstance(effect, HostCall):
        return effect.name, effect.position, data(effect.args), data(effect.kwargs)
    place = effect.kind, str(effect.owner), data(effect.key)
    return *place, effect.position, data(effect.values)


def data(value: Any) -> object:
    """Operands and plans of a recording as data that compares with another recording's."""
    if type(value) in SCALARS:
        return type(value), repr(value)
    if isinstance(value, Source):
        return "source", str(value)
    rule = _RULES.get(type(value))
    return (type(value), rule(value)) if rule is not None else id(value)


def _all(values: Iterable[Any]) -> list[object]:
    return list(map(data, values))


_RULES: dict[type, Callable[[Any], object]] = {
    Ref: lambda v: v.index,
    Operation: lambda v: (v.target, v.kind, *_all((v.args, v.kwargs, v.output, v.expected))),
    Constant: lambda v: data(v.value),
    Loaded: lambda v: data(v.source),
    Text: lambda v: _all(v.parts),
    Piece: lambda v: _all((v.value, v.conversion, v.specification)),
    Built: lambda v: (v.cls, _all((v.keys, v.items, v.attributes))),
    list: _all,
    tuple: _all,
    dict: lambda v: [(data(k), data(i)) for k, i in v.items()],
    slice: lambda v: _all((v.start, v.stop, v.step)),
}


def _call(operation: Operation | None) -> str:
    if operation is None:
        return "nothing"
    values = [v for v in operation.args if type(v) in SCALARS]
    shown = f" with {', '.join(map(repr, values))}" if values else ""
    return f"`{name_of(operation.target)}`{shown}"


def _tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [t for part in result for t in _tensors(part)]
    return []


def _same_random(one: Any, other: Any) -> bool:
    states = [(s.random.cpu, *s.random.cuda, *(g for _, g in s.generators)) for s in (one, other)]
    with np.printoptions(threshold=sys.maxsize):
        are_moved_alike = repr(one.moved) == repr(other.moved)
    return all(map(torch.equal, *states)) and are_moved_alike


def _copies(inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Copies of tensors: same strides, same sharing, same version, no history."""
    storages: dict[int, torch.UntypedStorage] = {}
    copies = []
    for tensor in inputs:
        storage = tensor.untyped_storage()
        if storage._cdata not in storages:
            storages[storage._cdata] = storage.clone()
        copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        place = tensor.storage_offset(), tensor.shape, tensor.stride()
        copy.set_(storages[storage._cdata], *place)
        copy = copy.conj() if tensor.is_conj() else copy
        copy = torch._neg_view(copy) if tensor.is_neg() else copy
        if tensor.requires_grad:
            copy.requires_grad_()
            copy = copy if tensor.is_leaf else copy.clone()
        if tensor.is_leaf and tensor.grad is not None:
            copy.grad = tensor.grad.detach().clone()
        if not tensor.is_inference():
            set_versions((copy,), (tensor._version,))
        copies.append(copy)
    return tuple(copies)
