"""The task graph: frozen values that say what runs and what it touches.

A `Task` is one torch-level operation. A task without a kernel (a view, an allocation) is a *zero
task*: it costs host time only and takes part in no hazard. Tensors are *values*, numbered; the
bytes below them are *storages*, numbered too. Two edge sets follow from that:

* `hazards`: what the device must wait for, between kernel tasks (RAW, WAR, WAW, tokens);
* `host`: what Python must have run before, between all tasks (hazards and arguments).

Neither contains the other. A task that uses only the shape of a tensor needs no wait for its
bytes; a task that reads bytes through another tensor has no argument edge.

Example:
    >>> from nimble_lite.tasks.tracing import record
    >>> graph = record(lambda x: (x + 1).t() @ x, (torch.ones(2, 2),))
    >>> [task.name for task in graph.tasks], graph.hazards
    (['add', 't', 'matmul'], ((), (0,)))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch.utils._pytree import TreeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a task comes from in the user's program."""

    module: str
    file: str
    line: int

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{self.module} {place}" if self.module else place


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor argument: the value with this number."""

    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMeta:
    """Everything about a tensor but its bytes.

    `requires_grad` belongs to it although replays run without autograd: a matrix product with a
    weight that requires grad folds its batch, without it does not, and the bits differ.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    device: torch.device
    requires_grad: bool
    storage: int

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        grad = ", requires grad" if self.requires_grad else ""
        return f"{kind}{list(self.shape)} stride {list(self.stride)} on {self.device}{grad}"

    def matches(self, other: TensorMeta) -> bool:
        """Compare all but the storage number."""
        return (
            self.dtype == other.dtype
            and self.shape == other.shape
            and self.stride == other.stride
            and self.offset == other.offset
            and self.device == other.device
            and self.requires_grad == other.requires_grad
        )


class StorageKind(Enum):
    """Who owns the bytes."""

    INPUT = "input"
    CONSTANT = "constant"
    BORN = "born"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Bytes that one or more values look at.

    Attributes:
        kind: an argument, a tensor that outlives the call, or made by a task.
        nbytes: size.
        birth: the task that made it; None for inputs and constants.
        is_output: whether an output of the graph looks at it.
    """

    kind: StorageKind
    nbytes: int
    birth: int | None
    is_output: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """Autocast as it was around a task; None in `Task.ambient` means off."""

    device_type: str
    dtype: torch.dtype


class RegionKind(Enum):
    """How the arms of a region are chosen."""

    IF = "if"
    SWITCH = "switch"
    WHILE = "while"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """One alternative of a branch, or the condition or body of a loop.

    Attributes:
        graph: without constants, and it writes nothing from outside.
        operands: for each distinct input of the graph, in order of values, which operand it is.
        copied: for each output, whether it has to be copied to have bytes of its own.
    """

    graph: TaskGraph
    operands: tuple[int, ...]
    copied: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """Control flow that is decided on tensor values: what a region's task has as its target.

    The task's arguments are the operands. Of a branch, the first is the predicate `bool[]` or the
    index, which is clamped to the arms there are. Of a loop, the first `carried` are its state.

    Attributes:
        kind: of choice.
        arms: then and else; the cases; condition and body.
        carried: length of a loop's state, 0 for branches.
        cap: most iterations of a loop.
        results: form of each result, the same whichever arm runs.
    """

    kind: RegionKind
    arms: tuple[Arm, ...]
    carried: int
    cap: int
    results: tuple[TensorMeta, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One torch-level operation.

    Attributes:
        id: position in recorded order.
        name: short unique name.
        target: what to call, or a region.
        args, kwargs: its arguments, tensors replaced by `Ref`.
        results: path inside the returned value -> value number, for tensors not seen before.
        kernels: ATen operations that launch work, in order; empty for a zero task.
        reads, writes: storages whose bytes it reads and writes.
        births: storages it makes that a value looks at.
        tokens: ordered side effects: random state, the host, the unknown.
        flops: floating point operations, 0 where unknown.
        is_sync: waits for the device, so it cannot be captured.
        ambient: autocast around the call.
        origin: the user's line.
    """

    id: int
    name: str
    target: Callable[..., Any] | Region
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[tuple[tuple[int | str, ...], int], ...]
    kernels: tuple[str, ...]
    reads: frozenset[int]
    writes: frozenset[int]
    births: frozenset[int]
    tokens: frozenset[str]
    flops: int
    is_sync: bool
    ambient: Ambient | None
    origin: Origin

    @property
    def is_zero(self) -> bool:
        """Whether the task launches nothing and may run at any time between its host edges."""
        return not self.kernels and not self.tokens

    @property
    def values(self) -> tuple[int, ...]:
        """Numbers of the values that it takes and returns."""
        taken = tuple(ref.value for ref in references((self.args, self.kwargs)))
        return taken + tuple(value for _, value in self.results)

    @property
    def touches(self) -> frozenset[int]:
        """Storages that it reads or writes."""
        return self.reads | self.writes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant:
    """A tensor that outlives the call.

    Attributes:
        value: its value number.
        tensor: the object itself.
        path: how the module reaches it, such as `layers.0.weight`; empty for a closure's.
    """

    value: int
    tensor: torch.Tensor
    path: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskGraph:
    """A recorded function, ready to be planned.

    Attributes:
        tasks: in recorded order.
        values: metadata of each value.
        storages: in order of first sight.
        inputs: flat arguments: a value number for a tensor, else the constant that it must equal.
        input_spec: how to flatten `(args, kwargs)`.
        constants: tensors that outlive the call.
        outputs: flat results: `Ref` or a plain Python value.
        output_spec: how to put the results together.
        hazards: for each kernel task, by its place in `kernel_tasks`, its predecessors there.
        host: for each task its predecessors in host order.
        device: where the work runs.
    """

    tasks: tuple[Task, ...]
    values: tuple[TensorMeta, ...]
    storages: tuple[Storage, ...]
    inputs: tuple[Ref | object, ...]
    input_spec: TreeSpec
    constants: tuple[Constant, ...]
    outputs: tuple[Ref | object, ...]
    output_spec: TreeSpec
    kernel_tasks: tuple[int, ...]
    hazards: tuple[tuple[int, ...], ...]
    host: tuple[tuple[int, ...], ...]
    device: torch.device

    @property
    def kernels(self) -> tuple[Task, ...]:
        """Tasks that launch work, in recorded order."""
        return tuple(self.tasks[index] for index in self.kernel_tasks)

    def __str__(self) -> str:
        return "\n".join(self._line(task) for task in self.tasks)

    def _line(self, task: Task) -> str:
        results = ", ".join(f"v{value}" for _, value in task.results) or "_"
        refs = ", ".join(f"v{ref.value}" for ref in references((task.args, task.kwargs)))
        kind = "zero" if task.is_zero else "+".join(task.kernels)
        tokens = f" tokens {sorted(task.tokens)}" if task.tokens else ""
        return f"{task.id:>4} {results} = {task.name}({refs})  # {kind}{tokens}  {task.origin}"


def references(structure: Any) -> list[Ref]:
    """Every `Ref` inside nested arguments, in order."""
    found: list[Ref] = []
    map_leaves(structure, lambda leaf: found.append(leaf) if isinstance(leaf, Ref) else None)
    return found


def map_leaves(structure: Any, function: Callable[[Any], Any]) -> Any:
    """Rebuild nested tuples, lists, dicts and slices with `function` applied to the leaves."""
    if isinstance(structure, tuple):
        parts = [map_leaves(part, function) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else tuple(parts)
    if isinstance(structure, list):
        return [map_leaves(part, function) for part in structure]
    if isinstance(structure, dict):
        return {key: map_leaves(part, function) for key, part in structure.items()}
    if isinstance(structure, slice):
        bounds = (structure.start, structure.stop, structure.step)
        return slice(*(map_leaves(part, function) for part in bounds))
    return function(structure)
