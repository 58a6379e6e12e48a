"""Each reason code comes from a program that a user could write, and says where and what to do."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import janus_lite
from janus_lite import config
from janus_lite.errors import HINTS, Code, ConversionError, Reason
from janus_lite.record import builtin_functions, calls
from janus_lite.record.outputs import OutputPlanner

X = torch.arange(6.0).reshape(2, 3)


def no_source() -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec("def call(x):\n    return x * 2", space)
    inner = space["call"]
    return lambda x: inner(x)


def syntax() -> Callable[..., Any]:
    def call(x: torch.Tensor) -> torch.Tensor:
        class Local:
            by = 2.0

        return x * Local.by

    return call


def coroutine() -> Callable[..., Any]:
    async def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    return lambda x: asyncio.run(double(x))


def unknown_call() -> Callable[..., Any]:
    return lambda x: torch.from_numpy(np.linspace(0, 1, 3, dtype=np.float32)) + x


def unknown_object() -> Callable[..., Any]:
    return lambda x: x * (id(x) > 0)


def leak() -> Callable[..., Any]:
    class Level:
        def __lt__(self, other: object) -> bool:
            return True

    return lambda x: x * len(sorted([Level(), Level()]))


def outside_write() -> Callable[..., Any]:
    seen: list[torch.Tensor] = []

    def call(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x * len(seen)

    return call


def host_effect() -> Callable[..., Any]:
    def call(x: torch.Tensor) -> torch.Tensor:
        with open(__file__, encoding="utf-8") as file:
            return x * len(file.readline())

    return call


def outside_iterator() -> Callable[..., Any]:
    def numbers() -> Iterator[int]:
        yield from range(100)

    stream = numbers()
    return lambda x: x * next(stream)


def unknown_tensor() -> Callable[..., Any]:
    class Constants:
        one = torch.ones(3)

    return lambda x: x * Constants.one


def unsupported_tensor() -> Callable[..., Any]:
    sparse = torch.eye(3).to_sparse()
    return lambda x: sparse @ x.t()


def tensor_escape() -> Callable[..., Any]:
    return lambda x: torch.from_numpy(x.numpy()) * 2


def operation_raised() -> Callable[..., Any]:
    def call(x: torch.Tensor) -> torch.Tensor:
        try:
            return x @ x
        except RuntimeError:
            return x

    return call


def late_assertion() -> Callable[..., Any]:
    def call(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        print(y)  # noqa: T201 - shown before it changes, and then comes a decision
        y.add_(1)
        return y if y.sum() > 0 else x

    return call


def escaping_output() -> Callable[..., Any]:
    def call(x: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: x * 2

    return call


PROGRAMS: dict[Code, Callable[[], Callable[..., Any]]] = {
    Code.NO_SOURCE: no_source,
    Code.SYNTAX: syntax,
    Code.COROUTINE: coroutine,
    Code.UNKNOWN_CALL: unknown_call,
    Code.UNKNOWN_OBJECT: unknown_object,
    Code.LEAK: leak,
    Code.OUTSIDE_WRITE: outside_write,
    Code.HOST_EFFECT: host_effect,
    Code.OUTSIDE_ITERATOR: outside_iterator,
    Code.UNKNOWN_TENSOR: unknown_tensor,
    Code.UNSUPPORTED_TENSOR: unsupported_tensor,
    Code.TENSOR_ESCAPE: tensor_escape,
    Code.OPERATION_RAISED: operation_raised,
    Code.LATE_ASSERTION: late_assertion,
    Code.ESCAPING_OUTPUT: escaping_output,
}


@pytest.mark.parametrize("code", PROGRAMS, ids=lambda code: code.name)
def test_the_reason_has_code_place_and_hint(code: Code) -> None:
    function: Any = janus_lite.speculate(PROGRAMS[code](), strict=True)
    gc.collect()  # a generator that is closed meanwhile would be taken for a leak

    with pytest.raises(ConversionError) as raised:
        function(X)

    reason = raised.value.reason
    assert reason.code is code, str(reason)
    assert reason.site is not None
    assert reason.site.file in (__file__, "<string>")
    text = str(raised.value)
    assert text.startswith(f"{code.value} {reason.site}: ")
    assert text.endswith(f"(hint: {HINTS[code]})")
    assert len(text.splitlines()) <= 12


@pytest.mark.parametrize("code", PROGRAMS, ids=lambda code: code.name)
def test_without_strict_the_call_is_answered(code: Code) -> None:
    plain, function = PROGRAMS[code](), janus_lite.speculate(PROGRAMS[code]())

    expected, found = plain(X), function(X)

    if isinstance(expected, torch.Tensor):
        assert torch.equal(expected, found)
    else:
        assert torch.equal(expected(), found())


def reasons_of(function: Any) -> set[Code]:
    return {reason.code for reason in function.reasons}


def test_a_missed_operation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs underneath the function mode, here on purpose, is seen by the dispatch mode."""
    original = torch.Tensor.mul

    def hidden(session: Any, function: Any, args: Any, kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return original(*args)

    as_ours = hidden.__code__.replace(co_filename=calls.__file__)
    monkeypatch.setattr(hidden, "__code__", as_ours)
    monkeypatch.setitem(builtin_functions.SPECIAL, torch.mul, hidden)
    function: Any = janus_lite.speculate(lambda x: torch.mul(x, 2))

    assert torch.equal(function(X), X * 2)
    assert reasons_of(function) == {Code.MISSED_OPERATION}


def test_a_value_that_varies_is_named() -> None:
    function: Any = janus_lite.speculate(lambda x: x * 2 if x.sum() > 0 else x * 3)

    assert torch.equal(function(X), X * 2)
    assert torch.equal(function(-X), -X * 3)
    assert Code.VALUE_VARIES in reasons_of(function)
    assert function.stats.assertion_failures == 1


def test_another_mode_is_named() -> None:
    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    function: Any = janus_lite.speculate(lambda x: x * 2)
    with Mode():
        assert torch.equal(function(X), X * 2)

    assert reasons_of(function) == {Code.AMBIENT_STATE}


def test_a_function_that_always_misses_is_left_alone() -> None:
    with config.patch(patience=3):
        function: Any = janus_lite.speculate(lambda x, n: x * len(range(n)))
        for n in range(1, 9):
            assert torch.equal(function(X, n), X * n)

    assert Code.MEGAMORPHIC in reasons_of(function)
    assert function.stats.recorded < 8


def test_disabled_is_a_stance_not_a_failure() -> None:
    function: Any = janus_lite.speculate(lambda x: x * 2)
    with config.patch(disable=True):
        assert torch.equal(function(X), X * 2)

    assert function.stats.converted == 0
    assert reasons_of(function) == set()


def test_a_backend_that_fails_costs_the_graph_alone() -> None:
    def broken(gm: Any, inputs: Any) -> Any:
        raise ValueError("no such chip")

    function: Any = janus_lite.speculate(lambda x: x * 2, backend=broken)

    assert torch.equal(function(X), X * 2)
    assert reasons_of(function) == {Code.BACKEND}
    assert "no such chip" in function.reasons[0].found


def test_the_users_exception_passes_unchanged() -> None:
    def call(x: torch.Tensor) -> torch.Tensor:
        raise KeyError("mine")

    function: Any = janus_lite.speculate(call, strict=True)
    with pytest.raises(KeyError, match="mine"):
        function(X)

    assert reasons_of(function) == set()


def test_a_bug_of_ours_costs_the_graph_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, value: object) -> object:
        raise LookupError("planted")

    monkeypatch.setattr(OutputPlanner, "plan", broken)
    function: Any = janus_lite.speculate(lambda x: x * 2)

    assert torch.equal(function(X), X * 2)
    assert reasons_of(function) == {Code.INTERNAL}
    assert "planted" in function.reasons[0].found


def test_a_reason_reads_as_code_finding_and_hint() -> None:
    reason = Reason(Code.UNKNOWN_CALL, "calls `lib.op`")

    assert str(reason) == f"JL0201 calls `lib.op` (hint: {HINTS[Code.UNKNOWN_CALL]})"


def test_a_module_reason_names_the_users_line() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * time.perf_counter()

    model = janus_lite.speculate(Noisy(), strict=True)
    with pytest.raises(ConversionError, match=r"test_errors\.py:\d+ in forward: calls `time"):
        model(X)
