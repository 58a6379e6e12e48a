"""Has anything that the guards read changed at all? One vectorised look at CPython's own marks.

Note [Fingerprint]
    CPython keeps a version tag in every dict (PEP 509): a number unique in the process that is
    replaced at each change. Classes, functions, cells and instances hold what matters to us in
    pointers at fixed offsets. So "no outside fact changed" is "these words of memory are equal to
    the words seen when the guards last held", and NumPy gathers a thousand of them in two
    microseconds. It sees every way of writing (`setattr`, `__dict__`, `_parameters[...]`, hooks,
    class attributes), which a barrier in `Module.__setattr__` does not.

    It is only an *accept* in front of the full guards, never their replacement: equal words mean
    nothing changed, other words mean that the full guards decide.

    All objects are held strongly while their words are read. The layout is probed, not assumed: at
    first use each offset is found on sample objects and each kind of write is tried; a kind that
    fails its probe is left to the full guards. Python 3.14 drops version tags; there every probe
    fails and the full guards run alone.
"""

from __future__ import annotations

import collections
import gc
import sysconfig
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_WORD = 8
_MANAGED_DICT = -3  # words before an instance, on versions that keep the dict pointer there


def _memory() -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The process's memory as an array of words; element `i` is the word at `8 * (i + 1)`."""

    class _View:
        __array_interface__ = {  # noqa: RUF012  # the protocol wants a plain dict
            "data": (_WORD, True),
            "shape": (1 << 44,),
            "typestr": "<u8",
            "version": 3,
        }

    return np.asarray(_View())


def _index(value: object, word: int = 0) -> int:
    return id(value) // _WORD - 1 + word


@dataclass(frozen=True, slots=True)
class Layout:
    """Word offsets found by probing; `None` where a probe failed.

    Attributes:
        dict_tag: version tag in a dict.
        sees_instances: an instance's dict changes its tag at every kind of attribute write.
        cls: class pointer of an object.
        bases: MRO pointer of a class.
        function: code, defaults and keyword defaults of a function.
        cell: contents of a closure cell.
    """

    dict_tag: int | None
    sees_instances: bool
    cls: int | None
    bases: int | None
    function: tuple[int, int, int] | None
    cell: int | None


class _Probe:
    """Classes and functions to probe; nested so that nothing else refers to them."""

    def __init__(self, memory: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
        self._memory = memory

    def words(self, value: object, count: int) -> list[int]:
        start = _index(value)
        return [int(w) for w in self._memory[start : start + count]]

    def find(self, value: object, content: object, count: int) -> int | None:
        """Offset of the one word of `value` that points to `content`."""
        found = [i for i, w in enumerate(self.words(value, count)) if w == id(content)]
        return found[0] if len(found) == 1 else None

    def dict_tag(self) -> int | None:
        sample: dict[str, object] = {"a": 1, "b": 2}
        count = 6
        before = self.words(sample, count)
        sample["a"] = 3
        pairs = zip(before, self.words(sample, count), strict=True)
        changed = [i for i, (old, new) in enumerate(pairs) if old != new]
        if len(changed) != 1:
            return None
        tag = changed[0]
        writes: list[Callable[[dict[str, object]], object]] = [
            lambda d: d.__setitem__("c", 1),
            lambda d: d.__setitem__("c", 2),
            lambda d: d.pop("c"),
            lambda d: d.update(a=5),
            lambda d: d.setdefault("e", 6),
            lambda d: d.popitem(),
            lambda d: d.clear(),
        ]
        for kind in (dict, collections.OrderedDict, collections.defaultdict):
            table: dict[str, object] = kind()
            table["a"] = 0
            for write in writes:
                old = self.words(table, count)[tag]
                write(table)
                if self.words(table, count)[tag] == old:
                    return None
        return tag

    def sees_instances(self, tag: int) -> bool:
        """Try each way of writing an attribute, often enough for specialised bytecode."""

        class Sample:
            def __init__(self) -> None:
                self.x = 0
                self.y = 0

        def by_statement(sample: Sample, value: int) -> None:
            sample.x = value

        def by_deletion(sample: Sample, value: int) -> None:
            sample.y = value
            del sample.y

        def by_object(sample: Sample, value: int) -> None:
            object.__setattr__(sample, "x", value)

        for write in (by_statement, by_deletion, by_object):
            for round_ in range(64):
                sample = Sample()
                table = sample.__dict__
                old = self.words(table, 6)[tag]
                write(sample, round_ + 1000)
                if self.words(table, 6)[tag] == old:
                    return False
        return True

    def cls(self) -> int | None:
        class Sample:
            pass

        return self.find(Sample(), Sample, 2)

    def bases(self) -> int | None:
        class Sample:
            pass

        return self.find(Sample, Sample.__mro__, 64)

    def function(self) -> tuple[int, int, int] | None:
        def sample(a: object = (1, 2), *, b: object = 3) -> object:
            return a, b

        parts = (sample.__code__, sample.__defaults__, sample.__kwdefaults__)
        count = types.FunctionType.__basicsize__ // _WORD
        first, second, third = (self.find(sample, part, count) for part in parts)
        if first is None or second is None or third is None:
            return None
        return first, second, third

    def cell(self) -> int | None:
        content = object()
        return self.find(types.CellType(content), content, 3)


@cache
def layout() -> Layout:
    """Probe this interpreter once."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return Layout(
            dict_tag=None, sees_instances=False, cls=None, bases=None, function=None, cell=None
        )
    probe = _Probe(_memory())
    tag = probe.dict_tag()
    return Layout(
        dict_tag=tag,
        sees_instances=tag is not None and probe.sees_instances(tag),
        cls=probe.cls(),
        bases=probe.bases(),
        function=probe.function(),
        cell=probe.cell(),
    )


class FingerprintBuilder:
    """Collects the words that a set of guards depends on.

    Each method returns whether the fact is covered; the guard of an uncovered fact must run at
    every call.
    """

    def __init__(self) -> None:
        self._layout = layout()
        self._indices: dict[int, None] = {}
        self._keep: list[object] = []

    def _add(self, value: object, word: int | None) -> bool:
        if word is None:
            return False
        self._indices[_index(value, word)] = None
        self._keep.append(value)
        return True

    def table(self, table: object) -> bool:
        """Any entry of a dict, or of a class's dict behind its proxy."""
        if isinstance(table, types.MappingProxyType):
            behind = gc.get_referents(table)
            if len(behind) != 1 or type(behind[0]) is not dict:
                return False
            table = behind[0]
        if not isinstance(table, dict):
            return False
        return self._add(table, self._layout.dict_tag)

    def instance(self, value: object, table: dict[str, object]) -> bool:
        """Which dict an instance has, and what is in it."""
        if not self._layout.sees_instances:
            return False
        memory = _memory()
        for word in (_MANAGED_DICT, type(value).__dictoffset__ // _WORD):
            if int(memory[_index(value, word)]) == id(table):
                return self._add(value, word)
        return False

    def class_of(self, value: object) -> bool:
        """The class of an object."""
        return self._add(value, self._layout.cls)

    def mro(self, cls: type) -> bool:
        """The bases of a class."""
        return self._add(cls, self._layout.bases)

    def function(self, function: types.FunctionType) -> bool:
        """Code, defaults and keyword defaults of a function."""
        words = self._layout.function
        if words is None:
            return False
        for word in words:
            self._add(function, word)
        return True

    def cell(self, cell: types.CellType) -> bool:
        """The contents of a closure cell."""
        return self._add(cell, self._layout.cell)

    def build(self) -> Fingerprint:
        """Return the fingerprint of everything collected."""
        return Fingerprint(tuple(self._indices), tuple(self._keep))


class Fingerprint:
    """Reads the collected words.

    Attributes:
        count: how many words.
        read: returns the words as bytes.
    """

    def __init__(self, indices: Sequence[int], keep: tuple[object, ...]) -> None:
        self.count = len(indices)
        self._keep = keep
        take = _memory().take
        array = np.array(indices, dtype=np.intp)

        def read() -> bytes:  # hot
            return take(array).tobytes()

        self.read = read
