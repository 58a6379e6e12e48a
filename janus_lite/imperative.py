"""The other side of a speculated function: what it does where no graph of its own answers.

Its recursive calls become function regions, calls that a region called off are rerun, a function
without credit descends, and a graph that does not pay is dropped. Where no graph will answer any
more a function is *left alone*: calls reach what runs imperatively without passing us, uncounted.
`SpeculativeFunction` records, converts and replays; it asks here what to do with the rest.
"""

from __future__ import annotations

import logging
import operator
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from janus_lite import config, stances
from janus_lite.errors import Code, MissError, Reason, Site
from janus_lite.program.generalize import Program
from janus_lite.record.subcalls import Callee
from janus_lite.runtime.cache import Conversion, ConversionCache
from janus_lite.runtime.descent import Descent, is_worth_a_root
from janus_lite.runtime.emit import Emitted
from janus_lite.runtime.policy import RegionCredit
from janus_lite.runtime.profit import Trial, Verdict
from janus_lite.runtime.roots import Entry, Roots, rerunning

_log = logging.getLogger(__name__)
# A decision that fails so often, and in more than one call of five, costs more than a graph saves.
_MOST_FAILURES = 6
_MOST_FAILURES_AT_FIRST = 5  # while no graph has ever been used again
_CALLS_PER_FAILURE = 5


class _Exchangeable:
    """A callable that passes its calls on to what stands in the slot, by C code alone.

    A frame of Python per call would be a tenth of what a function of 2 us takes.
    """

    __slots__ = ("__call__",)
    __call__: Callable[..., Any]


class Imperative(_Exchangeable):
    """Base of `SpeculativeFunction`; see the module docstring.

    Attributes:
        original: the user's callable.
        name: shown in reports.
        cache: the graphs.
        is_left_alone: whether calls reach the original without passing here.
    """

    original: Callable[..., Any]
    name: str
    cache: ConversionCache
    is_left_alone: bool
    _roots: Roots
    _relaxed: frozenset[str]
    _is_top: bool
    _takes_trials: bool
    _is_due: Callable[[int], bool] | None
    _lock: threading.Lock
    _compile: Callable[..., Any] | None
    _owner: weakref.ref[torch.nn.Module] | None
    _misses: int
    _fallbacks: int
    _trial_runs: int

    if TYPE_CHECKING:  # given by `SpeculativeFunction`

        def _module(self) -> torch.nn.Module | None: ...
        def _run_imperatively(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
        def _note(self, reason: Reason) -> None: ...
        def _answer(self, /, *args: Any, **kwargs: Any) -> Any: ...

    def _forget_imperative(self) -> None:
        """Start anew, as after `reset()`."""
        self._region_credit = RegionCredit()
        self._rerun: Descent | None = None
        self._descent: Descent | None = None
        self._is_descended = False
        self._plain: Callable[..., Any] | None = None  # answers misses, which are not recorded
        self._detour = self._call_descended
        self._failed_at: Counter[Site | None] = Counter()

    # ------------------------------------------------------- function regions

    @property
    def is_being_recorded(self) -> bool:
        """Whether some thread records a call of it."""
        return self._lock.locked()

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
            assert isinstance(root, Imperative)
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
            # While another thread records, this call says nothing about the ones to come.
            counts = is_outermost and not any(r.is_being_recorded for r in self._roots.all())
            if counts and not self._region_credit.take(self.cache.hits):
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
            assert isinstance(root, Imperative)
            root._leave_regions()
        self._descend()

    def _leave_regions(self) -> None:
        """Drop the graphs that enter regions; without them each structure is another graph."""
        if any(conversion.program.calls_regions for conversion in self.cache.entries):
            self.cache.keep(lambda conversion: not conversion.program.calls_regions)
            self._descend()

    # ---------------------------------------------------- staying imperative

    def _leave_alone(self, plain: Callable[..., Any]) -> None:
        if plain is self._detour:  # which may turn out to be none
            return
        stances.watch(self)
        self.is_left_alone = True
        self.__call__ = plain
        if stances.depth or self._plain is not plain:  # another thread was here meanwhile
            self.take_back()

    def take_back(self) -> None:
        """Answer calls here again."""
        self.is_left_alone = False
        self.__call__ = self._answer

    def _descend(self, *, is_final: bool = True) -> None:
        """Run imperatively from now on; what the function calls becomes a root of its own.

        Args:
            is_final: record no more, also where hits would earn it.
        """
        if not self._is_descended:
            self._is_descended = True
            _log.info("%s: descends", self.name)
        if is_final and self._plain is None:
            self._plain = self._detour

    @property
    def _original(self) -> Callable[..., Any]:
        """What runs imperatively, without a detour."""
        owner = self._owner
        if owner is None:
            return self.original

        def forward(*args: Any, **kwargs: Any) -> Any:
            module: Any = owner()
            return type(module).forward(module, *args, **kwargs)

        return forward

    def _call_descended(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._run_descended(args, kwargs)

    def _run_descended(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        function, args = self._plain_call(args)
        descent = self._descent
        if descent is None or descent.function is not function:
            if not isinstance(function, types.FunctionType):
                return function(*args, **kwargs)
            descent = self._descent = Descent(function, self._pick, is_scouting=True)
        elif not descent.is_routed and self._plain is not None:
            self._plain = self._original  # it calls nothing that is worth a root
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
        is_ours = self._takes_trials and self._is_due is None
        is_part = self._roots.is_region(self) and not (self._is_top and program.calls_regions)
        on_cpu = all(tensor.device.type == "cpu" for tensor in examples)
        return config.current().profit and is_ours and on_cpu and not is_part

    def _on_trial(self, emitted: Emitted, *, is_region: bool) -> Emitted:
        original = self._original

        def run_alone(*args: Any, **kwargs: Any) -> Any:
            with stances.stance("force_eager"):  # the recursive calls would be replayed
                return original(*args, **kwargs)

        trial = Trial(
            emitted,
            run_alone if is_region else original,  # nothing more is within the time
            self._count_trial_run,
            self._look_up_before,
            self._end_trial,
            is_region=is_region,
        )
        return replace(emitted, call=trial)

    def _count_trial_run(self) -> None:
        self._trial_runs += 1

    def _try_again(self) -> None:
        """The graphs that are there get another trial: one more is looked at before them now."""
        for old in self.cache.entries:
            if old.has_trials:
                call = old.emitted.call
                emitted = call.emitted if isinstance(call, Trial) else old.emitted
                again = self._on_trial(emitted, is_region=old.program.calls_regions)
                self.cache.exchange(partial(operator.is_, old), again)

    def _look_up_before(self, trial: Trial, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find out that the graphs that are tried before do not fit, as each call does."""
        for conversion in self.cache.entries:
            if conversion.emitted.call is trial:
                break
            conversion.emitted.check(args, kwargs)

    def _end_trial(self, trial: Trial, verdict: Verdict) -> None:
        """Let a graph stay without its trial, or go for good."""
        if verdict.is_worth:
            self.cache.exchange(lambda c: c.emitted.call is trial, trial.emitted)
            return
        entries = self.cache.entries
        loser = next((c for c in entries if c.emitted.call is trial), None)
        if loser is not None:
            loser.count_hit()  # of this call, before it is retired
            newer = entries[: entries.index(loser)]
            if loser.program.calls_regions:  # of which the others are parts
                self.cache.clear()
            self.cache.keep(lambda c: c in newer or (c is not loser and _is_in_use(c)))
        found = (
            f"a replay takes {verdict.replay_us:.1f} us (mean), "
            f"an imperative call {verdict.imperative_us:.1f} us"
        )
        self._note(Reason(Code.UNPROFITABLE, found))
        if self._plain is None:
            self._plain = self._original

    def _drop_unused(self) -> None:
        """Graphs that never hit would only cost their guards."""
        self.cache.keep(lambda conversion: conversion.hits > 0)

    def _count_failure(self, site: Site | None) -> None:
        """Give up on a decision that fails too often and could not be merged."""
        self._failed_at[site] += 1
        count, hits = self._failed_at[site], self.cache.hits
        is_frequent = count * _CALLS_PER_FAILURE > hits + self._misses
        if is_frequent and count >= (_MOST_FAILURES if hits else _MOST_FAILURES_AT_FIRST):
            self._drop_unused()
            self._descend()


def _is_in_use(conversion: Conversion) -> bool:
    """Whether a graph has answered calls since a newer one came."""
    call = conversion.emitted.call
    return conversion.hits > 0 and not (isinstance(call, Trial) and call.is_untouched)
