"""The read-set: which outside state a recorded run looked at.

Every object reached from outside is *marked* with its source. An object without a mark was made
during the run and needs no assumption. Scalars carry no mark: they are checked by value where they
were read.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from janus_lite.errors import Code, Site
from janus_lite.record.contracts import ITERATORS
from janus_lite.record.effects import WriteLog
from janus_lite.record.iterators import EXHAUSTED, PEEKABLE, peek, sequence_of
from janus_lite.record.kinds import (
    element_of,
    elements_of,
    is_a,
    is_read_by_user_code,
    length_of,
)
from janus_lite.record.scalars import NUMBERS, Numbers, is_symbolic
from janus_lite.record.source import (
    Answer,
    CellContents,
    Computed,
    Element,
    Entry,
    Field,
    InstanceDict,
    Made,
    Pinned,
    Referent,
    Sequence,
    Source,
    Step,
    Upcoming,
)
from janus_lite.record.trace import Read, ReadKind, Ref

SCALARS: frozenset[type] = frozenset(
    {
        int,
        float,
        bool,
        str,
        bytes,
        complex,
        type(None),
        type(Ellipsis),
        type(NotImplemented),
        range,
        torch.dtype,
        torch.device,
        torch.layout,
        torch.memory_format,
        torch.Size,
    }
)


def is_scalar(value: object) -> bool:
    """Whether a value is the same at each replay; the sizes of a tensor may vary."""
    return type(value) in SCALARS and not (is_a(value, torch.Size) and any(map(is_symbolic, value)))


# Equal means identical for these: no sign of zero, no NaN, no `__eq__` of the user.
_PLAIN_MEMBERS = (int, bool, str, bytes, type(None))
_CONTAINERS = (list, tuple, deque, dict, set, frozenset)
_VALUES_OF: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    bytes: bytes.__bytes__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
}
_IDENTITY = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.CodeType,
    enum.Enum,
    torch.nn.Module,
    torch.Generator,
)
# Callables that carry an object which nobody else may have loaded.
_BOUND = (types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType)
_UNBOUND = (type, types.ModuleType, types.NoneType)
_BUILTINS = (list, tuple, dict, set, frozenset, deque)
_HEAP_TYPE = 1 << 9
_IMMUTABLE_TYPE = 1 << 8
_MISSING = object()


def instance_dict(value: object) -> dict[str, object] | None:
    """Return the instance dict without running user code, `None` when there is none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return None
    return found if is_a(found, dict) else None


def class_dict(cls: type) -> types.MappingProxyType[str, object]:
    """Return `cls.__dict__` past metaclass overrides."""
    table: types.MappingProxyType[str, object] = type.__dict__["__dict__"].__get__(cls)
    return table


def is_mutable_class(cls: type) -> bool:
    """Whether attributes of the class can be assigned from Python."""
    return bool(cls.__flags__ & _HEAP_TYPE) and not cls.__flags__ & _IMMUTABLE_TYPE


def _never_raises(method: Callable[..., Any]) -> Callable[..., Any]:
    """Analysis must not disturb the user's run: a bug here stops the trace, nothing else."""

    @functools.wraps(method)
    def guarded(self: Heap, *args: Any) -> Any:
        try:
            return method(self, *args)
        except Exception as error:
            self._stop(Code.INTERNAL, f"{method.__name__}: {type(error).__name__}: {error}")
            return None

    return guarded


class Heap:
    """Marks and reads of one recorded run.

    Args:
        add_input: called with each outside tensor and its source, once per tensor.
        input_source: the source of an outside tensor, `None` for others.
        site: returns the user's current line.
        stop: gives up on the trace: no guard can check what was read.
        writes: what the run has stored outside so far.
        numbers: the numbers that vary.
        relaxed: places where another object of the same class, or another number, may stand.
    """

    def __init__(
        self,
        add_input: Callable[[torch.Tensor, Source], None],
        input_source: Callable[[torch.Tensor], Source | None],
        site: Callable[[], Site | None],
        stop: Callable[[Code, str], None],
        writes: WriteLog,
        numbers: Numbers,
        relaxed: frozenset[str],
    ) -> None:
        self._numbers = numbers
        self._relaxed = relaxed
        self._stop = stop
        self._writes = writes
        self._add_input = add_input
        self._input_source = input_source
        self._site = site
        self._marks: dict[int, tuple[object, Source]] = {}
        self._pins: dict[int, Pinned] = {}
        self._steps: dict[tuple[object, ...], Source] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._class_reads: dict[tuple[type, str], tuple[type | None, object]] = {}
        self._class_values: dict[tuple[type, str], Any] = {}
        self._made: dict[int, tuple[object, Made]] = {}
        self._advanced: dict[int, int] = {}
        self._snapshots: set[int] = set()
        self._typed: set[int] = set()
        self._instance_dicts: dict[int, tuple[object, Pinned]] = {}
        self.reads: list[Read] = []
        self.varying_cells: list[types.CellType] = []

    def release(self) -> None:
        """Forget every object."""
        for table in (self._marks, self._pins, self._steps, self._class_reads):
            table.clear()
        self._class_values.clear()
        self._made.clear()

    # -------------------------------------------------------------- identity

    def source_of(self, value: object) -> Source | None:
        """The mark of an outside object, `None` for scalars and objects made in the run.

        Also what the graph makes has a source where no other rule knows it, such as an array.
        """
        found = self._marks.get(id(value))
        return found[1] if found is not None else self.made_of(value)

    def made(self, value: object, ref: Ref) -> None:
        """Note that an operation of the graph gave `value`, which is no tensor."""
        self._made[id(value)] = (value, Made(ref.index))

    def made_of(self, value: object) -> Made | None:
        """The graph value of an object noted by `made`, `None` for others."""
        found = self._made.get(id(value)) if self._made else None
        return None if found is None else found[1]

    def pin(self, value: Any, label: str, *, is_weak: bool = False) -> Pinned:
        """Hold `value` by identity, without a check: its owner is checked already."""
        found = self._pins.get(id(value))
        if found is None:
            held = weakref.ref(value) if is_weak else value
            found = self._pins[id(value)] = Pinned(held, label, is_weak)
            if type(value) not in SCALARS:
                _, known = self._marks.setdefault(id(value), (value, found))
                if not self.is_held(known):  # it was read before where another one may stand
                    self._read(ReadKind.SAME, known, expected=True, key=found)
            if is_a(value, _BOUND) and not is_a(value.__self__, _UNBOUND):
                self.pin(value.__self__, f"{label}.__self__")
        return found

    @_never_raises
    def mark(self, value: Any, source: Source) -> None:
        """Note that `value` was read at `source`."""
        kind = type(value)
        if kind in SCALARS:
            self._read(ReadKind.EQUALS, source, value)
            return
        if is_symbolic(value):
            self._stop(Code.OUTSIDE_WRITE, f"reads `{source}`, which the run has changed")
            return
        if issubclass(kind, torch.Tensor):
            first = self._input_source(value)
            if first is None:
                self._add_input(value, source)
            elif first is not source:
                self._read(ReadKind.SAME, source, expected=True, key=first)
            return
        if kind in ITERATORS and kind not in PEEKABLE:
            self._stop(Code.OUTSIDE_ITERATOR, f"reads the {kind.__qualname__} {source}")
        is_held = kind not in PEEKABLE and _has_identity(kind)  # type: ignore[arg-type]  # classes hash
        if is_held or self.is_held(source):
            is_root = is_a(value, torch.nn.Module) and not _is_submodule(source)
            self._read(ReadKind.IS, source, self.pin(value, str(source), is_weak=is_root))
            return
        known = self.source_of(value)
        if known is None:
            self._read(ReadKind.TYPE, source, kind)
            self._marks[id(value)] = (value, source)
            self._note_own_value(value, source)
        elif known is not source:
            self._read(ReadKind.SAME, source, expected=True, key=known)

    def _note_own_value(self, value: Any, source: Source) -> None:
        """Note the text or number that an object of a subclass is: any C code may read it."""
        for base, plain_of in _VALUES_OF.items():
            if is_a(value, (base,)) and not is_a(value, (np.generic,)):
                place = Computed(plain_of, base.__name__, (source,))
                self._read(ReadKind.EQUALS, place, plain_of(value))

    def is_held(self, source: Source) -> bool:
        """Whether what stands at `source` is taken to be this very object.

        So it is below pinned objects, unless that assumption broke before: then an object of the
        same class may stand there and its content is read again.
        """
        if not source.is_pinned or not is_a(source, Step):
            return source.is_pinned
        return is_a(source.owner, Pinned) and not (self._relaxed and str(source) in self._relaxed)

    @_never_raises
    def compare_identity(self, left: object, right: object) -> None:
        """Note the outcome of `left is right` when arguments decide it."""
        sources = [self._any_source(left), self._any_source(right)]
        if any(is_a(source, Made) for source in sources):
            return  # nothing from outside is made by the graph
        if None not in sources and sources[0] is not sources[1]:
            first, second = sources
            assert first is not None
            if not (first.is_pinned and second is not None and second.is_pinned) or (
                is_a(left, torch.Tensor) and is_a(right, torch.Tensor)
            ):
                self._read(ReadKind.SAME, first, left is right, second)

    def _any_source(self, value: object) -> Source | None:
        if is_a(value, torch.Tensor):
            return self._input_source(value)
        return self.source_of(value)

    @_never_raises
    def note_aliasing(self) -> None:
        """Note that objects which a call may exchange were different ones.

        Python tells objects apart when it hashes or compares them, and a store into one is seen
        through the other. Containers are only told apart by stores.
        """
        groups: dict[type, list[Source]] = defaultdict(list)
        for value, source in self._marks.values():
            if not is_a(value, _IDENTITY) and (not is_a(value, _BUILTINS) or self._writes.effects):
                groups[type(value)].append(source)
        for sources in groups.values():
            exchanged = [s for s in sources if not self.is_held(s)]
            if exchanged and len(sources) > 1:
                others = [s for s in sources if self.is_held(s)]
                self._read(ReadKind.DISTINCT, exchanged[0], None, (*exchanged, *others))

    # ---------------------------------------------------------------- numbers

    def assume_equal(self, source: Source, value: object) -> None:
        """Note that a number was taken for a constant."""
        self._read(ReadKind.EQUALS, source, value)

    def assume_class(self, source: Source, cls: type) -> None:
        """Note that a number was taken for any number of a class."""
        self._read(ReadKind.TYPE, source, cls)

    def may_vary(self, value: object) -> bool:
        """Whether a value may be a number that varies."""
        return bool(self._relaxed) and type(value) in NUMBERS

    def _is_relaxed(self, source: Source) -> bool:
        return bool(self._relaxed) and str(source) in self._relaxed

    def read(self, value: Any, source: Source) -> Any:
        """Note that `value` was read at `source`; return what the program gets for it."""
        if self.may_vary(value) and self._is_relaxed(source):
            return self._numbers.at(source, value)
        self.mark(value, source)
        return value

    def read_entry(self, owner: Source, table: dict[Any, Any], key: object) -> Any:
        """Note that `table[key]`, which is there, was read; return what the program gets for it."""
        value = table[key]
        is_own = self._writes.is_written(table, key) or self._writes.is_spoiled(table, key)
        if self.may_vary(value) and not is_own:
            return self.read(value, self.step(Entry, owner, key))
        self.entry(owner, table, key)
        return value

    # ------------------------------------------------------------------ reads

    def _read(self, kind: ReadKind, source: Source, expected: object, key: Any = None) -> None:
        if self._made and _is_made(source):
            self._stop(Code.UNKNOWN_OBJECT, f"looks into {source}, which the run has drawn")
            return
        if kind is ReadKind.RECALL:
            arguments = tuple((type(a), a) if type(a) in SCALARS else id(a) for a in key)
            identity: tuple[object, ...] = (kind, id(source), arguments)
        else:
            identity = (kind, id(source), id(key) if is_a(key, Source) else key)
        if identity not in self._seen:
            self._seen.add(identity)
            self.reads.append(Read(kind, source, expected, key, self._site()))

    def step(self, cls: type, owner: Source, *arguments: object) -> Source:
        """Return the canonical source `cls(owner, *arguments)`."""
        key = (cls, id(owner), *((type(a), a) for a in arguments))
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = cls(owner, *arguments)
        return found

    @_never_raises
    def entry(self, owner: Source, table: dict[object, object], key: object) -> None:
        """Note that `table[key]`, at `owner`, was read; an absent key is a fact as well."""
        if self._writes.is_written(table, key):
            return
        if self._writes.is_spoiled(table, key):
            self._stop(Code.OUTSIDE_WRITE, f"reads `{owner}` after a method changed it")
            return
        if (place := self.source_of(key)) is not None and not self.is_held(place):
            self._read(ReadKind.IS, place, self.pin(key, str(place)))  # it was hashed
        if is_a(table, dict) and type(table).__contains__ is not dict.__contains__:
            self._refuse_own_reader(table, owner)
        get = dict.get if is_a(table, dict) else type(table).get
        value = get(table, key, _MISSING)
        if value is _MISSING:
            self._read(ReadKind.ABSENT, owner, None, key)
        else:
            self.mark(value, self.step(Entry, owner, key))

    def dict_source(self, owner: Source, value: object, table: dict[str, object]) -> Source:
        """The source of an object's instance dict."""
        known = self._instance_dicts.get(id(value))
        if known is not None and known[0] is table:
            return known[1]
        if is_a(owner, Pinned):
            pinned = self.pin(table, f"{owner}.__dict__")
            self._read(ReadKind.INSTANCE_DICT, owner, table)
            self.type_of(value, owner)
            self._instance_dicts[id(value)] = (table, pinned)
            return pinned
        self._marks.setdefault(id(table), (table, self.step(InstanceDict, owner)))
        return self._marks[id(table)][1]

    @_never_raises
    def type_of(self, value: object, source: Source) -> None:
        """Note an outside object's class."""
        if id(value) in self._typed:
            return
        self._typed.add(id(value))
        if not is_a(value, type | types.ModuleType):
            self._read(ReadKind.TYPE, source, type(value))

    def bases(self, cls: type) -> None:
        """Note the bases of a class."""
        if is_mutable_class(cls):
            self._read(ReadKind.MRO, self.pin(cls, cls.__qualname__), cls.__mro__)

    def class_attribute(self, cls: type, name: str) -> tuple[type | None, object]:
        """Look `name` up along the MRO and note what every mutable class said.

        Returns:
            The class that has it and the raw value; `(None, None)` when none does.
        """
        found = self._class_reads.get((cls, name))
        if found is not None:
            return found
        found = (None, None)
        self.bases(cls)
        for owner in cls.__mro__:
            value = self._class_entry(owner, name)
            if value is not _MISSING:
                found = (owner, value)
                break
        self._class_reads[cls, name] = found
        return found

    def _class_entry(self, owner: type, name: str) -> Any:
        """Note what the own dict of a class says of `name`; `_MISSING` when it says nothing."""
        table = class_dict(owner)
        if self._writes.is_written(owner, name):
            return self._class_values.get((owner, name), _MISSING)
        value = table.get(name, _MISSING)
        if not is_mutable_class(owner):
            return value
        source = self.class_source(owner)
        if value is _MISSING:
            self._read(ReadKind.ABSENT, source, None, name)
        elif type(value) in SCALARS:
            return self.read(value, self.step(Entry, source, name))
        else:
            expected = Pinned(value, f"{owner.__qualname__}.{name}")
            self._read(ReadKind.IS, self.step(Entry, source, name), expected)
        return value

    def class_written(self, owner: type, name: str, value: Any = _MISSING) -> None:
        """Note that the run has set an attribute of a class, or deleted it.

        The class itself gets the plain number where `value` varies: the interpreter remembers what
        stands in classes, so nothing there may be exchanged afterwards.
        """
        self._writes.written(owner, name)
        self._class_values[owner, name] = value
        for key in [key for key in self._class_reads if key[1] == name]:
            del self._class_reads[key]

    def class_source(self, cls: type) -> Pinned:
        """The source of a class's own dict."""
        table = class_dict(cls)
        found = self._steps.get((Pinned, cls))
        if found is None:
            found = self._steps[Pinned, cls] = Pinned(table, f"{cls.__qualname__}.__dict__")
        assert is_a(found, Pinned)
        return found

    def read_global(self, table: dict[str, Any], name: str) -> Any:
        """Note that a global, which is there, was read; return what the program gets for it."""
        return self.read_entry(self.pin_globals(table), table, name)

    def pin_globals(self, table: dict[str, Any]) -> Pinned:
        """Hold the globals of a module."""
        return self.pin(table, f"globals({table.get('__name__', '?')})")

    @_never_raises
    def global_name(self, table: dict[str, object], name: str) -> None:
        """Note a global read: module dict first, then builtins."""
        owner = self.pin_globals(table)
        self.entry(owner, table, name)
        if name not in table:
            builtins = table["__builtins__"]
            names = builtins if is_a(builtins, dict) else vars(builtins)
            self.entry(self.pin(names, "builtins"), names, name)

    @_never_raises
    def function(self, function: types.FunctionType, stored: frozenset[str] = frozenset()) -> None:
        """Note an outside function's code, defaults and closure.

        Args:
            function: the function.
            stored: variables of its closure that are noted when they are read, as all are that
                hold a number that varies.
        """
        source = self.pin(function, function.__qualname__)
        state = (function.__code__, function.__defaults__, function.__kwdefaults__)
        self._read(ReadKind.FUNCTION, source, state)
        for index, value in enumerate(function.__defaults__ or ()):
            if type(value) not in SCALARS:
                label = f"{function.__qualname__}.__defaults__"
                owner = self.pin(function.__defaults__, label)
                self.mark(value, self.step(Element, owner, index))
        if function.__kwdefaults__:
            owner = self.pin(function.__kwdefaults__, f"{function.__qualname__}.__kwdefaults__")
            self.mapping(owner, function.__kwdefaults__)
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            owner = self.pin(cell, f"{function.__qualname__}.{name}")
            if name in stored and not _is_empty(cell):
                continue
            if self._is_relaxed(self.step(CellContents, owner)) and _holds_number(cell):
                self.varying_cells.append(cell)
            else:
                self.cell(cell, f"{function.__qualname__}.{name}")

    def read_cell(self, cell: types.CellType, value: Any) -> Any:
        """Note that a variable of a closure was read; return what the program gets for it."""
        owner = self.source_of(cell)
        if owner is None or self._writes.is_written(cell, "cell_contents"):
            return value
        return self.read(value, self.step(CellContents, owner))

    def is_marked_cell(self, cell: types.CellType) -> bool:
        """Whether the closure cell belongs to an outside function."""
        return id(cell) in self._marks

    @_never_raises
    def cell(self, cell: types.CellType, label: str) -> None:
        """Note what a closure cell of an outside function holds."""
        owner = self.pin(cell, label)
        if self._writes.is_written(cell, "cell_contents"):
            return
        try:
            value = cell.cell_contents
        except ValueError:
            self._read(ReadKind.ABSENT, owner, None, "cell_contents")
            return
        self.mark(value, self.step(CellContents, owner))

    def field(self, value: object, name: str, found: Any) -> Any:
        """Note an attribute that C code keeps, such as a slot; return what the program gets."""
        source = self.source_of(value)
        if source is None or self._writes.is_written(value, name):
            return found
        return self.read(found, self.step(Field, source, name))

    def upcoming(self, iterator: Any) -> Any:
        """Note what an outside iterator gives next; return what the program gets for it."""
        source = self.source_of(iterator)
        assert source is not None
        ahead = self._advanced.get(id(iterator), 0)
        self._advanced[id(iterator)] = ahead + 1
        found = peek(iterator, 0)
        if found is EXHAUSTED:
            self._stop(Code.OUTSIDE_ITERATOR, f"the end of {source}")
            return found
        with contextlib.suppress(TypeError):
            sequence = sequence_of(iterator)
            place = self.step(Sequence, source)
            self.mark(sequence, place)
            self._refuse_changed(sequence, place)
        return self.read(found, self.step(Upcoming, source, ahead))

    @_never_raises
    def tensor_attribute(self, tensor: torch.Tensor, name: str) -> None:
        """Note whether an outside tensor carries a Python attribute of its own."""
        source = self._input_source(tensor)
        if source is None:
            return
        if name in (instance_dict(tensor) or {}):
            what = f"the Python attribute `.{name}` of the outside tensor {source}"
            self._stop(Code.UNKNOWN_OBJECT, what)
        else:
            self._read(ReadKind.ABSENT, self.step(InstanceDict, source), None, name)

    @_never_raises
    def tensor_dict(self, tensor: torch.Tensor) -> None:
        """Note where the dict of an outside tensor's Python attributes was read."""
        source, table = self._input_source(tensor), instance_dict(tensor)
        if source is not None and table is not None:
            self.dict_source(source, tensor, table)

    @_never_raises
    def gradient(self, tensor: torch.Tensor, found: object) -> None:
        """Note which gradient an outside tensor has at entry."""
        source = self._input_source(tensor)
        assert source is not None
        self.mark(found, self.step(Field, source, "grad"))

    @_never_raises
    def referent(self, reference: object, value: object) -> None:
        """Note what an outside weak reference refers to."""
        source = self.source_of(reference)
        if source is None:
            return
        place = self.step(Referent, source)
        if type(value) not in SCALARS and not is_a(value, torch.Tensor):
            if not self.pin(value, str(place), is_weak=True).is_weak:
                self._stop(Code.UNKNOWN_OBJECT, f"{place} is also reached without a weak reference")
            self._read(ReadKind.TYPE, place, type(value))  # `None` once it is dead
        self.mark(value, place)

    @_never_raises
    def answer(
        self, function: Callable[..., object], args: tuple[object, ...], result: torch.Tensor
    ) -> None:
        """Note a remembered tensor; a replay asks for it again, once, as eager would."""
        label = getattr(function, "__qualname__", repr(function))
        self.mark(result, self.step(Answer, self.pin(function, label), args))

    @_never_raises
    def recall(
        self, function: Callable[..., object], args: tuple[object, ...], result: object
    ) -> None:
        """Note a getter's answer; the check calls it again with the same plain arguments."""
        label = getattr(function, "__qualname__", repr(function))
        self._read(ReadKind.RECALL, self.pin(function, label), result, args)

    # ------------------------------------------------------------- containers

    def _refuse_changed(self, value: object, source: Source) -> None:
        if self._writes.is_changed(value):
            self._stop(Code.OUTSIDE_WRITE, f"reads all of `{source}` after changing it")
        self._refuse_own_reader(value, source)

    def _refuse_own_reader(self, value: object, source: Source) -> None:
        if is_read_by_user_code(value):
            what = f"`{source}` is a {type(value).__qualname__}: a guard would run its methods"
            self._stop(Code.UNKNOWN_OBJECT, what)

    @_never_raises
    def length(self, value: Any) -> None:
        """Note the length of an outside container."""
        source = self.source_of(value)
        if source is not None:
            self._refuse_changed(value, source)
            self._read(ReadKind.LENGTH, source, length_of(value))

    def element(self, value: list[Any] | tuple[Any, ...], index: int) -> Any:
        """Note one element of an outside sequence; return what the program gets for it."""
        source = self.source_of(value)
        found = element_of(value, index)
        if source is None or self._writes.is_written(value, index):
            return found
        if self._writes.is_rewritten(value):
            self._refuse_changed(value, source)
        self._refuse_own_reader(value, source)
        position = index if index >= 0 else length_of(value) + index
        if type(value) is not tuple or not is_a(source, Pinned):
            self._read(ReadKind.LENGTH, source, length_of(value))
        return self.read(found, self.step(Element, source, position))

    def fix_numbers(self, value: Any) -> None:
        """Take the varying numbers that a container made in the run holds for constants."""
        if self._numbers and self.source_of(value) is None:
            self.snapshot(value)

    def note(self, value: Any) -> None:
        """Note the content of an outside container; of one made in the run nothing."""
        if self.source_of(value) is not None:
            self.snapshot(value)

    @_never_raises
    def mapping(self, source: Source, table: dict[object, object]) -> None:
        """Note all keys, their order and all values of an outside dict."""
        self.keys(source, table)
        for key, value in dict.items(table):
            if type(key) not in SCALARS:
                self.pin(key, f"key of {source}")
            self.mark(value, self.step(Entry, source, key))

    @_never_raises
    def keys(self, source: Source, table: dict[object, object]) -> None:
        """Note the keys of an outside dict and their order."""
        self._refuse_changed(table, source)
        self._read(ReadKind.KEYS, source, elements_of(table))

    @_never_raises
    def content(self, source: Source, value: Any) -> None:
        """Note what an outside container holds, one level deep."""
        self._refuse_changed(value, source)
        self._note_whole(value, source)
        if is_a(value, set | frozenset):
            self._read(ReadKind.KEYS, source, elements_of(value))  # the order of iteration

    @_never_raises
    def snapshot(self, value: Any) -> bool:
        """Note the whole content of a container, nested ones included.

        Returns:
            Whether everything inside is understood: plain containers, scalars, tensors, objects
            that are only passed along.
        """
        if type(value) in SCALARS or is_a(value, torch.Tensor) or is_symbolic(value):
            self._numbers.fixed(value)
            return True
        if id(value) in self._snapshots:
            return True
        if is_a(value, slice):
            return self._snapshot_all((value.start, value.stop, value.step))
        if not is_a(value, _CONTAINERS):
            return False
        is_plain = not is_a(value, dict) or type(value) in (dict, OrderedDict, defaultdict)
        source = self.source_of(value)
        if source is not None:
            if is_plain:
                self._snapshots.add(id(value))
            self._note_whole(value, source)
        if is_a(value, set | frozenset):
            return all(type(v) in SCALARS or is_a(v, _IDENTITY) for v in elements_of(value))
        inside = dict.values(value) if is_a(value, dict) else elements_of(value)
        return self._snapshot_all(inside) and is_plain

    def _note_whole(self, value: Any, source: Source) -> None:
        if is_a(value, dict):
            self.mapping(source, value)
        elif is_a(value, set | frozenset):
            self.members(source, value)
        else:
            self.sequence(source, value)

    def _snapshot_all(self, values: Iterable[object]) -> bool:
        """Note every one of `values`, also after one that is not understood."""
        are_understood = [self.snapshot(value) for value in values]
        return all(are_understood)

    @_never_raises
    def members(self, source: Source, value: set[object] | frozenset[object]) -> None:
        """Note what an outside set holds."""
        self._refuse_changed(value, source)
        if not all(type(v) in _PLAIN_MEMBERS or is_a(v, _IDENTITY) for v in elements_of(value)):
            what = f"members of `{source}`: neither text, integers nor classes or functions"
            self._stop(Code.UNKNOWN_OBJECT, what)
        self._read(ReadKind.MEMBERS, source, frozenset(elements_of(value)))

    @_never_raises
    def sequence(self, source: Source, value: object) -> None:
        """Note length and elements of an outside list, tuple or deque."""
        self._refuse_changed(value, source)
        elements = elements_of(value)
        if not is_a(value, tuple) or not is_a(source, Pinned):
            self._read(ReadKind.LENGTH, source, len(elements))
        for index, element in enumerate(elements):
            self.mark(element, self.step(Element, source, index))


def _holds_number(cell: types.CellType) -> bool:
    return not _is_empty(cell) and type(cell.cell_contents) in NUMBERS


def _is_empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # reading an empty one raises
    except ValueError:
        return True
    return False


def _is_made(source: Source) -> bool:
    while isinstance(source, Step):
        source = source.owner
    return isinstance(source, Made)


def _is_submodule(source: Source) -> bool:
    return is_a(source, Entry) and str(source.owner).endswith("._modules")


@functools.cache
def _has_identity(kind: type) -> bool:
    """Whether only this very object will do; a container's or plain object's like may stand."""
    if issubclass(kind, _IDENTITY):
        return True
    if kind in (list, tuple, dict, set, frozenset, OrderedDict, defaultdict, deque):
        return False
    return not kind.__flags__ & _HEAP_TYPE
