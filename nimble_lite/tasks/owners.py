"""Which modules a callable reaches, and under what names.

In: any callable. Out: modules by name: the callable itself, the object of a bound method, what a
partial or a closure holds, the globals that its code names. Their parameters and buffers are
what a schedule captures, so these are also the places where a change must be noticed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch


def owners(fn: Callable[..., Any]) -> dict[str, torch.nn.Module]:
    """Modules that `fn` reaches directly, by name; the empty name is `fn` itself."""
    found: dict[str, torch.nn.Module] = {}
    for name, value in _reached(fn):
        if isinstance(value, torch.nn.Module) and value not in found.values():
            found[name] = value
    return found


def holders(fn: Callable[..., Any]) -> list[tuple[Callable[[], Any], Any]]:
    """Names by which `fn` reaches modules and tensors: what reads one, and what it held."""
    return [
        (read, value)
        for read, value in _names(fn)
        if isinstance(value, torch.nn.Module | torch.Tensor)
    ]


def module_names(fn: Callable[..., Any]) -> dict[int, str]:
    """Qualified name of every module below `fn`, by identity."""
    return {
        id(module): _join(prefix, name)
        for prefix, owner in owners(fn).items()
        for name, module in owner.named_modules()
    }


def tensor_names(fn: Callable[..., Any]) -> dict[int, str]:
    """Qualified name of every parameter and buffer below `fn`, by identity."""
    return {
        id(tensor): _join(prefix, name)
        for prefix, owner in owners(fn).items()
        for named in (owner.named_buffers(), owner.named_parameters())
        for name, tensor in named
    }


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _reached(fn: Any) -> Iterator[tuple[str, Any]]:
    """The callable and what it holds, outermost first."""
    yield "", fn
    if isinstance(fn, functools.partial):
        yield from _reached(fn.func)
        yield from ((f"args[{i}]", value) for i, value in enumerate(fn.args))
        yield from fn.keywords.items()
    elif isinstance(fn, MethodType):
        yield "", fn.__self__
        yield from _reached(fn.__func__)
    elif isinstance(fn, FunctionType):
        cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
        yield from ((name, cell.cell_contents) for name, cell in cells if _is_filled(cell))
        names = fn.__code__.co_names
        yield from ((name, fn.__globals__[name]) for name in names if name in fn.__globals__)


def _names(fn: Any) -> Iterator[tuple[Callable[[], Any], Any]]:
    """The names among them that can be bound anew: cells and globals."""
    if isinstance(fn, functools.partial):
        yield from _names(fn.func)
    elif isinstance(fn, MethodType):
        yield from _names(fn.__func__)
    elif isinstance(fn, FunctionType):
        for cell in filter(_is_filled, fn.__closure__ or ()):
            yield functools.partial(getattr, cell, "cell_contents", None), cell.cell_contents
        for name in fn.__code__.co_names:
            if name in fn.__globals__:
                yield functools.partial(fn.__globals__.get, name), fn.__globals__[name]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell shows only when it is read
    except ValueError:
        return False
    return True
