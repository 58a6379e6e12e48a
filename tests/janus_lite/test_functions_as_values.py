"""Functions, partial objects, proxies and iterators as values: kept and shown as they are."""

from __future__ import annotations

import functools
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

import janus_lite
from tests.janus_lite.test_container_reads import expressions
from tests.janus_lite.test_user_code_runs import module_of

HEADER = """
import collections, functools, operator, types
def h(q): return q
HELD = [h]
"""
# Each is true, or the same, whether `h` goes through C code or not.
OF_A_FUNCTION = """
    dict(a=h)['a'] is h | [h].index(h) | [h].count(h) | {h: 1}.get(h) | h in {h} | HELD.index(h)
    (d := {}, d.setdefault('k', h) is h, d['k'] is h) | (d := {}, d.update(k=h), d['k'] is h)
    (d := [h], d.remove(h), d) | (d := [], d.append(h), d.extend([h]), [v is h for v in d])
    (d := set(), d.add(h), d.discard(h), len(d)) | {}.get('k', h) is h | {}.pop('k', h) is h
    collections.OrderedDict(a=h)['a'] is h | collections.defaultdict(h).default_factory is h
    dict([('a', h)])['a'] is h | operator.is_(h, h) | operator.eq(h, h) | hash(h) == hash(h)
    dict.fromkeys('ab', h)['a'] is h | max([h], default=h) is h | next(iter([]), h) is h
    functools.partial(h).func is h | collections.deque([h]).index(h) | (h,).index(h)
    isinstance(h, types.FunctionType) | types.MethodType(h, 3).__func__ is h | str(h) | repr(h)
    list(dict(act=h).items())[0][1].__name__ | sorted([2, 1], key=h) | list(map(h, [1])) | f'{h}'
    max([1, 3], key=lambda v: -h(v)) | functools.reduce(lambda a, b: h(a) + b, [1, 2])
    [s].sort(key=str) | str({'b': s}.keys()) | repr({'b': s}.values())
    '{}'.format({'b': s}.items()) | f'{ {"b": s}.values() }'
    f'{types.MappingProxyType({"k": s})!r}' | str(zip([1], s)).split(' at ')[0]
"""


def test_a_function_stays_itself_in_c_code(tmp_path: Path) -> None:
    asked = expressions(OF_A_FUNCTION)
    lines = [f"def f{n}(s, x):\n    x = x + 1\n    return {e}\n" for n, e in enumerate(asked)]
    module = module_of(tmp_path / "values.py", HEADER + "\n".join(lines))
    x = torch.ones(2)
    for number, expression in enumerate(asked):
        function = getattr(module, f"f{number}")
        speculated: Any = janus_lite.speculate(function)
        for content in ({"a": 1}, {"a": 1}, {"a": 1}, {"a": 2}, {"c": 2}, {"a": 1}):
            assert repr(speculated(dict(content), x)) == repr(function(content, x)), expression


class Vector:
    """Can be stepped through, but is mostly handed on."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __iter__(self) -> Any:
        return iter(self.values)

    def __lt__(self, other: Any) -> bool:
        return bool(self.values < other.values)

    def __gt__(self, other: Any) -> bool:
        return bool(self.values > other.values)

    def __add__(self, other: Any) -> Any:
        return Vector(*self.values, *other)

    def __repr__(self) -> str:
        return f"Vector{self.values}"


OF_VECTORS = """
    max(s, Vector(2)) | min(s, Vector(0)) | sum([[1]], s) | dict.fromkeys('ab', s)['a'] is s
    next(itertools.repeat(s)) is s | list(itertools.islice(s, 1)) | list(itertools.chain(s, s))
    functools.reduce(operator.add, [[1]], s) | sorted(s) | max(s) | list(zip(s, s)) | set(s)
    next(iter(()), s) is s | list(itertools.accumulate(s)) | list(map(str, s)) | [*s] | sum(s)
    max([], default=s) is s | list(itertools.product(s, repeat=2)) | ','.join(map(str, s))
"""


def test_what_can_be_stepped_through_is_handed_on(tmp_path: Path) -> None:
    asked = expressions(OF_VECTORS)
    lines = [f"def f{n}(s, x):\n    x = x + 1\n    return {e}\n" for n, e in enumerate(asked)]
    text = "import functools, itertools, operator\n" + "\n".join(lines)
    module = module_of(tmp_path / "vectors.py", text, Vector=Vector)
    x = torch.ones(2)
    for number, expression in enumerate(asked):
        function = getattr(module, f"f{number}")
        speculated: Any = janus_lite.speculate(function)
        for values in ((1, 2), (1, 2), (1, 2), (3,), (1, 2)):
            wanted = repr(function(Vector(*values), x))
            assert repr(speculated(Vector(*values), x)) == wanted, expression


def plus(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def of_a_partial(s: Any, x: torch.Tensor) -> Any:
    again = functools.partial(s)
    return x, s.func.__name__, s.args, s.keywords, s(x), again(x), functools.partial(s, x)()


def of_a_proxy(s: Any, x: torch.Tensor) -> Any:
    proxy = MappingProxyType(s)
    return (
        x * 2,
        proxy["a"],
        proxy.get("b"),
        "b" in proxy,
        list(proxy.items()),
        {**proxy},
        len(proxy),
    )


def of_an_iterator(s: Any, x: torch.Tensor) -> Any:
    return x * 2, iter(s) is s, next(iter(s)), list(s)


def of_what_has_no_dict(s: Any, x: torch.Tensor) -> Any:
    try:
        return x * 2, vars(s)
    except TypeError as error:
        return x, str(error)


PARTIALS = [functools.partial(f) for f in (plus, plus, twice)] + [
    functools.partial(torch.mul, other=n) for n in (2, 2, 3)
]


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (of_a_partial, PARTIALS),
        (of_a_proxy, [{"a": 1}, {"a": 1}, {"a": 1}, {"a": 2}, {"a": 2, "b": 3}]),
        (of_what_has_no_dict, [1, 1, (2,), (2,), "a", "b"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_argument_holds_is_read_anew(function: Any, values: list[Any]) -> None:
    speculated = janus_lite.speculate(function)
    for value in values * 2:
        x = torch.arange(3.0)
        assert repr(speculated(value, x)) == repr(function(value, x))


def test_an_iterator_is_its_own_iterator() -> None:
    speculated: Any = janus_lite.speculate(of_an_iterator)
    x = torch.arange(3.0)
    for content in ([1, 2], [1, 2], [1, 2], [3], (4, 5)):
        assert repr(speculated(iter(content), x)) == repr(of_an_iterator(iter(content), x))


def test_defaults_assigned_after_many_recordings() -> None:
    def told(x: torch.Tensor, by: Any = 0, *, more: Any = 0) -> Any:
        return x + 1, by, more

    speculated: Any = janus_lite.speculate(told)
    x = torch.ones(2)
    for step in range(30):
        told.__defaults__ = (object() if step % 5 == 4 else step % 4,)
        told.__kwdefaults__ = {"more": str(step % 3)}
        assert speculated(x)[1:] == told(x)[1:]
