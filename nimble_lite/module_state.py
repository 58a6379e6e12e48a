"""What the recorded modules looked like, compared with every call.

In: the modules that a callable reaches, the constants of its graph. Out: nothing while all is as
recorded; the tensors that took the place of others of the same metadata; or
`ModuleChangedError`, upon which the function is recorded anew. Invariant: no replay computes
with a tensor that the module no longer holds.

The full look is loops in C over all members; identity decides, no tensor is asked whether it
equals another. In front of it stands one look at the marks that the interpreter keeps for every
dict (`dict_tags`), where it keeps them: they say at once that nothing was written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from itertools import chain
from operator import is_not, itemgetter
from typing import Any

import torch

from nimble_lite.dict_tags import tag_reader
from nimble_lite.tasks.graph import TaskGraph
from nimble_lite.tasks.owners import holders, owners
from nimble_lite.torch_internals import GLOBAL_HOOKS, tensor_guard

_training = itemgetter("training")
_NOTHING: dict[int, torch.Tensor] = {}


class ModuleChangedError(Exception):
    """The module is not the one that was recorded; the schedule has to be made anew."""


class ModuleState:
    """Members, tensors, hooks and training flags of all modules that a callable reaches.

    Args:
        fn: the callable.
        graph: its recording.
        pinned: values of constants whose addresses a backend has built in.
    """

    def __init__(
        self, fn: Callable[..., Any], graph: TaskGraph, pinned: Collection[int] = ()
    ) -> None:
        modules = [m for owner in owners(fn).values() for m in owner.modules()]
        self._tables = [*chain.from_iterable(map(_tables_of, modules)), *GLOBAL_HOOKS]
        self._full = [table for table in self._tables if table]
        self._states = [module.__dict__ for module in modules]
        self._holders = holders(fn)
        # `OrderedDict.move_to_end` leaves no mark.
        has_order = any(isinstance(table, OrderedDict) for table in self._full)
        self._read_tags = None if has_order else tag_reader([*self._tables, *self._states])
        self._tags = self._read_tags() if self._read_tags else b""
        self._pinned = frozenset(pinned)
        self._numbers = [c.value for c in graph.constants]
        self._tensors = [c.tensor for c in graph.constants]
        self._shape = self._read_shape()
        self._members = self._read_members()
        self._know_tensors()

    def rebound(self) -> dict[int, torch.Tensor]:  # hot
        """Return constants that another tensor has taken the place of, by value number.

        Raises:
            ModuleChangedError: something differs that rebinding cannot mend.
        """
        changed = _NOTHING
        # Read before the full look: what another thread writes meanwhile is seen next time.
        tags = self._read_tags() if self._read_tags else b""
        if not tags or tags != self._tags:
            changed = self._look_at_members()
            self._tags = tags
        for read, value in self._holders:
            if read() is not value:
                raise ModuleChangedError
        if not self._has_metadata(*self._tensors) and self._read_metadata() != self._metadata:
            raise ModuleChangedError
        if list(map(torch.Tensor.data_ptr, self._at)) != self._addresses:
            changed = changed | self._follow_moved()
        return changed

    def _look_at_members(self) -> dict[int, torch.Tensor]:
        if self._read_shape() != self._shape:
            raise ModuleChangedError
        members = self._read_members()
        if any(map(is_not, members, self._members)):
            return self._rebind(members)
        return _NOTHING

    def _read_shape(self) -> tuple[list[Any], list[int], list[Any]]:  # hot
        """Everything but the members themselves: their names, how many, training flags."""
        return (
            list(map(_training, self._states)),
            list(map(len, self._tables)),
            list(chain.from_iterable(self._full)),
        )

    def _read_members(self) -> list[Any]:  # hot
        return list(chain.from_iterable(map(dict.values, self._full)))

    def _rebind(self, members: list[Any]) -> dict[int, torch.Tensor]:
        """Follow tensors that were replaced by others of the same metadata."""
        replaced: dict[int, torch.Tensor] = {}
        for old, new in zip(self._members, members, strict=True):
            if old is not new:
                if not isinstance(new, torch.Tensor) or not _same_metadata(old, new):
                    raise ModuleChangedError
                if replaced.setdefault(id(old), new) is not new:
                    raise ModuleChangedError
        if any(id(member) in replaced for member in members):
            raise ModuleChangedError  # it stood in two places and was replaced in one
        self._members = members
        changed: dict[int, torch.Tensor] = {}
        for index, tensor in enumerate(self._tensors):
            if id(tensor) in replaced:
                self._tensors[index] = changed[self._numbers[index]] = replaced[id(tensor)]
        if _sharing(self._tensors) != self._groups:
            raise ModuleChangedError
        self._know_tensors()
        return changed

    def _follow_moved(self) -> dict[int, torch.Tensor]:
        """Tensors that were given other bytes of the same form: the backend looks at them anew."""
        if _sharing(self._tensors) != self._groups or _extents(self._tensors) != self._known:
            raise ModuleChangedError
        moved = {
            number: tensor
            for number, tensor in zip(self._numbers, self._tensors, strict=True)
            if number in self._pinned
        }
        self._know_tensors()
        return moved

    def _know_tensors(self) -> None:
        self._has_metadata = tensor_guard(self._tensors)
        self._metadata = self._read_metadata()
        self._groups, self._known = _sharing(self._tensors), _extents(self._tensors)
        pairs = zip(self._numbers, self._tensors, strict=True)
        self._at = [tensor for number, tensor in pairs if number in self._pinned]
        self._addresses = list(map(torch.Tensor.data_ptr, self._at))

    def _read_metadata(self) -> list[Any]:
        """What the guard compares, asked in Python: the guard also minds where it is called."""
        return [_metadata(tensor) for tensor in self._tensors]


def _tables_of(module: torch.nn.Module) -> tuple[dict[Any, Any], ...]:
    hooks: list[Any] = [module._forward_hooks, module._forward_pre_hooks]
    return module._parameters, module._buffers, module._modules, *hooks


def _metadata(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.device, tensor.requires_grad


def _sharing(tensors: list[torch.Tensor]) -> list[int]:
    """Which of the tensors lie on the same bytes: for each the first one that does."""
    first: dict[int, int] = {}
    storages = [tensor.untyped_storage()._cdata for tensor in tensors]
    return [first.setdefault(storage, index) for index, storage in enumerate(storages)]


def _extents(tensors: list[torch.Tensor]) -> list[tuple[int, int]]:
    return [(int(t.untyped_storage().nbytes()), int(t.storage_offset())) for t in tensors]


def _same_metadata(old: Any, new: torch.Tensor) -> bool:
    return (
        type(new) is type(old)
        and _metadata(new) == _metadata(old)
        and _extents([new]) == _extents([old])
    )
