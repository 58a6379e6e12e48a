"""What a recording refuses: operations whose replay could not be proven equal.

In: an operation that is about to run. Out: nothing, or `RecordError` with a code and the user's
line. Invariant: nothing has been written when it raises.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nimble_lite.errors import RecordError
from nimble_lite.tasks.alias import DATA_DEPENDENT, STORAGE_CHANGING
from nimble_lite.tasks.origins import Origins
from nimble_lite.tasks.surroundings import is_plain

LEAVES_TORCH = frozenset(
    {"numpy", "__array__", "__dlpack__", "untyped_storage", "storage", "data_ptr"}
)
_HARMLESS_SETTERS = frozenset({"requires_grad"})


class Refusals:
    """Raises for what cannot be recorded.

    Args:
        origins: names the user's line.
    """

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def unsupported(self, name: str, types: Sequence[type]) -> None:
        """Refuse what leaves torch, exchanges bytes, or needs autograd."""
        if name in LEAVES_TORCH:
            raise self.error(
                "NL0102",
                what="a tensor left torch while the function was recorded",
                found=f"Tensor.{name}()",
                hint="what is computed outside torch cannot be replayed: use torch operations",
            )
        if name.startswith("set_") and name.removeprefix("set_") not in _HARMLESS_SETTERS:
            raise self.error(
                "NL0106",
                what="a tensor was given other bytes in place",
                found=f"Tensor.{name.removeprefix('set_')} = ...",
                hint="assign to a new name, or copy with copy_()",
            )
        if torch.is_grad_enabled():
            raise self.error(
                "NL0103",
                what="the function switches gradients on",
                found=f"{name} with grad mode enabled",
                hint="the autograd engine works outside torch functions: schedule what lies "
                "around it, or train through torch.compile(backend='nimble')",
            )
        for kind in types:
            self.subclass(kind)

    def subclass(self, kind: type) -> None:
        """Refuse classes that override torch functions."""
        if not is_plain(kind):
            raise self.error(
                "NL0107",
                what="a tensor subclass overrides torch functions",
                found=f"{kind.__module__}.{kind.__qualname__}",
                hint="schedule the function on plain tensors",
            )

    def dynamic(self, call: str) -> None:
        """Refuse ATen operations whose shapes follow values, or that exchange storages."""
        if call in DATA_DEPENDENT:
            raise self.error(
                "NL0101",
                what="the shape of a result depends on values",
                found=call,
                hint="use torch.where or a mask of fixed size, or speculate with janus_lite",
            )
        if call in STORAGE_CHANGING:
            raise self.error(
                "NL0106",
                what="a tensor was given other bytes in place",
                found=call,
                hint="make a new tensor instead",
            )

    def error(self, code: str, *, what: str, found: str, hint: str) -> RecordError:
        """Make an error that names the user's line."""
        return RecordError(code, what=f"{what}, at {self._origins.here()}", found=found, hint=hint)
