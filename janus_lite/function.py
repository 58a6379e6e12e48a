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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from janus_lite import config, stances
from janus_lite.errors import BackendError, Code, ConversionError, MissError, Reason, Site
from janus_lite.program.alike import Unmergeable
from janus_lite.program.assumptions import varying_fields
from janus_lite.program.effects import is_decision
from janus_lite.program.generalize import (
    Program,
    generalize,
    generalize_together,
    has_loops,
)
from janus_lite.record import session
from janus_lite.record.recorder import record
from janus_lite.record.source import Source, key_of
from janus_lite.record.subcalls import Callee
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Input, Operation, OperationKind, ReadKind, Trace
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
from janus_lite.runtime.descent import Descent, is_worth_a_root
from janus_lite.runtime.emit import Emitted, Leave, emit
from janus_lite.runtime.policy import HITS_PER_RECORDING, Policy, RegionCredit
from janus_lite.runtime.profit import Trial, Verdict
from janus_lite.runtime.roots import Entry, Roots, outermost, rerunning
from janus_lite.runtime.verify import Verifier, Watch, schedule
from janus_lite.torch_internals import GLOBAL_STATE_GUARD, is_transforming

_log = logging.getLogger(__name__)
# A decision that fails so often, and in more than one call of five, costs more than a graph saves.
_MOST_FAILURES = 6
_CALLS_PER_FAILURE = 5
_dumped = itertools.count(1)
_MOST_WAYS = 32  # runs that one graph is made of
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


@dataclass(frozen=True, slots=True, eq=False)
class Sibling:
    """A graph with which a new run may be merged.

    Attributes:
        conversion: the graph.
        held: its inputs in the call that is recorded.
    """

    conversion: Conversion
    held: dict[Input, torch.Tensor]


def _failure(operation: Operation) -> str:
    if operation.target is operator.pos:
        return f"a number of the graph is not {operation.expected}, as in the recorded run"
    name = name_of(operation.target)
    if operation.kind is OperationKind.FORM:
        return f"`{name}` gave another number of tensors or dims, or made a copy this time"
    return f"`{name}` gave another value than in the recorded run"


class SpeculativeFunction:
    """A callable that behaves as the original and replays graphs where it safely can.

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
        self._failures = self._fallbacks = 0
        self.reasons: tuple[Reason, ...] = ()
        self.last_miss: str | None = None
        self._relaxed: frozenset[str] = frozenset()
        self._raising: tuple[Operation, ...] = ()
        self._may_sizes_vary, self._size_failures = self._compile is None, 0
        functools.update_wrapper(self, self.original, updated=())
        if owner is not None:
            vars(self).pop("__wrapped__")  # it would show `self` in the signature
        self._is_top = roots is None
        self._roots = Roots(self, self._make_root) if roots is None else roots
        self._region_credit = RegionCredit()
        self._rerun: Descent | None = None
        self._descent: Descent | None = None
        self._is_descended = False
        self._plain: Callable[..., Any] | None = None  # answers misses, which are not recorded
        self._failed_at: Counter[Site | None] = Counter()
        self._trial_runs = 0
        qualname = getattr(self.original, "__qualname__", type(function).__name__)
        self.name: str = options.name or str(qualname)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:  # hot
        """Replay the first cached graph whose guards hold; else run imperatively."""
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
        plain = self._plain
        if plain is not None and failed is None and not (stances.depth or config.is_disabled):
            self._misses += 1
            self._fallbacks += 1
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
        """Whether graphs may have control flow: not with foreign backends and shadow runs."""
        is_wanted = config.current().regions != "off"
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

    def _drop_unused(self) -> None:
        """Graphs that never hit would only cost their guards."""
        self.cache.keep(lambda conversion: conversion.hits > 0)

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any], failed: Failed | None) -> Any:
        self._recorded += 1
        global_state = GLOBAL_STATE_GUARD()
        callees = self._regions_for(args)
        module, relaxed = self._module(), self._relaxed
        sibling = None if failed is None else self._mergeable(failed[0], args, kwargs)
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
        together = self._together(trace, positional, keywords, sibling)
        if together is not None:
            if sibling is not None:
                self.cache.remove(sibling.conversion)
                self._failed_at.clear()  # what can be merged is no reason to give up
            return self._install(*together, global_state, trace.seconds, started)
        program = generalize(trace, positional, keywords)
        if isinstance(program, Reason):
            return program
        return self._install(program, trace.examples, global_state, trace.seconds, started)

    def _mergeable(
        self, conversion: Conversion, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Sibling | None:
        """A graph that data called off, with its inputs as they are before the call."""
        if not self._takes_regions:
            return None
        held = conversion.emitted.check(args, kwargs)
        if isinstance(held, Leave) or len(conversion.program.traces) >= _MOST_WAYS:
            return None
        return Sibling(conversion, dict(zip(conversion.program.inputs, held, strict=True)))

    def _together(
        self, trace: Trace, positional: int, keywords: tuple[str, ...], sibling: Sibling | None
    ) -> tuple[Program, tuple[torch.Tensor, ...]] | None:
        """One program of a graph's runs and one more, with an example of each input.

        `None` where they do not fit, or where the run alone has no control flow to speak of.
        """
        if trace.reason is not None or not self._takes_regions:
            return None
        earlier = () if sibling is None else sibling.conversion.program.traces
        held = {} if sibling is None else sibling.held
        for traces in ((*earlier, trace), (trace,)):
            if len(traces) == 1 and not has_loops(trace):
                continue
            try:
                together = generalize_together(traces, positional, keywords)
            except Unmergeable as error:
                _log.info("%s: kept apart: %s", self.name, error)
                continue
            except Exception as error:  # a bug of ours must not cost the user's result
                text = f"merging runs: {type(error).__name__}: {error}"
                self._note(Reason(Code.INTERNAL, text))
                continue
            if isinstance(together, Program):
                known = {key_of(i.source): tensor for i, tensor in held.items()}
                found = zip(trace.inputs, trace.examples, strict=True)
                known |= {key_of(i.source): tensor for i, tensor in found}
                return together, tuple(known[key_of(i.source)] for i in together.inputs)
        return None

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
            if self._wants_trial(program, examples):
                emitted = self._on_trial(emitted, is_region=program.calls_regions)
        except Exception as error:
            return Reason(Code.INTERNAL, f"emitting the graph: {type(error).__name__}: {error}")
        conversion = Conversion(
            program=program,
            emitted=self._verified(program, emitted) if has_shadow else emitted,
            backend=self.backend_name if graph is not None else "eager",
            record_seconds=record_seconds,
            convert_seconds=time.perf_counter() - started,
        )
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

    # ------------------------------------------------------- function regions

    def _make_root(self, function: types.FunctionType) -> SpeculativeFunction:
        options = replace(self.options, name=None, strict=False)
        return SpeculativeFunction(function, options, roots=self._roots)

    def _regions_for(self, args: tuple[Any, ...]) -> Roots | None:
        """The regions that a recording may know; a recursion of our own is answered by us."""
        if self._is_due is not None or self._compile is not None:
            return None
        module = self._module()
        if module is not None:
            function: Any = type(module).forward
            self._roots.own(Callee.of(function, (module,)), self, 1)
        elif self._is_top and isinstance(self.original, types.FunctionType):
            self._roots.own(Callee.of(self.original, args), self, 0)
        return self._roots

    def _learn_recursion(self, site: Site | None) -> None:
        """What broke was decided inside a recursion that was inlined: its calls stay calls."""
        if site is None:
            return
        recursions = [c.program.recursions for c in self.cache.entries]
        walked = [r for r in recursions if any(callee.is_at(site) for callee in r)]
        self._promote((callee for r in walked for callee in r), ())

    def _promote(self, callees: Iterable[Callee], fields: Iterable[str]) -> bool:
        """Let the calls of recursive functions stay calls; whether any did not so far.

        Args:
            callees: the functions.
            fields: attributes of what they walk that hold numbers which differ.
        """
        varying = {path.rpartition(".")[2] for path in self._relaxed if "." in path}.union(fields)
        promoted = self._roots.promote(callees)
        if promoted:
            self.cache.keep(lambda conversion: not conversion.program.recursions)
        for root in promoted:
            assert isinstance(root, SpeculativeFunction)
            root._become_region(varying)
        return bool(promoted)

    def _become_region(self, fields: Iterable[str]) -> None:
        """Drop the graphs that no replay can enter; numbers that differ do so at each level."""
        self.cache.keep(lambda conversion: conversion.emitted.enter is not None)
        function, _ = self._plain_call(())
        levels = range(function.__code__.co_argcount)
        self._relaxed |= {f"args[{level}].{field}" for level in levels for field in fields}

    def _called_off(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A region lacks a graph: nothing has happened yet; run imperatively and record it."""
        if stances.depth and stances.current() == "fail_on_miss":
            raise MissError(f"{self.name}: a function region has no graph for a call below")
        self._misses += 1
        self._fallbacks += 1
        with rerunning() as is_outermost:
            if is_outermost and not self._region_credit.take(self.cache.hits):
                self._refuse_regions("one call in five needs a graph that it lacks")
            return self._run_routed(args, kwargs)

    def _run_routed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run imperatively; calls of function regions go to their roots."""
        function, args = self._plain_call(args)
        if not isinstance(function, types.FunctionType):
            return function(*args, **kwargs)
        if self._rerun is None or self._rerun.function is not function:
            self._rerun = Descent(function, self._find_region, is_scouting=False)
        return self._rerun.run(args, kwargs)

    def _find_region(self, callee: Callee, _args: tuple[Any, ...]) -> Entry | None:
        return self._roots.find(callee)

    def _plain_call(self, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The function behind the original, and all its positional arguments."""
        module = self._module()
        if module is not None:
            return type(module).forward, (module, *args)
        if isinstance(self.original, types.MethodType):
            return self.original.__func__, (self.original.__self__, *args)
        return self.original, args

    def _refuse_regions(self, found: str) -> None:
        """Inline recursive calls again; what calls itself then runs imperatively."""
        self._note(Reason(Code.RECURSION, f"a recursive call of `{self.name}` is inlined: {found}"))
        self._roots.refuse_all()
        for root in self._roots.all():
            assert isinstance(root, SpeculativeFunction)
            root._leave_regions()
        self._descend()

    def _leave_regions(self) -> None:
        """Drop the graphs that enter regions; without them each structure is another graph."""
        if any(conversion.program.calls_regions for conversion in self.cache.entries):
            self.cache.keep(lambda conversion: not conversion.program.calls_regions)
            self._descend()

    # ---------------------------------------------------- staying imperative

    def _descend(self, *, is_final: bool = True) -> None:
        """Run imperatively from now on; what the function calls becomes a root of its own.

        Args:
            is_final: record no more, also where hits would earn it.
        """
        if not self._is_descended:
            self._is_descended = True
            _log.info("%s: descends", self.name)
        if is_final and self._plain is None:
            self._plain = self._call_descended

    def _call_owner(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._run_imperatively(args, kwargs)

    def _call_descended(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._run_descended(args, kwargs)

    def _run_descended(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        function, args = self._plain_call(args)
        descent = self._descent
        if descent is None or descent.function is not function:
            if not isinstance(function, types.FunctionType):
                return function(*args, **kwargs)
            descent = self._descent = Descent(function, self._pick, is_scouting=True)
        return descent.run(args, kwargs)

    def _pick(self, callee: Callee, args: tuple[Any, ...]) -> Entry | None:
        """How to enter a root below us; `None` where it gains nothing over the original."""
        if not (is_worth_a_root(callee, args) and self._roots.is_met_again(callee, args)):
            return None
        entry = self._roots.entry(callee)
        return entry if entry.root.is_of_use else None

    @property
    def is_of_use(self) -> bool:
        """Whether calling us may be quicker than calling the original."""
        is_idle = self._descent is not None and not self._descent.is_routed
        is_plain = self._plain is not None and not self._is_descended
        return bool(self.cache.entries) or not (is_plain or is_idle)

    def _wants_trial(self, program: Program, examples: Sequence[torch.Tensor]) -> bool:
        """Whether to measure if a graph pays: on the CPU, and not as a part of other graphs."""
        is_ours = self.options.backend == "auto" and self._is_due is None
        is_part = self._roots.is_region(self) and not (self._is_top and program.calls_regions)
        on_cpu = all(tensor.device.type == "cpu" for tensor in examples)
        return config.current().profit and is_ours and on_cpu and not is_part

    def _on_trial(self, emitted: Emitted, *, is_region: bool) -> Emitted:
        def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self._trial_runs += 1
            if not is_region:
                return self._run_imperatively(args, kwargs)
            with stances.stance("force_eager"):  # the recursive calls would be replayed
                return self._run_imperatively(args, kwargs)

        return replace(emitted, call=Trial(emitted, run, self._end_trial, is_region=is_region))

    def _end_trial(self, trial: Trial, verdict: Verdict) -> None:
        """Let a graph stay without its trial, or go for good."""
        if verdict.is_worth:
            self.cache.exchange(lambda c: c.emitted.call is trial, trial.emitted)
            return
        for conversion in self.cache.entries:
            if conversion.emitted.call is trial:
                conversion.count_hit()  # of this call, before it is retired
        self.cache.keep(lambda conversion: conversion.emitted.call is not trial)
        found = (
            f"a replay takes {verdict.replay_us:.1f} us (median), "
            f"an imperative call {verdict.imperative_us:.1f} us"
        )
        self._note(Reason(Code.UNPROFITABLE, found))
        if self._plain is None:
            self._plain = self.original if self._owner is None else self._call_owner

    def _assertion_failed(self, operation: Operation) -> None:
        self._failures += 1
        reason = Reason(Code.VALUE_VARIES, _failure(operation), operation.site)
        self.last_miss = str(reason)
        self._note(reason)
        self._failed_at[operation.site] += 1
        count = self._failed_at[operation.site]
        if count >= _MOST_FAILURES and count * _CALLS_PER_FAILURE > self.stats.calls:
            self._drop_unused()
            self._descend()
        if self._takes_regions:
            loops = [label for label in operation.loops if label not in self._relaxed]
            self._relaxed |= frozenset(loops[-1:])  # "always n trips" becomes "a loop in the graph"
        varying = [c for c in self.cache.entries if c.has_varying_sizes]
        self._size_failures += any(operation in c.program.operations for c in varying)
        hits = sum(c.hits for c in varying)
        if self._size_failures > max(_FAILURES_ALLOWED, hits / HITS_PER_RECORDING):
            self._fix_sizes()

    def _fix_sizes(self) -> None:
        """Take every size for a constant: decisions on the sizes of results fail too often."""
        self._may_sizes_vary, self._size_failures = False, 0
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
        return Stats(
            calls=answered + self._misses,
            recorded=self._recorded,
            converted=self._converted,
            hits=answered - self._trial_runs,
            misses=self._misses,
            assertion_failures=self._failures,
            fallbacks=self._fallbacks + self._trial_runs,
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
            self._region_credit = RegionCredit()
            self._descent = self._plain = None
            self._is_descended = False
            self._failed_at.clear()
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
