"""What an f-string shows of a value: `__format__`, `__str__` and `__repr__` in Python's order."""

from __future__ import annotations

import enum
import types
from typing import Any

from janus_lite.errors import Code
from janus_lite.record.contracts import VIEWS
from janus_lite.record.iterators import PEEKABLE
from janus_lite.record.kinds import is_a
from janus_lite.record.session import Session
from janus_lite.record.syntax import answering, is_plain, python_method
from janus_lite.record.text import convert


def formatted(session: Session, value: Any, conversion: str, specification: str) -> str:
    """`f"{value!conversion:specification}"`."""
    session.regions.look(value)
    value = session.numbers.fixed(value)
    if type(value) in (*PEEKABLE, types.MappingProxyType):
        session.stop(Code.UNKNOWN_OBJECT, f"formats a {type(value).__qualname__}")
    if is_plain(value):
        if type(value) in VIEWS:
            session.heap.snapshot(tuple(value))
        return format(convert(value, conversion), specification)
    if conversion:
        value = _text_of(session, value, "__str__" if conversion == "s" else "__repr__")
        value = ascii(answering("__repr__", value)) if conversion == "a" else value
    elif python_method(session, value, "__format__") is not None:
        session.stop(Code.UNKNOWN_CALL, f"`{type(value).__qualname__}.__format__`")
    elif not specification and _is_of_object(value, "__format__"):
        value = _text_of(session, value, "__str__")
    else:
        _note_text(session, value)
    return format(value, specification)


def _text_of(session: Session, value: Any, name: str) -> str:
    """`str(value)` or `repr(value)`."""
    for method_name in ("__str__", "__repr__") if name == "__str__" else ("__repr__",):
        if (method := python_method(session, value, method_name)) is not None:
            answer = answering(name, session.call(method, (value,), {}))
            return str(answer) if name == "__str__" else repr(answer)
        if not _is_of_object(value, method_name):
            break
    _note_text(session, value)
    return str(value) if name == "__str__" else repr(value)


def _is_of_object(value: object, name: str) -> bool:
    found: Any = getattr(type(value), name)
    return found is getattr(object, name)


def _note_text(session: Session, value: Any) -> None:
    """Note what C code shows of a value."""
    if is_plain(value) or session.heap.snapshot(value):
        return
    is_fixed = is_a(value, (type, types.FunctionType, enum.Enum, str, bytes, int, float, complex))
    is_own_error = is_a(value, BaseException) and session.heap.source_of(value) is None
    if not is_fixed and not is_own_error:
        session.stop(Code.UNKNOWN_OBJECT, f"formats a {type(value).__qualname__}")
