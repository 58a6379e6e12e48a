"""The public verbs: `speculate`, `explain`, `reset`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch

from janus_lite import config
from janus_lite.function import Options, SpeculativeFunction
from janus_lite.report import Report
from janus_lite.runtime.backends import Backend

Target = TypeVar("Target", bound=Callable[..., Any])
_alive: weakref.WeakSet[SpeculativeFunction] = weakref.WeakSet()


@overload
def speculate(
    function: Target,
    *,
    backend: str | Backend = ...,
    warmup: int = ...,
    max_graphs: int = ...,
    strict: bool = ...,
    verify: str = ...,
    disable: bool = ...,
    name: str | None = ...,
) -> Target: ...


@overload
def speculate(
    function: None = None,
    *,
    backend: str | Backend = ...,
    warmup: int = ...,
    max_graphs: int = ...,
    strict: bool = ...,
    verify: str = ...,
    disable: bool = ...,
    name: str | None = ...,
) -> Callable[[Target], Target]: ...


def speculate(
    function: Any = None,
    *,
    backend: str | Backend = "auto",
    warmup: int = 1,
    max_graphs: int = 8,
    strict: bool = False,
    verify: str = "off",
    disable: bool = False,
    name: str | None = None,
) -> Any:
    """Replay a function's recorded graphs wherever that gives exactly what it would give.

    Use it bare, with arguments, on a function, method, lambda, `functools.partial` or on an
    `nn.Module`, which is changed in place: same object, class, `state_dict` and hooks; its
    `forward` attribute becomes the `SpeculativeFunction`.

    Args:
        function: what to speculate on.
        backend: `"auto"` or `"eager"` for generated Python over torch's C builtins, any backend
            name of `torch.compile`, or a callable `backend(gm, example_inputs)`.
        warmup: which of the first calls is recorded; 1 records the first.
        max_graphs: graphs kept; the oldest goes first.
        strict: raise `ConversionError` with the coded reason instead of staying imperative.
        verify: which replays run imperatively instead, beside the graph on copies, and are compared
            with it bit for bit: `"off"`, the `"first"` of each graph, `"every:N"`, `"always"`. A
            graph that differs is dropped and noted; under `strict` it raises.
        disable: return `function` unchanged.
        name: shown in reports and tracebacks.

    Returns:
        A `SpeculativeFunction`, or the module itself.

    Raises:
        TypeError: `function` is not callable; a `torch.compile`d or scripted module.
        ValueError: `warmup` or `max_graphs` below 1; an unknown `verify`.
        BackendError: an unknown backend.

    Paper: JANUS (NSDI 2019), speculative graph generation and execution. Differs: one real run
    is recorded instead of profiled and then converted from source.
    """
    if function is None:
        return functools.partial(
            speculate,
            backend=backend,
            warmup=warmup,
            max_graphs=max_graphs,
            strict=strict,
            verify=verify,
            disable=disable,
            name=name,
        )
    if warmup < 1 or max_graphs < 1:
        raise ValueError(f"warmup and max_graphs must be at least 1, got {warmup}, {max_graphs}")
    if disable or config.current().disable:
        return function
    options = Options(
        backend=backend,
        warmup=warmup,
        max_graphs=max_graphs,
        strict=strict,
        verify=verify,
        name=name,
    )
    if isinstance(function, torch.nn.Module):
        return _speculate_module(function, options)
    if not callable(function):
        raise TypeError(
            f"speculate expects a callable or an nn.Module, found {type(function).__qualname__}"
        )
    if isinstance(function, SpeculativeFunction):
        function = function.original
    if isinstance(function, staticmethod | classmethod):
        return type(function)(speculate(function.__func__, **_as_keywords(options)))
    speculative = SpeculativeFunction(function, options)
    _alive.add(speculative)
    return speculative


def _as_keywords(options: Options) -> dict[str, Any]:
    return {field: getattr(options, field) for field in options.__slots__}


def _speculate_module(module: torch.nn.Module, options: Options) -> torch.nn.Module:
    if isinstance(module, torch.jit.ScriptModule | torch._dynamo.OptimizedModule):
        raise TypeError(
            f"speculate expects a plain nn.Module, found a {type(module).__qualname__}; "
            "speculate on the module before compiling or scripting it"
        )
    speculative = SpeculativeFunction(type(module).forward, options, module)
    module.forward = speculative
    _alive.add(speculative)
    return module


def explain(function: Any, *args: Any, **kwargs: Any) -> Report:
    """Return the report of a speculated function or module, after one call if arguments are given.

    Args:
        function: what `speculate` returned.
        *args: arguments of a call to make first.
        **kwargs: its keyword arguments.

    Raises:
        TypeError: `function` is not speculated on.
    """
    is_module = isinstance(function, torch.nn.Module)
    speculative = getattr(function, "forward", None) if is_module else function
    if not isinstance(speculative, SpeculativeFunction):
        name = type(function).__qualname__ if is_module else repr(function)
        raise TypeError(f"{name} is not speculated on; wrap it with janus_lite.speculate first")
    if args or kwargs:
        function(*args, **kwargs)
    return speculative.explain()


def reset() -> None:
    """Drop the graphs of every speculated function."""
    for speculative in list(_alive):
        speculative.reset()
