"""The public face: `schedule` a function once, call the result many times.

Example:
    >>> s = schedule(model, (x,))
    >>> y = s(x)                      # replay: same bits as model(x)
    >>> s.plan.summary()["streams"]
    >>> print(s.report())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils._pytree import tree_leaves

from nimble_lite import config
from nimble_lite.backends.cuda.cache import GraphCache
from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.driver import Driver
from nimble_lite.backends.cuda.torch_driver import TorchDriver
from nimble_lite.backends.protocol import Executable
from nimble_lite.backends.recorder import RecorderExecutable
from nimble_lite.backends.serial import SerialExecutable
from nimble_lite.backends.threads import ThreadsExecutable
from nimble_lite.errors import BackendError, InputMismatchError, NimbleError, ScheduleError
from nimble_lite.measure import Measurement, fastest, undisturbed
from nimble_lite.module_state import ModuleChangedError
from nimble_lite.plan.planner import Schedule, Streams, make_schedule
from nimble_lite.plan.schedule import device_scope, thread_scope
from nimble_lite.replay import Replay
from nimble_lite.report import Report, write_chrome_trace, write_dot
from nimble_lite.tasks.cost import CPU, H100
from nimble_lite.tasks.graph import TaskGraph
from nimble_lite.tasks.tracing import record

Outputs = Literal["safe", "reuse"]
Backend = Literal["cuda", "threads", "recorder", "serial"]
BACKENDS = ("cuda", "threads", "recorder", "serial")


def schedule(
    fn: Callable[..., Any],
    example_inputs: Sequence[Any] | Mapping[str, Any],
    *,
    streams: Streams = "auto",
    outputs: Outputs = "safe",
    backend: Backend | None = None,
) -> ScheduledFunction:
    """Record `fn` once, plan it ahead of time, and return what replays it.

    Args:
        fn: a module, a `GraphModule` or any callable whose torch operations do not depend on
            Python state that changes between calls.
        example_inputs: positional arguments, or keyword arguments as a mapping. Calls must have
            equal shapes, dtypes, strides and devices; `add` makes room for others.
        streams: `"auto"` lets gates and measurements choose, `"max"` keeps every two unordered
            tasks on different streams, a number caps them.
        outputs: `"safe"` gives each call its own outputs; `"reuse"` (CUDA) hands out the graph's
            and raises when an old one is used after the next replay.
        backend: `None` picks `cuda` for CUDA inputs and the faster of eager and `serial` on the
            CPU. `"threads"` is kept only when it is measured to be the fastest of the three. Any
            other name is taken as it is.

    Returns:
        A callable that gives what `fn` gives, bit for bit, under `torch.no_grad()`.

    Raises:
        NimbleError: the function, the options or the machine do not allow a schedule; the code
            and the message say what to do.
    """
    if outputs not in ("safe", "reuse"):
        raise _no_such("outputs", outputs, '"safe" or "reuse"')
    if backend is not None and backend not in BACKENDS:
        raise _no_such("backend", backend, f"None or one of {', '.join(BACKENDS)}")
    args, kwargs = _arguments(example_inputs)
    return ScheduledFunction(fn, args, kwargs, streams=streams, outputs=outputs, backend=backend)


def _arguments(
    example_inputs: Sequence[Any] | Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence):
        return tuple(example_inputs), {}
    raise _no_such("example_inputs", type(example_inputs).__name__, "a tuple or a mapping")


def _no_such(option: str, found: object, expected: str) -> ScheduleError:
    return ScheduleError(
        "NL0302", what=f"{option} has no such value", found=repr(found), expected=expected
    )


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One schedule in force: what calls it, what it is, what was measured."""

    replay: Callable[..., Any]
    plan: Schedule
    executable: Executable
    chosen: str
    measurement: Measurement | None = None


class ScheduledFunction:
    """A function with its schedules, one for each form of inputs; call it like the function.

    Attributes:
        original: the function itself.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        streams: Streams,
        outputs: Outputs,
        backend: Backend | None,
    ) -> None:
        self.original = fn
        self._streams, self._outputs, self._backend = streams, outputs, backend
        self._driver: Driver | None = None
        # Two rivals must fit while they are measured.
        self._graphs = GraphCache(max(2, config.current().max_graphs))
        self._entries: dict[_Form, _Entry] = {}
        self._entry = self._make(args, kwargs)

    @property
    def plan(self) -> Schedule:
        """The schedule that was used last: `plan.summary()`, `str(plan)`."""
        return self._entry.plan

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # hot
        """Replay, or record again first when the module has changed."""
        if len(self._entries) > 1:
            self._entry = self._entries.get(_form(args, kwargs), self._entry)
        try:
            return self._entry.replay(*args, **kwargs)
        except ModuleChangedError:
            self._entry = self._make(args, kwargs)
            return self._entry.replay(*args, **kwargs)

    def add(self, example_inputs: Sequence[Any] | Mapping[str, Any]) -> None:
        """Schedule the function for inputs of another form too: other shapes or dtypes.

        All schedules share memory for their CUDA graphs; `max_graphs` bounds how many are kept.

        Args:
            example_inputs: as for `schedule`.
        """
        self._entry = self._make(*_arguments(example_inputs))

    def report(self) -> Report:
        """Return what was planned, measured and chosen, and why, for the schedule used last."""
        name = getattr(self.original, "__qualname__", type(self.original).__name__)
        notes = []
        if len(self._entries) > 1:
            notes.append(f"{len(self._entries)} forms of inputs have a schedule")
        if self._graphs.evictions:
            notes.append(
                f"{self._graphs.evictions} graphs were given back and captured again when needed: "
                f"more than max_graphs={config.current().max_graphs} forms are in use"
            )
        return Report(
            name=name,
            backend=self._entry.chosen,
            summary=self.plan.summary(),
            candidates=self.plan.candidates,
            measurement=self._entry.measurement,
            notes=tuple(notes),
        )

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write the estimated timeline for Perfetto or chrome://tracing."""
        write_chrome_trace(self.plan, path)

    def to_dot(self, path: str | Path) -> None:
        """Write the graph with its streams and waits as Graphviz DOT."""
        write_dot(self.plan, path)

    def close(self) -> None:
        """Give back what the backends hold; later calls raise NL0407."""
        for entry in self._entries.values():
            entry.executable.close()
            entry.replay = _closed

    # Making ----------------------------------------------------------------------------------

    def _make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entry:
        form = _form(args, kwargs)
        if form in self._entries:
            self._entries.pop(form).executable.close()
        graph = record(self.original, args, kwargs)
        kind = self._backend or ("cuda" if graph.device.type == "cuda" else "serial")
        rivals = self._rivals(kind) if config.current().measure else {}
        if rivals:
            entry = self._fastest(rivals, graph, args, kwargs)
        else:
            entry = self._entry_of(kind, graph, self._streams)
        self._entries[form] = entry
        return entry

    def _rivals(self, kind: str) -> dict[str, tuple[str, Streams]]:
        """What is measured against eager, by name: backend and streams. Empty: nothing is."""
        if kind == "threads":
            return {"threads": (kind, self._streams), "serial": ("serial", 1)}
        if kind == "cuda" and self._streams == "auto":
            return {"many streams": (kind, "auto"), "one stream": (kind, 1)}
        return {kind: (kind, self._streams)} if self._backend is None else {}

    def _entry_of(self, kind: str, graph: TaskGraph, streams: Streams) -> _Entry:
        """Plan for a backend and make its replay."""
        profile = H100 if kind in {"cuda", "recorder"} else CPU
        scope = thread_scope(graph) if kind == "threads" else device_scope(graph)
        asked: Streams = 1 if kind == "serial" else streams
        plan = make_schedule(graph, scope, profile, asked)
        executable = self._build(kind, plan)
        if folder := config.current().dump:
            _dump(Path(folder), plan, executable, kind)
        replay = Replay(self.original, graph, executable)
        return _Entry(replay=replay, plan=plan, executable=executable, chosen=kind)

    def _build(self, kind: str, plan: Schedule) -> Executable:
        if kind == "serial":
            return SerialExecutable(plan)
        if kind == "threads":
            return ThreadsExecutable(plan)
        if kind == "recorder":
            return RecorderExecutable(plan)
        if self._driver is None:
            self._driver = make_driver(plan.graph.device, plan.plan.streams)
        self._driver.reserve(plan.plan.streams)
        is_reused = self._outputs == "reuse"
        return CudaExecutable(plan, self._driver, reuse_outputs=is_reused, graphs=self._graphs)

    def _fastest(
        self,
        rivals: Mapping[str, tuple[str, Streams]],
        graph: TaskGraph,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> _Entry:
        """Measure the rivals and the function itself in turns, and keep the fastest.

        One stream against eager is the gain of replaying; many streams against one is the gain
        of overlapping. They are never added up.
        """
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made: dict[str, _Entry] = {}
        for name, (kind, streams) in rivals.items():
            entry = self._entry_of(kind, graph, streams)
            if name == "one stream" and made["many streams"].plan.plan.streams == 1:
                # The gates chose one stream already: there is nothing to compare.
                entry.executable.close()
                made = {"one stream": made["many streams"]}
            else:
                made[name] = entry
        runs: dict[str, Callable[[], Any]] = {
            name: partial(entry.replay, *args, **kwargs) for name, entry in made.items()
        }
        eager = _Eager(self.original)
        runs["eager"] = partial(eager, *args, **kwargs)
        wait = torch.cuda.synchronize if graph.device.type == "cuda" else _nothing
        with undisturbed(graph, tensors):
            measurement = fastest(runs, wait)
        chosen = measurement.chosen
        for name, entry in made.items():
            if name != chosen:
                entry.executable.close()
        kept = made.get(chosen, entry)
        kept.chosen, kept.measurement = chosen, measurement
        if chosen not in made:
            kept.replay = eager
        return kept


_Form = tuple[tuple[str, torch.Size, torch.dtype, torch.device], ...]


def _form(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Form:
    """What tells the schedules of a function apart; each replay checks the rest of its own."""
    named = [*((str(i), value) for i, value in enumerate(args)), *sorted(kwargs.items())]
    return tuple(
        (name, leaf.shape, leaf.dtype, leaf.device)
        for name, value in named
        for leaf in ((value,) if isinstance(value, torch.Tensor) else tree_leaves(value))
        if isinstance(leaf, torch.Tensor)
    )


class _Eager:
    """Calls the function as replay would have: without gradients."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return self._fn(*args, **kwargs)


def make_driver(device: torch.device, streams: int) -> Driver:
    """Return the driver of a CUDA device, or raise NL0401."""
    if device.type != "cuda" or not torch.cuda.is_available():
        raise BackendError(
            "NL0401",
            what="the backend 'cuda' cannot run this function",
            found=f"tensors on {device}, CUDA {'' if torch.cuda.is_available() else 'not '}present",
            expected="CUDA tensors on a machine with a CUDA device",
            hint="leave backend out to pick what the inputs' device has",
        )
    return TorchDriver(device, streams)


def _dump(folder: Path, plan: Schedule, executable: Executable, kind: str) -> None:
    """Write each stage of a schedule as a numbered file."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*_tasks.txt")))
    stages = {"tasks.txt": str(plan.graph), "schedule.txt": str(plan)}
    stages[f"{kind}.py"] = str(getattr(executable, "source", ""))
    for name, text in stages.items():
        if text:
            (folder / f"{number:02}_{name}").write_text(text + "\n", encoding="utf-8")


def _closed(*_: Any, **__: Any) -> Any:
    raise NimbleError("NL0407", what="the schedule was closed", hint="call schedule() again")


def _nothing() -> None:
    """A CPU run is complete when it returns."""


__all__ = ["InputMismatchError", "ScheduledFunction", "schedule"]
