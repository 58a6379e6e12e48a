"""Regions on a device: arms as bodies of conditional nodes, results in buffers of the parent.

In: a task whose target is a `Region`, values, a driver. Out: the results, as values. The parent
allocates what outlives a body (results, loop state, predicate); a body computes on its own memory
and copies into that. A loop's state is read before any of it is overwritten.

What a device cannot repeat on its own is refused before anything runs: random numbers, whose
offsets a body would replay, and values that go to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from nimble_lite.backends.cuda.driver import Driver
from nimble_lite.errors import BackendError
from nimble_lite.tasks.alias import RNG_TOKEN
from nimble_lite.tasks.graph import Arm, Ref, Region, RegionKind, StorageKind, Task, TaskGraph

RunTask = Callable[[Task, dict[int, torch.Tensor]], None]
"""Calls a task without a region and binds its results."""


def has_loop(region: Region) -> bool:
    """Whether a region is a loop or holds one."""
    return region.kind is RegionKind.WHILE or any(
        has_loop(task.target)
        for arm in region.arms
        for task in arm.graph.tasks
        if isinstance(task.target, Region)
    )


def refuse_uncapturable_region(task: Task, region: Region) -> None:
    """Raise NL0404 for the first operation that no body of a conditional node may hold."""
    for inner in (inner for arm in region.arms for inner in arm.graph.tasks):
        if isinstance(inner.target, Region):
            refuse_uncapturable_region(inner, inner.target)
        elif inner.is_sync or RNG_TOKEN in inner.tokens:
            found = "brings a value to the host" if inner.is_sync else "draws random numbers"
            raise BackendError(
                "NL0404",
                what=f"the region at {task.origin} cannot be decided on the device",
                found=f"{inner.name} at {inner.origin} {found}",
                expected="operations that the device can repeat on its own",
                hint="draw or decide before the region and pass the result in as an operand",
            )


class RegionIssuer:
    """Issues the regions of one program.

    Args:
        driver: takes branches and loops.
        run_task: runs everything else.
    """

    def __init__(self, driver: Driver, run_task: RunTask) -> None:
        self._driver = driver
        self._run_task = run_task

    def issue(
        self,
        task: Task,
        region: Region,
        values: dict[int, torch.Tensor],
        overrun: torch.Tensor | None,
    ) -> None:
        """Issue a region and bind its results.

        Args:
            task: whose target is the region.
            region: the same.
            values: of the graph around it; gets the results.
            overrun: `bool[]` that is set when a cap ended a loop; None where there is none.
        """
        operands = [values[ref.value] for ref in task.args]
        buffers = [
            torch.empty_strided(meta.shape, meta.stride, dtype=meta.dtype, device=meta.device)
            for meta in region.results
        ]
        if region.kind is RegionKind.WHILE:
            self._loop(region, operands, buffers, overrun)
        else:
            selector = _selector(region, operands[0])
            bodies = [partial(self._fill, arm, operands, buffers, overrun) for arm in region.arms]
            self._driver.branch(selector, bodies)
        for (_, value), buffer in zip(task.results, buffers, strict=True):
            values[value] = buffer

    def _fill(
        self,
        arm: Arm,
        operands: Sequence[torch.Tensor],
        buffers: Sequence[torch.Tensor],
        overrun: torch.Tensor | None,
    ) -> None:
        results = self._run_arm(arm, operands, overrun)
        for buffer, result in zip(buffers, results, strict=True):
            buffer.copy_(result)

    def _loop(
        self,
        region: Region,
        operands: Sequence[torch.Tensor],
        state: Sequence[torch.Tensor],
        overrun: torch.Tensor | None,
    ) -> None:
        condition, body = region.arms
        for buffer, start in zip(state, operands, strict=False):
            buffer.copy_(start)
        inside = [*state, *operands[region.carried :]]
        predicate = torch.empty((), dtype=torch.bool, device=state[0].device)

        def iterate() -> None:
            self._fill(body, inside, state, overrun)
            self._fill(condition, inside, (predicate,), overrun)

        self._fill(condition, inside, (predicate,), overrun)
        self._driver.loop(predicate, (*state, predicate), iterate, region.cap)
        if overrun is not None:
            # Only the cap ends a loop whose condition holds.
            overrun.logical_or_(predicate)

    def _run_arm(
        self, arm: Arm, operands: Sequence[torch.Tensor], overrun: torch.Tensor | None
    ) -> list[torch.Tensor]:
        graph = arm.graph
        inputs = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
        values = {value: operands[place] for value, place in zip(inputs, arm.operands, strict=True)}
        for task in graph.tasks:
            if isinstance(task.target, Region):
                self.issue(task, task.target, values, overrun)
            else:
                self._run_task(task, values)
        outputs = [leaf.value for leaf in graph.outputs if isinstance(leaf, Ref)]
        # A result that lies on an operand may be overwritten by the copy of another.
        return [
            values[value].clone() if _is_operand(graph, value) else values[value]
            for value in outputs
        ]


def _is_operand(graph: TaskGraph, value: int) -> bool:
    return graph.storages[graph.values[value].storage].kind is StorageKind.INPUT


def _selector(region: Region, given: torch.Tensor) -> torch.Tensor:
    if region.kind is RegionKind.IF:
        return given if given.dtype is torch.bool else given != 0
    return given.clamp(0, len(region.arms) - 1).to(torch.int32)
