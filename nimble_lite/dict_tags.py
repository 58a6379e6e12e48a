"""Has any of these dicts been written to? One look at CPython's own marks (PEP 509).

In: dicts, among them the attribute dicts of objects. Out: a function that returns their version
tags as bytes. A tag is a number unique in the process, replaced with every insertion, deletion
and new value, so equal bytes mean that nothing was written. Other bytes mean only that somebody
wrote: what to think of it is up to the caller. Hundreds of tags are read in one gather, since one
by one the misses of the processor's cache alone would cost as much as a small kernel.

Tags are no public interface. They are looked for at first use, on dicts of each kind and on
attributes written in each way; where one write leaves no mark (Python 3.13 on, and builds without
the lock), there is no such function.
"""

from __future__ import annotations

import sysconfig
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import starmap
from typing import Any

import numpy as np

_WORD = np.dtype(np.uint64).itemsize
_LONGEST_HEADER = 6
_ROUNDS = 64
"""Writes by statement that are tried: the interpreter changes its ways after a few."""


def tag_reader(tables: Sequence[dict[Any, Any]]) -> Callable[[], bytes] | None:
    """Return what reads the tags of all tables at once, or None where tags cannot be relied on.

    Args:
        tables: kept alive by the function, so that their addresses stay their own.
    """
    word = _tag_word()
    if word is None:
        return None
    return _TagReader(tables, word).read


class _TagReader:
    def __init__(self, tables: Sequence[dict[Any, Any]], word: int) -> None:
        self._tables = tuple(tables)
        self._memory = _memory()
        self._places = np.array([_place(t) + word for t in self._tables], dtype=np.int64)

    def read(self) -> bytes:  # hot
        return self._memory.take(self._places).tobytes()


def _memory() -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The process's memory as words; element `i` lies at address `8 * (i + 1)`."""

    class Everything:
        __array_interface__ = {  # noqa: RUF012 - numpy asks for a plain dict
            "data": (_WORD, True),
            "shape": (1 << 44,),
            "typestr": np.dtype(np.uint64).str,
            "version": 3,
        }

    return np.asarray(Everything())


def _place(value: object) -> int:
    return id(value) // _WORD - 1


@cache
def _tag_word() -> int | None:
    """The word of a dict that holds its tag, when every way of writing changes it."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    memory = _memory()

    def header(table: dict[str, Any]) -> list[int]:
        return [int(word) for word in memory[_place(table) :][:_LONGEST_HEADER]]

    sample = {"a": 1, "b": 2}
    before = header(sample)
    sample["a"] = 3
    changed = [i for i, old in enumerate(before) if old != header(sample)[i]]
    if len(changed) != 1:
        return None
    word = changed[0]

    def is_marked(table: dict[str, Any], write: Callable[[], object]) -> bool:
        old = header(table)[word]
        write()
        return header(table)[word] != old

    return word if all(starmap(is_marked, (*_dict_writes(), *_attribute_writes()))) else None


_Writes = Iterator[tuple[dict[str, Any], Callable[[], object]]]


def _dict_writes() -> _Writes:
    for table in ({"a": 0}, OrderedDict(a=0)):
        yield table, partial(table.__setitem__, "c", 1)
        yield table, partial(table.__setitem__, "c", 2)
        yield table, partial(table.update, a=5)
        yield table, partial(table.setdefault, "e", 6)
        yield table, partial(table.pop, "c")
        yield table, table.popitem
        yield table, table.clear


def _attribute_writes() -> _Writes:
    """Attributes of instances, which the interpreter keeps apart and writes in several ways."""

    class Sample:
        def __init__(self) -> None:
            self.x = 0
            self.y = 0

    def by_statement(sample: Sample, value: int) -> None:
        sample.x = value

    def by_deletion(sample: Sample) -> None:
        del sample.y

    for number in range(_ROUNDS):
        sample = Sample()
        yield vars(sample), partial(by_statement, sample, number + 1000)
        yield vars(sample), partial(object.__setattr__, sample, "x", -number)
        yield vars(sample), partial(by_deletion, sample)
