"""Functions of which no graph will answer any more: calls reach them as if nobody were there."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from typing import Any

import pytest
import torch
from torch import nn

import janus_lite
from janus_lite import MissError, stance

X = torch.arange(3.0)


def escaping(x: torch.Tensor) -> tuple[Any, str]:
    """What NumPy computes cannot be replayed; also who called."""
    return x.numpy().sum() + x, sys._getframe(1).f_code.co_name


class Escaping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight * float(x.numpy().max())


def left_alone(function: Any) -> Any:
    """A speculated function or module, called until it is left alone."""
    speculated: Any = janus_lite.speculate(function)
    with torch.no_grad():
        for _ in range(40):
            speculated(X)
    assert janus_lite.explain(speculated).is_left_alone
    return speculated


def test_nobody_stands_between_the_caller_and_the_function() -> None:
    speculated = left_alone(escaping)
    calls = speculated.stats.calls
    result, caller = speculated(X)
    assert caller == "test_nobody_stands_between_the_caller_and_the_function"
    assert torch.equal(result, escaping(X)[0])
    assert speculated.stats.calls == calls
    assert "left alone" in str(speculated.explain())
    assert "JL0403" in str(speculated.explain())


def test_before_that_calls_are_counted() -> None:
    speculated: Any = janus_lite.speculate(escaping)
    for count in range(1, 3):
        speculated(X)
        assert speculated.stats.calls == count
        assert not speculated.explain().is_left_alone


def test_a_stance_that_forbids_misses_holds_here_too() -> None:
    speculated = left_alone(escaping)
    with stance("fail_on_miss"), pytest.raises(MissError):
        speculated(X)
    speculated(X)
    assert speculated(X)[1] == "test_a_stance_that_forbids_misses_holds_here_too"
    with stance("force_eager"):
        speculated(X)


def test_a_stance_of_another_thread_is_its_own() -> None:
    speculated = left_alone(escaping)
    is_set, is_done = threading.Event(), threading.Event()

    def other() -> None:
        with stance("fail_on_miss"):
            is_set.set()
            is_done.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    is_set.wait(30)
    try:
        assert torch.equal(speculated(X)[0], escaping(X)[0])
        assert not speculated.explain().is_left_alone
    finally:
        is_done.set()
        thread.join()
    speculated(X)
    assert speculated.explain().is_left_alone


def test_reset_records_again() -> None:
    speculated = left_alone(escaping)
    recorded = speculated.stats.recorded
    speculated.reset()
    speculated(X)
    assert speculated.stats.recorded == recorded + 1
    assert not speculated.explain().is_left_alone


def test_a_module_keeps_following_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    model = left_alone(Escaping())
    with torch.no_grad():
        assert torch.equal(model(X), X * 2)
        model.weight.fill_(3)
        assert torch.equal(model(X), X * 6)
        monkeypatch.setattr(Escaping, "forward", lambda self, x: x - self.weight)
        assert torch.equal(model(X), X - 3)


def test_copies_record_for_themselves() -> None:
    model = left_alone(Escaping())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # our own
        assert not janus_lite.explain(copied).is_left_alone
        with torch.no_grad():
            model.weight.fill_(5)
            assert torch.equal(copied(X), X * 2)
            model.weight.fill_(1)
        assert janus_lite.explain(copied).stats.recorded == 1


def test_methods_are_bound_as_before() -> None:
    class Holder:
        factor = 2.0

        @janus_lite.speculate
        def scaled(self, x: torch.Tensor) -> Any:
            return x * self.factor, x.numpy().sum()

    holder = Holder()
    for _ in range(40):
        holder.scaled(X)
    assert Holder.__dict__["scaled"].explain().is_left_alone
    assert torch.equal(holder.scaled(X)[0], X * 2)
    other = Holder()
    other.factor = 3.0
    assert torch.equal(other.scaled(x=X)[0], X * 3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        holder.scaled()  # type: ignore[call-arg]  # on purpose


def test_a_call_that_meets_a_reset_leaves_nothing_behind() -> None:
    """Another thread looked at the function just before, and is about to leave it alone."""
    speculated = left_alone(escaping)
    plain = speculated._plain
    speculated.reset()
    speculated._leave_alone(plain)
    assert not speculated.is_left_alone
    speculated(X)
    assert speculated.stats.recorded
    assert not speculated.is_left_alone
