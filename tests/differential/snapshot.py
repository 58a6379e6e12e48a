"""All that a person could see of objects, as plain comparable data.

Two worlds hold different objects of different (equally named) classes; equal are their contents,
bit for bit, and their sharing: every object and every storage gets the number under which it was
met first.
"""

from __future__ import annotations

import enum
import types
import weakref
from collections import deque
from typing import Any

import numpy as np
import torch

from janus_lite.function import SpeculativeFunction

_ATOMS = (int, float, complex, str, bytes, type(None), range, torch.dtype, torch.device, torch.Size)
_CODE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    type,
    types.ModuleType,
)


class Snapshot:
    """Turns objects into data; objects shared by several calls of `of` keep their number."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._keep: list[Any] = []

    def of(self, value: Any) -> Any:
        """Return the data of `value`."""
        if isinstance(value, bool) or type(value) in _ATOMS:
            # repr tells -0.0 from 0.0, 1 from True and 1.0; NaN equals NaN.
            return type(value).__name__, repr(value)
        if isinstance(value, SpeculativeFunction):
            return self.of(value.original)
        if isinstance(value, types.MethodType):
            return "method", value.__func__.__qualname__, self.of(value.__self__)
        if isinstance(value, _CODE):
            return type(value).__name__, getattr(value, "__qualname__", value.__name__)
        if isinstance(value, enum.Enum):
            return "enum", type(value).__qualname__, value.name
        number = self._numbers.get(id(value))
        if number is not None:
            return "again", number
        self._numbers[id(value)] = len(self._numbers)
        self._keep.append(value)
        return type(value).__qualname__, self._content(value)

    def _content(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray | np.generic):
            return str(value.dtype), value.shape, value.tobytes()
        if isinstance(value, BaseException):
            return str(value), self.of(value.args)
        if isinstance(value, weakref.ref):
            return ("alive",) if value() is not None else ("dead",)
        content: list[Any] = []
        if isinstance(value, dict):
            content = [(self.of(k), self.of(v)) for k, v in dict.items(value)]
        elif isinstance(value, list | tuple | deque):
            content = [self.of(v) for v in list(value)]
        elif isinstance(value, set | frozenset):
            content = sorted(map(repr, map(self.of, value)))
        return content, self._attributes(value)

    def _attributes(self, value: Any) -> list[Any]:
        found = []
        for name, item in getattr(value, "__dict__", {}).items():
            if "hooks" in name and isinstance(item, dict):  # keyed by a global counter
                found.append((name, [self.of(hook) for hook in item.values()]))
            elif not isinstance(item, SpeculativeFunction):
                found.append((name, self.of(item)))
        for cls in type(value).__mro__:
            slots = set(getattr(cls, "__slots__", ())) - {"__dict__", "__weakref__"}
            found += [(n, self.of(getattr(value, n))) for n in sorted(slots) if hasattr(value, n)]
        return found

    def _tensor(self, tensor: torch.Tensor) -> Any:
        if tensor.layout is not torch.strided:
            return str(tensor.layout), self._tensor(tensor.to_dense())
        plain = tensor.detach().as_subclass(torch.Tensor)
        self._keep.append(plain)  # a freed storage's address would be met again
        facts = (
            str(plain.dtype),
            tuple(plain.shape),
            plain.stride(),
            plain.storage_offset(),
            str(plain.device),
            tensor.requires_grad,
            tensor.is_leaf,
            type(tensor.grad_fn).__name__,
            tensor.is_inference(),
        )
        if plain.device.type == "meta":
            return facts
        storage = plain.untyped_storage()._cdata
        number = self._storages.setdefault(storage, len(self._storages))
        data = torch.empty(plain.numel(), dtype=plain.dtype)  # of stride 1, as `view` wants it
        data = data.copy_(plain.reshape(-1)).view(torch.uint8)
        attributes = [(k, self.of(v)) for k, v in tensor.__dict__.items()]
        grad = self.of(tensor.grad) if tensor.is_leaf else None
        return facts, number, data.numpy().tobytes(), grad, attributes
