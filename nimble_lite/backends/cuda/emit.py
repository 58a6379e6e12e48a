"""Issue a program to a driver: the same steps for warm-up, for capture, and for every driver.

In: a `Schedule`, a `Driver`, input tensors. Out: the output tensors. Invariant: a value is let
go exactly where the program drops it, which is where its home stream has waited for all users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from nimble_lite.backends.cuda.driver import Driver, Values
from nimble_lite.backends.protocol import bound_target
from nimble_lite.errors import CaptureError, NimbleError
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import Drop, Launch, Program, Record, Wait, output_values
from nimble_lite.tasks.graph import Ref, Task, map_leaves


def run_program(
    schedule: Schedule,
    driver: Driver,
    outside: Mapping[int, torch.Tensor],
    program: Program | None = None,
) -> Values:
    """Issue every step and return the outputs by value number.

    Args:
        schedule: gives graph and program.
        driver: takes the steps.
        outside: inputs and constants by value number.
        program: instead of the schedule's own; for tests that break it.

    Raises:
        CaptureError: NL0403, naming the operation, its line and what the device said.
    """
    graph = schedule.graph
    values: dict[int, torch.Tensor] = dict(outside)
    targets: dict[int, Callable[..., Any]] = {}
    try:
        for step in schedule.program if program is None else program:
            match step:
                case Launch(stream, number):
                    task = graph.tasks[number]
                    target = targets.setdefault(number, bound_target(task))
                    with driver.on(stream):
                        _call(task, target, values)
                case Record(stream, event):
                    driver.record(stream, event)
                case Wait(stream, event):
                    driver.wait(stream, event)
                case Drop(_, _, dropped):
                    for value in dropped:
                        values.pop(value, None)
        return {value: values[value] for value in output_values(graph)}
    finally:
        # On an error the traceback would keep this frame, and the frame all tensors.
        values.clear()


def _call(task: Task, target: Callable[..., Any], values: dict[int, torch.Tensor]) -> None:
    args, kwargs = map_leaves(
        (task.args, task.kwargs),
        lambda leaf: values[leaf.value] if isinstance(leaf, Ref) else leaf,
    )
    try:
        result = target(*args, **kwargs)
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
