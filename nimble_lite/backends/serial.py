"""The serial backend: a schedule on one stream as generated straight-line Python.

In: a `Schedule`. Out: an `Executable`; its source can be read and shows up in tracebacks.
What it saves is the Python between the operations: modules, wrappers, attribute look-ups,
argument checks, tuples and no-ops. Kernels and their order are eager's, so are the bits.

The generated function holds everything in local names and lets go of each tensor right after
its last use; the caching allocator of the CPU (malloc) then hands back warm pages. Views of
constants are made once, when the function is bound to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nimble_lite.backends.straight import Names, compile_source, task_lines
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import Drop, Launch, is_pure_view
from nimble_lite.tasks.graph import Ref, TaskGraph, references


class SerialExecutable:
    """Runs the tasks of a graph one after another.

    Args:
        schedule: what to run; its drops decide how long values live.

    Attributes:
        source: the generated function.
        pinned: constants of which views were made in advance.
    """

    has_frozen_kernels = False

    def __init__(self, schedule: Schedule) -> None:
        graph = schedule.graph
        self.source, self._objects = emit_source(graph, schedule)
        folded = constant_views(graph)
        viewed = {value for number in folded for value in graph.tasks[number].values}
        self.pinned = viewed.intersection(c.value for c in graph.constants)
        self._constants = {c.value: c.tensor for c in graph.constants}
        self._compiled = compile_source(self.source, "serial")
        self._replay = self._bind()

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:  # hot
        """Run once."""
        return self._replay(*inputs)

    def rebind(self, constants: Mapping[int, torch.Tensor]) -> None:
        """Use other tensors for some constants."""
        self._constants.update(constants)
        self._replay = self._bind()

    def close(self) -> None:
        """Let go of the constants."""
        self._constants = {}

    def _bind(self) -> Callable[..., Sequence[torch.Tensor]]:
        with torch.no_grad():
            bound: Callable[..., Sequence[torch.Tensor]]
            bound = self._compiled(self._constants, **self._objects)
        return bound


def emit_source(graph: TaskGraph, schedule: Schedule) -> tuple[str, dict[str, Any]]:
    """Write the replay function and collect the objects that it names."""
    names = Names()
    folded = constant_views(graph)
    steps = [step for step in schedule.program if isinstance(step, Launch | Drop)]
    launches = [step.task for step in steps if isinstance(step, Launch)]
    bound = [f"v{c.value} = constants[{c.value}]" for c in graph.constants]
    for number in launches:
        if number in folded:
            bound += task_lines(graph.tasks[number], names)
    body: list[str] = []
    for step in steps:
        if isinstance(step, Drop):
            body.append(f"del {', '.join(f'v{value}' for value in step.values)}")
        elif step.task not in folded:
            body += task_lines(graph.tasks[step.task], names)
    inputs = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
    outputs = [f"v{leaf.value}" for leaf in graph.outputs if isinstance(leaf, Ref)]
    returned = f"({', '.join(outputs)},)" if outputs else "()"
    source = [
        f"def bind({', '.join(('constants', *names.objects))}):",
        *(f"    {line}" for line in bound),
        f"    def replay({', '.join(f'v{value}' for value in inputs)}):",
        *(f"        {line}" for line in body),
        f"        return {returned}",
        "    return replay",
    ]
    return "\n".join([*source, ""]), names.objects


def constant_views(graph: TaskGraph) -> frozenset[int]:
    """Tasks that only make views of constants; nobody gets these views or reshapes them."""
    known = {constant.value for constant in graph.constants}
    barred = {leaf.value for leaf in graph.outputs if isinstance(leaf, Ref)}
    for task in graph.tasks:
        if task.is_zero and not is_pure_view(graph, task):
            barred |= {ref.value for ref in references((task.args, task.kwargs))}
    folded: set[int] = set()
    for task in graph.tasks:
        taken = {ref.value for ref in references((task.args, task.kwargs))}
        made = {value for _, value in task.results}
        is_constant = taken and taken <= known and not made & barred and task.ambient is None
        if is_constant and is_pure_view(graph, task):
            folded.add(task.id)
            known |= made
    return frozenset(folded)
