"""What every backend provides: a schedule made runnable.

In: a checked `Schedule`. Out: an `Executable` that maps flat input tensors to flat outputs.
One contract for all of them, held by one test suite: equal bits to eager for equal inputs and
seeds; writes to arguments, parameters and buffers happen as in eager; outputs belong to the
caller and share memory with each other and with inputs exactly where eager's do; a failed run
leaves the executable usable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import torch

from nimble_lite.errors import InternalError
from nimble_lite.tasks.graph import Ambient, Region, Task


class Executable(Protocol):
    """A schedule that can run."""

    @property
    def pinned(self) -> Collection[int]:
        """Values of constants whose addresses are built in: other addresses need a new schedule."""

    @property
    def has_frozen_kernels(self) -> bool:
        """Whether runs repeat the kernels of an earlier one instead of choosing them anew."""

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once.

        Args:
            inputs: one tensor for each distinct input value, in order of their numbers.

        Returns:
            The tensor outputs, one for each `Ref` of the graph's outputs, in order.
        """

    def rebind(self, constants: Mapping[int, torch.Tensor]) -> None:
        """Use other tensors of the same metadata for some constants, by value number."""

    def close(self) -> None:
        """Give back threads, graphs and memory; the executable cannot run again."""


def bound_target(task: Task) -> Callable[..., Any]:
    """What to call for a task without a region, under the autocast it was recorded under."""
    if isinstance(task.target, Region):
        raise InternalError(f"{task.name} is a region: it is emitted, not called")
    if task.ambient is None:
        return task.target
    return _UnderAutocast(task.target, task.ambient)


class _UnderAutocast:
    """Calls a function as autocast was around it when it was recorded."""

    def __init__(self, target: Callable[..., Any], ambient: Ambient) -> None:
        self.__name__ = getattr(target, "__name__", "task")
        self._target = target
        self._ambient = ambient

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(self._ambient.device_type, dtype=self._ambient.dtype):
            return self._target(*args, **kwargs)
