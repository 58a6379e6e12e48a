"""State of one recording, one per thread, and the caches that recordings share."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

import torch

from janus_lite.errors import Code, Reason, Site
from janus_lite.record.audit import is_library_file
from janus_lite.record.effects import Store, StoreKind, WriteLog
from janus_lite.record.heap import Heap
from janus_lite.record.instrument import NotInstrumentable, Twin, TwinCache
from janus_lite.record.marks import RegionLog
from janus_lite.record.scalars import Numbers
from janus_lite.record.tape import Tape
from janus_lite.torch_internals import modes_popped

# Torch asks these files, for every operator under a dispatch mode, who shall run it.
_DISPATCH_RULES = (os.path.join("torch", "_library", ""), os.path.join("torch", "_ops.py"))


# Frames of their own for a part of a function that runs at once; from 3.12 on there are none.
_INNER_FRAMES = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>"})


_TENSOR_HASH = torch.Tensor.__hash__.__code__


def _is_weakref_callback(code: CodeType) -> bool:
    if code.co_qualname.startswith("ExactWeakKeyDictionary."):
        return is_library_file(code.co_filename)  # torch.compile forgets a module that died
    return code.co_name in ("remove", "_remove") and code.co_filename.endswith(
        ("weakref.py", "_weakrefset.py", os.path.join("torch", "utils", "weak.py"))
    )


@cache
def _generated_codes() -> frozenset[int]:
    """Code that `dataclass` generated for this package's own events."""
    package = __package__.partition(".")[0]
    modules = [m for name, m in sys.modules.items() if name.partition(".")[0] == package]
    classes = [c for m in modules for c in vars(m).values() if isinstance(c, type)]
    functions = [f for c in classes for f in vars(c).values() if isinstance(f, FunctionType)]
    return frozenset(id(f.__code__) for f in functions if f.__code__.co_filename == "<string>")


def _definition(code: CodeType) -> Site:
    return Site(code.co_filename, code.co_firstlineno, code.co_name)


class Session:
    """One recorded run: read-set, tape, and whether it is still understood.

    Args:
        twins: the process-wide cache of instrumented code.
        call: runs a call of the user's program (`calls.call`).
        iterate: prepares an iterable of the user's program (`syntax.iterate`).
        relaxed: places where another object of the same class, or another number, may stand.
        callees: the function regions that are known (`subcalls.Regions`), `None` for none.
        store_item: does an item assignment of the user's program (`syntax.store_item`).
        plan_now: plans a value as it is at this moment (`outputs.plan_now`).

    Attributes:
        leaves: how many declared leaves are running, one inside the other.
        has_custom_backward: whether a custom autograd function ran, whose backward is Python code.
        opaque: how many custom autograd functions are running; a replay runs them for real.
        open_variables: context variables that the run has set and not reset yet.
        active: the functions that may recurse and are running, outermost first.
        recursions: those that were called again and inlined.
        walks_objects: they were called on objects of the user's classes, parts of the arguments.
    """

    def __init__(
        self,
        twins: TwinCache,
        call: Callable[..., Any],
        iterate: Callable[..., Any],
        store_item: Callable[..., Any],
        plan_now: Callable[..., object],
        relaxed: frozenset[str] = frozenset(),
        callees: Any = None,
    ) -> None:
        self.twins = twins
        self.call: Callable[..., Any] = partial(call, self)
        self.iterate: Callable[..., Any] = partial(iterate, self)
        self.store_item: Callable[..., Any] = partial(store_item, self)
        self.plan_now: Callable[..., object] = partial(plan_now, self)
        self.leaves = 0
        self.opaque = 0
        self.has_custom_backward = False
        self.open_variables: dict[ContextVar[Any], int] = {}
        self.callees = callees
        self.active: list[Any] = []
        self.recursions: dict[Any, None] = {}
        self.walks_objects = False
        self._own_work = 0
        self.reason: Reason | None = None
        self.is_stopped = False
        self.module_path: list[str] = []
        self._sites: dict[tuple[int, int], Site] = {}
        self._fresh_functions: dict[int, FunctionType] = {}
        self._noted_functions: set[int] = set()
        self._closures: dict[int, list[tuple[CellType, ...]]] = {}
        self._first: Site | None = None  # the speculated function itself, until a line of it runs
        self.numbers = Numbers(
            lambda source, value: self.heap.assume_equal(source, value),
            lambda source, cls: self.heap.assume_class(source, cls),
            lambda function, operands, result: self.tape.operate(function, operands, result),
        )
        self.regions = RegionLog(relaxed)
        self.tape = Tape(
            self.stop,
            self.site,
            self._module,
            lambda value: self.heap.note(value),
            lambda value: self.heap.made_of(value),
            lambda tensor, gradient: self.heap.gradient(tensor, gradient),
            self.numbers,
            self.regions,
            relaxed,
        )
        self.writes = WriteLog()
        self.heap = Heap(
            self.tape.add_input,
            self.tape.input_source,
            self.site,
            self.stop,
            self.writes,
            self.numbers,
            relaxed,
        )

    def stop(self, code: Code, found: str, site: Site | None = None) -> None:
        """Give up on converting this run; the run itself goes on, and is right."""
        if not self.is_stopped:
            self.reason = Reason(code, found, site or self.site())
            self.is_stopped = self.tape.is_stopped = True

    def site(self) -> Site | None:
        """The innermost line of the user's program that runs now.

        A line of torch or the standard library only counts when no other is there.
        """
        frame: FrameType | None = sys._getframe(1)
        fallback: Site | None = None
        ids = self.twins.code_ids
        while frame is not None:
            code = frame.f_code
            if id(code) in ids:
                if not is_library_file(code.co_filename):
                    return self._site(code, frame.f_lineno)
                fallback = fallback or self._site(code, frame.f_lineno)
            frame = frame.f_back
        return fallback or self._first

    def _site(self, code: CodeType, line: int) -> Site:
        key = (id(code), line)
        found = self._sites.get(key)
        if found is None:
            found = self._sites[key] = Site(code.co_filename, line, code.co_name)
        return found

    def _module(self) -> str:
        return self.module_path[-1] if self.module_path else ""

    def store(self, kind: StoreKind, owner: object, key: object, *values: object) -> None:
        """Log a store into an outside object, which the caller does for real."""
        source = self.heap.source_of(owner)
        assert source is not None
        if self.opaque:
            self.stop(Code.OUTSIDE_WRITE, f"writes `{source}` inside an autograd.Function")
        early = tuple(map(self.plan_now, values))
        position = len(self.tape.operations)
        self.writes.add(Store(kind, source, key, values, self.site(), position, early))

    def finish(self) -> None:
        """Stop when the run left something changed behind."""
        self.tape.finish()
        self.heap.note_aliasing()
        for variable, depth in self.open_variables.items():
            if depth:
                self.stop(Code.OUTSIDE_WRITE, f"sets the context variable `{variable.name}`")

    def release(self) -> None:
        """Let go of the user's objects: they must live no longer than without a recording."""
        self.heap.release()
        self.tape.release()
        self.regions.release()
        self.writes.release()
        self._fresh_functions.clear()
        self._closures.clear()

    def own_work(self) -> OwnWork:
        """A `with` block in which any library code may run: ours, or all it reads is noted."""
        return OwnWork(self)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the recording for a call that a replay makes for real as well; see `own_work`."""
        outer = enter(SUSPENDED)
        try:
            with modes_popped():
                yield
        finally:
            enter(outer)

    def aside(self) -> Aside:
        """A `with` block that runs for real and leaves no trace: a replay does it otherwise."""
        return Aside(self)

    # -------------------------------------------------------------- functions

    def is_fresh_function(self, function: FunctionType) -> bool:
        """Whether the run itself made the function."""
        return id(function) in self._fresh_functions

    def made_function(self, function: FunctionType) -> None:
        """Register a function that the run itself made: nothing about it is outside state."""
        self._fresh_functions[id(function)] = function

    def twin_for(self, function: FunctionType) -> FunctionType | None:
        """Return the instrumented twin of a function, noting what it depends on.

        Returns:
            `None` when there is none; the trace is stopped then.
        """
        self._first = self._first or _definition(function.__code__)
        try:
            with self.own_work():  # finding the source runs the standard library
                twin = self.twins.twin_of(function.__code__)
        except NotInstrumentable as refusal:
            code = function.__code__
            line = refusal.line or code.co_firstlineno
            site = Site(code.co_filename, line, code.co_name)
            self.stop(refusal.code, refusal.found, site)
            return None
        if id(function) not in self._fresh_functions and id(function) not in self._noted_functions:
            self._noted_functions.add(id(function))
            self.heap.function(function, twin.hooked_free)
        if function.__closure__:
            self._closures.setdefault(id(twin.code), []).append(function.__closure__)
        if twin.stored_free and self._stores_outside(function, twin):
            names = ", ".join(sorted(twin.stored_free))
            self.stop(Code.OUTSIDE_WRITE, f"`{function.__name__}` assigns `{names}` of its closure")
            return None
        return twin.bind(function)

    def free_cell(self, frame: FrameType, name: str, value: object) -> CellType | None:
        """The outside cell of a variable that the code of `frame` has just read or assigned.

        Returns:
            `None` where the run made the cell, or where it is not known; the trace is stopped then.
        """
        found = self._free_cells(frame, name, value)
        if len(found) != 1:
            self.stop(Code.OUTSIDE_WRITE, f"assigns `{name}`, one of several closures' variables")
            return None
        return found[0] if self.heap.is_marked_cell(found[0]) else None

    def outer_number(self, frame: FrameType, name: str, number: Any) -> Any:
        """What the program gets for a number that `frame` has read from an enclosing function."""
        # A generator runs under whoever asks it for more.
        is_known = frame.f_code.co_name != "<genexpr>"
        found = self._free_cells(frame, name, number) if is_known else []
        if len(found) == 1 and self.heap.is_marked_cell(found[0]):
            return self.heap.read_cell(found[0], number)
        for cell in filter(partial(_holds, value=number), self.heap.varying_cells):
            self.heap.cell(cell, name)  # nobody knows which of them was read: all are constant
        return number

    def _free_cells(self, frame: FrameType, name: str, value: object) -> list[CellType]:
        """The cells that a variable just read or assigned may be."""
        while frame.f_code.co_name in _INNER_FRAMES and frame.f_back is not None:
            frame = frame.f_back
        closures = self._closures.get(id(frame.f_code), ())
        cells = {id(c): c for closure in closures for c in _named(frame.f_code, closure, name)}
        return [c for c in cells.values() if _holds(c, value)]

    def _stores_outside(self, function: FunctionType, twin: Twin) -> bool:
        cells = dict(zip(twin.original.co_freevars, function.__closure__ or (), strict=True))
        return any(self.heap.is_marked_cell(cells[name]) for name in twin.stored_free)

    def is_expected(self, code: CodeType) -> bool:
        """Whether a frame of `code` may start now; see `audit`."""
        if self.is_stopped or self._own_work or id(code) in self.twins.code_ids:
            return True
        if code is _TENSOR_HASH and self.tape.has_answers:
            self.stop(Code.RECURSION, "a tensor that a recursive call gave is hashed")
        if code.co_name == "__del__" or _is_weakref_callback(code):  # the collector ran in between
            return True
        if code.co_filename == "<string>" and id(code) in _generated_codes():
            return True
        if any(part in code.co_filename for part in _DISPATCH_RULES):  # the tape names the operator
            return True
        is_inside = self.tape.depth > 0 or self.leaves > 0
        return is_inside and is_library_file(code.co_filename)

    def report_leak(self, code: CodeType) -> None:
        """Stop: a Python function ran that no hook saw."""
        name = f"`{code.co_qualname}` ({code.co_filename}:{code.co_firstlineno})"
        self.stop(Code.LEAK, f"{name} ran uninstrumented, called from C code")


def _named(code: CodeType, closure: tuple[CellType, ...], name: str) -> tuple[CellType, ...]:
    if name not in code.co_freevars:
        return ()
    position = code.co_freevars.index(name)
    return closure[position : position + 1]


def _holds(cell: CellType, value: object) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:
        return False


class OwnWork:
    """See `Session.own_work`."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        self._session._own_work += 1

    def __exit__(self, *exception: object) -> None:
        self._session._own_work -= 1


class Aside(OwnWork):
    """See `Session.aside`."""

    __slots__ = ("_was_unrecorded",)

    def __enter__(self) -> None:
        super().__enter__()
        tape = self._session.tape
        self._was_unrecorded, tape.is_unrecorded = tape.is_unrecorded, True
        tape.depth += 1

    def __exit__(self, *exception: object) -> None:
        tape = self._session.tape
        tape.depth -= 1
        tape.is_unrecorded = self._was_unrecorded
        super().__exit__(*exception)


class _Suspended:
    """Stands for a recording while a function region runs: not recording, yet not free either."""

    is_stopped = True


SUSPENDED = _Suspended()


class _Current(threading.local):
    session: Session | _Suspended | None = None


_current = _Current()


def current() -> Session | None:
    """The recording of this thread that is still understood, `None` otherwise."""
    session = _current.session
    return session if isinstance(session, Session) and not session.is_stopped else None


def is_recording() -> bool:
    """Whether this thread is inside a recorded run."""
    return _current.session is not None


def enter(session: Session | _Suspended | None) -> Session | _Suspended | None:
    """Make `session` the thread's recording; return the one before."""
    before = _current.session
    _current.session = session
    return before
