"""Plans of outputs: what is made anew, with which sharing, and what two plans have in common."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

import janus_lite
from janus_lite.record.outputs import Built, Constant, Loaded, same_plan
from janus_lite.record.source import Argument
from janus_lite.record.trace import Ref

X = torch.arange(4.0)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Box:
    content: Any
    name: str = "box"


class Slots:
    __slots__ = ("empty", "full")

    def __init__(self, full: Any) -> None:
        self.full = full


class Words(dict[str, Any]):
    pass


def replayed(program: Callable[[torch.Tensor], Any]) -> Any:
    """What the second call gives, which is a replay."""
    speculative: Any = janus_lite.speculate(program, strict=True)
    speculative(X)
    result = speculative(X + 1)
    assert speculative.stats.hits == 1
    return result


PROGRAMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "list": lambda x: [x + 1, [2, "a"], ()],
    "tuple of one": lambda x: (x + 1,),
    "dict": lambda x: {"a": x, 1: {True: x * 2}, None: 3.5},
    "ordered": lambda x: OrderedDict([("b", x), ("a", x * 2)]),
    "default": lambda x: defaultdict(list, {"a": [x]}),
    "deque": lambda x: deque([x, 1, 2], maxlen=3),
    "set": lambda x: {1, 2} if x.ndim else set(),
    "slice": lambda x: slice(1, None, 2) if x.ndim else None,
    "named tuple": lambda x: Pair(x, [x * 2]),
    "dataclass": lambda x: Box({"x": x}),
    "slots": lambda x: Slots([x]),
    "subclass": lambda x: Words(a=x),
    "constants": lambda x: (float("nan"), -0.0, float("inf"), torch.float64, x.dtype, ...),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_run_made_is_made_anew(name: str) -> None:
    program = PROGRAMS[name]

    assert look(replayed(program)) == look(program(X + 1))


def look(value: Any) -> Any:
    """Plain data that shows classes, content, attributes."""
    if isinstance(value, torch.Tensor):
        return "tensor", value.tolist()
    parts: Any = repr(value) if isinstance(value, int | float | str | set | slice) else None
    if isinstance(value, dict):
        parts = [(look(k), look(v)) for k, v in value.items()]
    elif isinstance(value, list | tuple | deque):
        parts = [look(v) for v in value]
    names = [*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())]
    fields = {n: look(getattr(value, n)) for n in names if hasattr(value, n)}
    extra = getattr(value, "maxlen", None), getattr(value, "default_factory", None)
    return type(value), parts, fields, extra


def test_sharing_is_kept() -> None:
    def program(x: torch.Tensor) -> Any:
        shared = [x * 2]
        return {"one": shared, "two": (shared, shared), "other": [x * 2]}

    result = replayed(program)

    assert result["one"] is result["two"][0] is result["two"][1]
    assert result["one"] is not result["other"]


def test_each_replay_makes_its_own() -> None:
    speculative: Any = janus_lite.speculate(lambda x: [x * 2])
    speculative(X)

    assert speculative(X) is not speculative(X)


def test_outside_objects_are_handed_back() -> None:
    outside = [1, 2]
    box = Box(outside)

    result = replayed(lambda x: (outside, box.content, x))

    assert result[0] is outside
    assert result[1] is outside


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (lambda x: lambda: x, "a function made in the run"),
        (lambda x: {x.ndim: 1, (): {object()}}, "a set of objects"),
        (lambda x: (t for t in [x]), "a generator made in the run"),
    ],
)
def test_what_cannot_be_made_anew_is_named(program: Callable[..., Any], found: str) -> None:
    speculative: Any = janus_lite.speculate(program)
    speculative(X)

    (reason,) = speculative.reasons
    assert reason.code.value in {"JL0501", "JL0303", "JL0202"}
    assert found in reason.found or reason.code.value != "JL0501"


def test_an_object_that_contains_itself_is_named() -> None:
    def program(x: torch.Tensor) -> Any:
        ring: list[Any] = [x * 2]
        ring.append(ring)
        return ring

    speculative: Any = janus_lite.speculate(program)
    speculative(X)

    assert "an object that contains itself" in speculative.reasons[0].found


# ------------------------------------------------------------------------------- equal plans

ONE, OTHER = Argument(0), Argument(0)


def built(*items: object, cls: type = list, extra: object = None) -> Built:
    return Built(cls, None, items, (), extra)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (Ref(1), Ref(1), True),
        (Ref(1), Ref(2), False),
        (Constant(1), Constant(1), True),
        (Constant(1), Constant(True), False),
        (Constant(1), Constant(1.0), False),
        (Constant(0.0), Constant(-0.0), False),
        (Constant(float("nan")), Constant(float("nan")), True),
        (Constant(object()), Constant(object()), False),
        (Constant(list), Constant(list), True),
        (Loaded(ONE), Loaded(ONE), True),
        (Loaded(ONE), Loaded(OTHER), False),
        (Loaded(ONE), Ref(0), False),
        (built(Ref(1)), built(Ref(1)), True),
        (built(Ref(1)), built(Ref(1), Ref(2)), False),
        (built(Ref(1)), built(Ref(1), cls=tuple), False),
        (built(extra=3, cls=deque), built(extra=4, cls=deque), False),
        (built(built(Constant(1))), built(built(Constant(2))), False),
        (Built(dict, ("a",), (Ref(1),)), Built(dict, ("b",), (Ref(1),)), False),
        (Built(Box, None, (), (("a", Ref(1)),)), Built(Box, None, (), (("b", Ref(1)),)), False),
        (Built(Box, None, (), (("a", Ref(1)),)), Built(Box, None, (), (("a", Ref(2)),)), False),
    ],
)
def test_plans_are_compared_by_what_they_make(one: object, other: object, is_same: bool) -> None:
    assert same_plan(one, other) is is_same


def test_plans_that_share_much_are_compared_once() -> None:
    one, other = built(Ref(1)), built(Ref(1))
    for _ in range(60):  # two to the power of sixty paths lead to the innermost one
        one, other = built(one, one), built(other, other)

    assert same_plan(one, other)
