"""Varying numbers: computed as Python computes, and never left behind in what the run made."""

from __future__ import annotations

import collections
import copy
import gc
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import janus_lite
from janus_lite.record.scalars import Numbers, Symbolic, is_symbolic, plain
from janus_lite.record.source import Argument, Computed, Source
from janus_lite.runtime.checks import Call, value_at

speculate: Any = janus_lite.speculate
numbers_ = st.one_of(st.integers(-300, 300), st.floats(width=32), st.booleans())
OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "==": operator.eq,
}


class Log:
    """What a registry of numbers asked to be assumed."""

    def __init__(self) -> None:
        self.values: list[tuple[Source, object]] = []
        self.classes: list[tuple[Source, type]] = []
        self.numbers = Numbers(
            lambda source, value: self.values.append((source, value)),
            lambda source, cls: self.classes.append((source, cls)),
            lambda function, operands, result: None,
        )


def text(value: object) -> tuple[type, str]:
    return type(value), repr(value)


@given(numbers_, numbers_, st.sampled_from(sorted(OPERATORS)))
def test_a_computation_and_its_source_give_what_python_gives(
    left: float, right: float, symbol: str
) -> None:
    log = Log()
    if type(left) is bool or (symbol == "**" and (abs(left) > 20 or abs(right) > 20)):
        left, right = 3, 2.5
    number = log.numbers.at(Argument(0), left)
    function = OPERATORS[symbol]
    try:
        expected = function(left, right)
    except ArithmeticError as error:
        with pytest.raises(type(error)):
            log.numbers.compute(symbol, function, number, right)
        assert text(left) in [text(value) for _, value in log.values]
        return

    found = log.numbers.compute(symbol, function, number, right)

    assert text(plain(found)) == text(expected)
    if is_symbolic(found):
        assert isinstance(found.source, Computed)
        assert text(value_at(found.source, Call((left,)))) == text(expected)
    elif type(expected) is bool:
        ((source, outcome),) = log.values
        assert outcome is expected
        assert value_at(source, Call((left,))) is expected


def test_a_symbolic_number_copies_and_pickles_as_a_plain_one() -> None:
    number: Any = Log().numbers.at(Argument(0), 5)

    assert type(copy.deepcopy(number)) is int
    assert type(pickle.loads(pickle.dumps(number))) is int
    assert isinstance(number, Symbolic)


class Point(NamedTuple):
    x: Any
    y: Any


class Slotted:
    __slots__ = ("value",)
    value: Any


class Plain:
    value: Any


def holders(number: Any) -> dict[str, Any]:
    slotted, thing = Slotted(), Plain()
    slotted.value = thing.value = number
    cyclic: list[Any] = [number]
    cyclic.append(cyclic)
    return {
        "list": [number, [number]],
        "dict": {"a": number, number: 1, "b": {"c": number}},
        "set": {number, "x"},
        "deque": collections.deque([number]),
        "tuple": (number, (1, (number,))),
        "tuple in a list": [(number, 1)],
        "named tuple": Point(number, [number]),
        "slots": slotted,
        "instance": thing,
        "cell": (lambda: number).__closure__,
        "ordered": collections.OrderedDict(a=number),
        "slice": slice(number, None),
        "cycle": cyclic,
        "default": eval("lambda a=number: a", {"number": number}),  # no cell
        "bare": number,
    }


def symbolic_in(value: Any) -> list[Any]:
    """All symbolic numbers that can be reached."""
    seen, found, queue = set[int](), [], [value]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        found += [item] if is_symbolic(item) else []
        queue += [] if is_symbolic(item) else gc.get_referents(item)
        if isinstance(item, Slotted):
            queue.append(item.value)
    return found


@pytest.mark.parametrize("kind", sorted(holders(1)))
@pytest.mark.parametrize("value", [7, 0.25])
def test_no_symbolic_number_is_left_behind(kind: str, value: float) -> None:
    log = Log()
    outside: list[Any] = []

    def run() -> Any:
        number = log.numbers.compute("+", operator.add, log.numbers.at(Argument(0), value), 1)
        held = holders(number)[kind]
        outside.append(held)
        return held

    result = log.numbers.settle(run())

    assert not symbolic_in(result)
    if kind != "slice":  # holds it for good; only a returned one is made anew
        assert not symbolic_in(outside)
    if kind == "list":
        assert result == [value + 1, [value + 1]]
        assert outside[0] is result
    if kind == "dict":
        assert list(result) == ["a", value + 1, "b"]


def test_an_error_leaves_plain_numbers_too() -> None:
    state: dict[str, Any] = {"n": 0}

    def step(x: torch.Tensor) -> Any:
        state["n"] += 1
        if state["n"] == 3:
            raise ValueError("three")
        return x * state["n"]

    speculative = speculate(step)
    for _ in range(2):
        speculative(torch.ones(2))
    with pytest.raises(ValueError, match="three"):
        speculative(torch.ones(2))

    assert state == {"n": 3}
    assert type(state["n"]) is int


def test_each_assumption_about_a_number_can_be_read() -> None:
    state = {"n": 1, "rate": 0.5}

    def step(x: torch.Tensor) -> Any:
        return x * math.sqrt(state["n"] + 1) if state["n"] % 7 < 5 else x * state["rate"]

    speculative = speculate(step)
    for n in range(5):
        state["n"] = n
        speculative(torch.ones(2))

    assert speculative.stats.hits == 3
    assert "% 7) < 5) == True" in str(speculative.explain())


def test_an_error_of_torch_names_the_class_that_the_user_knows() -> None:
    def step(x: Any, n: float) -> Any:
        return x.narrow(0, 0, n) if n > 2 else x * n

    speculative = speculate(step)
    for n in (0.5, 1.5):
        speculative(torch.ones(3), n)
    with pytest.raises(TypeError) as expected:
        step(torch.ones(3), 2.5)
    with pytest.raises(TypeError) as found:
        speculative(torch.ones(3), 2.5)

    assert str(found.value) == str(expected.value)


class Guarded:
    """Whoever looks at an instance from outside runs code of the user's."""

    def __init__(self, number: Any) -> None:
        object.__setattr__(self, "number", number)

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_replacing_a_number_runs_no_code_of_the_user() -> None:
    log = Log()
    held: list[Any] = []

    def run() -> None:
        held.append(Guarded(log.numbers.at(Argument(0), 1000)))

    run()
    log.numbers.settle(None)

    number = object.__getattribute__(held[0], "number")
    assert (type(number), number) == (int, 1000)


class Loud:
    """A callable that cannot be compared."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2.0

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment] # as Python does for a class with `__eq__`


def test_a_called_object_is_not_compared() -> None:
    loud = Loud()
    speculative = speculate(lambda x: loud(x))
    for _ in range(3):
        assert torch.equal(speculative(torch.ones(2)), torch.full((2,), 2.0))
    assert speculative.stats.hits == 2
