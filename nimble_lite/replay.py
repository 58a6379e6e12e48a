"""The hot path: check a call against what was scheduled, run it, put the results together.

In: a `TaskGraph`, an `Executable`, the user's callable. Out: `Replay`, which is called like the
function. Invariant: a call that does not fit raises before anything is written, or the schedule
is made anew; it never runs with what it was not made for, and nothing is broadcast or converted.

What is compared: inputs (dtype, shape, strides, device, memory shared among them), the ambient
state of torch, and the module: parameters and buffers by identity and address, sub-modules,
training flags, hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from nimble_lite.backends.protocol import Executable
from nimble_lite.errors import InputMismatchError
from nimble_lite.tasks.graph import Ref, StorageKind, TaskGraph, TensorMeta
from nimble_lite.tasks.owners import owners

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})


class Replay:
    """Runs an executable for calls that fit its graph.

    Args:
        fn: the user's callable, for the state of its modules.
        graph: what was recorded.
        executable: what runs it.
    """

    def __init__(self, fn: Callable[..., Any], graph: TaskGraph, executable: Executable) -> None:
        self.graph = graph
        self.executable = executable
        self._names = _flat_names(graph.input_spec, len(graph.inputs))
        self._arity = len(graph.inputs) - len(self._names or ())
        self._inputs = _InputCheck(graph)
        self._state = ModuleState(fn, graph)
        self._ambient = _ambient()
        self._assemble = _assembler(graph)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # hot
        """Check, run, return."""
        leaves = self._leaves(args, kwargs)
        tensors = self._inputs.check(leaves)
        if _ambient() != self._ambient:
            raise self._ambient_mismatch()
        changed = self._state.rebound()
        if changed:
            self.executable.rebind(changed)
        if torch.is_grad_enabled():
            self._inputs.refuse_grad(tensors)
            with torch.no_grad():
                return self._assemble(self.executable.run(tensors))
        return self._assemble(self.executable.run(tensors))

    def _leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:  # hot
        names = self._names
        if names is not None and len(args) == self._arity and len(kwargs) == len(names):
            if not names:
                return args
            if all(name in kwargs for name in names):
                return (*args, *(kwargs[name] for name in names))
        leaves, spec = tree_flatten((args, kwargs))
        if spec != self.graph.input_spec:
            raise InputMismatchError(
                "NL0201",
                what="the arguments have another structure than the example",
                found=str(spec),
                expected=str(self.graph.input_spec),
                hint="schedule the function for such arguments too",
            )
        return leaves

    def _ambient_mismatch(self) -> InputMismatchError:
        return InputMismatchError(
            "NL0203",
            what="torch's ambient state differs from when the function was scheduled",
            found=f"autocast {_ambient()}",
            expected=f"autocast {self._ambient}",
            hint="call it under the same autocast, or schedule it again",
        )


class _InputCheck:
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
        self._storages = [graph.values[value].storage for value in order]
        self._writes_outside = any(
            graph.storages[number].kind is not StorageKind.BORN
            for task in graph.tasks
            for number in task.writes
        )

    def check(self, leaves: Sequence[Any]) -> Sequence[torch.Tensor]:  # hot
        """Return the distinct tensors, in order of their values, or raise NL0201 or NL0202."""
        for index, (leaf, meta) in enumerate(zip(leaves, self._metas, strict=False)):
            if meta is None:
                if leaf is not self._leaves[index]:
                    self._check_literal(index, leaf)
            elif (
                type(leaf) not in _PLAIN
                or leaf.dtype is not meta.dtype
                or leaf.shape != meta.shape
                or leaf.stride() != meta.stride
                or leaf.device != meta.device
                or leaf.requires_grad != meta.requires_grad
            ):
                raise self._mismatch(index, leaf, meta)
        tensors = leaves if self._is_plain else [leaves[pick] for pick in self._picks]
        if len(tensors) > 1 or self._writes_outside:
            self._check_aliases(leaves, tensors)
        return tensors

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
        outside = {c.tensor.untyped_storage()._cdata for c in self._graph.constants}
        shares_constant = self._writes_outside and not outside.isdisjoint(groups)
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


class ModuleChangedError(Exception):
    """The module is not the one that was recorded; the schedule has to be made anew."""


class ModuleState:
    """What the recorded modules looked like, compared with every call.

    All loops run in C: a comparison of lists takes identical objects for equal without asking
    them. A table of tensors that differs may answer the comparison with an error; that counts.
    """

    def __init__(self, fn: Callable[..., Any], graph: TaskGraph) -> None:
        modules = [m for owner in owners(fn).values() for m in owner.modules()]
        tables = [t for m in modules for t in (m._parameters, m._buffers, m._modules)]
        hooks: list[Any] = [h for m in modules for h in (m._forward_hooks, m._forward_pre_hooks)]
        everything: list[dict[str, Any]] = [*tables, *hooks]
        self._empty = [table for table in everything if not table]
        self._full = [table for table in everything if table]
        self._contents = self._read_contents()
        self._states = [module.__dict__ for module in modules]
        self._training = list(map(_training, self._states))
        self._values = {id(c.tensor): c.value for c in graph.constants}
        self._tensors = [c.tensor for c in graph.constants]
        self._addresses = _addresses(self._tensors)

    def rebound(self) -> dict[int, torch.Tensor]:  # hot
        """Return constants that another tensor has taken the place of, by value number.

        Raises:
            ModuleChangedError: something differs that rebinding cannot mend.
        """
        if any(self._empty) or list(map(_training, self._states)) != self._training:
            raise ModuleChangedError
        try:
            is_same = self._read_contents() == self._contents
        except RuntimeError:
            is_same = False
        changed = {} if is_same else self._rebind()
        if _addresses(self._tensors) != self._addresses:
            raise ModuleChangedError
        return changed

    def _read_contents(self) -> list[tuple[Any, ...]]:  # hot
        return list(map(tuple, map(dict.values, self._full)))

    def _rebind(self) -> dict[int, torch.Tensor]:
        """Follow tensors that were replaced by others of the same metadata."""
        changed: dict[int, torch.Tensor] = {}
        replaced: dict[int, torch.Tensor] = {}
        fresh = self._read_contents()
        for before, after in zip(self._contents, fresh, strict=True):
            if len(before) != len(after):
                raise ModuleChangedError
            for old, new in zip(before, after, strict=True):
                if old is new:
                    continue
                if not isinstance(new, torch.Tensor) or not _same_metadata(old, new):
                    raise ModuleChangedError
                replaced[id(old)] = new
        self._contents = fresh
        for index, tensor in enumerate(self._tensors):
            if id(tensor) in replaced:
                new = replaced[id(tensor)]
                value = self._values.pop(id(tensor))
                self._values[id(new)] = value
                self._tensors[index] = changed[value] = new
        self._addresses = _addresses(self._tensors)
        return changed


_training = itemgetter("training")
_shape, _dtype, _requires_grad = (attrgetter(n) for n in ("shape", "dtype", "requires_grad"))


def _addresses(tensors: list[torch.Tensor]) -> list[list[Any]]:  # hot
    return [
        list(map(torch.Tensor.data_ptr, tensors)),
        list(map(_shape, tensors)),
        list(map(_dtype, tensors)),
        list(map(_requires_grad, tensors)),
    ]


def _same_metadata(old: Any, new: torch.Tensor) -> bool:
    return (
        type(new) is type(old)
        and new.dtype is old.dtype
        and new.shape == old.shape
        and new.stride() == old.stride()
        and new.device == old.device
        and new.requires_grad == old.requires_grad
        and bool(new.untyped_storage().nbytes() == old.untyped_storage().nbytes())
    )


def _ambient() -> tuple[Any, ...]:  # hot
    if not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda"):
        return ()
    return tuple(
        (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        for kind in ("cpu", "cuda")
    )


def _flat_names(spec: TreeSpec, count: int) -> tuple[str, ...] | None:
    """Keyword names when every argument is a leaf, else None."""
    args, kwargs = tree_unflatten(range(count), spec)
    if all(isinstance(argument, int) for argument in (*args, *kwargs.values())):
        return tuple(kwargs)
    return None


def _assembler(graph: TaskGraph) -> Callable[[Sequence[torch.Tensor]], Any]:
    """How to turn flat tensors into what the function returns; the common shapes are direct."""
    spec, leaves = graph.output_spec, graph.outputs
    shape = tree_unflatten(range(len(leaves)), spec)
    is_all_tensors = all(isinstance(leaf, Ref) for leaf in leaves)
    if isinstance(shape, int) and is_all_tensors:
        return lambda found: found[0]
    if type(shape) is tuple and is_all_tensors and all(isinstance(part, int) for part in shape):
        return tuple

    def assemble(found: Sequence[torch.Tensor]) -> Any:
        remaining = iter(found)
        filled = [next(remaining) if isinstance(leaf, Ref) else leaf for leaf in leaves]
        return tree_unflatten(filled, spec)

    return assemble
