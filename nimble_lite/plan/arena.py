"""Place all storages of a schedule into one arena, safely for every order it allows.

In: a task graph and the happens-before relation of a program. Out: an `ArenaPlan`.
Invariant: two storages overlap only if every access to one is complete before any access to the
other starts, in every legal interleaving. Program order is never enough: a plan from serial
lifetimes is a race on almost every schedule with more than one stream.

The `recorder` runs on this arena; the report shows it as a bound. The CUDA backend does not use
it: there, torch's own allocator is fed by drops (`nimble_lite.plan.schedule`).

Example: three storages of 1 KiB in a chain need two slots, because a task that reads one and
writes the next holds both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nimble_lite.plan.schedule import HappensBefore
from nimble_lite.tasks.graph import TaskGraph

ALIGNMENT = 512
"""Alignment of CUDA's caching allocator; kernels may choose other code for less."""

ARENA_LIMIT = 20_000
"""Most storages that are placed: conflicts are a matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaPlan:
    """Offsets of storages in one allocation.

    Attributes:
        offsets: first byte of each placed storage.
        sizes: its aligned size.
        nbytes: size of the arena.
        serial_bytes: what would do if tasks ran one after another in recorded order.
        no_reuse_bytes: sum of all sizes.
    """

    offsets: Mapping[int, int]
    sizes: Mapping[int, int]
    nbytes: int
    serial_bytes: int
    no_reuse_bytes: int


def plan_arena(graph: TaskGraph, order: HappensBefore) -> ArenaPlan:
    """Place every storage that a task makes; outputs keep their bytes to the end.

    Args:
        graph: gives sizes and accesses.
        order: what the program enforces.

    Returns:
        Offsets by first fit, largest first.

    Shapes/units: O(storages * tasks) memory, one matrix product of that size.
    """
    storages = placed_storages(graph)
    sizes = {number: aligned(graph.storages[number].nbytes) for number in storages}
    tasks = graph.kernel_tasks
    accesses = _accesses(graph, storages, tasks)
    parallel = _conflicts(graph, storages, accesses, order.matrix(tasks))
    numbers = np.arange(len(tasks))
    serial = _conflicts(graph, storages, accesses, numbers[:, None] < numbers[None, :])
    offsets = _place(storages, sizes, parallel, accesses)
    ends = [offsets[number] + sizes[number] for number in storages]
    serial_offsets = _place(storages, sizes, serial, accesses)
    return ArenaPlan(
        offsets=offsets,
        sizes=sizes,
        nbytes=max(ends, default=0),
        serial_bytes=max((serial_offsets[n] + sizes[n] for n in storages), default=0),
        no_reuse_bytes=sum(sizes.values()),
    )


def serial_arena(graph: TaskGraph) -> ArenaPlan:
    """Place storages as if tasks ran one after another: right for one stream only."""
    positions = {task: index + 1 for index, task in enumerate(graph.kernel_tasks)}
    order = HappensBefore(
        position=positions,
        stream_of=dict.fromkeys(positions, 0),
        clock={task: (index - 1,) for task, index in positions.items()},
    )
    return plan_arena(graph, order)


def placed_storages(graph: TaskGraph) -> tuple[int, ...]:
    """Storages that a task makes and that have bytes."""
    return tuple(
        number
        for number, storage in enumerate(graph.storages)
        if storage.birth is not None and storage.nbytes > 0
    )


def aligned(nbytes: int) -> int:
    """Round up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _accesses(
    graph: TaskGraph, storages: Sequence[int], tasks: Sequence[int]
) -> npt.NDArray[np.float32]:
    """`accesses[b, t]` is 1 where task `t` reads or writes storage `b`."""
    row = {number: index for index, number in enumerate(storages)}
    accesses = np.zeros((len(storages), len(tasks)), dtype=np.float32)
    for column, task in enumerate(tasks):
        for number in graph.tasks[task].touches:
            if number in row:
                accesses[row[number], column] = 1
    return accesses


def _conflicts(
    graph: TaskGraph,
    storages: Sequence[int],
    accesses: npt.NDArray[np.float32],
    ordered: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Pairs of storages that may be alive at the same time."""
    users = accesses.sum(axis=1)
    # done[b, t]: every access to b is complete before t starts.
    done = (accesses @ ordered.astype(np.float32)) == users[:, None]
    before = (done.astype(np.float32) @ accesses.T) == users[None, :]
    before[[graph.storages[number].is_output for number in storages], :] = False
    # Bytes that nobody touches conflict with nothing, but their tensors exist: keep them apart.
    before[users == 0, :] = False
    before[:, users == 0] = False
    conflicts: npt.NDArray[np.bool_] = ~(before | before.T)
    return conflicts


def _place(
    storages: Sequence[int],
    sizes: Mapping[int, int],
    conflicts: npt.NDArray[np.bool_],
    accesses: npt.NDArray[np.float32],
) -> dict[int, int]:
    first = accesses.argmax(axis=1) if accesses.shape[1] else np.zeros(len(storages))
    ranked = sorted(range(len(storages)), key=lambda i: (-sizes[storages[i]], first[i], i))
    starts = np.zeros(len(storages), dtype=np.int64)
    ends = np.zeros(len(storages), dtype=np.int64)
    is_placed = np.zeros(len(storages), dtype=np.bool_)
    for index in ranked:
        rivals = np.flatnonzero(conflicts[index] & is_placed)
        rivals = rivals[np.argsort(starts[rivals], kind="stable")]
        starts[index] = _first_gap(starts[rivals], ends[rivals], sizes[storages[index]])
        ends[index] = starts[index] + sizes[storages[index]]
        is_placed[index] = True
    return {number: int(starts[index]) for index, number in enumerate(storages)}


def _first_gap(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], size: int) -> int:
    """Lowest offset at which `size` bytes fit between intervals sorted by start."""
    if not len(starts):
        return 0
    floors = np.concatenate(([0], np.maximum.accumulate(ends)))
    gaps = np.flatnonzero(starts - floors[:-1] >= size)
    return int(floors[gaps[0]] if len(gaps) else floors[-1])
