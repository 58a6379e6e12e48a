"""Straight-line Python from tasks: what the backends that run on the host share.

In: tasks, and a table of names. Out: source lines, one call each, and the objects that the
source names. Invariant: the lines call the very functions that were recorded, or a cheaper one
that torch itself ends up in (Note [Indexing without slices]).

Note [Indexing without slices]
    `x[:, :, 3]` walks its index in Python objects and ends in `select`; `x[:, None]` ends in
    `unsqueeze`. Indices of this form are common in recurrent code, so they are written as what
    they end in. An index of any other form stays as it is.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from math import isfinite
from typing import Any

import torch

from nimble_lite.backends.protocol import bound_target
from nimble_lite.plan.planner import make_schedule
from nimble_lite.plan.schedule import Drop, Launch, device_scope
from nimble_lite.tasks.cost import CPU
from nimble_lite.tasks.graph import Arm, Ref, Region, RegionKind, Task
from nimble_lite.tasks.regions import cap_reached

_file_numbers = count()
_LITERALS = (bool, int, str, type(None))
_ALL = slice(None, None, None)


@dataclass(slots=True)
class Names:
    """Objects that generated source refers to by name."""

    objects: dict[str, Any] = field(default_factory=dict)
    _known: dict[int, str] = field(default_factory=dict)
    _tuples: dict[str, str] = field(default_factory=dict)
    scope: str = ""
    _scopes: int = 0

    def of(self, stem: str, value: object) -> str:
        """Name an object; the same object keeps its name."""
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = f"{stem}{len(self.objects)}"
            self.objects[known] = value
        return known

    @contextmanager
    def inside(self) -> Iterator[str]:
        """Give the values of an arm names of their own; yields the prefix of a new scope."""
        before = self.scope
        self._scopes += 1
        self.scope = f"r{self._scopes}_"
        try:
            yield self.scope
        finally:
            self.scope = before

    def value(self, number: int) -> str:
        """Name a value of the graph that is being written."""
        return f"{self.scope}v{number}"

    def of_tuple(self, text: str, value: tuple[Any, ...]) -> str:
        """Name a tuple without tensors by its text, so that it is built once."""
        known = self._tuples.get(text)
        if known is None:
            known = self._tuples[text] = self.of("t", value)
        return known


def compile_source(source: str, backend: str) -> Callable[..., Any]:
    """Compile generated source and return its `bind`; tracebacks can show the lines."""
    file = f"<nimble_lite {backend} {next(_file_numbers)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {}
    exec(compile(source, file, "exec"), namespace)  # noqa: S102 - the source is ours
    bind: Callable[..., Any] = namespace["bind"]
    weakref.finalize(bind, linecache.cache.pop, file, None)
    return bind


def task_lines(task: Task, names: Names) -> list[str]:
    """Write the call of one task and bind its results; a region becomes an `if` or a `while`."""
    if isinstance(task.target, Region):
        return _region_lines(task, task.target, names)
    target, arguments, keywords = _cheapest(task)
    stem = task.name if arguments is task.args else target.__name__
    name = names.of(f"{_identifier(stem)}_", target)
    args = [argument_text(argument, names) for argument in arguments]
    args += [f"{key}={argument_text(value, names)}" for key, value in keywords.items()]
    call = f"{name}({', '.join(args)})  # {task.origin}"
    if not task.results:
        return [call]
    if task.results[0][0] == ():
        return [f"{names.value(task.results[0][1])} = {call}"]
    picks = [
        f"{names.value(value)} = r{''.join(f'[{key!r}]' for key in path)}"
        for path, value in task.results
    ]
    return [f"r = {call}", *picks, "del r"]


def argument_text(argument: Any, names: Names) -> str:
    """Write an argument: values by name, plain numbers and strings as they are."""
    if isinstance(argument, Ref):
        return names.value(argument.value)
    # Exact types: the repr of a subclass (np.float64, an IntEnum) is no literal.
    if type(argument) in _LITERALS or (type(argument) is float and isfinite(argument)):
        return repr(argument)
    if type(argument) is tuple:
        inner = ", ".join(argument_text(part, names) for part in argument)
        text = f"({inner},)" if argument else "()"
        # Python builds a tuple with a slice in it anew for every call.
        is_hoisted = any(type(p) is slice and _is_plain_slice(p) for p in argument) and not any(
            isinstance(part, Ref | list | tuple | dict) for part in argument
        )
        return names.of_tuple(text, argument) if is_hoisted else text
    if type(argument) is list:
        return f"[{', '.join(argument_text(part, names) for part in argument)}]"
    if isinstance(argument, slice):
        parts = (argument.start, argument.stop, argument.step)
        return f"slice({', '.join(argument_text(part, names) for part in parts)})"
    if isinstance(argument, dict):
        pairs = (f"{key!r}: {argument_text(value, names)}" for key, value in argument.items())
        return f"{{{', '.join(pairs)}}}"
    return names.of("k", argument)


def _cheapest(task: Task) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The call to make for a task; see Note [Indexing without slices]."""
    if task.target is torch.Tensor.__getitem__ and task.ambient is None:
        tensor, index = task.args
        parts = index if type(index) is tuple else (index,)
        given = [place for place, part in enumerate(parts) if not _is_all(part)]
        if len(given) == 1:
            place, part = given[0], parts[given[0]]
            if type(part) is int:
                return torch.select, (tensor, place, part), {}
            if part is None:
                return torch.unsqueeze, (tensor, place), {}
    return bound_target(task), task.args, task.kwargs


def callable_of(task: Task) -> Callable[..., Any]:
    """What to call for a task of any kind; a region is written and compiled."""
    if not isinstance(task.target, Region):
        return bound_target(task)
    names = Names()
    lines = task_lines(task, names)
    given = ", ".join(argument_text(argument, names) for argument in task.args)
    made = "".join(f"{names.value(value)}, " for _, value in task.results)
    source = [
        f"def bind({', '.join(names.objects)}):",
        f"    def region({given}):",
        *(f"        {line}" for line in lines),
        f"        return ({made})",
        "    return region",
        "",
    ]
    region: Callable[..., Any] = compile_source("\n".join(source), "region")(**names.objects)
    return region


def _region_lines(task: Task, region: Region, names: Names) -> list[str]:
    given = [argument_text(argument, names) for argument in task.args]
    made = [names.value(value) for _, value in task.results]
    if region.kind is RegionKind.WHILE:
        return [f"# {task.origin}", *_loop_lines(task, region, given, made, names)]
    if region.kind is RegionKind.IF:
        tests = [f"if {given[0]}:", "else:"]
    else:
        with names.inside() as scope:
            index = f"{scope}index"
        last = len(region.arms) - 1
        tests = [f"{'if' if n == 0 else 'elif'} {index} <= {n}:" for n in range(last)]
        tests = [*tests, "else:"] if tests else ["if True:"]
    lines = [f"# {task.origin}"]
    if region.kind is RegionKind.SWITCH:
        lines.append(f"{index} = int({given[0]})")
    for test, arm in zip(tests, region.arms, strict=True):
        body, results = _arm_lines(arm, given, names)
        body += [f"{name} = {result}" for name, result in zip(made, results, strict=True)]
        lines += [test, *_indented(body)]
    return lines


def _loop_lines(
    task: Task, region: Region, given: list[str], made: list[str], names: Names
) -> list[str]:
    with names.inside() as scope:
        state = [f"{scope}s{number}" for number in range(region.carried)]
        count = f"{scope}count"
    operands = [*state, *given[region.carried :]]
    test, (condition,) = _arm_lines(region.arms[0], operands, names)
    body, results = _arm_lines(region.arms[1], operands, names)
    clone = names.of("clone_", torch.clone)
    error = names.of("cap_reached_", cap_reached)
    what = repr(f"the loop at {task.origin}")
    return [
        *(f"{name} = {clone}({start})" for name, start in zip(state, given, strict=False)),
        f"{count} = 0",
        "while True:",
        *_indented(test),
        f"    if not {condition}: break",
        f"    if {count} == {region.cap}: raise {error}({what}, {region.cap})",
        f"    {count} += 1",
        *_indented(body),
        f"    {', '.join(state)}, = {', '.join(results)},",
        *(f"{name} = {last}" for name, last in zip(made, state, strict=True)),
    ]


def _arm_lines(arm: Arm, given: list[str], names: Names) -> tuple[list[str], list[str]]:
    """Write the body of an arm; also the expressions of its results."""
    graph = arm.graph
    values = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
    program = make_schedule(graph, device_scope(graph), CPU, 1).program
    with names.inside():
        lines = [
            f"{names.value(value)} = {given[place]}"
            for value, place in zip(values, arm.operands, strict=True)
        ]
        for step in program:
            if isinstance(step, Launch):
                lines += task_lines(graph.tasks[step.task], names)
            elif isinstance(step, Drop):
                lines.append(f"del {', '.join(names.value(value) for value in step.values)}")
        outputs = [names.value(leaf.value) for leaf in graph.outputs if isinstance(leaf, Ref)]
    clone = names.of("clone_", torch.clone)
    results = [
        f"{clone}({name})" if is_copied else name
        for name, is_copied in zip(outputs, arm.copied, strict=True)
    ]
    return lines, results


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _is_all(part: Any) -> bool:
    return type(part) is slice and part == _ALL


def _is_plain_slice(part: slice) -> bool:
    return all(type(bound) in (int, type(None)) for bound in (part.start, part.stop, part.step))


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
