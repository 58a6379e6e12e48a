"""Each kind of guard is needed: without it a change outside goes unseen, with it it does not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import janus_lite
from janus_lite.record.trace import Read, ReadKind
from janus_lite.runtime.guards import GuardEmitter

Case = tuple[Callable[..., torch.Tensor], Callable[[], object]]


class Thing:
    """Something with state."""

    def __init__(self, factor: Any = 2.0) -> None:
        self.factor = factor

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = x * self.factor
        return scaled


class Other(Thing):
    """Another class."""

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return x * 100


def identity() -> Case:
    thing = Thing([2.0])
    return lambda x: x * thing.factor[0], lambda: setattr(thing, "factor", [3.0])


def value() -> Case:
    thing = Thing()
    return lambda x: x * thing.factor, lambda: setattr(thing, "factor", 3.0)


def type_() -> Case:
    thing = Thing()
    return lambda x: thing.apply(x), lambda: setattr(thing, "__class__", Other)


def absence() -> Case:
    table: dict[str, float] = {}
    return lambda x: x * table.get("by", 2.0), lambda: table.update(by=3.0)


def length() -> Case:
    values = [1.0]
    return lambda x: x * len(values), lambda: values.append(2.0)


def keys() -> Case:
    table = {"a": 1.0}
    return lambda x: x * sum(len(key) for key in table), lambda: table.update(bbb=2.0)


def members() -> Case:
    names = {"a"}
    return lambda x: x * len("".join(sorted(names))), lambda: names.add("bbb")


def sameness() -> Case:
    one = Thing()
    things = [one, one]

    def call(x: torch.Tensor, things: Any = things) -> torch.Tensor:
        return x * 2 if things[0] is things[1] else x * 3

    function = functools.partial(_with_list, call, things)
    return function, lambda: things.__setitem__(1, Thing())


def _with_list(call: Callable[..., torch.Tensor], things: Any, x: torch.Tensor) -> torch.Tensor:
    return call(x, things)


def instance_dict() -> Case:
    thing = Thing()
    return lambda x: x * thing.factor, lambda: setattr(thing, "__dict__", {"factor": 3.0})


def mro() -> Case:
    class First:
        def apply(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    class Second:
        def apply(self, x: torch.Tensor) -> torch.Tensor:
            return x * 3

    class Child(First):
        pass

    child = Child()
    return lambda x: child.apply(x), lambda: setattr(Child, "__bases__", (Second,))


def function() -> Case:
    def inner(x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
        return x * by

    return lambda x: inner(x), lambda: setattr(inner, "__defaults__", (3.0,))


def recall() -> Case:
    state = [2.0]

    @functools.lru_cache
    def memo() -> float:
        return state[0]

    memo()

    def change() -> None:
        state[0] = 3.0
        memo.cache_clear()

    return lambda x: x * memo(), change


CASES: dict[ReadKind, Callable[[], Case]] = {
    ReadKind.IS: identity,
    ReadKind.EQUALS: value,
    ReadKind.TYPE: type_,
    ReadKind.ABSENT: absence,
    ReadKind.LENGTH: length,
    ReadKind.KEYS: keys,
    ReadKind.MEMBERS: members,
    ReadKind.INSTANCE_DICT: instance_dict,
    ReadKind.MRO: mro,
    ReadKind.FUNCTION: function,
    ReadKind.RECALL: recall,
}


@pytest.fixture(params=CASES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> ReadKind:
    assert isinstance(request.param, ReadKind)
    return request.param


def answers(case: Case) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The speculated function, its answer after the change, and eager's."""
    call, change = case
    speculative: Any = janus_lite.speculate(call)
    x = torch.randn(3)
    speculative(x)
    speculative(x)
    assert speculative.stats.hits == 1, speculative.explain()
    change()
    return speculative, speculative(x), call(x)


def test_a_change_is_seen(kind: ReadKind) -> None:
    speculative, found, expected = answers(CASES[kind]())

    assert torch.equal(found, expected)
    assert speculative.stats.hits == 1


def test_without_its_guard_the_change_goes_unseen(
    kind: ReadKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = GuardEmitter.condition
    ignored = {kind, *_IMPLIED.get(kind, ())}

    def without(self: GuardEmitter, read: Read) -> str:
        return "True" if read.kind in ignored else condition(self, read)

    monkeypatch.setattr(GuardEmitter, "condition", without)

    speculative, found, expected = answers(CASES[kind]())

    assert speculative.stats.hits == 2
    assert not torch.equal(found, expected)


# A second guard sees the same change: the order of a set, the values under a replaced dict.
_IMPLIED = {
    ReadKind.MEMBERS: {ReadKind.LENGTH, ReadKind.KEYS},
    ReadKind.KEYS: {ReadKind.LENGTH},
    ReadKind.INSTANCE_DICT: {ReadKind.EQUALS},
    ReadKind.TYPE: {ReadKind.IS},
    ReadKind.MRO: {ReadKind.IS, ReadKind.ABSENT},
}


def test_every_kind_of_read_has_its_case() -> None:
    assert set(CASES) | {ReadKind.SAME, ReadKind.DISTINCT} == set(ReadKind)


def test_sameness_of_arguments_is_a_guard_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * 2 if x is y else x * 3

    x, y = torch.randn(3), torch.randn(3)
    guarded: Any = janus_lite.speculate(call)
    guarded(x, x)
    assert torch.equal(guarded(x, y), call(x, y))

    condition = GuardEmitter.condition
    monkeypatch.setattr(
        GuardEmitter,
        "condition",
        lambda self, read: "True" if read.kind is ReadKind.SAME else condition(self, read),
    )
    unguarded: Any = janus_lite.speculate(call)
    unguarded(x, x)
    assert not torch.equal(unguarded(x, y), call(x, y))


def test_distinctness_of_arguments_is_a_guard_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(x: torch.Tensor, a: Thing, b: Thing) -> torch.Tensor:
        return x * len({a, b})

    x, one, other = torch.randn(3), Thing(), Thing()
    guarded: Any = janus_lite.speculate(call)
    guarded(x, one, other)
    guarded(x, other, one)
    assert guarded.stats.hits == 1
    assert "2 objects" in guarded.explain_miss((x, one, one))
    assert torch.equal(guarded(x, one, one), call(x, one, one))

    condition = GuardEmitter.condition
    monkeypatch.setattr(
        GuardEmitter,
        "condition",
        lambda self, read: "True" if read.kind is ReadKind.DISTINCT else condition(self, read),
    )
    unguarded: Any = janus_lite.speculate(call)
    unguarded(x, one, other)
    assert not torch.equal(unguarded(x, one, one), call(x, one, one))


@pytest.mark.parametrize(
    ("recorded", "later"),
    [
        (0.0, -0.0),
        (-0.0, 0.0),
        (1, True),
        (True, 1),
        (1, 1.0),
        (float("nan"), 1.0),
        (1.0, float("nan")),
        (complex(1, 0.0), complex(1, -0.0)),
        ("a", "b"),
        (None, 0),
        (b"a", "a"),
        (range(3), range(4)),
        (range(0, 3, 2), range(0, 4, 2)),
        (torch.float32, torch.float64),
    ],
    ids=repr,
)
def test_equal_is_not_enough(recorded: object, later: object) -> None:
    function: Any = janus_lite.speculate(lambda x, value: x * 2)
    x = torch.randn(3)

    function(x, recorded)
    function(x, recorded)
    assert function.stats.hits == 1, "NaN is as good as itself"
    function(x, later)

    # The value is not read, but it is an argument: deny by default.
    assert function.stats.hits == 1


def test_the_miss_names_what_broke() -> None:
    thing = Thing()
    function: Any = janus_lite.speculate(lambda x: x * thing.factor)
    x = torch.randn(3)
    function(x)
    thing.factor = 5.0

    text = function.explain_miss((x,))
    assert "factor == 2.0" in text
    assert "test_guards.py" in text
