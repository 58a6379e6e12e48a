"""The serial backend: a schedule on one stream as generated straight-line Python.

In: a `Schedule`. Out: an `Executable`; its source can be read and shows up in tracebacks.
What it saves is the Python between the operations: modules, wrappers, attribute look-ups,
argument checks, tuples and no-ops. Kernels and their order are eager's, so are the bits.

The generated function holds everything in local names and lets go of each tensor right after
its last use; the caching allocator of the CPU (malloc) then hands back warm pages. Views of
constants are made once, when the function is bound to them.

Note [Below autograd]
    Without gradients, the dispatcher still sends each operation through the keys of autograd
    and of view tracking, which hand it on unchanged: some 7 % of a small model. The run skips
    them where nothing can be seen of it: all operations are torch's own C functions under no
    autocast, no output is a view or counts a write, nothing outside is written, and, asked
    anew for each run, no mode, tracer, transform or forward-mode level listens.
    `docs/design/0025` has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nimble_lite.backends.straight import Names, compile_source, task_lines
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import Drop, Launch, is_pure_view
from nimble_lite.tasks.checks import Check, SameShape
from nimble_lite.tasks.graph import Ref, Region, StorageKind, Task, TaskGraph, references
from nimble_lite.torch_internals import below_autograd, is_native, is_watched

BELOW_AUTOGRAD_FROM = 16
"""Tasks from which entering and leaving the block costs less than it saves."""


class SerialExecutable:
    """Runs the tasks of a graph one after another.

    Args:
        schedule: what to run; its drops decide how long values live.

    Attributes:
        source: the generated function.
        below: the context that runs are made in, None where it would show.
        pinned: constants of which views were made in advance.
    """

    def __init__(self, schedule: Schedule) -> None:
        graph = schedule.graph
        self.source, self._objects = emit_source(graph, schedule)
        self.below = below_autograd if hides_autograd(graph) else None
        folded = constant_views(graph)
        viewed = {value for number in folded for value in graph.tasks[number].values}
        self.pinned = viewed.intersection(c.value for c in graph.constants)
        self._constants = {c.value: c.tensor for c in graph.constants}
        self._compiled = compile_source(self.source, "serial")
        self._replay = self._bind()

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:  # hot
        """Run once."""
        if self.below is None or is_watched():
            return self._replay(*inputs)
        with self.below():
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


def hides_autograd(graph: TaskGraph) -> bool:
    """Whether a run below autograd's dispatch keys shows nothing of it."""
    return (
        _task_count(graph) >= BELOW_AUTOGRAD_FROM
        and graph.has_bare_outputs
        and all(_is_torchs_own(task) for task in graph.tasks)
        and all(
            graph.storages[number].kind is StorageKind.BORN
            for task in graph.tasks
            for number in task.writes
        )
    )


def _task_count(graph: TaskGraph) -> int:
    regions = (task.target for task in graph.tasks if isinstance(task.target, Region))
    return len(graph.tasks) + sum(_task_count(arm.graph) for r in regions for arm in r.arms)


def _is_torchs_own(task: Task) -> bool:
    target = task.target
    if isinstance(target, Region):
        return all(_is_torchs_own(inner) for arm in target.arms for inner in arm.graph.tasks)
    if isinstance(target, Check):
        target = target.read
    elif isinstance(target, SameShape):
        target = target.target
    return task.ambient is None and is_native(target)


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
