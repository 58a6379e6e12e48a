"""Function regions, the recorder's side: a recursive call stays a call.

A function that calls itself, directly or through others, walks a structure that is another one in
each call: inlined, each tree would be a graph of its own. Such a call is one operation of the
caller's graph. It enters the callee's own graphs, of which there is one per kind of arguments.

Note [Function regions]: what the caller may know of the answer. Its tensors are values of the graph
like any others, and whatever Python or a guard could see of them is compared at each replay: how
they are nested, class, shape, strides, dtype, device, `requires_grad`, and which of them the caller
knew before. Other metadata is compared where the run reads it. Whether a tensor that was new is new
again is not asked: where that matters to Python (`is`, hashing) the trace stops. A replay enters
only graphs that store nothing, draw nothing and write to no outside tensor: it can then be called
off at any time. So that the callee sees the heap as it would in eager, the caller must not have
deferred a store when it calls.
"""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from janus_lite.errors import Code, Site
from janus_lite.record.audit import is_library_file
from janus_lite.record.effects import Store
from janus_lite.record.heap import SCALARS, is_mutable_class
from janus_lite.record.kinds import is_a
from janus_lite.record.outputs import is_atom
from janus_lite.record.scalars import is_made, is_symbolic, plain, rebuilt
from janus_lite.record.session import Session
from janus_lite.record.trace import Answer, Nested, Ref
from janus_lite.torch_internals import dispatch_mode_depth, function_mode_depth

_NO_FRAME_OF_ITS_OWN = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class Callee:
    """What may be called again while it runs: a function and, for a module's method, the module.

    A block that holds blocks of its class is no recursion: each of them is another module. Left
    out: the other arguments; they choose among the callee's graphs.
    """

    function: types.FunctionType
    module: int

    @staticmethod
    def of(function: types.FunctionType, args: tuple[Any, ...]) -> Callee:
        """The callee of `function(*args)`."""
        is_method = bool(args) and is_a(args[0], torch.nn.Module)
        return Callee(function, id(args[0]) if is_method else 0)

    def is_at(self, site: Site) -> bool:
        """Whether a line belongs to the function."""
        code = self.function.__code__
        return (site.file, site.function) == (code.co_filename, code.co_name)


class Region(Protocol):
    """A callee with graphs of its own."""

    __name__: str

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it for real."""

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], token: object) -> Any:
        """Replay one of its graphs."""


class Regions(Protocol):
    """The function regions that the recordings of one speculated function know."""

    def find(self, callee: Callee) -> Region | None:
        """The callee's region, `None` where its calls are inlined."""

    def refuse(self, callee: Callee) -> None:
        """Inline the callee's calls from now on."""


def is_candidate(session: Session, function: types.FunctionType) -> bool:
    """Whether a recursive call of the function could stay a call."""
    code = function.__code__
    is_plain = not code.co_flags & _NO_FRAME_OF_ITS_OWN and not is_library_file(code.co_filename)
    return is_plain and not session.is_fresh_function(function)


def walks_objects(session: Session, args: tuple[Any, ...]) -> bool:
    """Whether a part of the arguments is walked that is an object of the user's classes."""
    sources = [(session.heap.source_of(a), type(a)) for a in args]
    return any(s is not None and not s.is_pinned and is_mutable_class(c) for s, c in sources)


def call(
    session: Session, callee: Callee, region: Region, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a call for real, as one operation of the graph."""
    name = f"the recursive call of `{region.__name__}`"
    try:
        _check_moment(session)
        operands = (
            tuple(_encode(session, a) for a in args),
            {k: _encode(session, v) for k, v in kwargs.items()},
        )
    except _Refused as refusal:
        _refuse(session, callee, f"{name} {refusal}")
        return callee.function(*args, **kwargs)
    args, kwargs = rebuilt(args, plain), {k: rebuilt(v, plain) for k, v in kwargs.items()}
    try:
        with session.own_work(), session.suspended():
            result = region.run(args, kwargs)
    except Exception as error:
        session.stop(Code.OPERATION_RAISED, f"{name} raised {error!r}")
        raise
    answer = _Answer(session)
    structure = answer.structure(result)
    if answer.failure is not None:
        _refuse(session, callee, f"{name} gives {answer.failure}")
        return result
    expected = Answer(structure=structure, fresh=tuple(answer.fresh), examples=answer.examples)
    session.tape.call_region(region, (*operands, tuple(answer.known)), expected, result)
    return result


def _refuse(session: Session, callee: Callee, found: str) -> None:
    session.callees.refuse(callee)
    session.stop(Code.RECURSION, found)


class _Refused(Exception):  # noqa: N818  # a signal, caught in this file
    """Why a call cannot be an operation."""


def _check_moment(session: Session) -> None:
    if any(isinstance(effect, Store) for effect in session.writes.effects):
        raise _Refused("comes after a store, which a replay does later")
    if any(session.open_variables.values()):
        raise _Refused("comes while a context variable is set, which a replay does not do")
    if session.opaque or session.tape.depth:
        raise _Refused("comes from within an operation")
    if function_mode_depth() != 1 or dispatch_mode_depth() != 1:
        raise _Refused("runs under a torch mode")


def _encode(session: Session, value: Any) -> object:
    """An argument as an operand: a graph value, a source to read again, or a constant."""
    if is_a(value, torch.Tensor):
        ref = session.tape.ref_of(value)
        if ref is None:
            raise _Refused("is given a tensor of unknown origin")
        return ref
    if is_symbolic(value):
        return Ref(value.source.index) if is_made(value) else session.numbers.use(value)
    if type(value) in SCALARS:
        return value
    source = session.heap.source_of(value)
    if source is not None:
        return source
    if type(value) is tuple:
        return tuple(_encode(session, part) for part in value)
    if is_atom(value):
        return value
    raise _Refused(f"is given a {type(value).__qualname__} made in the run")


class _Answer:
    """Reads what a call gave, see Note [Function regions].

    Attributes:
        fresh: values of the tensors that the caller had not known.
        known: values of those that it had.
        examples: the fresh tensors.
        failure: what cannot be compared again, `None` so far.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.fresh: list[Ref] = []
        self.known: list[Ref] = []
        self.examples: list[torch.Tensor] = []
        self.failure: str | None = None

    def structure(self, value: Any) -> object:
        """`Ref`s, `None` and `Nested` containers of them."""
        if value is None:
            return None
        if is_a(value, torch.Tensor):
            return self._tensor(value)
        if self._session.heap.source_of(value) is not None:
            self.failure = "an object from outside"
        elif type(value) in (tuple, list):
            return Nested(type(value), None, tuple(map(self.structure, value)))
        elif type(value) is dict and all(type(key) is str for key in value):
            return Nested(dict, tuple(value), tuple(map(self.structure, value.values())))
        else:
            self.failure = f"a {type(value).__qualname__}"
        return None

    def _tensor(self, tensor: torch.Tensor) -> Ref | None:
        tape = self._session.tape
        ref = tape.ref_of(tensor)
        if ref is not None:
            self.known.append(ref)
            return ref
        ref = tape.answered(tensor)
        self.fresh.append(ref)
        self.examples.append(tensor)
        return ref
