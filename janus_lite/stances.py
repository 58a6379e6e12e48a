"""Stances: how speculated functions behave for a while, in this thread or everywhere.

`default`, `force_eager` (run imperatively, keep the graphs), `eager_on_miss` (use graphs, record
nothing new), `fail_on_miss` (raise `MissError` instead of running imperatively).
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
STANCES = ("default", "force_eager", "eager_on_miss", "fail_on_miss")


class _Local(threading.local):
    stack: tuple[str, ...] = ()


class Watched(Protocol):
    """A function that calls reach without passing where stances are looked at."""

    def take_back(self) -> None:
        """Look at them again."""


_watched: weakref.WeakSet[Watched] = weakref.WeakSet()
_local = _Local()
_lock = threading.Lock()
depth = 0  # stances in force in any thread: the hot path asks no more while it is 0


def _count(change: int) -> None:
    global depth
    with _lock:
        depth += change


def watch(function: Watched) -> None:
    """Tell a function when a stance comes that it has to look at."""
    with _lock:
        _watched.add(function)


def current() -> str:
    """The stance of this thread."""
    return _local.stack[-1] if _local.stack else "default"


class stance:  # noqa: N801  # used like a function: `with stance("force_eager"):`
    """Set the stance in a `with` block or for a decorated function.

    Args:
        name: one of `STANCES`.

    Raises:
        ValueError: an unknown stance.
    """

    def __init__(self, name: str) -> None:
        if name not in STANCES:
            raise ValueError(f"unknown stance {name!r}; expected one of {STANCES}")
        self._name = name

    def __enter__(self) -> None:
        _local.stack = (*_local.stack, self._name)
        _count(1)
        if self._name == "fail_on_miss":  # to all others it is the same
            with _lock:
                functions = list(_watched)
            for function in functions:
                function.take_back()

    def __exit__(self, *exception: object) -> None:
        _local.stack = _local.stack[:-1]
        _count(-1)

    def __call__(self, function: Function) -> Function:
        """Return the function as it runs under the stance."""
        name = self._name

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with stance(name):
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]  # same signature, by `wraps`


def disable(function: Function) -> Function:
    """Decorate a function so that nothing in it is speculated on."""
    return stance("force_eager")(function)
