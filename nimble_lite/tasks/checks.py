"""Tasks that compare: values that Python read, and shapes that follow from host values.

In: what an operation returned while recording. Out: callables that stand in a graph in the
operation's place. Invariant: a replay for which the recorded value does not hold raises NL0206
before anything is handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nimble_lite.errors import StaleValueError
from nimble_lite.tasks.graph import Origin


class Check:
    """A value that Python read while recording, compared again with every replay.

    Args:
        read: the function that brings the value to the host.
        recorded: what it returned.
        origin: the user's line.
    """

    def __init__(self, read: Callable[..., Any], recorded: Any, origin: Origin) -> None:
        self.read = read
        self.recorded = recorded
        self.origin = origin

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Raise unless the value is the recorded one."""
        found = self.read(*args, **kwargs)
        # repr tells -0.0 from 0.0 and finds NaN equal to itself, which == does not.
        if repr(found) != repr(self.recorded):
            raise StaleValueError(
                "NL0206",
                what=f"a value that Python read at {self.origin} is different now",
                found=repr(found),
                expected=f"{self.recorded!r}, as when the function was scheduled",
                hint="call the function itself for such inputs; janus_lite keeps both paths",
            )


class SameShape:
    """An operation that takes a host value: its results must keep their recorded shapes."""

    def __init__(self, target: Callable[..., Any], recorded: Any, origin: Origin) -> None:
        self.target = target
        self.recorded = shapes_of(recorded)
        self.origin = origin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operation and compare."""
        result = self.target(*args, **kwargs)
        found = shapes_of(result)
        if found != self.recorded:
            raise StaleValueError(
                "NL0206",
                what=f"the operation at {self.origin} returned another shape",
                found=str(found),
                expected=f"{self.recorded}, as when the function was scheduled",
                hint="call the function itself for such inputs",
            )
        return result


def shapes_of(result: Any) -> tuple[tuple[int, ...], ...]:
    """Shapes of the tensors in a result, without looking into foreign objects."""
    if isinstance(result, torch.Tensor):
        return (tuple(result.shape),)
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return tuple(shape for part in result for shape in shapes_of(part))
    return ()
