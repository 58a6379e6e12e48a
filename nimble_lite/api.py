"""The public face: `schedule` a function once, call the result many times.

Example:
    >>> s = schedule(model, (x,))
    >>> y = s(x)                      # replay: same bits as model(x)
    >>> s.plan.summary()["streams"]
    >>> print(s.report())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils._pytree import tree_leaves

from nimble_lite import config
from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.driver import Driver, TorchDriver
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
            equal shapes, dtypes, strides and devices.
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
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example_inputs, Mapping):
        kwargs = dict(example_inputs)
    elif isinstance(example_inputs, Sequence):
        args = tuple(example_inputs)
    else:
        raise _no_such("example_inputs", type(example_inputs).__name__, "a tuple or a mapping")
    return ScheduledFunction(fn, args, kwargs, streams=streams, outputs=outputs, backend=backend)


def _no_such(option: str, found: object, expected: str) -> ScheduleError:
    return ScheduleError(
        "NL0302", what=f"{option} has no such value", found=repr(found), expected=expected
    )


class ScheduledFunction:
    """A function with its schedule; call it like the function.

    Attributes:
        original: the function itself.
        plan: the `Schedule` in force: `plan.summary()`, `str(plan)`.
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
        self._notes: tuple[str, ...] = ()
        self._replay: Callable[..., Any]
        self._measurement: Measurement | None = None
        self._make(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # hot
        """Replay, or record again first when the module has changed."""
        try:
            return self._replay(*args, **kwargs)
        except ModuleChangedError:
            self._make(args, kwargs)
            return self._replay(*args, **kwargs)

    def report(self) -> Report:
        """Return what was planned, measured and chosen, and why."""
        name = getattr(self.original, "__qualname__", type(self.original).__name__)
        return Report(
            name=name,
            backend=self._chosen,
            summary=self.plan.summary(),
            candidates=self.plan.candidates,
            measurement=self._measurement,
            notes=self._notes,
        )

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write the estimated timeline for Perfetto or chrome://tracing."""
        write_chrome_trace(self.plan, path)

    def to_dot(self, path: str | Path) -> None:
        """Write the graph with its streams and waits as Graphviz DOT."""
        write_dot(self.plan, path)

    def close(self) -> None:
        """Give back what the backend holds; later calls raise NL0407."""
        self._executable.close()
        self._replay = _closed

    # Making ----------------------------------------------------------------------------------

    def _make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        graph = record(self.original, args, kwargs)
        kind = self._backend or ("cuda" if graph.device.type == "cuda" else "serial")
        rivals = self._rivals(kind) if config.current().measure else {}
        if rivals:
            self._keep_fastest(rivals, graph, args, kwargs)
        else:
            self._take(kind, graph, self._streams)

    def _rivals(self, kind: str) -> dict[str, tuple[str, Streams]]:
        """What is measured against eager, by name: backend and streams. Empty: nothing is."""
        if kind == "threads":
            return {"threads": (kind, self._streams), "serial": ("serial", 1)}
        if kind == "cuda" and self._streams == "auto":
            return {"many streams": (kind, "auto"), "one stream": (kind, 1)}
        return {kind: (kind, self._streams)} if self._backend is None else {}

    def _take(self, kind: str, graph: TaskGraph, streams: Streams) -> Replay:
        """Plan for a backend and put its replay in force."""
        profile = H100 if kind in {"cuda", "recorder"} else CPU
        scope = thread_scope(graph) if kind == "threads" else device_scope(graph)
        asked: Streams = 1 if kind == "serial" else streams
        self.plan: Schedule = make_schedule(graph, scope, profile, asked)
        self._executable: Executable = _build(kind, self.plan, self._outputs)
        replay = Replay(self.original, graph, self._executable)
        self._replay = replay
        self._chosen: str = kind
        if folder := config.current().dump:
            _dump(Path(folder), self.plan, self._executable, kind)
        return replay

    def _keep_fastest(
        self,
        rivals: Mapping[str, tuple[str, Streams]],
        graph: TaskGraph,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Measure the rivals and the function itself in turns, and keep the fastest.

        One stream against eager is the gain of replaying; many streams against one is the gain
        of overlapping. They are never added up.
        """
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made: dict[str, tuple[Replay, Schedule, Executable]] = {}
        for name, (kind, streams) in rivals.items():
            replay = self._take(kind, graph, streams)
            if name == "one stream" and made["many streams"][1].plan.streams == 1:
                # The gates chose one stream already: there is nothing to compare.
                self._executable.close()
                made = {"one stream": made["many streams"]}
            else:
                made[name] = (replay, self.plan, self._executable)
        runs: dict[str, Callable[[], Any]] = {
            name: partial(replay, *args, **kwargs) for name, (replay, _, _) in made.items()
        }
        runs["eager"] = partial(_Eager(self.original), *args, **kwargs)
        wait = torch.cuda.synchronize if graph.device.type == "cuda" else _nothing
        with undisturbed(graph, tensors):
            self._measurement = fastest(runs, wait)
        self._chosen = self._measurement.chosen
        for name, (_, _, executable) in made.items():
            if name != self._chosen:
                executable.close()
        if self._chosen in made:
            self._replay, self.plan, self._executable = made[self._chosen]
        else:
            self._replay = _Eager(self.original)


class _Eager:
    """Calls the function as replay would have: without gradients."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return self._fn(*args, **kwargs)


def _build(kind: str, plan: Schedule, outputs: Outputs = "safe") -> Executable:
    if kind == "serial":
        return SerialExecutable(plan)
    if kind == "threads":
        return ThreadsExecutable(plan)
    if kind == "recorder":
        return RecorderExecutable(plan)
    driver = make_driver(plan.graph.device, plan.plan.streams)
    return CudaExecutable(plan, driver, reuse_outputs=outputs == "reuse")


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
