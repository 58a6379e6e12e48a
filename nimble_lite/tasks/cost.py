"""Estimated time of a task on a device: a roofline over bytes and floating point operations.

In: a task graph and a `DeviceProfile`. Out: microseconds and the share of the device that each
kernel task fills. Only the order of magnitude matters: the estimate decides which chains are
worth a stream; which schedule is kept is measured where there is a device. It reads no clock,
so the same graph gets the same plan on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nimble_lite.tasks.graph import Task, TaskGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """What the estimate knows of a device.

    Attributes:
        name: for the report.
        flops_per_us: sustained floating point operations in a microsecond.
        bytes_per_us: sustained memory traffic in a microsecond.
        kernel_us: least time of a kernel inside a replayed graph.
        sync_us: cost of one wait between streams.
        launch_us: launch cost per task at replay; tasks times this is the replay floor.
        parallel_elements: result elements that fill the whole device.
    """

    name: str
    flops_per_us: float
    bytes_per_us: float
    kernel_us: float
    sync_us: float
    launch_us: float
    parallel_elements: int


# Sustained, not peak, figures: fp32 without tensor cores, and 80 % of the memory's bandwidth.
H100 = DeviceProfile(
    name="H100 (assumed)",
    flops_per_us=4.0e7,
    bytes_per_us=2.4e6,
    kernel_us=2.0,
    sync_us=1.5,
    launch_us=1.3,
    parallel_elements=132 * 2048,
)
CPU = DeviceProfile(
    name="CPU core (assumed)",
    flops_per_us=5.0e4,
    bytes_per_us=1.0e4,
    kernel_us=2.0,
    sync_us=7.0,
    launch_us=0.5,
    parallel_elements=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Estimate for one kernel task, as if it ran alone."""

    us: float
    device_share: float


def estimate(graph: TaskGraph, profile: DeviceProfile) -> tuple[Cost, ...]:
    """Estimate every kernel task, in the order of `graph.kernel_tasks`."""
    return tuple(_estimate(graph, task, profile) for task in graph.kernels)


def _estimate(graph: TaskGraph, task: Task, profile: DeviceProfile) -> Cost:
    traffic = sum(_viewed_bytes(graph, task, storage) for storage in task.touches)
    work_us = max(task.flops / profile.flops_per_us, traffic / profile.bytes_per_us)
    made = max((graph.storages[s].nbytes for s in task.writes), default=0) / 4
    share = min(1.0, max(made / profile.parallel_elements, 1 / 132))
    return Cost(us=profile.kernel_us + work_us, device_share=share)


def _viewed_bytes(graph: TaskGraph, task: Task, storage: int) -> int:
    """Bytes of a storage that the task's own arguments and results look at, at most all."""
    seen = 0
    for value in task.values:
        meta = graph.values[value]
        if meta.storage == storage:
            seen = max(seen, meta.dtype.itemsize * torch.Size(meta.shape).numel())
    return min(seen or graph.storages[storage].nbytes, graph.storages[storage].nbytes)
