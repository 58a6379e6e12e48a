"""The fingerprint: every kind of write changes it, and nothing else does."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest

from janus_lite.runtime.fingerprint import FingerprintBuilder, layout


class Sample:
    """An instance whose attributes are written."""

    kind = 1

    def __init__(self) -> None:
        self.x = 0


def function(a: int = 1, *, b: int = 2) -> int:
    return a + b


def words_of(cover: Callable[[FingerprintBuilder], bool]) -> Callable[[], bytes]:
    builder = FingerprintBuilder()
    if not cover(builder):
        pytest.skip("this interpreter's layout has no such mark; the full guards do it")
    return builder.build().read


TABLE_WRITES: list[Callable[[dict[str, Any]], Any]] = [
    lambda table: table.__setitem__("a", 5),
    lambda table: table.update(b=5),
    lambda table: table.pop("a"),
    lambda table: table.setdefault("new", 1),
    lambda table: table.clear(),
    lambda table: table.popitem(),
]


@pytest.mark.parametrize("write", TABLE_WRITES)
@pytest.mark.parametrize("kind", [dict, collections.OrderedDict, collections.defaultdict])
def test_writes_of_a_dict_are_seen(kind: type, write: Callable[[dict[str, Any]], Any]) -> None:
    table = kind()
    table.update(a=1, b=2)
    read = words_of(lambda builder: builder.table(table))
    before = read()
    assert read() == before
    assert table["a"] == 1
    assert "missing" not in table
    assert list(table) == ["a", "b"]
    assert read() == before, "reading is no change"

    write(table)

    assert read() != before


def test_class_writes_are_seen() -> None:
    class Local:
        kind = 1

    read = words_of(lambda builder: builder.table(vars(Local)))
    before = read()
    Local.kind = 2
    assert read() != before


@pytest.mark.parametrize("times", [1, 50])
def test_attribute_writes_are_seen_also_when_specialised(times: int) -> None:
    if not layout().sees_instances:
        pytest.skip("this interpreter's tags miss attribute writes; the full guards do it")
    for turn in range(times):
        sample = Sample()
        read = words_of(lambda builder, sample=sample: builder.table(sample.__dict__))  # type: ignore[misc] # bound now
        before = read()
        sample.x = turn + 1000
        assert read() != before


def test_a_replaced_instance_dict_is_seen() -> None:
    sample = Sample()
    table = sample.__dict__
    read = words_of(lambda builder: builder.instance(sample, table))
    before = read()
    sample.__dict__ = {"x": 0}
    assert read() != before


def test_a_replaced_class_is_seen() -> None:
    class Other(Sample):
        pass

    sample = Sample()
    read = words_of(lambda builder: builder.class_of(sample))
    before = read()
    sample.__class__ = Other
    assert read() != before


def test_replaced_bases_are_seen() -> None:
    class First:
        pass

    class Second:
        pass

    class Child(First):
        pass

    read = words_of(lambda builder: builder.mro(Child))
    before = read()
    Child.__bases__ = (Second,)
    assert read() != before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("__code__", (lambda a=1, *, b=2: a - b).__code__),
        ("__defaults__", (5,)),
        ("__kwdefaults__", {"b": 7}),
    ],
)
def test_a_changed_function_is_seen(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = words_of(lambda builder: builder.function(function))  # type: ignore[arg-type] # a function
    before = read()
    function()
    assert read() == before
    monkeypatch.setattr(function, name, value)
    assert read() != before


def test_a_closure_cell_is_seen() -> None:
    value = 1

    def inner() -> int:
        return value

    assert inner.__closure__ is not None
    (cell,) = inner.__closure__
    read = words_of(lambda builder: builder.cell(cell))
    before = read()
    cell.cell_contents = object()
    assert read() != before
