"""Program -> one readable, straight-line Python function.

The function checks the guards, loads the inputs, calls torch's C builtins, frees each value at its
last use and returns the rebuilt output. Its source is registered in `linecache`: tracebacks and
debuggers step through it, each operation under the user's line it came from.
"""

from __future__ import annotations

import itertools
import linecache
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from janus_lite.program.generalize import Program, is_assertion
from janus_lite.record.effects import Store, StoreKind
from janus_lite.record.outputs import Built, Constant, Loaded, refs_in_plan
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Input, Operation, OperationKind, Read, Ref, refs_in
from janus_lite.runtime import ambient
from janus_lite.runtime.fingerprint import Fingerprint, FingerprintBuilder
from janus_lite.runtime.guards import GuardEmitter, Loader, Names
from janus_lite.runtime.heap_check import HeapCheck, split_by_fingerprint
from janus_lite.runtime.rebuild import maker_of
from janus_lite.torch_internals import tensor_guard


class Leave:
    """What a generated function returns instead of an output: a miss or a failed assertion.

    Attributes:
        operation: the operation whose assertion failed, `None` for a miss.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: Operation | None = None) -> None:
        self.operation = operation


MISS = Leave()
# Below this many heap facts a straight check is as quick as the fingerprint.
FINGERPRINT_FROM = 16
_counter = itertools.count(1)
_INDENT = "    "


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Emitted:
    """A program as a callable.

    Attributes:
        call: `call(args, kwargs)` gives the output or a `Leave`.
        check: the guards alone: `check(args, kwargs)` gives the inputs or `MISS`.
        source: the text of `call`.
        filename: under which `linecache` knows it.
        fingerprint: the words behind the quick accept, `None` when guards are few.
    """

    call: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    check: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    source: str
    filename: str
    fingerprint: Fingerprint | None


def emit(
    program: Program,
    examples: Sequence[torch.Tensor],
    global_state: Callable[[], bool],
    name: str,
    graph: Callable[..., Sequence[object]] | None = None,
) -> Emitted:
    """Generate the function of a program.

    Args:
        program: what to run.
        examples: the recorded input tensors, in the order of `program.inputs`.
        global_state: torch's ambient-state check, made before the recording.
        name: shown in tracebacks.
        graph: a foreign backend's compiled graph: it gets the inputs and returns the values of
            `foreign_outputs(program)`; `None` emits the operations themselves.
    """
    writer = _Writer(program, examples, global_state, graph)
    source = writer.module()
    filename = f"<janus_lite {next(_counter)} {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), writer.names.namespace)  # noqa: S102  # our own text
    namespace = writer.names.namespace
    return Emitted(
        call=namespace["replay"],
        check=namespace["check"],
        source=source,
        filename=filename,
        fingerprint=writer.fingerprint,
    )


def foreign_outputs(program: Program) -> list[Ref]:
    """The graph values that a foreign backend must return: those that the output plan needs."""
    plans = (program.output, *(value for store in program.stores for value in store.values))
    return list(dict.fromkeys(ref for plan in plans for ref in refs_in_plan(plan)))


class _Writer:
    """Writes one module: `check` (the guards alone) and `replay`."""

    def __init__(
        self,
        program: Program,
        examples: Sequence[torch.Tensor],
        global_state: Callable[[], bool],
        graph: Callable[..., Sequence[object]] | None,
    ) -> None:
        self._program = program
        self._graph = graph
        self.names = Names()
        self.fingerprint: Fingerprint | None = None
        self._heap_inputs = [i for i in program.inputs if i.source.is_pinned]
        names = self.names.namespace
        names.update(
            MISS=MISS,
            set_attribute=setattr,
            global_state=global_state,
            ambient=ambient,
            modes_are_off=ambient.modes_are_off,
        )
        if examples:
            names["tensors_match"] = tensor_guard(examples)
        if graph is not None:
            names["graph"] = graph
        self._targets: dict[int, str] = {}

    def module(self) -> str:
        """Return the module's text."""
        guards = self._guards()
        loaded = ", ".join(f"v{i.ref.index}" for i in self._program.inputs)
        check = [*guards, f"return ({loaded},)" if loaded else "return ()"]
        parts = [
            "def check(args, kwargs):",
            *_indent(check),
            "",
            "def replay(args, kwargs):",
            *_indent([*guards, *self._body()]),
        ]
        return "\n".join(parts) + "\n"

    # --------------------------------------------------------------- guards

    def _guards(self) -> list[str]:
        assumptions = self._program.assumptions
        lines = [f"if len(args) != {assumptions.positional}: return MISS"]
        if assumptions.keywords:
            keywords = self.names.constant(assumptions.keywords)
            lines.append(f"if tuple(kwargs) != {keywords}: return MISS")
        else:
            lines.append("if kwargs: return MISS")
        emitter = GuardEmitter(self.names, lines)
        for read in assumptions.arguments:
            emitter.emit(read)
        lines.append("if not (global_state() and modes_are_off()): return MISS")
        if len(assumptions.heap) + len(self._heap_inputs) >= FINGERPRINT_FROM:
            self._emit_with_fingerprint(emitter, lines)
        else:
            self._emit_plainly(emitter, lines, assumptions.heap)
        from_call = [i for i in self._program.inputs if not i.source.is_pinned]
        self._load_inputs(emitter, lines, from_call)
        if self._program.inputs:
            arguments = ", ".join(f"v{i.ref.index}" for i in self._program.inputs)
            lines.append(f"if not tensors_match({arguments}): return MISS")
        return lines

    def _emit_plainly(self, emitter: GuardEmitter, lines: list[str], reads: Sequence[Read]) -> None:
        for read in reads:
            emitter.emit(read)
        self._load_inputs(emitter, lines, self._heap_inputs)

    def _emit_with_fingerprint(self, emitter: GuardEmitter, lines: list[str]) -> None:
        """Check the heap in full only when the words behind it have changed."""
        heap = self._program.assumptions.heap
        builder = FingerprintBuilder()
        sources = [i.source for i in self._heap_inputs]
        residual, covered = split_by_fingerprint(heap, sources, builder)
        self.fingerprint = builder.build()
        kept = [i for i in self._heap_inputs if id(i.source) in covered]
        skipped = set(residual)
        heap_check = HeapCheck(
            [r for r in heap if r not in skipped], [i.source for i in kept], self.fingerprint.read
        )
        self.names.namespace.update(
            read_words=self.fingerprint.read, refresh=heap_check.refresh, held=heap_check.held
        )
        lines.append("words, slots = held[0]")
        lines.append("if read_words() != words:")
        lines.append(f"{_INDENT}slots = refresh()")
        lines.append(f"{_INDENT}if slots is None: return MISS")
        for read in residual:
            emitter.emit(read)
        if kept:
            lines.append(f"({', '.join(f'v{i.ref.index}' for i in kept)},) = slots")
        uncovered = [i for i in self._heap_inputs if id(i.source) not in covered]
        self._load_inputs(emitter, lines, uncovered)

    def _load_inputs(
        self, emitter: GuardEmitter, lines: list[str], inputs: Sequence[Input]
    ) -> None:
        for item in inputs:
            loaded = emitter.loader.load(item.source)  # may append lines of its own first
            lines.append(f"v{item.ref.index} = {loaded}")

    # ----------------------------------------------------------------- body

    def _body(self) -> list[str]:
        program = self._program
        if self._graph is not None:
            return self._finish(self._foreign_call())
        needed = {ref.index for ref in foreign_outputs(program)}
        last = _last_uses(program.operations, needed)
        inputs = {i.ref.index for i in program.inputs}
        lines: list[str] = []
        restores = program.draws and program.has_assertions
        if restores:
            lines.append("random_state = ambient.random_state()")
        site = None
        for position, operation in enumerate(program.operations):
            if operation.site != site:
                site = operation.site
                lines.append(f"# {site}")
            lines += self._operation(operation, restores=restores)
            dead = sorted(
                v for v in _made_or_read(operation) if last.get(v) == position and v not in inputs
            )
            if dead:
                lines.append(f"del {', '.join(f'v{v}' for v in dead)}")
        lines = self._finish(lines)
        if not program.changes_ambient:
            return lines
        return [
            "state = ambient.save()",
            "try:",
            *_indent(lines),
            "finally:",
            f"{_INDENT}ambient.restore(state)",
        ]

    def _operation(self, operation: Operation, *, restores: bool) -> list[str]:
        call = self._call(operation)
        leave = ""
        if is_assertion(operation):
            leave = f"return {self.names.constant(Leave(operation), 'failed')}"
            if restores:
                leave = f"ambient.set_random_state(random_state); {leave}"
        if operation.kind is OperationKind.ASSERT:
            condition = self._host_value(call, operation.expected)
            return [f"if not ({condition}): {leave}"]
        if operation.output is None:
            return [call]
        lines = [f"{_pattern(operation.output)} = {call}"]
        if operation.kind is OperationKind.SHAPE:
            for ref, shape in _shape_pairs(operation.output, operation.expected):
                lines.append(f"if v{ref.index}.shape != {shape!r}: {leave}")
        return lines

    def _host_value(self, call: str, expected: object) -> str:
        if expected is None or isinstance(expected, bool):
            return f"({call}) is {expected}"
        if isinstance(expected, int):
            return f"({call}) == {expected}"
        # Text tells -0.0 from 0.0, 1 from 1.0, and NaN equals NaN.
        return f"repr({call}) == {repr(expected)!r}"

    def _call(self, operation: Operation) -> str:
        target, args = operation.target, operation.args
        special = getattr(target, "__name__", "")
        if special == "__get__":
            return f"{self._value(args[0])}.{name_of(target)}"
        if special == "__getitem__" and len(args) == 2:
            return self._index(args[0], args[1])
        arguments = [self._value(a) for a in args]
        arguments += [f"{k}={self._value(v)}" for k, v in operation.kwargs.items()]
        return f"{self._target(target)}({', '.join(arguments)})"

    def _index(self, owner: object, index: object) -> str:
        """`owner[index]`; one integer among full slices is what `select` does directly."""
        parts = index if type(index) is tuple else (index,)
        numbers = [dim for dim, part in enumerate(parts) if type(part) is int]
        if len(numbers) == 1 and all(p == slice(None) for p in parts if type(p) is not int):
            select = self._target(torch.Tensor.select)
            return f"{select}({self._value(owner)}, {numbers[0]}, {parts[numbers[0]]})"
        if refs_in(index):
            return f"{self._value(owner)}[{self._value(index)}]"
        return f"{self._value(owner)}[{self.names.constant(index)}]"

    def _target(self, target: Callable[..., object]) -> str:
        found = self._targets.get(id(target))
        if found is None:
            base = name_of(target)
            base = base if base.isidentifier() else "operation"
            found = f"{base}_{len(self._targets)}"
            self._targets[id(target)] = found
            self.names.namespace[found] = target
        return found

    def _value(self, value: object) -> str:
        """Source text of an operand."""
        if isinstance(value, Ref):
            return f"v{value.index}"
        if _is_literal(value):
            return repr(value)
        if isinstance(value, slice):
            parts = ", ".join(map(self._value, (value.start, value.stop, value.step)))
            return f"slice({parts})"
        if isinstance(value, tuple) and type(value) is tuple:
            inner = ", ".join(map(self._value, value))
            return f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, list):
            return f"[{', '.join(map(self._value, value))}]"
        if isinstance(value, dict):
            inner = ", ".join(f"{self._value(k)}: {self._value(v)}" for k, v in value.items())
            return f"{{{inner}}}"
        return self.names.constant(value)

    # --------------------------------------------------------------- output

    def _foreign_call(self) -> list[str]:
        arguments = ", ".join(f"v{i.ref.index}" for i in self._program.inputs)
        refs = foreign_outputs(self._program)
        inputs = {i.ref for i in self._program.inputs}
        produced = [r for r in refs if r not in inputs]
        pattern = "".join(f"v{r.index}, " for r in produced)
        call = f"graph({arguments})"
        return [f"({pattern}) = {call}" if produced else call]

    def _finish(self, lines: list[str]) -> list[str]:
        """Commit the stores in program order, then return the output.

        Everything that the commit needs is loaded before the first store changes the heap.
        """
        program = self._program
        plans = [p for store in program.stores for p in store.values]
        uses: dict[int, int] = defaultdict(int)
        for plan in (*plans, program.output):
            _count_uses(plan, uses)
        held: dict[int, str] = {}
        loader = Loader(self.names, lines, prefix="w")
        statements = []
        for store in program.stores:
            values = [self._plan(p, uses, held, lines, loader) for p in store.values]
            statements.append(self._store(store, loader.load(store.owner), values))
        output = self._plan(program.output, uses, held, lines, loader)
        return [*lines, *statements, f"return {output}"]

    def _store(self, store: Store, owner: str, values: list[str]) -> str:
        match store.kind:
            case StoreKind.ATTRIBUTE:
                return f"set_attribute({owner}, {store.key!r}, {values[0]})"
            case StoreKind.ITEM:
                return f"{owner}[{self._value(store.key)}] = {values[0]}"
            case StoreKind.METHOD:
                return f"{owner}.{store.key}({', '.join(values)})"

    def _plan(
        self,
        plan: object,
        uses: dict[int, int],
        held: dict[int, str],
        lines: list[str],
        loader: Loader,
    ) -> str:
        if isinstance(plan, Ref):
            return f"v{plan.index}"
        if isinstance(plan, Constant):
            return repr(plan.value) if _is_literal(plan.value) else self.names.constant(plan.value)
        if isinstance(plan, Loaded):
            return loader.load(plan.source)
        assert isinstance(plan, Built)
        if id(plan) in held:
            return held[id(plan)]
        text = self._built(plan, uses, held, lines, loader)
        if uses[id(plan)] > 1:
            name = f"shared{len(held)}"
            lines.append(f"{name} = {text}")
            held[id(plan)] = text = name
        return text

    def _built(
        self,
        plan: Built,
        uses: dict[int, int],
        held: dict[int, str],
        lines: list[str],
        loader: Loader,
    ) -> str:
        items = [self._plan(p, uses, held, lines, loader) for p in plan.items]
        attributes = [(n, self._plan(p, uses, held, lines, loader)) for n, p in plan.attributes]
        if plan.cls is tuple:
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        if plan.cls is list:
            return f"[{', '.join(items)}]"
        if plan.keys is not None:
            keys = [self._value(k) if _is_literal(k) else self.names.constant(k) for k in plan.keys]
            table = "{" + ", ".join(f"{k}: {v}" for k, v in zip(keys, items, strict=True)) + "}"
            if plan.cls is dict and not attributes:
                return table
            content = table
        else:
            content = f"[{', '.join(items)}]"
        fields = "{" + ", ".join(f"{n!r}: {v}" for n, v in attributes) + "}"
        cls, extra = self.names.constant(plan.cls), self.names.constant(plan.extra)
        maker = self.names.constant(maker_of(plan.cls), "make")
        return f"{maker}({cls}, {content}, {fields}, {extra})"


def _count_uses(plan: object, uses: dict[int, int]) -> None:
    if isinstance(plan, Built):
        uses[id(plan)] += 1
        if uses[id(plan)] == 1:
            for part in (*plan.items, *(p for _, p in plan.attributes)):
                _count_uses(part, uses)


def _is_literal(value: Any) -> bool:
    if type(value) is float:
        return value == value and abs(value) != float("inf")
    if type(value) in (list, tuple):
        return all(_is_literal(v) for v in value)
    return type(value) in (int, str, bool, type(None), type(Ellipsis)) and value is not ...


def _made_or_read(operation: Operation) -> set[int]:
    parts = (operation.args, operation.kwargs, operation.output)
    return {r.index for part in parts for r in refs_in(part)}


def _last_uses(operations: Sequence[Operation], needed: set[int]) -> dict[int, int]:
    """Position of the last operation that touches a value; values to return are left out."""
    last: dict[int, int] = {}
    for position, operation in enumerate(operations):
        for value in _made_or_read(operation):
            if value not in needed:
                last[value] = position
    return last


def _pattern(output: object) -> str:
    if isinstance(output, Ref):
        return f"v{output.index}"
    if isinstance(output, tuple):
        return f"({', '.join(map(_pattern, output))}{',' if len(output) == 1 else ''})"
    return "_"


def _shape_pairs(output: object, shapes: Any) -> list[tuple[Ref, tuple[int, ...]]]:
    if isinstance(output, Ref):
        return [(output, shapes)]
    if isinstance(output, tuple) and isinstance(shapes, tuple):
        return [p for o, s in zip(output, shapes, strict=True) for p in _shape_pairs(o, s)]
    return []


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"{_INDENT}{line}" for line in lines]
