"""Keys that differ from call to call: what is stored under them, found by them and taken away."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

import janus_lite

Program = Callable[[dict[Any, Any], set[Any], Any, torch.Tensor], Any]


class Thing:
    """Told apart by identity alone."""


ONE, TWO = Thing(), Thing()


def stores_under_it(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[key] = 1
    return x + 1


def stores_under_a_pair(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[(key, 1)] = 1
    return x + 1


def counts_it(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[key] = d.get(key, 0) + 1
    return x + 1


def stores_under_a_new_object(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[Thing()] = 1
    return x + 1


def stores_under_a_pair_with_a_new_object(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[(Thing(), 1)] = 1
    return x + 1


def stores_under_a_new_function(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[lambda: x] = 1
    return x + 1


def stores_under_a_tensor(d: Any, s: Any, key: Any, x: Any) -> Any:
    d[x] = 1
    d[x + 1] = 2
    return x + 1


def sets_a_default(d: Any, s: Any, key: Any, x: Any) -> Any:
    d.setdefault(key, 2)
    d.setdefault((Thing(), 1), 2)
    return x + 1


def updates(d: Any, s: Any, key: Any, x: Any) -> Any:
    d.update({key: 3})
    s.update([key])
    return x + 1


def adds(d: Any, s: Any, key: Any, x: Any) -> Any:
    s.add(key)
    s |= {key}
    return x + 1


def adds_a_new_object(d: Any, s: Any, key: Any, x: Any) -> Any:
    s.add(Thing())
    s.add((Thing(), 1))
    return x + 1


def takes_away(d: Any, s: Any, key: Any, x: Any) -> Any:
    d.pop(key, None)
    s.discard(key)
    return x + 1


def deletes(d: Any, s: Any, key: Any, x: Any) -> Any:
    del d[key]
    return x + 1


def finds(d: Any, s: Any, key: Any, x: Any) -> Any:
    return x, d.get(key), key in d, key in s, [k is key for k in d], [k is key for k in s]


def finds_among_its_own(d: Any, s: Any, key: Any, x: Any) -> Any:
    return x, len({key, ONE}), {key: 1}.get(ONE), key in {ONE, TWO}, key is ONE, [ONE].count(key)


PROGRAMS: tuple[Program, ...] = (
    stores_under_it, stores_under_a_pair, counts_it, stores_under_a_new_object,
    stores_under_a_pair_with_a_new_object, stores_under_a_new_function, stores_under_a_tensor,
    sets_a_default, updates, adds, adds_a_new_object, takes_away, deletes, finds,
    finds_among_its_own,
)  # fmt: skip


def shown(key: Any) -> str:
    """A key by what it is: by name where it is one of ours."""
    if isinstance(key, tuple):
        return f"({', '.join(map(shown, key))})"
    return {id(ONE): "ONE", id(TWO): "TWO"}.get(id(key), type(key).__name__)


def called(program: Any, d: dict[Any, Any], s: set[Any], key: Any) -> Any:
    """What a call gives, and what the containers hold after it."""
    try:
        result = program(d, s, key, torch.ones(2))
        answer = result[1:] if isinstance(result, tuple) else None
    except KeyError as error:
        answer = (type(error),)
    return answer, [(shown(k), v) for k, v in d.items()], sorted(map(shown, s))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_key_is_the_one_of_this_call(program: Program) -> None:
    speculated = janus_lite.speculate(program)
    plain, replayed = ({ONE: 1}, {ONE}), ({ONE: 1}, {ONE})
    for key in (ONE, ONE, ONE, TWO, ONE, TWO, TWO, ONE):
        assert called(speculated, *replayed, key) == called(program, *plain, key)


class Tenfold(dict[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) * 10


def takes_entries(s: Any, x: torch.Tensor) -> Any:
    ordered: OrderedDict[Any, Any] = OrderedDict()
    ordered.update(s)
    counts = Counter(a=1)
    counts.update(s)
    return x + 1, OrderedDict(s), ordered, dict(s), {**s}, counts


def counts_tensors(s: Any, x: torch.Tensor) -> Any:
    return x + 1, len(Counter([x, x, s["a"]])), Counter([(1, 2), (1, 2)])[(1, 2)]


@pytest.mark.parametrize("program", [takes_entries, counts_tensors])
def test_entries_are_taken_as_each_mapping_takes_them(program: Any) -> None:
    speculated: Any = janus_lite.speculate(program)
    x = torch.ones(2)
    for s in (Tenfold(a=1), Tenfold(a=1), Tenfold(a=2), {"a": 3}, Counter(a=2), OrderedDict(a=4)):
        assert repr(speculated(copy.copy(s), x)[1:]) == repr(program(copy.copy(s), x)[1:])


def test_a_descended_function_follows_its_code() -> None:
    def helper(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    def outer(x: torch.Tensor) -> torch.Tensor:
        x.numpy()
        return helper(x)

    def other(x: torch.Tensor) -> torch.Tensor:
        x.numpy()
        return helper(x) * 5

    speculated: Any = janus_lite.speculate(outer)
    x = torch.ones(2)
    for _ in range(8):
        assert torch.equal(speculated(x), x + 1)
    assert speculated.explain().is_descended
    outer.__code__ = other.__code__
    for _ in range(3):
        assert torch.equal(speculated(x), (x + 1) * 5)
