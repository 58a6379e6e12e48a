"""Program -> one readable, straight-line Python function.

The function checks the guards, loads the inputs, calls torch's C builtins, frees each value at its
last use and returns the rebuilt output. Its source is registered in `linecache`: tracebacks and
debuggers step through it, each operation under the user's line it came from.
"""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from janus_lite.program.effects import is_assertion
from janus_lite.program.generalize import Program
from janus_lite.program.regions import Block, Return, has_effects, is_certain
from janus_lite.record.effects import Effect
from janus_lite.record.source import Source
from janus_lite.record.tape import is_free_of_hooks
from janus_lite.record.text import convert
from janus_lite.record.trace import Input, Operation, OperationKind, Read, Ref
from janus_lite.runtime import ambient
from janus_lite.runtime.blocks import BlockEmitter
from janus_lite.runtime.commit import CommitEmitter, foreign_outputs
from janus_lite.runtime.expressions import Expressions, is_equal, pattern
from janus_lite.runtime.fingerprint import Fingerprint, FingerprintBuilder
from janus_lite.runtime.guards import GuardEmitter, Names
from janus_lite.runtime.heap_check import HeapCheck, split_by_fingerprint
from janus_lite.runtime.straight import StraightEmitter, observation
from janus_lite.runtime.subcalls import call_lines
from janus_lite.runtime.undo import remember, undo
from janus_lite.torch_internals import tensor_guard


class Leave:
    """What a generated function returns instead of an output; nothing has changed then.

    Attributes:
        operation: the operation whose assertion failed, `None` for a miss.
        has_raised: an operation raised an error, which an imperative run will raise again.
        is_called_off: a function region had no graph for what it was given.
        is_late: function regions ran before the assertion: it would be dear to try another graph.
        is_doubted: it was late inside another replay, which was called off for it.
    """

    __slots__ = ("has_raised", "is_called_off", "is_doubted", "is_late", "operation")

    def __init__(
        self,
        operation: Operation | None = None,
        *,
        has_raised: bool = False,
        is_called_off: bool = False,
        is_late: bool = False,
    ) -> None:
        self.operation = operation
        self.has_raised = has_raised
        self.is_called_off = is_called_off
        self.is_late = is_late
        self.is_doubted = False


MISS = Leave()
RAISED = Leave(has_raised=True)
CALLED_OFF = Leave(is_called_off=True)
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
        enter: `enter(args, kwargs, token)` is `call` as part of another replay: what does not
            depend on the arguments is checked once per token. `None` where that is not allowed.
        shadow: `shadow(args, kwargs, copies, observe)` checks the guards and runs the operations
            on copies, showing every result; `None` unless it was asked for.
        source: the text of `call`.
        filename: under which `linecache` knows it.
        fingerprint: the words behind the quick accept, `None` when guards are few.
        leaves: what `call` returns at its assertions.
    """

    call: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    check: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    enter: Callable[[tuple[Any, ...], dict[str, Any], object], Any] | None
    shadow: Callable[..., Any] | None
    source: str
    filename: str
    fingerprint: Fingerprint | None
    leaves: tuple[Leave, ...]


def emit(
    program: Program,
    examples: Sequence[torch.Tensor],
    global_state: Callable[[], bool],
    name: str,
    graph: Callable[..., Sequence[object]] | None = None,
    *,
    has_shadow: bool = False,
    is_region: bool = False,
) -> Emitted:
    """Generate the function of a program.

    Args:
        program: what to run.
        examples: the recorded input tensors, in the order of `program.inputs`.
        global_state: torch's ambient-state check, made before the recording.
        name: shown in tracebacks.
        graph: a foreign backend's compiled graph: it gets the inputs and returns the values of
            `foreign_outputs(program)`; `None` emits the operations themselves.
        has_shadow: also generate `Emitted.shadow`.
        is_region: the function is entered by other replays, or by its own.
    """
    writer = _Writer(program, examples, global_state, graph, is_region=is_region)
    source = writer.module(has_shadow=has_shadow)
    filename = f"<janus_lite {next(_counter)} {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), writer.names.namespace)  # noqa: S102  # our own text
    namespace = writer.names.namespace
    return Emitted(
        call=namespace["replay"],
        check=namespace["check"],
        enter=namespace["replay"] if is_region and program.is_enterable else None,
        shadow=namespace.get("shadow"),
        source=source,
        filename=filename,
        fingerprint=writer.fingerprint,
        leaves=tuple(writer.leaves),
    )


class _Writer:
    """Writes one module: `check` (the guards alone) and `replay`."""

    def __init__(
        self,
        program: Program,
        examples: Sequence[torch.Tensor],
        global_state: Callable[[], bool],
        graph: Callable[..., Sequence[object]] | None,
        *,
        is_region: bool,
    ) -> None:
        self._program = program
        self._has_token = is_region or program.calls_regions
        self._graph = graph
        self.names = Names()
        self.fingerprint: Fingerprint | None = None
        self.leaves: list[Leave] = []
        self._is_late = False
        self._heap_inputs = [i for i in program.inputs if i.source.is_pinned]
        names = self.names.namespace
        names.update(
            MISS=MISS,
            RAISED=RAISED,
            remember=remember,
            undo=undo,
            set_attribute=setattr,
            delete_attribute=delattr,
            convert=convert,
            global_state=global_state,
            ambient=ambient,
            is_free_of_hooks=is_free_of_hooks,
            modes_are_off=ambient.modes_are_off,
        )
        checked = list(zip(examples, program.inputs, strict=True))
        from_heap = [p for p in checked if p[1].source.is_pinned and self._has_token]
        from_call = [p for p in checked if not (p[1].source.is_pinned and self._has_token)]
        if from_call:
            names["tensors_match"] = _guard_of(from_call)
        if from_heap:
            names["heap_matches"] = _guard_of(from_heap)
        if self._has_token:
            names.update(Leave=Leave, passed=[(Leave(), ())], new_token=object)
        if graph is not None:
            names["graph"] = graph
        self._numbers: dict[int, str] = {}
        self._expressions = Expressions(self.names, self._numbers)

    def module(self, *, has_shadow: bool) -> str:
        """Return the module's text."""
        guards = ["try:", *_indent(self._guards()), "except Exception:  # a place is gone"]
        guards.append(f"{_INDENT}return MISS")
        loaded = ", ".join(f"v{i.ref.index}" for i in self._program.inputs)
        check = [*guards, f"return ({loaded},)" if loaded else "return ()"]
        parameters = "args, kwargs, token=None" if self._has_token else "args, kwargs"
        parts = [
            f"def check({parameters}):",
            *_indent(check),
            "",
            f"def replay({parameters}):",
            *_indent([*guards, *self._body()]),
        ]
        if has_shadow:
            head = "def shadow(args, kwargs, copies, observe):"
            parts += ["", head, *_indent([*guards, *self._shadow(loaded)])]
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
        if self._has_token:
            self._emit_once_per_token(lines)
        else:
            self._emit_heap(emitter, lines)
        from_call = [i for i in self._program.inputs if not i.source.is_pinned]
        self._load_inputs(emitter, lines, from_call)
        checked = from_call if self._has_token else self._program.inputs
        if checked:
            lines.append(f"if not tensors_match({_values(checked)}): return MISS")
        if self._program.trains:
            followed = [i for i in self._program.inputs if i.meta.requires_grad]
            tensors = "".join(f"v{item.ref.index}, " for item in followed)
            lines.append(f"if not is_free_of_hooks(({tensors})): return MISS")
        self._guard_sizes(emitter, lines)
        for source in (*self._program.numbers, *_passed_sources(self._program.operations)):
            self._numbers[id(source)] = emitter.loader.load(source)
        return lines

    def _guard_sizes(self, emitter: GuardEmitter, lines: list[str]) -> None:
        """Check what was assumed about sizes that vary; by now the tensors are known to be such."""
        for item in self._program.inputs:
            if item.varying:
                emitter.loader.bind(item.source, f"v{item.ref.index}")
            if (order := item.order) is not None:
                is_plain = order == tuple(range(len(order)))
                ordered = "" if is_plain else f".permute({order})"
                lines.append(f"if not v{item.ref.index}{ordered}.is_contiguous(): return MISS")
        for read in self._program.assumptions.sizes:
            emitter.emit(read)

    def _emit_heap(self, emitter: GuardEmitter, lines: list[str]) -> None:
        """The check of all that does not depend on the arguments."""
        heap = self._program.assumptions.heap
        lines.append("if not (global_state() and modes_are_off()): return MISS")
        if len(heap) + len(self._heap_inputs) >= FINGERPRINT_FROM:
            self._emit_with_fingerprint(emitter, lines)
        else:
            self._emit_plainly(emitter, lines, heap)

    def _emit_once_per_token(self, lines: list[str]) -> None:
        """Check the heap only once while one outermost call runs.

        What is entered changes nothing, and no code of the user runs in between.
        """
        block: list[str] = []
        self._emit_heap(GuardEmitter(self.names, block, prefix="h"), block)
        values = _values(self._heap_inputs)
        tensors = f"({values},)" if values else "()"
        if values:
            block.append(f"if not heap_matches({values}): return MISS")
        block.append("if token is None: token = new_token()")
        block.append(f"passed[0] = token, {tensors}")
        lines += ["known, tensors = passed[0]", "if known is not token:", *_indent(block)]
        if values:
            lines += ["else:", f"{_INDENT}{tensors} = tensors"]

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
            return [*self._foreign_call(), *self._ending(len(program.operations), ())]
        if program.block is not None:
            return self._restoring(self._with_control_flow(program.block))
        commit = program.transaction.commit
        steps = self._straight.steps()
        lines = self._straight.kept_transposes()
        lines += [line for step in steps[:commit] for line in step]
        ending = self._ending(commit, steps)
        is_pure = commit == len(steps) and not program.effects
        lines = self._cancellable(lines + ending) if is_pure else self._cancellable(lines) + ending
        return self._restoring(lines)

    def _with_control_flow(self, block: Block) -> list[str]:
        """Blocks with effects in a journal until `return`: an error before that calls it off.

        A replay that nothing can call off needs none: an error leaves what it leaves in eager.
        """
        can_leave = not is_certain(block)
        is_restored = can_leave and bool(self._program.transaction.undo or self._program.draws)
        has_journal = can_leave and has_effects(block)
        emitter = BlockEmitter(
            operation=partial(self._operation, has_saved=is_restored),
            effect=partial(self._effect, has_journal=has_journal),
            decision=self._expressions.call,
            is_equal=is_equal,
            fail=partial(self._leave, has_saved=is_restored),
            value=self._expressions.value,
            ending=partial(self._way_out, has_journal=has_journal),
            kept={i.ref.index for i in self._program.inputs},
        )
        lines = emitter.block(block, set())
        if not can_leave and (
            has_effects(block) or self._program.writes_outside or self._program.draws
        ):
            return lines
        if not (is_restored or has_journal):
            return self._cancellable(lines)
        saving = [f"saved = {self._remember()}"] if is_restored else []
        return [
            "saved, journal, is_committed = None, [], False",
            "try:",
            *_indent(saving + lines),
            "except BaseException as error:",
            f"{_INDENT}if is_committed: raise",
            f"{_INDENT}undo(saved)",
            f"{_INDENT}if not isinstance(error, Exception): raise",
            f"{_INDENT}return RAISED",
        ]

    def _effect(self, effect: Effect, *, has_journal: bool) -> list[str]:
        """Do an effect, or note it in the journal with its values as they are now."""
        lines: list[str] = []
        commit = CommitEmitter(None, [effect], self.names, lines, self._numbers)
        commit.put_off() if has_journal else commit.effects(effect.position)
        return lines

    def _way_out(self, end: Return, *, has_journal: bool) -> list[str]:
        lines: list[str] = []
        commit = CommitEmitter(end.output, (), self.names, lines, self._numbers)
        if has_journal:
            lines += ["is_committed = True", "for effect in journal: effect()"]
        commit.output()
        return lines

    def _restoring(self, lines: list[str]) -> list[str]:
        """Put the ambient state back after `lines`, where they change it."""
        if not self._program.changes_ambient:
            return lines
        return [
            "state = ambient.save()",
            "try:",
            *_indent(lines),
            "finally:",
            f"{_INDENT}ambient.restore(state)",
        ]

    def _shadow(self, loaded: str) -> list[str]:
        """The operations alone, on copies of the inputs; every result is shown to `observe`."""
        lines = [f"({loaded},) = copies(({loaded},))"] if loaded else []
        if self._graph is not None:
            lines.append(self._graph_call())
            return [*lines, observation(foreign_outputs(self._program), ", are_final=True")]
        lines += self._straight.new_transposes()
        steps = self._straight.steps(is_shadow=True)
        return [*lines, *self._restoring([line for step in steps for line in step])]

    @cached_property
    def _straight(self) -> StraightEmitter:
        return StraightEmitter(
            self._program, self.names, self._expressions, self._operation, self._remember
        )

    def _remember(self) -> str:
        transaction = self._program.transaction
        tensors = "".join(f"v{ref.index}, " for ref in transaction.undo)
        generators = self.names.constant(transaction.generators)
        moves = "".join(f"{self._expressions.value(source)}, " for source in transaction.moves)
        draws = f"draws={transaction.undoes_draws}"
        return f"remember(({tensors}), {generators}, ({moves}), {draws})"

    def _cancellable(self, lines: list[str]) -> list[str]:
        """The part of the body that an error calls off, before anything has changed for good."""
        if not lines:
            return []
        transaction = self._program.transaction
        if not (transaction.undo or transaction.undoes_draws or transaction.moves):
            return ["try:", *_indent(lines), "except Exception:", f"{_INDENT}return RAISED"]
        return [
            "saved = None",
            "try:",
            *_indent(lines),
            "except BaseException as error:",
            f"{_INDENT}undo(saved)",
            f"{_INDENT}if not isinstance(error, Exception): raise",
            f"{_INDENT}return RAISED",
        ]

    def _operation(self, operation: Operation, *, has_saved: bool) -> list[str]:
        call = self._expressions.call(operation)
        leave = self._leave(operation, has_saved=has_saved) if is_assertion(operation) else ""
        if operation.kind is OperationKind.CALL:
            return call_lines(
                operation,
                self.names,
                self._expressions.value,
                token="None" if self._program.changes_ambient else "token",
                undo="undo(saved); " if has_saved else "",
                leave=leave,
            )
        if operation.kind is OperationKind.ASSERT:
            condition = is_equal(call, operation.expected)
            return [f"if not ({condition}): {leave}"]
        if operation.output is None:
            return [call]
        if operation.kind is OperationKind.FORM:
            lines = [
                f"form = {call}",
                f"if not ({_form_test(operation.output, operation.expected)}): {leave}",
            ]
            return [*lines, f"{pattern(operation.output)} = form"]
        lines = [f"{pattern(operation.output)} = {call}"]
        if operation.kind is OperationKind.SHAPE:
            for ref, shape in _shape_pairs(operation.output, operation.expected):
                lines.append(f"if v{ref.index}.shape != {shape!r}: {leave}")
        return lines

    def _leave(self, operation: Operation, *, has_saved: bool) -> str:
        self._is_late |= operation.kind is OperationKind.CALL
        failed = Leave(operation, is_late=self._is_late)
        self.leaves.append(failed)
        leave = f"return {self.names.constant(failed, 'failed')}"
        return f"undo(saved); {leave}" if has_saved else leave

    # --------------------------------------------------------------- output

    def _foreign_call(self) -> list[str]:
        may_repeat = not (self._program.writes_outside or self._program.draws)
        return self._cancellable([self._graph_call()]) if may_repeat else [self._graph_call()]

    def _graph_call(self) -> str:
        arguments = ", ".join(f"v{i.ref.index}" for i in self._program.inputs)
        refs = foreign_outputs(self._program)
        inputs = {i.ref for i in self._program.inputs}
        produced = [r for r in refs if r not in inputs]
        pattern = "".join(f"v{r.index}, " for r in produced)
        call = f"graph({arguments})"
        return f"({pattern}) = {call}" if produced else call

    def _ending(self, first: int, steps: Sequence[list[str]]) -> list[str]:
        """From the commit point `first` on: the effects in program order, the rest, the output."""
        lines: list[str] = []
        program = self._program
        commit = CommitEmitter(program.output, program.effects, self.names, lines, self._numbers)
        for position in range(first, len(steps)):
            commit.effects(position)
            lines += steps[position]
        commit.effects(len(self._program.operations))
        commit.output()
        return lines


def _values(inputs: Sequence[Input]) -> str:
    return ", ".join(f"v{item.ref.index}" for item in inputs)


def _passed_sources(operations: Sequence[Operation]) -> list[Source]:
    """What is handed to function regions from outside, read again at entry."""
    calls = [o for o in operations if o.kind is OperationKind.CALL]
    return [source for call in calls for source in _sources_in(call.args)]


def _sources_in(value: object) -> list[Source]:
    if isinstance(value, Source):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, tuple | dict):
        return [source for part in parts for source in _sources_in(part)]  # type: ignore[attr-defined]  # both have parts
    return []


def _guard_of(checked: Sequence[tuple[torch.Tensor, Input]]) -> Callable[..., bool]:
    """Torch's own check that tensors look like the recorded ones, but for sizes that vary."""
    varying = [item.varying for _, item in checked]
    strides = [item.order or () for _, item in checked]
    return tensor_guard([example for example, _ in checked], varying, strides)


def _form_test(output: object, expected: Any) -> str:
    """See `Operation.expected` of a `FORM`."""
    count, rank, *given = expected
    tests = [f"len(form) == {count}"] if count is not None else []
    tests += [f"form.ndim == {rank}"] if rank is not None else []
    if isinstance(output, tuple):
        places = [(f"form[{index}]", ref) for index, ref in enumerate(output)]
    else:
        places = [("form", output)]
    tests += [f"{place} is v{ref.index}" for place, ref in places if ref in given]
    return " and ".join(tests)


def _shape_pairs(output: object, shapes: Any) -> list[tuple[Ref, tuple[int, ...]]]:
    if isinstance(output, Ref):
        return [(output, shapes)]
    if isinstance(output, tuple) and isinstance(shapes, tuple):
        return [p for o, s in zip(output, shapes, strict=True) for p in _shape_pairs(o, s)]
    return []


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"{_INDENT}{line}" for line in lines]
