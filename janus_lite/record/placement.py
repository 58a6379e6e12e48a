"""How the results of operations lie in memory, noted as they appear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from janus_lite.record import torch_table
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import is_symbolic
from janus_lite.record.trace import UNPLACED, Placement, is_row_by_row
from janus_lite.torch_internals import is_plain, without_modes

_DEVICES = ("cpu", "cuda")
# Operands in which no memory can hide, as it can in an array.
_WITHOUT_MEMORY = (
    *(bool, int, float, complex, str, slice, type(None), type(Ellipsis)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Generator),
)
# They may give what they keep.
_CUSTOM = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)


def placement_of(
    target: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    result: object,
) -> Placement:
    """Describe what an operation gave; no size of it varies."""
    if torch.is_grad_enabled() or not is_a(result, torch.Tensor):
        return UNPLACED
    with without_modes():
        layout = _layout(target, args[0], result) if args else None
        device = result.device.type
        if device not in _DEVICES or not is_plain(result) or torch.is_autocast_enabled(device):
            return Placement(layout)
        sizes = tuple(result.shape)
        return Placement(
            layout,
            sizes if is_row_by_row(sizes, result.stride()) else None,
            result.dtype,
            result.device,
            is_new=_gives_new_memory(target, (args, kwargs), result),
        )


def _layout(target: Callable[..., object], base: Any, result: Any) -> Any:
    if torch_table.name_of(target) not in torch_table.VIEWS or result is base:
        return None
    if not (is_a(base, torch.Tensor) and _share_memory(base, result)):
        return None
    if result.storage_offset() != base.storage_offset():
        return None
    return base.stride(), tuple(result.shape), result.stride()


def _gives_new_memory(target: Callable[..., object], operands: Any, result: Any) -> bool:
    """Whether it is certain that nothing else that anybody holds lies in the result's memory."""
    if is_a(target, _CUSTOM):
        return False
    return all(
        is_plain(part) and not _share_memory(part, result)
        if is_a(part, torch.Tensor)
        else is_a(part, _WITHOUT_MEMORY) or is_symbolic(part)
        for part in _parts(operands)
    )


def _share_memory(one: Any, other: Any) -> bool:
    is_known = is_plain(one) and is_plain(other)
    return is_known and one.untyped_storage()._cdata == other.untyped_storage()._cdata


def _parts(value: Any) -> Iterator[Any]:
    if is_a(value, list | tuple):
        for part in value:
            yield from _parts(part)
    elif is_a(value, dict):
        yield from _parts(tuple(value.values()))
    else:
        yield value
