"""Frozen events of one recorded run: what was read, what was computed, what came out."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import torch

from janus_lite.errors import Reason, Site
from janus_lite.record.effects import Effect
from janus_lite.record.source import Source


class ReadKind(Enum):
    """How a read is checked again before a replay."""

    __hash__ = object.__hash__  # `Enum.__hash__` is Python code

    IS = auto()  # the very same object
    EQUALS = auto()  # same type, same value (bits for floats)
    TYPE = auto()  # same class
    ABSENT = auto()  # a dict still lacks the key
    LENGTH = auto()  # len() of a container
    KEYS = auto()  # a dict's keys, in order
    MEMBERS = auto()  # a set of plain values
    SAME = auto()  # two sources are (or are not) one object
    DISTINCT = auto()  # several sources are as many objects
    INSTANCE_DICT = auto()  # an object still has the same `__dict__`
    MRO = auto()  # a class still has the same bases
    FUNCTION = auto()  # a function still has the same code and defaults
    RECALL = auto()  # calling a getter again gives the same answer


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """One outside fact that the run relied on.

    Attributes:
        kind: how to check it.
        source: where it was read.
        expected: what was found; its meaning depends on the kind.
        key: the key of an `ABSENT` read, the other source of a `SAME` read, all sources of a
            `DISTINCT` one, the arguments of a `RECALL`.
        site: line of the user's program that read it.
    """

    kind: ReadKind
    source: Source
    expected: object
    key: object = None
    site: Site | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """A graph value: an input tensor or the result of an operation."""

    index: int


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """What the guards check of a tensor.

    Attributes:
        cls: exact class.
        shape: sizes.
        stride: strides, in elements.
        dtype: element type.
        device: where it lives.
        requires_grad: whether autograd follows it.
    """

    cls: type
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool

    @staticmethod
    def of(tensor: torch.Tensor) -> TensorMeta:
        """Describe a tensor."""
        return TensorMeta(
            type(tensor),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
            tensor.device,
            tensor.requires_grad,
        )

    def __str__(self) -> str:
        grad = ", requires_grad" if self.requires_grad else ""
        dtype = str(self.dtype).removeprefix("torch.")
        kind = f"{self.cls.__name__} {dtype}{list(self.shape)}"
        return f"{kind} stride {self.stride} on {self.device}{grad}"


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """An outside tensor: its graph value, where a replay loads it, what it looked like.

    Attributes:
        ref: its graph value.
        source: where a replay loads it.
        meta: what it looked like.
        varying: dims of which the size may differ from call to call.
    """

    ref: Ref
    source: Source
    meta: TensorMeta
    varying: tuple[int, ...] = ()

    @property
    def order(self) -> tuple[int, ...] | None:
        """In which order of dims the tensor lies densely, where strides follow from what varies.

        `None` where all strides are the recorded ones.
        """
        order = dense_order(self.meta.shape, self.meta.stride)
        if order is None or not any(map(order.index, self.varying)):
            return None
        return order

    def difference(self, found: TensorMeta) -> str | None:
        """Say why a tensor cannot stand for the recorded one, `None` when it can."""
        dims = self.differing_dims(found)
        if dims is None:
            return f"{self.source} is {found}, recorded as {self.meta}"
        broken = [dim for dim in dims if dim not in self.varying]
        if not broken:
            order = self.order
            lies_alike = order is None or is_dense(found.shape, found.stride, order)
            return None if lies_alike else f"{self.source} is {found}, recorded without gaps"
        sizes = (f"dim {d} of {self.source} is {found.shape[d]}" for d in broken)
        return f"{', '.join(sizes)}, recorded as {self.meta}"

    def differing_dims(self, found: TensorMeta) -> tuple[int, ...] | None:
        """Dims of another size, `None` when the tensors differ in more than sizes."""
        meta = self.meta
        if len(found.shape) != len(meta.shape):
            return None
        dims = tuple(d for d, n in enumerate(meta.shape) if found.shape[d] != n)
        if replace(found, shape=meta.shape, stride=meta.stride) != meta:
            return None
        if found.stride == meta.stride:
            return dims
        order = dense_order(meta.shape, meta.stride)
        is_alike = bool(dims) and order is not None and is_dense(found.shape, found.stride, order)
        return dims if is_alike else None


def dense_order(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of dims in which a tensor lies without gaps, `None` when there is none."""
    plain = tuple(range(len(shape)))
    sorted_dims = tuple(sorted(plain, key=lambda dim: -stride[dim]))
    return next((o for o in (plain, sorted_dims) if is_dense(shape, stride, o)), None)


def is_row_by_row(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether strides are those that torch gives a new tensor."""
    return stride == row_strides(shape)


def row_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that torch gives a new tensor."""
    steps = itertools.accumulate(reversed(shape[1:]), operator.mul, initial=1)
    return tuple(steps)[::-1][: len(shape)]


def is_dense(shape: tuple[int, ...], stride: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Whether a tensor lies without gaps in this order of dims."""
    expected = 1
    for dim in reversed(order):
        if shape[dim] != 1 and stride[dim] != expected:
            return False
        expected *= shape[dim]
    return True


class OperationKind(Enum):
    """What a recorded operation is for."""

    __hash__ = object.__hash__  # `Enum.__hash__` is Python code

    COMPUTE = auto()
    AMBIENT = auto()  # changes torch's state for the operations after it (grad mode, autocast)
    ASSERT = auto()  # its host value decided what the program did: compared on replay
    NUMBER = auto()  # gives a Python number that later operations use
    ACTION = auto()  # trains: changes outside objects for good, see Note [Actions]
    SHAPE = auto()  # data decides its output's shape: the shape is compared on replay
    FORM = auto()  # sizes that vary decide what comes out, see `Operation.expected`
    CALL = auto()  # enters a function region: what it gives is compared with the recorded kind


@dataclass(frozen=True, slots=True)
class Placement:
    """How the one result of an operation lies in memory.

    It is known while gradients are off and no size varies; all but `layout` while autocast is off.

    Attributes:
        layout: of a result that is a view of the first argument with the same offset: strides of
            the argument, sizes and strides of the result.
        sizes: where it lies row by row.
        dtype: type of the elements.
        device: where it lives.
        is_new: it shares no memory with the operands.
    """

    layout: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None = None
    sizes: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    device: torch.device | None = None
    is_new: bool = False


UNPLACED = Placement()


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One call of a torch function.

    Attributes:
        target: the callable, at the level of torch's C builtins where possible.
        args: positional arguments; tensors are `Ref`s inside lists, tuples, dicts and slices,
            varying numbers are `Source`s.
        kwargs: keyword arguments, likewise.
        output: the result's structure with `Ref`s for tensors, `None` for no result.
        kind: see `OperationKind`.
        expected: the host value (`ASSERT`), the output's shapes (`SHAPE`), an `Answer` (`CALL`), or
            (`FORM`) how many tensors come out, the rank of the one that does, `None` where sizes
            decide neither, and those values that come out as they went in.
        written: outside tensors whose bytes it changed.
        mutates: it changed some tensor in place.
        is_undoable: what it changed outside can be put back: bytes, but no autograd history and
            nothing of an action, see Note [Actions].
        draws: it drew random numbers.
        generators: generators of the program that it drew from, besides torch's own.
        is_guarded: it ran inside a `try` of the user's program.
        site: line of the user's program.
        module: path of the `nn.Module` that ran it, `""` at the top.
        loops: labels of the loops that ran around it, outermost first; only of assertions.
        placement: how the result lies in memory.
        moves: objects that it changes and whose state can be put back: random generators of
            Python and NumPy, optimisers and modules whose gradients it lets go of.
    """

    target: Callable[..., object]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    output: object
    kind: OperationKind = OperationKind.COMPUTE
    expected: object = None
    written: tuple[Ref, ...] = ()
    mutates: bool = False
    is_undoable: bool = True
    draws: bool = False
    generators: tuple[torch.Generator, ...] = ()
    is_guarded: bool = False
    site: Site | None = None
    module: str = ""
    loops: tuple[str, ...] = ()
    placement: Placement = UNPLACED
    moves: tuple[Source, ...] = ()


# A *cut* is a point where several ways through a function meet again: the end of an `if`, the head
# of a loop. See Note [State at a cut] in `regions`.


class MarkKind(Enum):
    """Which point of a region was passed."""

    __hash__ = object.__hash__

    JOIN = auto()  # the end of an `if`
    HEAD = auto()  # a loop is about to test, or to take its next element
    EXIT = auto()  # the first point after a loop


@dataclass(frozen=True, slots=True)
class TensorKind:
    """What the code after a cut may rely on of a tensor.

    Attributes:
        meta: class, sizes, strides, type.
        is_leaf: whether autograd takes it for a leaf.
        shares: outside tensors whose memory it is.
    """

    meta: TensorMeta
    is_leaf: bool
    shares: tuple[Ref, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class State:
    """What the run had at hand at a cut.

    Attributes:
        names: plan of the value of each live name, and of each outside place that the run has
            set; an unbound name is absent.
        stable: those that the region cannot have assigned.
        tensors: what is known of each tensor in those plans.
        numbers: class of each number of the graph in those plans.
        identities: for the plan of each mutable object, by its `id`, the object's `id`.
        modes: grad mode and the like.
        changed: outside containers that are not as they were.
        failure: why nothing may be carried past this cut, `None` when it may.
    """

    names: Mapping[object, object]
    stable: frozenset[str]
    tensors: Mapping[Ref, TensorKind]
    numbers: Mapping[Ref, type]
    identities: Mapping[int, int]
    modes: tuple[object, ...]
    changed: frozenset[object]
    failure: str | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mark:
    """One passing of a cut.

    Attributes:
        kind: see `MarkKind`.
        label: the statement, as `file:line function`.
        region: which execution of the statement it belongs to.
        since: how many operations had run when the statement began.
        position: how many operations had run at the cut.
        effects: how many effects the run had had.
        state: what was at hand there.
    """

    kind: MarkKind
    label: str
    region: int
    since: int
    position: int
    effects: int
    state: State


@dataclass(frozen=True, slots=True)
class Nested:
    """A container of graph values that a call gave: exact class, keys of a dict, parts."""

    cls: type
    keys: tuple[str, ...] | None
    parts: tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answer:
    """What a function region gave.

    Attributes:
        structure: `Nested` containers of `Ref`s and `None`.
        fresh: tensors that the caller had not known before, in order.
        examples: those tensors; cleared when the trace is converted.
    """

    structure: object
    fresh: tuple[Ref, ...]
    examples: list[torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trace:
    """Everything one recorded run showed.

    Attributes:
        reads: outside facts, in the order of first use.
        inputs: outside tensors.
        operations: torch calls in program order.
        output: plan that rebuilds the return value.
        effects: stores into outside objects and host calls, planned, in program order.
        numbers: sources of varying numbers, and of outside objects that are no tensors, that
            operations, effects and output use.
        marks: cuts that the run passed, in order.
        lists: which list of the run an operand or a plan was, by their ids.
        looked: those lists whose content the program looked at after its first decision.
        spoiled: why the run cannot be merged with another one, `None` when it may.
        recursions: the callees that called themselves and were inlined (`subcalls.Callee`).
        walks_objects: they were called on objects of the user's classes, parts of the arguments.
        reason: why the run cannot be replayed, `None` when it can.
        seconds: how long the run took.
    """

    reads: tuple[Read, ...]
    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    output: object = None
    effects: tuple[Effect, ...] = ()
    numbers: tuple[Source, ...] = ()
    marks: tuple[Mark, ...] = ()
    lists: Mapping[int, int] = field(default_factory=dict)
    looked: frozenset[int] = frozenset()
    spoiled: str | None = None
    recursions: tuple[Any, ...] = ()
    walks_objects: bool = False
    reason: Reason | None = None
    seconds: float = 0.0
    examples: tuple[torch.Tensor, ...] = field(default=(), repr=False)

    def without_examples(self) -> Trace:
        """The trace without the tensors of the call."""
        return replace(self, examples=())


def refs_in(value: object) -> list[Ref]:
    """All graph values in an operand."""
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, list | tuple):
        return [r for v in value for r in refs_in(v)]
    if isinstance(value, dict):
        return [r for v in value.values() for r in refs_in(v)]
    if isinstance(value, slice):
        return refs_in((value.start, value.stop, value.step))
    return []
