"""`isinstance` that never runs user code."""

from __future__ import annotations

from types import UnionType
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
