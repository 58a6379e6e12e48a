"""What operations really read, write and alias: a log of ATen calls, by storage.

In: ATen calls as they run. Out: per torch-level operation an `Effects` value; from all effects
the hazard edges. Invariant: an effect is never missed in silence. Schemas are believed about
what is *written* only, with a table for those that lie, and storage identity decides what is an
alias. An operation from outside the trusted namespaces is a barrier.

`docs/design/0023` has the evidence: data edges alone reorder real models wrongly, batch
normalisation writes its statistics without saying so, and `_unsafe_view` denies being a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

RNG_TOKEN = "rng"  # noqa: S105 - a token of order, not a password
HOST_TOKEN = "host"  # noqa: S105 - a token of order, not a password
BARRIER_TOKEN = "barrier"  # noqa: S105 - a token of order, not a password

REGION_TOKEN = "region"  # noqa: S105 - a token of order, not a password
"""Holds regions in order: their bodies take turns on the same streams and free lists."""

TRUSTED_NAMESPACES = frozenset({"aten", "prims", "prim", "quantized", "torchvision"})
"""Namespaces whose schemas are believed, up to `UNDECLARED_WRITES`."""

UNDECLARED_WRITES: dict[str, tuple[str, ...]] = {
    "aten::native_batch_norm": ("running_mean", "running_var"),
    "aten::cudnn_batch_norm": ("running_mean", "running_var"),
    "aten::miopen_batch_norm": ("running_mean", "running_var"),
    "aten::batch_norm_update_stats": ("running_mean", "running_var"),
    "aten::batch_norm_gather_stats": ("running_mean", "running_var"),
    "aten::batch_norm_gather_stats_with_counts": ("running_mean", "running_var"),
    "aten::_cudnn_rnn": ("dropout_state",),
}
"""Arguments that are written although the schema does not say so; in training mode only."""

SHAPE_ONLY = frozenset(
    """
    aten::zeros_like aten::ones_like aten::full_like aten::empty_like aten::rand_like
    aten::randn_like aten::randint_like aten::new_empty aten::new_empty_strided aten::new_zeros
    aten::new_ones aten::new_full
    """.split()
)
"""Operations that look at the shape of their argument, never at its bytes."""

ALLOCATION_ONLY = frozenset(
    """
    aten::empty aten::empty_strided aten::empty_like aten::new_empty aten::new_empty_strided
    aten::empty_permuted
    """.split()
)
"""Operations that reserve bytes and launch nothing."""

DATA_DEPENDENT = frozenset(
    """
    aten::nonzero aten::nonzero_numpy aten::masked_select aten::unique_dim
    aten::unique_consecutive aten::unique_dim_consecutive aten::_unique aten::_unique2
    aten::bincount aten::repeat_interleave
    """.split()
)
"""Operations whose result has a shape that depends on values."""

STORAGE_CHANGING = frozenset({"aten::set_", "aten::resize_", "aten::resize_as_"})
"""Operations that give a tensor other bytes."""

HOST_READS = frozenset({"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero"})
"""Operations that bring a value to the host: on a GPU they wait for the device."""

_MASKABLE = frozenset({"aten::index", "aten::_unsafe_index"})


@dataclass(slots=True)
class Effects:
    """What one torch-level operation did; filled while it runs."""

    kernels: list[str] = field(default_factory=list)
    reads: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)
    allocated: set[int] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    flops: int = 0


class StorageTable:
    """Numbers storages. Addresses are not reused while a weak reference is held."""

    def __init__(self) -> None:
        self.nbytes: list[int] = []
        self._numbers: dict[int, int] = {}
        self._references: list[object] = []

    def number(self, tensor: torch.Tensor) -> int:
        """Return the number of the tensor's storage, giving it one at first sight."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        known = self._numbers.get(address)
        if known is None:
            known = self._numbers[address] = len(self.nbytes)
            self._references.append(_weak(storage))
            self.nbytes.append(storage.nbytes())
        return known

    def is_known(self, tensor: torch.Tensor) -> bool:
        """Tell whether the tensor's storage has a number."""
        return tensor.untyped_storage()._cdata in self._numbers


class EffectLog(TorchDispatchMode):
    """Logs the effects of every ATen call into the open `Effects`.

    Args:
        storages: numbers of storages.
        before_call: called with the name of each operation before it runs; may raise.
        before_write: called with each tensor about to be written, so that the caller can keep
            a copy of what the recording must restore.
        probe: compare the bytes of all arguments around every call, not only around calls
            from outside the trusted namespaces.
    """

    def __init__(
        self,
        storages: StorageTable,
        before_call: Callable[[str], None],
        before_write: Callable[[torch.Tensor], None],
        *,
        probe: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.current: Effects | None = None
        self.strays: list[str] = []
        self._storages = storages
        self._before_call = before_call
        self._before_write = before_write
        self._probe = probe

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one ATen call and note what it touched."""
        kwargs = kwargs or {}
        name = str(func._schema.name)
        if name in _MASKABLE and any(_is_mask(index) for index in args[1]):
            name = "aten::masked_select"
        self._before_call(name)
        is_trusted = name.partition("::")[0] in TRUSTED_NAMESPACES
        tensors = tensors_in((args, kwargs))
        written = declared_writes(func, args, kwargs)
        for tensor in written if is_trusted else tensors:
            self._before_write(tensor)
        known = {self._storages.number(tensor) for tensor in tensors}
        copies = _copies(tensors) if self._probe or not is_trusted else []
        has_seed = not is_trusted or torch.Tag.nondeterministic_seeded in func.tags
        state = _random_state(tensors, kwargs) if has_seed else []

        result = func(*args, **kwargs)

        effects = self.current
        if effects is None:
            self.strays.append(name)
            return result
        written = [*written, *(t for t, copy in copies if not _same_bytes(t, copy))]
        effects.calls.append(name)
        if not is_trusted:
            effects.tokens.add(BARRIER_TOKEN)
        if has_seed and not _same_state(state, _random_state(tensors, kwargs)):
            effects.tokens.add(RNG_TOKEN)
        made = {self._storages.number(tensor) for tensor in tensors_in(result)} - known
        if name in ALLOCATION_ONLY:
            effects.allocated |= made
        elif (written or made or not tensors_in(result)) and (
            torch.Tag.inplace_view not in func.tags
        ):
            # The rest are views: they return tensors on bytes that exist and write none, or
            # change the metadata of a tensor in place (`t_`), which the schema calls a write.
            effects.kernels.append(name)
            effects.flops += _flops(func, args, kwargs, result)
            effects.writes |= {self._storages.number(tensor) for tensor in written} | made
            if name not in SHAPE_ONLY:
                effects.reads |= known
        return result


def declared_writes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Tensors written by the schema or by the table."""
    undeclared = UNDECLARED_WRITES.get(func._schema.name, ())
    written: list[torch.Tensor] = []
    is_training = True
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        if argument.name in {"training", "train"} and undeclared:
            is_training = bool(value)
        is_write = argument.alias_info is not None and argument.alias_info.is_write
        if is_write or argument.name in undeclared:
            written += tensors_in(value)
    return written if is_training else []


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in {torch.bool, torch.uint8}


def tensors_in(structure: Any) -> list[torch.Tensor]:
    """Every tensor in nested arguments or results."""
    return [leaf for leaf in tree_leaves(structure) if isinstance(leaf, torch.Tensor)]


def _copies(tensors: Iterable[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(tensor, bytes_of(tensor).clone()) for tensor in tensors]


def _weak(storage: torch.UntypedStorage) -> object:
    """Keep the address of a storage from being reused, but not its bytes."""
    return StorageWeakRef(storage)


def _same_bytes(tensor: torch.Tensor, copy: torch.Tensor) -> bool:
    return torch.equal(bytes_of(tensor), copy)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """The whole storage below a tensor as bytes; shares memory with it."""
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return flat.set_(tensor.untyped_storage())


def _random_state(tensors: Sequence[torch.Tensor], kwargs: dict[str, Any]) -> list[Any]:
    """State of every generator that the call can have drawn from."""
    generator = kwargs.get("generator")
    states: list[Any] = [torch.get_rng_state()]
    if generator is not None:
        states.append(generator.get_state())
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    states += [torch.cuda.get_rng_state(device) for device in sorted(devices, key=str)]
    return states


def _same_state(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    formula = flop_registry.get(func._overloadpacket)
    return int(formula(*args, **kwargs, out_val=result)) if formula is not None else 0


@dataclass(slots=True)
class _StorageState:
    """Last writer and the readers since, of one storage or token."""

    writer: int | None = None
    readers: list[int] = field(default_factory=list)


def hazard_edges(
    effects: Sequence[tuple[frozenset[int], frozenset[int], frozenset[str]]],
) -> tuple[tuple[int, ...], ...]:
    """Order tasks by their effects: read after write, write after read, write after write.

    Args:
        effects: reads, writes and tokens of each task in recorded order.

    Returns:
        For each task the earlier ones that must be complete before it starts.

    Shapes/units: a token is one more thing that every holder writes. A barrier is ordered
    against every other task; edges that later barriers imply are left out.
    """
    states: dict[int | str, _StorageState] = {}
    barrier: int | None = None
    edges: list[tuple[int, ...]] = []
    for task, (reads, writes, tokens) in enumerate(effects):
        before: set[int] = set() if barrier is None else {barrier}
        if BARRIER_TOKEN in tokens:
            before |= set(range(0 if barrier is None else barrier, task))
            barrier = task
        written: frozenset[int | str] = writes | tokens
        for storage in reads - writes:
            state = states.setdefault(storage, _StorageState())
            if state.writer is not None:
                before.add(state.writer)
            state.readers.append(task)
        for thing in written:
            state = states.setdefault(thing, _StorageState())
            before.update(state.readers)
            if state.writer is not None:
                before.add(state.writer)
            state.writer, state.readers = task, []
        edges.append(tuple(sorted(before)))
    return tuple(edges)
