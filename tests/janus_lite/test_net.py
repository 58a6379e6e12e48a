"""The audit net: a user function that C code called, unseen by any hook, is caught and named.

With the net off the same programs would replay a stale answer; that is shown as well, so that the
net is known to be what protects them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import janus_lite
from janus_lite import config
from janus_lite.errors import Code
from janus_lite.record import classes


@dataclass
class Leak:
    """A program with state that only an uninstrumented function reads.

    Attributes:
        call: the function to speculate on.
        state: what the function reads, changed from 2.0 to 3.0.
        culprit: name of the function that C code calls.
    """

    call: Callable[[torch.Tensor], Any]
    state: list[float]
    culprit: str


def by_order() -> Leak:
    state = [2.0]

    class Level:
        def __lt__(self, other: object) -> bool:
            return state[0] > 2.5

    levels = [Level(), Level()]
    first = levels[0]
    return Leak(lambda x: x * 2 if min(levels) is first else x * 3, state, "__lt__")


def by_equality() -> Leak:
    state = [2.0]

    class Label:
        def __eq__(self, other: object) -> bool:
            return state[0] > 2.5

        __hash__ = None  # type: ignore[assignment] # as Python itself says "not hashable"

    labels = [Label()]
    return Leak(lambda x: x * (2 + labels.count(1)), state, "__eq__")  # type: ignore[arg-type] # on purpose


def by_a_method_in_a_reduction() -> Leak:
    state = [2.0]

    class Money:
        def __add__(self, other: object) -> Any:
            return state[0]

    amounts = [Money(), Money()]
    return Leak(lambda x: x * sum(amounts[1:], amounts[0]), state, "__add__")  # type: ignore[operator] # on purpose


def by_missing_key() -> Leak:
    state = [2.0]

    class Defaults(dict[str, float]):
        def __missing__(self, key: str) -> float:
            return state[0]

    table = Defaults()
    return Leak(lambda x: x * table["a"], state, "__missing__")


LEAKS = [by_order, by_equality, by_a_method_in_a_reduction, by_missing_key]


@pytest.mark.parametrize("make", LEAKS)
def test_a_leak_is_caught_and_named_and_nothing_is_cached(make: Callable[[], Leak]) -> None:
    leak = make()
    function: Any = janus_lite.speculate(leak.call)
    x = torch.randn(3)

    assert torch.equal(function(x), leak.call(x))
    leak.state[0] = 3.0
    assert torch.equal(function(x), leak.call(x))

    assert function.stats.converted == 0
    reason = function.reasons[0]
    assert reason.code in {Code.LEAK, Code.UNKNOWN_CALL}
    if reason.code is Code.LEAK:
        assert leak.culprit in reason.found
        assert "test_net.py" in reason.found


def test_without_the_net_a_leak_gives_a_stale_answer() -> None:
    leak = by_missing_key()
    function: Any = janus_lite.speculate(leak.call)
    x = torch.randn(3)

    with config.patch(audit=False):
        before = function(x)
        leak.state[0] = 3.0
        after = function(x)

    assert function.stats.hits == 1
    assert torch.equal(before, after)
    assert not torch.equal(after, leak.call(x)), "the net is what protects this program"


def test_a_planted_leak_in_a_contract_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a wrong row in the table of leaves does not let user code run unseen."""
    factor = [2.0]

    def read_factor(_: object) -> float:
        return factor[0]

    @functools.wraps(map)
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return x * next(map(read_factor, [0]))

    def unchanged(session: object, value: object, **_options: object) -> object:
        return value

    as_ours = unchanged.__code__.replace(co_filename=classes.__file__)
    monkeypatch.setattr(unchanged, "__code__", as_ours)
    monkeypatch.setattr(classes, "callback", unchanged)
    function: Any = janus_lite.speculate(opaque)
    x = torch.randn(3)
    function(x)
    factor[0] = 3.0

    assert torch.equal(function(x), opaque(x))
    assert function.reasons[0].code is Code.LEAK
    assert "read_factor" in function.reasons[0].found


def test_recording_under_a_profiler_is_refused() -> None:
    import cProfile

    function: Any = janus_lite.speculate(lambda x: x * 2)
    x = torch.randn(3)
    profiler = cProfile.Profile()

    profiler.enable()
    try:
        result = function(x)
    finally:
        profiler.disable()

    assert torch.equal(result, x * 2)
    is_replaced_by_monitoring = function.stats.converted == 1  # Python 3.12 and later
    assert is_replaced_by_monitoring or function.reasons[0].code is Code.AMBIENT_STATE


def test_a_module_made_in_the_run_converts_after_torch_compile() -> None:
    net = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(3)])
    torch.compile(torch.nn.Linear(2, 2), backend="eager")(torch.ones(1, 2))  # patches `Module`
    function: Any = janus_lite.speculate(lambda x: net[0:2](x))

    for seed in range(3):
        x = torch.full((1, 4), float(seed))
        assert torch.equal(function(x), net[1](net[0](x)))
    assert function.stats.hits == 2
