"""Descending: when, how far, what it leaves behind, and how routed copies resemble the original."""

from __future__ import annotations

import inspect
import itertools
import traceback
from typing import Any

import pytest
import torch
from torch import nn

import janus_lite
from janus_lite.errors import Code
from janus_lite.record.instrument import routed


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.relu(self.first(x)))
        return out


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(x)
        return y + float(y.detach().numpy().mean())


def descended(calls: int = 12) -> Any:
    model = janus_lite.speculate(Outer())
    for _ in range(calls):
        model(torch.randn(2, 3))
    return model


def test_it_descends_when_its_credit_of_recordings_is_used_up() -> None:
    model = descended(4)
    assert not model.forward.explain().is_descended

    model(torch.randn(2, 3))

    assert model.forward.explain().is_descended
    assert model.forward.stats.recorded == 4


def test_the_report_keeps_the_reason_and_lists_the_children() -> None:
    report = descended().forward.explain()

    assert report.reasons[0].code == Code.TENSOR_ESCAPE.value
    assert [child.name for child in report.children] == ["Block.forward"]
    assert report.children[0].stats.hits >= 3
    assert "descended" in str(report)
    assert "Block.forward" in str(report)


def test_strict_raises_and_never_descends() -> None:
    model = janus_lite.speculate(Outer(), strict=True)

    for _ in range(3):
        with pytest.raises(janus_lite.JanusError, match="JL0403"):
            model(torch.randn(2, 3))


def test_nothing_is_left_on_the_users_objects() -> None:
    model = janus_lite.speculate(Outer())
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    code = Outer.forward.__code__

    for _ in range(8):
        model(torch.randn(2, 3))

    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert Outer.forward.__code__ is code
    assert "forward" not in vars(model.block)


def test_reset_starts_over() -> None:
    model = descended()
    model.forward.reset()

    assert model.forward.stats.children == ()
    assert not model.forward.explain().is_descended


def test_a_function_that_calls_nothing_of_use_runs_its_own_code() -> None:
    def alone(x: torch.Tensor) -> float:
        return float(x.numpy().mean())

    fast: Any = janus_lite.speculate(alone)
    for _ in range(12):
        fast(torch.ones(2))

    assert not fast.is_of_use
    assert fast._descent is not None
    assert not fast._descent.is_routed


def test_stances_and_disable_reach_below() -> None:
    model = descended()
    hits = model.forward.stats.children[0][1].hits

    with janus_lite.stance("force_eager"):
        model(torch.randn(2, 3))

    assert model.forward.stats.children[0][1].hits == hits


def test_fail_on_miss_still_refuses() -> None:
    model = descended()

    with janus_lite.stance("fail_on_miss"), pytest.raises(janus_lite.JanusError):
        model(torch.randn(2, 3))


def test_at_most_so_many_roots_are_kept() -> None:
    blocks = [Block() for _ in range(80)]

    def outer(x: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            x = block(x) + float(x.detach().numpy().mean())
        return x

    fast: Any = janus_lite.speculate(outer)
    for _ in range(8):
        fast(torch.ones(1, 3))

    assert len(fast.stats.children) <= 64


# ------------------------------------------------------------------------------- routed copies


class Recorder:
    """A call site that notes what it is asked to call."""

    def __init__(self, seen: list[str], number: int) -> None:
        self._seen = seen
        self._number = number

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._seen.append(f"{self._number}:{getattr(function, '__name__', function)}")
        return function(*args, **kwargs)


def helper(x: int, *rest: int, by: int = 1) -> int:
    return (x + sum(rest)) * by


def of_many_calls(x: int) -> list[int]:
    named = {"by": x}
    values = [helper(n, *(1, 2), **named) for n in range(3)]

    def inner() -> int:
        return helper(x)

    return [*values, inner(), (lambda: len(values))()]


def fails(x: int) -> int:
    return helper(
        x,
        "a",  # type: ignore[arg-type]  # raises
    )


class Base:
    def value(self) -> int:
        return 1


class Derived(Base):
    __secret = 5

    def __hidden(self) -> int:
        return self.__secret

    def value(self) -> int:
        return super().value() + self.__hidden() + len(__class__.__name__)  # type: ignore[name-defined]  # the cell of `super`


def copy_of(function: Any, seen: list[str], **options: Any) -> Any:
    return routed(function, lambda number: Recorder(seen, number), **options)


def test_a_routed_copy_gives_what_the_original_gives() -> None:
    seen: list[str] = []

    assert copy_of(of_many_calls, seen)(2) == of_many_calls(2)
    assert [s.partition(":")[2] for s in seen].count("helper") == 3


def test_nested_functions_carry_their_original_code() -> None:
    copied = copy_of(of_many_calls, [])

    made = [c for c in copied.__code__.co_consts if inspect.iscode(c)]
    meant = [c for c in of_many_calls.__code__.co_consts if inspect.iscode(c)]
    for one, other in zip(made, meant, strict=True):
        assert one is other or one.co_name == "<listcomp>"


def test_super_class_cells_and_mangled_names_work() -> None:
    value = Derived()

    assert copy_of(Derived.value, [])(value) == value.value()


def test_only_wanted_places_are_routed() -> None:
    seen: list[str] = []

    copy_of(of_many_calls, seen, is_wanted=lambda number: False)(2)

    assert not seen


def test_a_traceback_shows_the_users_lines() -> None:
    def lines(function: Any) -> list[tuple[str, int | None]]:
        try:
            function(1)
        except TypeError as error:
            frames = traceback.extract_tb(error.__traceback__)
            return [(f.name, f.lineno) for f in frames if f.name in {"fails", "helper"}]
        return []

    assert lines(copy_of(fails, [])) == lines(fails)
    assert len(lines(fails)) == 2


def test_a_copy_keeps_name_defaults_and_signature() -> None:
    copied = copy_of(helper, [])

    assert (copied.__name__, copied.__qualname__) == (helper.__name__, helper.__qualname__)
    assert list(inspect.signature(copied).parameters) == ["x", "rest", "by"]
    assert copied.__defaults__ == helper.__defaults__
    assert copied.__kwdefaults__ == helper.__kwdefaults__


def test_a_counter_in_a_closure_is_shared_with_the_original() -> None:
    counter = itertools.count()

    def tick() -> int:
        return next(counter)

    assert (tick(), copy_of(tick, [])(), tick()) == (0, 1, 2)
