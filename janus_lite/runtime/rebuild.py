"""Make the containers and objects of an output anew, without running the user's code."""

from __future__ import annotations

import types
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import torch

Maker = Callable[[Any, Any, dict[str, Any], Any], Any]


def maker_of(cls: type) -> Maker:
    """Return the function `make(cls, content, fields, extra)` for instances of `cls`.

    `content` is a dict for mappings and a list otherwise, `fields` the instance attributes, `extra`
    a default factory or a bound.
    """
    if issubclass(cls, dict):
        return _make_mapping
    if issubclass(cls, list | deque):
        return _make_sequence
    if cls is torch.Size:
        return _make_from_content
    if cls is slice or cls is types.MethodType:
        return _make_from_parts
    if issubclass(cls, set | frozenset) or hasattr(cls, "n_sequence_fields"):
        return _make_from_content
    return _make_tuple if issubclass(cls, tuple) else _make_object


def _make_mapping(cls: Any, content: Any, fields: dict[str, Any], extra: Any) -> Any:
    value = cls.__new__(cls)
    if isinstance(value, defaultdict):
        value.default_factory = extra
    store = _builtin(cls, "__setitem__")
    for key, item in content.items():
        store(value, key, item)
    return _fill(value, fields)


def _make_sequence(cls: Any, content: Any, fields: dict[str, Any], extra: Any) -> Any:
    if cls is deque:
        return deque(content, extra)
    value = cls.__new__(cls)
    _builtin(cls, "extend")(value, content)
    return _fill(value, fields)


def _make_from_parts(cls: Any, content: Any, _fields: dict[str, Any], _extra: Any) -> Any:
    return cls(*content)


def _make_from_content(cls: Any, content: Any, _fields: dict[str, Any], _extra: Any) -> Any:
    return cls(content)


def _make_tuple(cls: Any, content: Any, fields: dict[str, Any], _extra: Any) -> Any:
    return _fill(tuple.__new__(cls, content), fields)


def _make_object(cls: Any, _content: Any, fields: dict[str, Any], _extra: Any) -> Any:
    return _fill(object.__new__(cls), fields)


def _builtin(cls: type, name: str) -> Callable[..., Any]:
    """The C method of the built-in base, past the class's own override."""
    for base in cls.__mro__:
        method: Callable[..., Any] | None = base.__dict__.get(name)
        if method is not None and not isinstance(method, types.FunctionType):
            return method
    raise TypeError(f"{cls.__qualname__} has no built-in {name}")


def _fill(value: Any, fields: dict[str, Any]) -> Any:
    for name, item in fields.items():
        object.__setattr__(value, name, item)
    return value
