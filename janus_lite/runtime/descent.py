"""Descending: a function runs imperatively, what it calls is speculated on.

The function runs as a routed copy of itself. Nothing is left behind on the user's objects: the copy
alone knows where its calls go. At first every call is looked at; places that never called anything
worth a root are then left as they are in the original.

Worth a root are functions of the user's program and modules with parts, where a tensor or a module
is handed in. A module is entered at its `forward` only while torch itself would go straight there:
no hooks, no tracing. What was made for one call alone has nothing to remember: a module or a local
function is worth a root when it is met again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch

from janus_lite.record.audit import is_library_file
from janus_lite.record.instrument import NotInstrumentable, routed
from janus_lite.record.stack import as_seen_by_user
from janus_lite.record.subcalls import Callee
from janus_lite.runtime.roots import Entry
from janus_lite.torch_internals import module_hook_tables

Found = tuple[FunctionType, tuple[Any, ...]]
_MODULE_CALL = torch.nn.Module.__call__
_LATER = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
# After so many calls the places that nothing was picked for since the last time are left out.
_LOOKS = (4, 32, 256)


class Descent:
    """One function that runs imperatively, with its calls routed.

    Args:
        function: the original.
        pick: how to enter the root of a callee, `None` to call the original.
        is_scouting: leave out the places that nothing was picked for in the first calls.
    """

    def __init__(
        self,
        function: FunctionType,
        pick: Callable[[Callee, tuple[Any, ...]], Entry | None],
        *,
        is_scouting: bool,
    ) -> None:
        self.function = function
        self._pick = pick
        self._useful: set[int] = set()
        self._calls = 0
        self._looks = _LOOKS if is_scouting else ()
        self._code = function.__code__
        self._routed = self._copy(lambda _: True)

    @property
    def is_routed(self) -> bool:
        """Whether any call goes another way than in the original."""
        return self._routed is not self.function

    def _copy(self, is_wanted: Callable[[int], bool]) -> FunctionType:
        try:
            return routed(self.function, lambda number: _CallSite(self, number), is_wanted)
        except NotInstrumentable:
            return self.function

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function."""
        self._calls += 1
        if self._calls in self._looks:
            useful = frozenset(self._useful)
            self._useful.clear()
            self._routed = self._copy(useful.__contains__) if useful else self.function
        self._follow()
        return self._routed(*args, **kwargs)

    def _follow(self) -> None:
        """Take over what was assigned to the function since it was copied."""
        function, copy = self.function, self._routed
        if copy is function:
            return
        if function.__code__ is not self._code:
            self._code, self._looks = function.__code__, ()
            self._routed = copy = self._copy(lambda _: True)
        if copy.__defaults__ is not function.__defaults__:
            copy.__defaults__ = function.__defaults__
        if copy.__kwdefaults__ is not function.__kwdefaults__:
            copy.__kwdefaults__ = function.__kwdefaults__

    def route(
        self, number: int, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call what a place of the function calls."""
        found = find_callee(function, args)
        entry = None if found is None else self._pick(Callee.of(*found), found[1])
        if found is None or entry is None:
            return as_seen_by_user(function)(*args, **kwargs)
        self._useful.add(number)
        return entry.run(found[1], kwargs)


class _CallSite:
    """A place in a routed copy that calls something."""

    __slots__ = ("_descent", "_number")

    def __init__(self, descent: Descent, number: int) -> None:
        self._descent = descent
        self._number = number

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`."""
        return self._descent.route(self._number, function, args, kwargs)


def find_callee(function: Any, args: tuple[Any, ...]) -> Found | None:
    """What a call runs, with all its positional arguments; `None` where no root may stand."""
    kind = type(function)
    if kind is MethodType and type(function.__func__) is FunctionType:
        function, args = function.__func__, (function.__self__, *args)
    elif kind is not FunctionType:
        return _find_forward(function, args) if issubclass(kind, torch.nn.Module) else None
    return None if function.__code__.co_flags & _LATER else (function, args)


def is_worth_a_root(callee: Callee, args: tuple[Any, ...]) -> bool:
    """Whether calls of a function are worth being looked at; see the module docstring."""
    function = callee.function
    is_wrapper = hasattr(function, "__wrapped__")  # such as `torch.no_grad()`'s
    is_library = is_library_file(function.__code__.co_filename)
    if is_library and not is_wrapper and not _is_forward(callee, args):
        return False
    return any(map(_holds_tensors, args))


def _is_forward(callee: Callee, args: tuple[Any, ...]) -> bool:
    """Whether it is the `forward` of a module with parts."""
    is_method = bool(callee.module) and type(args[0]).forward is callee.function
    return is_method and bool(args[0]._modules)


def _find_forward(module: torch.nn.Module, args: tuple[Any, ...]) -> Found | None:
    """A module's `forward`, where calling the module comes to nothing else."""
    forward = type(module).forward
    if type(forward) is not FunctionType or "forward" in module.__dict__:
        return None
    is_plain = type(module).__call__ is _MODULE_CALL and module._compiled_call_impl is None
    if not is_plain or any(module_hook_tables(module)):
        return None
    return forward, (module, *args)


def _holds_tensors(value: object) -> bool:
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return True
    parts = value.values() if type(value) is dict else value
    is_container = type(value) in (tuple, list, dict)
    return is_container and any(isinstance(part, torch.Tensor) for part in parts)  # type: ignore[attr-defined]  # a container
