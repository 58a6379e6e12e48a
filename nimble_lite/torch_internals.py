"""The one file that touches private torch names; each is looked up by feature, not by version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

_C: Any = torch._C

NO_TORCH_FUNCTION: Any = _C._disabled_torch_function_impl
"""What a tensor class that overrides nothing has as `__torch_function__`."""

HIGHER_ORDER: type = torch._ops.HigherOrderOperator
"""Class of torch's operators that take functions, such as `cond`."""

GLOBAL_HOOKS: tuple[dict[Any, Any], ...] = tuple(
    table
    for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
    if isinstance(table := getattr(torch.nn.modules.module, name, None), dict)
)
"""Hooks that run around every module's forward."""

_KERNEL_CHOICES: tuple[tuple[str, Callable[[], object]], ...] = tuple(
    (name, choice)
    for name in (
        "flash_sdp_enabled",
        "mem_efficient_sdp_enabled",
        "math_sdp_enabled",
        "cudnn_sdp_enabled",
        "cudnn_enabled",
        "cudnn_benchmark",
        "cudnn_deterministic",
        "deterministic_algorithms",
        "float32_matmul_precision",
        "cublas_allow_fp16_reduced_precision_reduction",
        "cublas_allow_bf16_reduced_precision_reduction",
    )
    if (choice := getattr(_C, f"_get_{name}", None)) is not None
)
_precision = getattr(_C, "_get_fp32_precision_getter", None)

_guards = _C._dynamo.guards
_peek_transform = getattr(getattr(_C, "_functorch", None), "peek_interpreter_stack", None)


def kernel_choices() -> tuple[object, ...]:  # hot
    """Every setting of torch by which it picks kernels, as it is now."""
    chosen = tuple(choice() for _, choice in _KERNEL_CHOICES)
    if _precision is None:
        return chosen
    return (*chosen, _precision("cuda", "matmul"), _precision("cuda", "conv"))


def kernel_choice_names() -> tuple[str, ...]:
    """Names for `kernel_choices`, in its order."""
    return (*(name for name, _ in _KERNEL_CHOICES), "matmul_precision", "conv_precision")


def is_transforming() -> bool:
    """Whether a `torch.func` transform (vmap, grad, ...) is running."""
    return _peek_transform is not None and _peek_transform() is not None


def tensor_guard(tensors: Sequence[torch.Tensor]) -> Callable[..., bool]:
    """Return torch's C++ check of type, dtype, device, shape, stride and requires-grad.

    It answers yes only in the dispatch state in which it was made: a no has to be looked into.

    Args:
        tensors: plain dense tensors, in the order in which the check gets them.
    """
    sizes: list[Any] = [list(t.shape) for t in tensors]
    strides: list[Any] = [list(t.stride()) for t in tensors]
    guard = _guards.TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    check: Callable[..., bool] = guard.check
    return check


def clear_cublas_workspaces() -> None:
    """Drop cuBLAS workspaces: one allocated in a capture belongs to its pool, and stays there."""
    clear: Callable[[], Any] | None = getattr(_C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()


def storage_at(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """Return another storage object for the same bytes, which does not own them."""
    alias: torch.UntypedStorage = _C._construct_storage_from_data_pointer(
        storage.data_ptr(), storage.device, storage.nbytes()
    )
    return alias


def expire(tensor: torch.Tensor, message: str) -> None:
    """Let every later look at the tensor's data raise with the message."""
    _C._set_storage_access_error_msg(tensor, message)
