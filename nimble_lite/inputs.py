"""Compare the arguments of a call with those that were scheduled.

In: flat arguments. Out: the distinct tensors among them, in order of their values. Invariant: a
call that does not fit raises before anything is written; nothing is broadcast or converted.
Compared are dtype, shape, strides, device, `requires_grad`, and memory shared among arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from nimble_lite.errors import InputMismatchError
from nimble_lite.tasks.graph import Ref, StorageKind, TaskGraph, TensorMeta
from nimble_lite.torch_internals import tensor_guard

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})


class InputCheck:
    """Compares flat arguments with the recorded ones."""

    def __init__(self, graph: TaskGraph) -> None:
        self._graph = graph
        self._leaves = graph.inputs
        self._metas = [
            graph.values[leaf.value] if isinstance(leaf, Ref) else None for leaf in graph.inputs
        ]
        order = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
        values = [leaf.value if isinstance(leaf, Ref) else None for leaf in graph.inputs]
        # Each distinct input value once, by the first argument that carries it.
        self._picks = [values.index(value) for value in order]
        self._is_plain = self._picks == list(range(len(values)))
        self._literals = [i for i, meta in enumerate(self._metas) if meta is None]
        self._has_metadata: Callable[..., bool] | None = None
        self._storages = [graph.values[value].storage for value in order]
        self._writes_outside = any(
            graph.storages[number].kind is not StorageKind.BORN
            for task in graph.tasks
            for number in task.writes
        )
        # Inputs that are only read, each from bytes of its own, may share them in a call.
        is_each_alone = len(set(self._storages)) == len(values) - len(self._literals)
        self._must_share_alike = self._writes_outside or not is_each_alone

    def check(self, leaves: Sequence[Any]) -> Sequence[torch.Tensor]:  # hot
        """Return the distinct tensors, in order of their values, or raise NL0201 or NL0202."""
        for index in self._literals:
            if leaves[index] is not self._leaves[index]:
                self._check_literal(index, leaves[index])
        tensors = leaves if self._is_plain else [leaves[pick] for pick in self._picks]
        if self._has_metadata is None or not self._has_metadata(*tensors):
            self._check_metadata(leaves)
            self._has_metadata = self._has_metadata or tensor_guard(tensors)
        if self._must_share_alike:
            self._check_aliases(leaves, tensors)
        return tensors

    def _check_metadata(self, leaves: Sequence[Any]) -> None:
        for index, (leaf, meta) in enumerate(zip(leaves, self._metas, strict=False)):
            if meta is not None and (
                type(leaf) not in _PLAIN
                or leaf.dtype is not meta.dtype
                or leaf.shape != meta.shape
                or leaf.stride() != meta.stride
                or leaf.device != meta.device
                or leaf.requires_grad != meta.requires_grad
            ):
                raise self._mismatch(index, leaf, meta)

    def refuse_grad(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raise NL0204 rather than lose a gradient in silence."""
        for index, tensor in enumerate(tensors):
            if tensor.requires_grad and not isinstance(tensor, torch.nn.Parameter):
                raise InputMismatchError(
                    "NL0204",
                    what=f"input {self._picks[index]} requires grad and grad mode is on",
                    found="a replay without autograd",
                    expected="inputs without requires_grad, or torch.no_grad()",
                    hint="train through torch.compile(model, backend='nimble')",
                )

    def _check_literal(self, index: int, leaf: Any) -> None:
        expected = self._leaves[index]
        if type(leaf) is not type(expected) or repr(leaf) != repr(expected):
            raise InputMismatchError(
                "NL0201",
                what=f"input {index} is a constant of the schedule",
                found=repr(leaf),
                expected=repr(expected),
                hint="pass it as a tensor, or schedule the function for this value too",
            )

    def _check_aliases(self, leaves: Sequence[Any], tensors: Sequence[torch.Tensor]) -> None:
        same = [leaves[pick] is tensor for pick, tensor in zip(self._picks, tensors, strict=True)]
        values: dict[int, Any] = {}
        for leaf, argument in zip(self._leaves, leaves, strict=True):
            if isinstance(leaf, Ref) and values.setdefault(leaf.value, argument) is not argument:
                same.append(False)
        groups = [tensor.untyped_storage()._cdata for tensor in tensors]
        found = [groups.index(group) for group in groups]
        expected = [self._storages.index(storage) for storage in self._storages]
        shares_constant = self._writes_outside and any(
            c.tensor.untyped_storage()._cdata in groups for c in self._graph.constants
        )
        if found != expected or not all(same) or shares_constant:
            raise InputMismatchError(
                "NL0202",
                what="inputs share memory in another way than the example inputs did",
                found=f"storages {found}{' and a parameter' if shares_constant else ''}",
                expected=f"storages {expected}",
                hint="clone the inputs, or schedule the function with such inputs",
            )

    def _mismatch(self, index: int, leaf: Any, meta: TensorMeta) -> InputMismatchError:
        found = f"{type(leaf).__name__}"
        if isinstance(leaf, torch.Tensor):
            kind = str(leaf.dtype).removeprefix("torch.")
            stride = list(leaf.stride()) if leaf.layout is torch.strided else leaf.layout
            found = f"{kind}{list(leaf.shape)} stride {stride} on {leaf.device}"
            found += ", requires grad" if leaf.requires_grad else ""
            found += "" if type(leaf) in _PLAIN else f" ({type(leaf).__name__})"
        return InputMismatchError(
            "NL0201",
            what=f"input {index} differs from the example that was scheduled",
            found=found,
            expected=str(meta),
            hint="schedule the function for such inputs too; nothing is broadcast or converted",
        )
