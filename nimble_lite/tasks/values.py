"""Tensors of a recording, numbered: which object is which value, and who owns its bytes.

In: the tensors that operations take and return, as they are seen. Out: value numbers, metadata,
storages. Invariant: no tensor is kept alive, so that the run frees what it would have freed.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from nimble_lite.errors import RecordError
from nimble_lite.tasks.alias import StorageTable
from nimble_lite.tasks.graph import Storage, StorageKind, Task, TensorMeta


class Values:
    """Numbers tensors as values; holds none of them alive."""

    def __init__(self, storages: StorageTable) -> None:
        self.metas: list[TensorMeta] = []
        self._table = storages
        self._numbers: dict[int, int] = {}
        self._references: dict[int, weakref.ref[torch.Tensor]] = {}
        self._kinds: dict[int, StorageKind] = {}
        self._births: dict[int, int] = {}
        self._births_by_task: dict[int, set[int]] = {}
        self._maker: dict[int, int] = {}

    def find(self, tensor: torch.Tensor) -> int | None:
        """Return the value number of this very object."""
        return self._numbers.get(id(tensor))

    def kind_of(self, storage: int) -> StorageKind:
        """Return who owns a storage; what nobody brought from outside was born inside."""
        return self._kinds.get(storage, StorageKind.BORN)

    def is_inside(self, tensor: torch.Tensor) -> bool:
        """Tell whether the bytes belong to an argument or were made by the run."""
        if not self._table.is_known(tensor):
            return False
        return self.kind_of(self._table.number(tensor)) is not StorageKind.CONSTANT

    def storage_of(self, value: int) -> int:
        """Return the storage below a value."""
        return self.metas[value].storage

    def births_of(self, task: int) -> set[int]:
        """Return the storages that a task made and a value looks at."""
        return self._births_by_task.get(task, set())

    def add_outside(self, tensor: torch.Tensor, kind: StorageKind) -> int:
        """Number an argument or a constant; the same object twice is one value."""
        known = self.find(tensor)
        if known is not None:
            return known
        self._kinds.setdefault(self._table.number(tensor), kind)
        return self._add(tensor)

    def add_results(
        self, result: Any, task: int, path: tuple[int | str, ...] = ()
    ) -> Iterator[tuple[tuple[int | str, ...], int]]:
        """Number the tensors of a result that were not seen before, with their paths."""
        if isinstance(result, torch.Tensor):
            if self.find(result) is None:
                storage = self._table.number(result)
                if storage not in self._kinds and storage not in self._births:
                    self._births[storage] = task
                    self._births_by_task.setdefault(task, set()).add(storage)
                value = self._add(result)
                self._maker[value] = task
                yield path, value
        elif isinstance(result, tuple | list):
            for index, part in enumerate(result):
                yield from self.add_results(part, task, (*path, index))
        elif isinstance(result, dict):
            for key, part in result.items():
                yield from self.add_results(part, task, (*path, key))

    def forget_if_reshaped(self, tensor: torch.Tensor) -> int | None:
        """Let go of an object whose metadata changed in place; its next sight is a new value."""
        value = self.find(tensor)
        if value is None or self.metas[value] == self._meta(tensor):
            return None
        del self._numbers[id(tensor)]
        return value

    def _add(self, tensor: torch.Tensor) -> int:
        value = len(self.metas)
        key = id(tensor)
        self.metas.append(self._meta(tensor))
        self._numbers[key] = value
        self._references[value] = weakref.ref(tensor, lambda _: self._drop(key, value))
        return value

    def _drop(self, key: int, value: int) -> None:
        # The address may belong to a new tensor by now.
        if self._numbers.get(key) == value:
            del self._numbers[key]

    def _meta(self, tensor: torch.Tensor) -> TensorMeta:
        if tensor.layout is not torch.strided:
            raise RecordError(
                "NL0107",
                what="a tensor has no plain storage",
                found=str(tensor.layout),
                expected="torch.strided",
                hint="schedule the function on dense tensors",
            )
        return TensorMeta(
            dtype=tensor.dtype,
            shape=tuple(tensor.shape),
            stride=tuple(tensor.stride()),
            offset=int(tensor.storage_offset()),
            device=tensor.device,
            requires_grad=tensor.requires_grad,
            storage=self._table.number(tensor),
        )

    def refuse_stored(self, outputs: Sequence[Any], tasks: Sequence[Task]) -> None:
        """Refuse tensors of the run that live on although they are not returned."""
        returned: set[int] = set()
        for output in outputs:
            while isinstance(output, torch.Tensor):
                returned.add(id(output))
                output = output._base  # a view keeps its base alive
        for is_last_look in (False, True):
            stored = [
                value
                for value, reference in self._references.items()
                if value in self._maker
                and (tensor := reference()) is not None
                and id(tensor) not in returned
            ]
            if not stored:
                return
            del tensor
            if not is_last_look:
                gc.collect()
        origin = tasks[self._maker[stored[0]]].origin
        raise RecordError(
            "NL0105",
            what=f"a tensor made at {origin} was stored outside the function",
            found=str(self.metas[stored[0]]),
            expected="results that are returned, or written into tensors that exist",
            hint="return it, or copy it into a buffer with copy_()",
        )

    def storages(self, outputs: set[int]) -> tuple[Storage, ...]:
        """Return all storages; those below an output are marked."""
        returned = {self.storage_of(value) for value in outputs}
        return tuple(
            Storage(
                kind=self.kind_of(number),
                nbytes=nbytes,
                birth=self._births.get(number),
                is_output=number in returned,
            )
            for number, nbytes in enumerate(self._table.nbytes)
        )

    def main_device(self) -> torch.device:
        """The first device that is not the CPU, else the CPU."""
        devices = [meta.device for meta in self.metas if meta.device.type != "cpu"]
        return devices[0] if devices else torch.device("cpu")
