"""How a program of the table says what it is.

The decorated function or module class is what is converted; the rest says how it is called. A file
of programs is loaded anew for each world, so that nothing a program changes is shared.

Example:
    >>> @construct("data-dependent if", "if / else")
    ... def branch(x):
    ...     return x * 2 if x.sum() > 0 else -x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

CALLS = 20

_T = TypeVar("_T")
Inputs = Callable[[int], tuple[Any, ...]]
# (the file's namespace, the state or module of this world, number of the call)
Change = Callable[[dict[str, Any], Any, int], object]


def matrix(step: int) -> tuple[Any, ...]:
    """Return one `f32[4, 16]`, another for each call."""
    return (normal(step, 4, 16),)


def normal(step: int, *shape: int) -> Tensor:
    """Return normal numbers that differ from call to call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Construct:
    """One program of the table.

    Attributes:
        feature: the row of the table that it belongs to.
        case: what of the feature it shows.
        inputs: arguments of each call.
        state: makes the object that is handed in as first argument, and compared after each call.
        change: what the outside does before each call.
        is_trained: `backward` follows from the sum of the output, and gradients are compared.
        calls: how many calls are counted.
        limit: conversions that are promised at most; 0 promises nothing.
        time_limit: what is promised of its time over eager's once nothing is converted any more;
            `None` promises nothing.
    """

    feature: str
    case: str
    inputs: Inputs = matrix
    state: Callable[[], Any] | None = None
    change: Change | None = None
    is_trained: bool = False
    calls: int = CALLS
    limit: int = 0
    time_limit: float | None = 1.1


def construct(feature: str, case: str, **options: Any) -> Callable[[_T], _T]:
    """Register a function or a module class as a program of the table."""

    def register(target: _T) -> _T:
        target.construct = Construct(  # type: ignore[attr-defined] # both kinds take attributes
            feature=feature, case=case, **options
        )
        return target

    return register
