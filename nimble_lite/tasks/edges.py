"""Edges of a recorded program: what the host must have run before, and which effects count.

In: tasks with their effects. Out: host edges; tasks without the bytes that no other task sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nimble_lite.tasks.graph import Task, references


def without_temporaries(tasks: Sequence[Task], named: set[int]) -> list[Task]:
    """Forget storages that live and die inside one task: no value looks at them."""
    users: dict[int, int] = {}
    for task in tasks:
        for storage in task.touches:
            users[storage] = users.get(storage, 0) + 1
    kept = named | {storage for storage, count in users.items() if count > 1}
    return [replace(task, reads=task.reads & kept, writes=task.writes & kept) for task in tasks]


def host_edges(
    tasks: Sequence[Task],
    kernels: Sequence[Task],
    hazards: Sequence[Sequence[int]],
    reshaped: Sequence[tuple[int, int]],
) -> tuple[tuple[int, ...], ...]:
    """Hazards, argument edges, and all users of an object before it changes shape in place."""
    edges: list[set[int]] = [set() for _ in tasks]
    for kernel, sources in zip(kernels, hazards, strict=True):
        edges[kernel.id].update(kernels[source].id for source in sources)
    maker = {value: task.id for task in tasks for _, value in task.results}
    users: dict[int, list[int]] = {}
    for task in tasks:
        for ref in references((task.args, task.kwargs)):
            users.setdefault(ref.value, []).append(task.id)
            if ref.value in maker:
                edges[task.id].add(maker[ref.value])
    for mutator, value in reshaped:
        edges[mutator].update(user for user in users.get(value, ()) if user < mutator)
    return tuple(tuple(sorted(sources)) for sources in edges)
