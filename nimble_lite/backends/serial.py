"""The serial backend: a schedule on one stream as generated straight-line Python.

In: a `Schedule`. Out: an `Executable`; its source can be read and shows up in tracebacks.
What it saves is the Python between the operations: modules, wrappers, attribute look-ups,
argument checks, tuples and no-ops. Kernels and their order are eager's, so are the bits.

The generated function holds everything in local names and lets go of each tensor right after
its last use; the caching allocator of the CPU (malloc) then hands back warm pages.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import isfinite
from typing import Any

import torch

from nimble_lite.backends.protocol import bound_target
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import Drop, Launch
from nimble_lite.tasks.graph import Ref, Task, TaskGraph

_file_numbers = count()
_LITERALS = (bool, int, str, type(None))


@dataclass(slots=True)
class Names:
    """Objects that generated source refers to by name."""

    objects: dict[str, Any] = field(default_factory=dict)
    _known: dict[int, str] = field(default_factory=dict)

    def of(self, stem: str, value: object) -> str:
        """Name an object; the same object keeps its name."""
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = f"{stem}{len(self.objects)}"
            self.objects[known] = value
        return known


class SerialExecutable:
    """Runs the tasks of a graph one after another.

    Args:
        schedule: what to run; its drops decide how long values live.
    """

    def __init__(self, schedule: Schedule) -> None:
        graph = schedule.graph
        self.source, self._objects = emit_source(graph, schedule)
        self._constants = {c.value: c.tensor for c in graph.constants}
        self._bind = compile_source(self.source, "serial")
        self._replay: Callable[..., Sequence[torch.Tensor]]
        self._replay = self._bind(self._constants, **self._objects)

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once."""
        return self._replay(*inputs)

    def rebind(self, constants: Mapping[int, torch.Tensor]) -> None:
        """Use other tensors for some constants."""
        self._constants.update(constants)
        self._replay = self._bind(self._constants, **self._objects)

    def close(self) -> None:
        """Let go of the constants."""
        self._constants = {}


def compile_source(source: str, backend: str) -> Callable[..., Any]:
    """Compile generated source and return its `bind`; tracebacks can show the lines."""
    file = f"<nimble_lite {backend} {next(_file_numbers)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {}
    exec(compile(source, file, "exec"), namespace)  # noqa: S102 - the source is ours
    bind: Callable[..., Any] = namespace["bind"]
    weakref.finalize(bind, linecache.cache.pop, file, None)
    return bind


def emit_source(graph: TaskGraph, schedule: Schedule) -> tuple[str, dict[str, Any]]:
    """Write the replay function and collect the objects that it names."""
    names = Names()
    body = [
        line
        for step in schedule.program
        if isinstance(step, Launch | Drop)
        for line in _step_lines(graph, step, names)
    ]
    inputs = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
    outputs = [f"v{leaf.value}" for leaf in graph.outputs if isinstance(leaf, Ref)]
    constants = [f"    v{c.value} = constants[{c.value}]" for c in graph.constants]
    returned = f"({', '.join(outputs)},)" if outputs else "()"
    source = "\n".join(
        [
            f"def bind(constants, {', '.join(names.objects) or '*'}):"
            if names.objects
            else "def bind(constants):",
            *constants,
            f"    def replay({', '.join(f'v{value}' for value in inputs)}):",
            *(f"        {line}" for line in body),
            f"        return {returned}",
            "    return replay",
            "",
        ]
    )
    return source, names.objects


def _step_lines(graph: TaskGraph, step: Launch | Drop, names: Names) -> list[str]:
    if isinstance(step, Drop):
        return [f"del {', '.join(f'v{value}' for value in step.values)}"]
    return task_lines(graph.tasks[step.task], names)


def task_lines(task: Task, names: Names) -> list[str]:
    """Write the call of one task and bind its results."""
    name = names.of(f"{_identifier(task.name)}_", bound_target(task))
    args = [argument_text(argument, names) for argument in task.args]
    args += [f"{key}={argument_text(value, names)}" for key, value in task.kwargs.items()]
    call = f"{name}({', '.join(args)})  # {task.origin}"
    if not task.results:
        return [call]
    if task.results[0][0] == ():
        return [f"v{task.results[0][1]} = {call}"]
    picks = [f"v{value} = r{''.join(f'[{key!r}]' for key in path)}" for path, value in task.results]
    return [f"r = {call}", *picks, "del r"]


def argument_text(argument: Any, names: Names) -> str:
    """Write an argument: values by name, plain numbers and strings as they are."""
    if isinstance(argument, Ref):
        return f"v{argument.value}"
    # Exact types: the repr of a subclass (np.float64, an IntEnum) is no literal.
    if type(argument) in _LITERALS or (type(argument) is float and isfinite(argument)):
        return repr(argument)
    if type(argument) is tuple:
        inner = ", ".join(argument_text(part, names) for part in argument)
        return f"({inner},)" if argument else "()"
    if type(argument) is list:
        return f"[{', '.join(argument_text(part, names) for part in argument)}]"
    if isinstance(argument, slice):
        parts = (argument.start, argument.stop, argument.step)
        return f"slice({', '.join(argument_text(part, names) for part in parts)})"
    if isinstance(argument, dict):
        pairs = (f"{key!r}: {argument_text(value, names)}" for key, value in argument.items())
        return f"{{{', '.join(pairs)}}}"
    return names.of("k", argument)


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
