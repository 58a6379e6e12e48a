"""The one file that touches private torch names; each is looked up by feature, not by version."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType
from typing import Any

import torch
from torch.nn.modules import module as _modules
from torch.overrides import TorchFunctionMode
from torch.overrides import _pop_mode_temporarily as _pop_function_mode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _pop_mode_temporarily as _pop_dispatch_mode

__all__ = [
    "GLOBAL_STATE_GUARD",
    "TORCH_BUILTINS",
    "TorchDispatchMode",
    "TorchFunctionMode",
    "dispatch_mode_depth",
    "function_mode_depth",
    "is_plain",
    "is_tracing",
    "is_transforming",
    "modes_popped",
    "module_hook_tables",
    "set_versions",
    "tensor_guard",
    "without_modes",
]

_C = torch._C
without_modes = _C.DisableTorchFunction
_guards = _C._dynamo.guards

GLOBAL_STATE_GUARD = _guards.GlobalStateGuard
function_mode_depth: Callable[[], int] = _C._len_torch_function_stack
dispatch_mode_depth: Callable[[], int] = _C._len_torch_dispatch_stack
is_tracing: Callable[[], bool] = _C._is_tracing
_peek_transform = getattr(getattr(_C, "_functorch", None), "peek_interpreter_stack", None)

# Every function of these namespaces reports to a `TorchFunctionMode`.
_NAMESPACES = ("_VariableFunctions", "_nn", "_linalg", "_fft", "_special", "_sparse", "_nested")
TORCH_BUILTINS: frozenset[object] = frozenset(
    function
    for namespace in (getattr(_C, name, None) for name in _NAMESPACES)
    for function in (getattr(namespace, name) for name in dir(namespace))
    if isinstance(function, BuiltinFunctionType)
)

# Sets the version counters of tensors.
set_versions: Callable[[tuple[torch.Tensor, ...], tuple[int, ...]], None]
set_versions = _C._autograd._unsafe_set_version_counter


def is_transforming() -> bool:
    """Whether a `torch.func` transform (vmap, grad, ...) is running."""
    return _peek_transform is not None and _peek_transform() is not None


def module_hook_tables(module: torch.nn.Module) -> tuple[Any, ...]:
    """Everything that makes `module(...)` more than `module.forward(...)`; each empty if it is not.

    These are the tables that `Module.__call__` itself looks at, and whether a tracer is active.
    """
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        _modules._global_forward_hooks,
        _modules._global_forward_pre_hooks,
        _modules._global_backward_hooks,
        _modules._global_backward_pre_hooks,
        _C._get_tracing_state(),
    )


@contextlib.contextmanager
def modes_popped() -> Iterator[None]:
    """Take the innermost function and dispatch mode off torch's stacks for a while."""
    with _pop_function_mode(), _pop_dispatch_mode():
        yield


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a plain dense `Tensor` or `Parameter`."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) and (
        tensor.layout is torch.strided
    )


def tensor_guard(
    tensors: Sequence[torch.Tensor],
    open_sizes: Sequence[Sequence[int]],
    open_strides: Sequence[Sequence[int]],
) -> Callable[..., bool]:
    """Return torch's C++ check of type, dtype, device, shape, stride and requires-grad.

    Args:
        tensors: plain dense tensors, in the order in which the check gets them.
        open_sizes: for each of them the dims whose size is not checked.
        open_strides: likewise for strides.
    """
    sizes: list[Any] = [
        _without(t.shape, dims) for t, dims in zip(tensors, open_sizes, strict=True)
    ]
    strides: list[Any] = [
        _without(t.stride(), dims) for t, dims in zip(tensors, open_strides, strict=True)
    ]
    guard = _guards.TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    check: Callable[..., bool] = guard.check
    return check


def submodules(module: torch.nn.Module) -> list[torch.nn.Module]:
    """A module and all below it, each once, without running methods of theirs."""
    found, waiting = dict[int, torch.nn.Module](), [module]
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            waiting += [inner for inner in one._modules.values() if inner is not None]
    return list(found.values())


def trained_by(owner: Any) -> list[torch.Tensor]:
    """The parameters of a module or an optimiser, without running methods of theirs."""
    if isinstance(owner, torch.nn.Module):
        found = [p for module in submodules(owner) for p in module._parameters.values()]
        return [p for p in found if p is not None]
    return [p for group in owner.param_groups for p in group["params"]]


def _without(values: Sequence[int], dims: Sequence[int]) -> list[int | None]:
    return [None if dim in dims else value for dim, value in enumerate(values)]
