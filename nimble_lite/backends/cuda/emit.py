"""Issue a program to a driver: the same steps for warm-up, for capture, and for every driver.

In: a `Schedule`, a `Driver`, input tensors. Out: the output tensors. Invariant: a value is let
go exactly where the program drops it, which is where its home stream has waited for all users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from nimble_lite.backends.cuda.driver import Driver, Values
from nimble_lite.backends.cuda.regions import RegionIssuer, has_loop
from nimble_lite.backends.protocol import bound_target
from nimble_lite.errors import CaptureError, NimbleError
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import Drop, Launch, Program, Record, Wait, output_values
from nimble_lite.tasks.checks import Check
from nimble_lite.tasks.graph import Ref, Region, Task, TaskGraph, map_leaves, references
from nimble_lite.tasks.regions import cap_reached


def run_program(
    schedule: Schedule,
    driver: Driver,
    outside: Mapping[int, torch.Tensor],
    program: Program | None = None,
    launched: Callable[[int], None] | None = None,
) -> Values:
    """Issue every step and return the outputs by value number.

    Args:
        schedule: gives graph and program.
        driver: takes the steps.
        outside: inputs and constants by value number.
        program: instead of the schedule's own; for tests that break it.
        launched: called with each task after its launch, on its stream.

    Raises:
        CaptureError: NL0403, naming the operation, its line and what the device said.
    """
    graph = schedule.graph
    values: dict[int, torch.Tensor] = dict(outside)
    regions = RegionIssuer(driver, _call)
    try:
        for step in schedule.program if program is None else program:
            match step:
                case Launch(stream, number):
                    with driver.on(stream):
                        _launch(graph, graph.tasks[number], regions, values)
                        if launched is not None:
                            launched(number)
                case Record(stream, event):
                    driver.record(stream, event)
                case Wait(stream, event):
                    driver.wait(stream, event)
                case Drop(_, _, dropped):
                    for value in dropped:
                        values.pop(value, None)
        results = {value: values[value] for value in output_values(graph)}
        return results | {key: tensor for key, tensor in values.items() if key < 0}
    finally:
        # On an error the traceback would keep this frame, and the frame all tensors.
        values.clear()


def _launch(
    graph: TaskGraph, task: Task, regions: RegionIssuer, values: dict[int, torch.Tensor]
) -> None:
    target = task.target
    if isinstance(target, Check):
        values.update(_copies_to_check(graph, task, values))
    elif isinstance(target, Region):
        overrun = None
        if has_loop(target):
            overrun = torch.zeros((), dtype=torch.bool, device=graph.device)
            values[check_key(graph, task, 0)] = overrun
        regions.issue(task, target, values, overrun)
    else:
        _call(task, values)


def verify_checks(graph: TaskGraph, results: Values) -> None:
    """Compare, after a replay, what only the host can judge.

    A host read cannot be captured. Its argument is copied in the graph instead, at the place of
    the read, and read here, which waits for the device. So is the flag of a loop.

    Raises:
        StaleValueError: NL0206 or NL0208, before any output is handed out.
    """
    for task in graph.tasks:
        if isinstance(task.target, Region) and has_loop(task.target):
            if results[check_key(graph, task, 0)].item():
                raise cap_reached(f"a loop at {task.origin}", task.target.cap)
        elif isinstance(task.target, Check):
            copies = {
                ref.value: results[check_key(graph, task, ref.value)]
                for ref in references((task.args, task.kwargs))
            }
            args, kwargs = _filled(task, copies)
            task.target(*args, **kwargs)


def _filled(task: Task, values: Mapping[int, torch.Tensor]) -> tuple[Any, Any]:
    """Arguments of a task with tensors in place of references."""
    args, kwargs = map_leaves(
        (task.args, task.kwargs),
        lambda leaf: values[leaf.value] if isinstance(leaf, Ref) else leaf,
    )
    return args, kwargs


def check_key(graph: TaskGraph, task: Task, value: int) -> int:
    """Number, below all values, of the copy that a check reads."""
    return -1 - task.id * len(graph.values) - value


def _copies_to_check(
    graph: TaskGraph, task: Task, values: Mapping[int, torch.Tensor]
) -> dict[int, torch.Tensor]:
    return {
        check_key(graph, task, ref.value): values[ref.value].clone()
        for ref in references((task.args, task.kwargs))
    }


def _call(task: Task, values: dict[int, torch.Tensor]) -> None:
    args, kwargs = _filled(task, values)
    try:
        result = bound_target(task)(*args, **kwargs)
    except NimbleError:
        raise
    except Exception as error:
        raise CaptureError(
            "NL0403",
            what=f"{task.name} at {task.origin} failed on the device",
            found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            hint="see the cause below; torch is usable, and the function itself still runs",
        ) from error.with_traceback(None)
    for path, value in task.results:
        found = result
        for key in path:
            found = found[key]
        values[value] = found
