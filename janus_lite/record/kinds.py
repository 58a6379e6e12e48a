"""What an object is and what a container holds, without running code of the user."""

from __future__ import annotations

from collections import deque
from types import FunctionType, UnionType
from typing import Any, TypeVar, overload

from typing_extensions import TypeIs

Kind = TypeVar("Kind")


@overload
def is_a(value: object, classes: type[Kind]) -> TypeIs[Kind]: ...


@overload
def is_a(value: object, classes: tuple[type, ...] | UnionType) -> bool: ...


def is_a(value: object, classes: Any) -> Any:
    """Like `isinstance`, by the object's real class.

    `isinstance` also asks `value.__class__`, which runs a Python-level `__getattribute__`: code of
    the user's program that no twin would see.
    """
    return issubclass(type(value), classes)


# Every container that C code reads directly derives from one of these.
_CONTAINERS = (list, tuple, deque, dict, set, frozenset)
_READERS = ("__len__", "__iter__", "__contains__", "__eq__")


def is_read_by_user_code(value: object) -> bool:
    """Whether a class changes how its instances are read, compared to the container that it is."""
    base = _container_of(value)
    names = _READERS if issubclass(base, dict | set | frozenset) else (*_READERS, "__getitem__")
    return any(is_a(getattr(type(value), name), FunctionType) for name in names)


def length_of(value: object) -> int:
    """How many elements a container holds, whatever its class says."""
    return int(_container_of(value).__len__(value))


def elements_of(value: object) -> tuple[Any, ...]:
    """The elements of a container, or the keys of a dict, whatever its class says."""
    return tuple(_container_of(value).__iter__(value))


def element_of(value: object, index: int) -> Any:
    """One element of a sequence, whatever its class says."""
    return _container_of(value).__getitem__(value, index)


def _container_of(value: object) -> Any:
    return next((base for base in _CONTAINERS if issubclass(type(value), base)), type(value))
