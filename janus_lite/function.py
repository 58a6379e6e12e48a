"""`SpeculativeFunction`: the object that stands where the user's function stood.

Life of a call: a cached graph whose guards hold is replayed; otherwise the function runs
imperatively, under the recorder when the policy wants one more graph.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import logging
import operator
import re
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from janus_lite import config, stances
from janus_lite.errors import BackendError, Code, ConversionError, MissError, Reason
from janus_lite.imperative import Imperative
from janus_lite.program.assumptions import varying_fields
from janus_lite.program.effects import is_decision
from janus_lite.program.generalize import Program, generalize
from janus_lite.record import session
from janus_lite.record.recorder import record
from janus_lite.record.source import Source
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Operation, OperationKind, ReadKind, Trace
from janus_lite.report import Report, Stats, describe_graph, describe_reason
from janus_lite.runtime import backends
from janus_lite.runtime.ambient import modes_are_off
from janus_lite.runtime.cache import Conversion, ConversionCache
from janus_lite.runtime.checks import (
    Call,
    Difference,
    broken_numbers,
    broken_sizes,
    first_difference,
)
from janus_lite.runtime.emit import Emitted, Leave, emit
from janus_lite.runtime.policy import HITS_PER_RECORDING, Policy
from janus_lite.runtime.roots import Roots, outermost
from janus_lite.runtime.together import Sibling, sibling_of, together
from janus_lite.runtime.verify import Verifier, Watch, schedule
from janus_lite.torch_internals import GLOBAL_STATE_GUARD, is_transforming

_log = logging.getLogger(__name__)
_dumped = itertools.count(1)
_MOST_ERRORS = 3  # recordings after one decision that ended in an error of the program
_REMEMBERED_ERRORS = 15
# Calls in which assertions of graphs with varying sizes may fail before sizes are fixed again.
_FAILURES_ALLOWED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `speculate` was asked for."""

    backend: str | backends.Backend = "auto"
    warmup: int = 1
    max_graphs: int = 8
    strict: bool = False
    verify: str = "off"
    name: str | None = None


Failed = tuple[Conversion, Operation]  # a graph that was called off, and the operation that did it


def _failure(operation: Operation) -> str:
    if operation.target is operator.pos:
        return f"a number of the graph is not {operation.expected}, as in the recorded run"
    name = name_of(operation.target)
    if operation.kind is OperationKind.FORM:
        return f"`{name}` gave another number of tensors or dims, or made a copy this time"
    return f"`{name}` gave another value than in the recorded run"


class SpeculativeFunction(Imperative):
    """A callable that behaves as the original and replays graphs where it safely can.

    Calls are answered by `_answer`, until the function is left alone.

    Args:
        function: the user's callable.
        options: as given to `speculate`.
        owner: the module that is speculated on in place, when it is one.
        roots: where the function is a root below another one, the roots of that one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: Options,
        owner: torch.nn.Module | None = None,
        roots: Roots | None = None,
    ) -> None:
        self.original = function if owner is None else type(owner).forward
        self.options = options
        self._owner = None if owner is None else weakref.ref(owner)
        self._compile = backends.lookup(options.backend)
        self._is_due = schedule(options.verify)
        self.cache = ConversionCache(options.max_graphs)
        self._policy = Policy(options.warmup, config.current().patience)
        self._lock = threading.Lock()
        self._misses = self._recorded = self._converted = 0
        self._failures = self._fallbacks = self._plain_calls = 0
        self.reasons: tuple[Reason, ...] = ()
        self.last_miss: str | None = None
        self._relaxed: frozenset[str] = frozenset()
        self._raising: tuple[Operation, ...] = ()
        self._may_sizes_vary, self._size_failures = self._compile is None, 0
        functools.update_wrapper(self, self.original, updated=())
        if owner is not None:
            vars(self).pop("__wrapped__")  # it would show `self` in the signature
        self.take_back()
        self._is_top = roots is None
        self._takes_trials = options.backend == "auto"
        self._roots = Roots(self, self._make_root) if roots is None else roots
        self._forget_imperative()
        self._trial_runs = 0
        qualname = getattr(self.original, "__qualname__", type(function).__name__)
        self.name: str = options.name or str(qualname)

    def _answer(self, /, *args: Any, **kwargs: Any) -> Any:  # hot
        """Replay the first cached graph whose guards hold; else run imperatively."""
        plain = self._plain
        if plain is not None and not self.cache.entries and not stances.depth:
            self._plain_calls += 1
            self._leave_alone(plain)
            return plain(*args, **kwargs)
        failed = None
        if not (config.is_disabled or (stances.depth and stances.current() == "force_eager")):
            for conversion in self.cache.entries:
                result = conversion.emitted.call(args, kwargs)
                if type(result) is not Leave:
                    conversion.count_hit()
                    return result
                if result.has_raised:
                    return self._after_error(args, kwargs)
                if result.is_called_off:
                    return self._called_off(args, kwargs)
                if result.operation is not None:
                    failed = conversion, result.operation
        if plain is not None and failed is None and not (stances.depth or config.is_disabled):
            self._plain_calls += 1
            return plain(*args, **kwargs)
        return self._miss(args, kwargs, failed)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __janus_target__(self) -> tuple[Callable[..., Any], torch.nn.Module | None]:
        """What a recording of an enclosing function runs in our place."""
        return self.original, self._module()

    @property
    def __signature__(self) -> inspect.Signature:
        """The original's signature, for a module without `self`."""
        signature = inspect.signature(self.original)
        if self._owner is None:
            return signature
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    # ------------------------------------------------------------------ calls

    def _module(self) -> torch.nn.Module | None:
        """The module that is speculated on in place; it holds us, so we hold it weakly."""
        return None if self._owner is None else self._owner()

    def _run_imperatively(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self._module()
        if module is None:
            return self.original(*args, **kwargs)
        return type(module).forward(module, *args, **kwargs)

    def _miss(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], failed: Failed | None = None
    ) -> Any:
        self._misses += 1
        if failed is not None:
            self._assertion_failed(failed[1])
        stance = stances.current()
        if stance == "fail_on_miss" and not config.is_disabled:
            raise MissError(f"{self.name}: {self.explain_miss(args, kwargs)}")
        is_allowed = stance == "default" and not config.is_disabled
        is_allowed &= failed is None or self._raising.count(failed[1]) < _MOST_ERRORS
        # One thread records; the others run imperatively meanwhile, and spend no patience.
        if is_allowed and self._lock.acquire(blocking=False):
            try:
                if self._may_record():
                    if failed is not None:
                        self._learn_recursion(failed[1].site)
                    elif self.cache.entries:
                        self._learn_from_miss(args, kwargs)
                    return self._record(args, kwargs, failed)
            finally:
                self._lock.release()
        self._fallbacks += 1
        is_routed = is_allowed and self._is_descended
        return (self._run_descended if is_routed else self._run_imperatively)(args, kwargs)

    @property
    def _takes_regions(self) -> bool:
        """Whether graphs may have control flow: not where others take or enter straight ones."""
        is_wanted = config.current().regions != "off" and not self._roots.is_region(self)
        return is_wanted and self._compile is None and self._is_due is None

    def _may_record(self) -> bool:
        if session.is_recording() or self._plain is not None:
            return False
        if not modes_are_off() or torch.compiler.is_compiling() or is_transforming():
            self._note(Reason(Code.AMBIENT_STATE, "a torch mode, compiler or tracer is active"))
            return False
        reason = self.reasons[-1] if self.reasons else None
        if not self._policy.wants_recording(self.cache.hits, reason):
            if self._policy.verdict is not None:
                self._note(self._policy.verdict)
                self._drop_unused()
                self._descend(is_final=not self.cache.entries)
            return False
        return True

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any], failed: Failed | None) -> Any:
        self._recorded += 1
        global_state = GLOBAL_STATE_GUARD()
        callees = self._regions_for(args)
        module, relaxed = self._module(), self._relaxed
        is_mergeable = failed is not None and self._takes_regions
        sibling = sibling_of(failed[0], args, kwargs) if failed and is_mergeable else None
        try:
            result, trace = record(self.original, args, kwargs, module, relaxed, callees=callees)
        except BaseException:
            if failed is not None:  # the decision led to an error, of which there is no graph
                self._raising = (*self._raising[-_REMEMBERED_ERRORS:], failed[1])
            raise
        if trace.walks_objects and self._promote(trace.recursions, varying_fields(trace.reads)):
            return result  # the next recording keeps the recursive calls
        failure = self._convert(trace, len(args), tuple(kwargs), global_state.check, sibling)
        if failure is not None:
            self._policy.note_failure()
            self._note(failure)
            if self.options.strict:
                raise ConversionError(failure)
        return result

    def _convert(
        self,
        trace: Trace,
        positional: int,
        keywords: tuple[str, ...],
        global_state: Callable[[], bool],
        sibling: Sibling | None,
    ) -> Reason | None:
        """Add the trace's program to the cache; return why not otherwise."""
        started = time.perf_counter()
        merged = None
        if trace.reason is None and self._takes_regions:
            merged = together(trace, positional, keywords, sibling, self._note)
        if merged is not None:
            if sibling is not None:
                self.cache.remove(sibling.conversion)
                self._failed_at.clear()  # what can be merged is no reason to give up
            return self._install(*merged, global_state, trace.seconds, started)
        program = generalize(trace, positional, keywords)
        if isinstance(program, Reason):
            return program
        return self._install(program, trace.examples, global_state, trace.seconds, started)

    def _install(
        self,
        program: Program,
        examples: tuple[torch.Tensor, ...],
        global_state: Callable[[], bool],
        record_seconds: float,
        started: float,
    ) -> Reason | None:
        try:
            graph = self._compile_foreign(program, examples)
        except Exception as error:  # a backend may raise anything; the call itself is right
            return Reason(Code.BACKEND, f"{self.backend_name}: {type(error).__name__}: {error}")
        try:
            has_shadow = self._is_due is not None and not program.trains
            emitted = emit(
                program,
                examples,
                global_state,
                self.name,
                graph,
                has_shadow=has_shadow,
                is_region=not has_shadow and self._roots.is_region(self),
            )
            if program.calls_regions:
                decides = any(map(is_decision, program.operations))
                emitted = replace(emitted, call=outermost(emitted, decides=decides))
            has_trials = self._wants_trial(program, examples)
            if has_trials:
                emitted = self._on_trial(emitted, is_region=program.calls_regions)
        except Exception as error:
            return Reason(Code.INTERNAL, f"emitting the graph: {type(error).__name__}: {error}")
        conversion = Conversion(
            program=program,
            emitted=self._verified(program, emitted) if has_shadow else emitted,
            backend=self.backend_name if graph is not None else "eager",
            record_seconds=record_seconds,
            convert_seconds=time.perf_counter() - started,
            has_trials=has_trials,
        )
        self._try_again()
        self.cache.add(conversion)
        self._converted += 1
        if self._roots.is_region(self) and not program.is_enterable:
            self._refuse_regions("it stores, draws random numbers or gives more than new tensors")
        _log.info("%s: converted, %d operations", self.name, len(program.operations))
        _log.debug("%s", emitted.source)
        self._dump(emitted.source)
        return None

    def _verified(self, program: Program, emitted: Emitted) -> Emitted:
        """The same graph, verified by shadow runs when they are due."""
        relaxed = self._relaxed

        def rerun(
            args: tuple[Any, ...], kwargs: dict[str, Any], watch: Watch
        ) -> tuple[Any, Program | Reason]:
            module = self._module()
            result, trace = record(self.original, args, kwargs, module, relaxed, watch)
            return result, generalize(trace, len(args), tuple(kwargs))

        assert self._is_due is not None
        verifier = Verifier(program, emitted, self._is_due, rerun, self._found_unequal)
        return replace(emitted, call=verifier)

    def _found_unequal(self, verifier: Verifier, reason: Reason) -> None:
        """A shadow run differed: the graph goes; the imperative result stands."""
        self.cache.keep(lambda conversion: conversion.emitted.call is not verifier)
        self._note(reason)
        if self.options.strict:
            raise ConversionError(reason)

    def _dump(self, source: str) -> None:
        """Write the generated source to the folder of `JANUS_LITE_DUMP`, numbered."""
        folder = config.current().dump
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            safe = re.sub(r"\W+", "_", self.name)
            path = Path(folder) / f"{next(_dumped):03d}_{safe}.py"
            path.write_text(source, encoding="utf-8")

    def _compile_foreign(
        self, program: Program, examples: Sequence[torch.Tensor]
    ) -> Callable[..., Sequence[object]] | None:
        """The graph compiled by a foreign backend, `None` where the built-in one runs it."""
        if self._compile is None:
            return None
        try:
            return backends.compile_graph(self._compile, program, examples)
        except BackendError as error:
            self._note(Reason(Code.BACKEND, str(error)))
            return None

    def _after_error(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation raised before anything outside had changed, as it would have in eager.

        The imperative run raises it again, from the user's own line and with the effects before it.
        """
        self._fallbacks += 1
        return self._run_imperatively(args, kwargs)

    def _make_root(self, function: types.FunctionType) -> SpeculativeFunction:
        options = replace(self.options, name=None, strict=False)
        return SpeculativeFunction(function, options, roots=self._roots)

    def _assertion_failed(self, operation: Operation) -> None:
        self._failures += 1
        reason = Reason(Code.VALUE_VARIES, _failure(operation), operation.site)
        self.last_miss = str(reason)
        self._note(reason)
        if self._takes_regions:
            loops = [label for label in operation.loops if label not in self._relaxed]
            self._relaxed |= frozenset(loops[-1:])  # "always n trips" becomes "a loop in the graph"
        varying = [c for c in self.cache.entries if c.has_varying_sizes]
        self._size_failures += any(operation in c.program.operations for c in varying)
        hits = sum(c.hits for c in varying)
        if self._size_failures > max(_FAILURES_ALLOWED, hits / HITS_PER_RECORDING):
            self._fix_sizes()
        else:
            self._count_failure(operation.site)

    def _fix_sizes(self) -> None:
        """Take every size for a constant: decisions on the sizes of results fail too often."""
        self._may_sizes_vary, self._size_failures = False, 0
        self._failed_at.clear()
        self._relaxed = frozenset(place for place in self._relaxed if ".shape[" not in place)
        self.cache.keep(lambda conversion: not conversion.has_varying_sizes)
        found = "sizes of results decide too much: one graph for each size from now on"
        self._note(Reason(Code.MEGAMORPHIC, found))

    def _note(self, reason: Reason) -> None:
        if reason not in self.reasons:
            self.reasons = (*self.reasons[-31:], reason)
            _log.info("%s: imperative: %s", self.name, reason)

    # ---------------------------------------------------------------- queries

    @property
    def backend_name(self) -> str:
        """The backend's name."""
        backend = self.options.backend
        return backend if isinstance(backend, str) else getattr(backend, "__name__", "custom")

    @property
    def conversions(self) -> tuple[Conversion, ...]:
        """The cached graphs, newest first."""
        return self.cache.entries

    @property
    def stats(self) -> Stats:
        """Counters so far."""
        answered = self.cache.hits
        misses = self._misses + self._plain_calls
        return Stats(
            calls=answered + misses,
            recorded=self._recorded,
            converted=self._converted,
            hits=answered - self._trial_runs,
            misses=misses,
            assertion_failures=self._failures,
            fallbacks=self._fallbacks + self._plain_calls + self._trial_runs,
            children=tuple((c.name, c.stats) for c in self._children()),
        )

    def _children(self) -> tuple[SpeculativeFunction, ...]:
        """The roots below us, all of them at the top."""
        roots = self._roots.children if self._is_top else ()
        return tuple(root for root in roots if isinstance(root, SpeculativeFunction))

    def explain(self) -> Report:
        """Return a `Report`: graphs, assumptions, fallbacks with their reasons, costs."""
        return Report(
            name=self.name,
            backend=self.backend_name,
            stats=self.stats,
            graphs=tuple(map(describe_graph, self.cache.entries)),
            reasons=tuple(map(describe_reason, self.reasons)),
            last_miss=self.last_miss,
            is_descended=self._is_descended,
            is_left_alone=self.is_left_alone,
            children=tuple(child.explain() for child in self._children()),
        )

    def explain_miss(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> str:
        """Say which assumption of the nearest cached graph the call breaks.

        Args:
            args: positional arguments of the call.
            kwargs: its keyword arguments.
        """
        if not self.cache.entries:
            return "nothing is converted yet"
        return self._nearest(Call(args, kwargs or {}))[0].text

    def _nearest(self, call: Call) -> tuple[Difference, Program]:
        """The graph of which most assumptions hold, and the first that does not."""
        programs = [conversion.program for conversion in self.cache.entries]
        differences = [(first_difference(program, call), program) for program in programs]
        return max(differences, key=lambda pair: pair[0].held)

    def _learn_from_miss(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Relax exactly what broke: "this very object" becomes "an object of the same class".

        Likewise "this number" becomes "a number of the same class", "this size" any from 2 on.
        """
        call = Call(args, kwargs)
        difference, program = self._nearest(call)
        self.last_miss = difference.text
        read = difference.read
        relaxed: list[Source] = [*broken_numbers(program, call)]
        if read is not None and read.kind is ReadKind.IS:
            relaxed.append(read.source)
        sizes = broken_sizes(program, call)
        if self._may_sizes_vary:
            relaxed += sizes
        elif sizes and self._compile is not None:
            found = f"{sizes[0]} varies; only 'eager' takes that: one graph for each size"
            self._note(Reason(Code.BACKEND, found))
        self._relaxed |= {str(source) for source in relaxed}
        if read is not None:
            self._learn_recursion(read.site)

    def code(self) -> str:
        """Return the generated source of the newest graph, `""` before the first."""
        return self.cache.entries[0].emitted.source if self.cache.entries else ""

    def reset(self) -> None:
        """Drop all graphs and counters of patience; the next call records again."""
        with self._lock:
            self.cache.clear()
            self._policy.forget()
            self._relaxed = frozenset()
            self._may_sizes_vary, self._size_failures = self._compile is None, 0
            self._forget_imperative()
            self.take_back()
            self.reasons = ()
        if self._is_top:
            self._roots.forget()

    # ----------------------------------------------------------------- object

    def __repr__(self) -> str:
        return f"<speculated {self.name}: {len(self.cache.entries)} graphs>"

    def __deepcopy__(self, memo: dict[int, Any]) -> SpeculativeFunction:
        module = self._module()
        if module is None:
            return SpeculativeFunction(copy.deepcopy(self.original, memo), self.options)
        return SpeculativeFunction(self.original, self.options, memo.get(id(module), module))

    def __reduce__(self) -> Any:
        module = self._module()
        if module is not None:
            return SpeculativeFunction, (None, self.options, module)
        qualname = getattr(self.original, "__qualname__", "")
        found: Any = sys.modules.get(getattr(self.original, "__module__", None) or "")
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if found is self:  # a decorated function: by name, as plain functions are pickled
            return qualname
        return SpeculativeFunction, (self.original, self.options)
