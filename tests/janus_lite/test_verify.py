"""Shadow runs: which replays are verified, and that every planted error is found and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

import janus_lite
from janus_lite import ConversionError
from janus_lite.errors import Code, Reason
from janus_lite.program.assumptions import AssumptionSet, assume
from janus_lite.runtime import emit
from janus_lite.runtime.expressions import Expressions
from janus_lite.runtime.verify import schedule, unequal

X = torch.arange(6.0).reshape(2, 3) - 2
speculate: Any = janus_lite.speculate


# ------------------------------------------------------------------------------------ schedule


@pytest.mark.parametrize(
    ("verify", "due"),
    [
        ("first", [0]),
        ("every:1", [0, 1, 2, 3, 4, 5, 6]),
        ("every:3", [0, 3, 6]),
        ("always", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_schedule_names_replays(verify: str, due: list[int]) -> None:
    is_due = schedule(verify)

    assert is_due is not None
    assert [n for n in range(7) if is_due(n)] == due


def test_off_is_no_schedule() -> None:
    assert schedule("off") is None
    assert "def shadow" not in _twice(lambda x: x * 2, verify="off").code()


@pytest.mark.parametrize(
    "wrong", ["", "often", "every", "every:0", "every:-1", "every:1.5", 3, None]
)
def test_another_value_is_refused_with_the_choice(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r'verify expects "off", "first", "every:N" .*, found '):
        speculate(lambda x: x, verify=wrong)


def test_a_decorator_takes_it() -> None:
    @janus_lite.speculate(verify="first")
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    assert double.options.verify == "first"  # type: ignore[attr-defined]  # the object behind it


# ------------------------------------------------------------------------------- what is planted


def _twice(program: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Record a program and replay it once."""
    speculative = speculate(program, **options)
    speculative(*(args or (X,)))
    speculative(*(args or (X,)))
    return speculative


def _unequal_reason(speculative: Any) -> Reason:
    (reason,) = [r for r in speculative.reasons if r.code is Code.UNEQUAL]
    assert isinstance(reason, Reason)
    return reason


def test_a_wrong_operation_is_named_with_line_and_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Expressions.call

    def wrong(self: Any, operation: Any) -> str:
        text = original(self, operation)
        return f"({text} + 0.25)" if operation.target is torch.Tensor.exp else text

    monkeypatch.setattr(Expressions, "call", wrong)

    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        z = y.exp()
        return z - y

    speculative = _twice(program, verify="first")

    reason = _unequal_reason(speculative)
    assert reason.found == "`exp` differs by at most 0.25"
    assert reason.site is not None
    assert reason.site.file == __file__
    assert reason.site.line == program.__code__.co_firstlineno + 2
    assert not speculative.conversions
    assert speculative.last_miss is None


def test_the_imperative_result_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(gm: Any, _inputs: Sequence[torch.Tensor]) -> Callable[..., Any]:
        return lambda *inputs: [result + 1 for result in gm(*inputs)]

    speculative = speculate(lambda x: (x * 2).sum(0), backend=careless, verify="always")

    assert torch.equal(speculative(X), (X * 2).sum(0))
    assert torch.equal(speculative(X), (X * 2).sum(0))
    assert _unequal_reason(speculative).found == "`sum` differs by at most 1"


def test_strict_raises_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(gm: Any, _inputs: Sequence[torch.Tensor]) -> Callable[..., Any]:
        return lambda *inputs: [-result for result in gm(*inputs)]

    speculative = speculate(lambda x: x + 1, backend=careless, verify="first", strict=True)
    speculative(X)

    with pytest.raises(ConversionError, match=r"JL0409 .*`add` differs by at most 8"):
        speculative(X)


class Scale:
    by = 2.0


def _forget_scale(*arguments: Any) -> AssumptionSet:
    reads = [r for r in arguments[0] if str(r.source) != "Scale.by"]
    return assume(reads, *arguments[1:])


def test_a_missing_guard_shows_as_another_operand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janus_lite.program.generalize.assume", _forget_scale)
    monkeypatch.setattr(Scale, "by", 2.0)
    speculative = speculate(lambda x: x.abs() * Scale.by, verify="always")
    speculative(X)
    speculative(X)
    assert not speculative.reasons

    Scale.by = 3.0
    result = speculative(X)

    assert torch.equal(result, X.abs() * 3.0)
    found = _unequal_reason(speculative).found
    assert found == "runs `mul` with 3.0, the graph `mul` with 2.0; `mul` differs by at most 3"


def test_a_missing_guard_shows_as_another_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janus_lite.program.generalize.assume", _forget_scale)
    monkeypatch.setattr(Scale, "by", 2.0)
    speculative = speculate(lambda x: x.relu() if Scale.by > 1 else x, verify="always")
    speculative(X)

    Scale.by = 0.5

    assert torch.equal(speculative(X), X)
    assert _unequal_reason(speculative).found == "runs nothing, the graph `relu`"


def test_a_missing_guard_shows_in_stores_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janus_lite.program.generalize.assume", _forget_scale)
    monkeypatch.setattr(Scale, "by", 2.0)
    kept: dict[str, float] = {}

    def store(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        kept["by"] = Scale.by
        return y

    storing = speculate(store, verify="always")
    giving = speculate(lambda x: (x + 1, Scale.by), verify="always")
    for speculative in (storing, giving):
        speculative(X)
    Scale.by = 5.0
    for speculative in (storing, giving):
        speculative(X)

    assert _unequal_reason(storing).found == "stores or shows something else"
    assert _unequal_reason(giving).found == "returns something else"
    assert kept == {"by": 5.0}


def test_an_outside_tensor_left_different_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = emit._Writer._operation
    norm = nn.BatchNorm1d(3)

    def wrong(self: Any, operation: Any, *, has_saved: bool) -> list[str]:
        lines = list(original(self, operation, has_saved=has_saved))
        if operation.target is torch.batch_norm:
            lines.append(f"v{operation.written[0].index}.add_(0.5)")
        return lines

    monkeypatch.setattr(emit._Writer, "_operation", wrong)
    speculative = _twice(lambda x: norm(x), verify="first")

    found = _unequal_reason(speculative).found
    assert found.startswith("`batch_norm` leaves ")
    assert "running_mean, which differs by at most 0.5" in found


def test_random_states_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    original = emit._Writer._operation

    def wrong(self: Any, operation: Any, *, has_saved: bool) -> list[str]:
        return [*original(self, operation, has_saved=has_saved), "draw(1)"]

    monkeypatch.setattr(emit._Writer, "_operation", wrong)
    monkeypatch.setitem(__builtins__, "draw", torch.rand)  # type: ignore[arg-type]  # a dict here
    speculative = _twice(lambda x: x + 1, verify="first")

    assert _unequal_reason(speculative).found == "the random generators end in another state"


# --------------------------------------------------------------------------------- no disturbance


def test_effects_happen_once_and_state_is_that_of_one_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    total = torch.zeros(3)
    seen: list[torch.Tensor] = []

    def program(x: torch.Tensor) -> torch.Tensor:
        total.add_(x.sum(0))
        print("sum", total.sum())  # noqa: T201 - the effect in question
        seen.append(torch.dropout(x, 0.5, train=True))
        return total * 2

    speculative = speculate(program, verify="always")
    torch.manual_seed(3)
    for _ in range(4):
        speculative(X)
    state = torch.get_rng_state()

    torch.manual_seed(3)
    expected = [torch.dropout(X, 0.5, train=True) for _ in range(4)]
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, seen, expected))
    assert torch.equal(total, X.sum(0) * 4)
    assert capsys.readouterr().out.count("sum") == 4
    assert speculative.stats.hits == 3
    assert not speculative.reasons


def test_every_second_replay_is_verified() -> None:
    from_python: list[bool] = []

    class Counted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    model = speculate(Counted(), verify="every:2")
    model(X)
    verifier = model.forward.conversions[0].emitted.call
    verified = verifier._verified

    def noted(*call: Any) -> Any:
        from_python.append(True)
        return verified(*call)

    verifier._verified = noted
    for _ in range(6):
        before = len(from_python)
        model(X)
        from_python += [False] * (len(from_python) == before)

    assert from_python == [True, False] * 3


def test_an_error_of_the_data_is_the_programs_own() -> None:
    speculative = speculate(lambda x, i: x.index_select(0, i), verify="always")
    good, bad = torch.tensor([1]), torch.tensor([7])
    speculative(X, good)

    with pytest.raises(IndexError, match="out of range"):
        speculative(X, bad)
    assert torch.equal(speculative(X, good), X[1:2])
    assert not speculative.reasons


def test_memory_that_nobody_filled_is_not_compared() -> None:
    speculative = _twice(lambda x: torch.empty(400).fill_(1.0) * x.sum(), verify="always")

    assert not speculative.reasons


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), None),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), None),
        (torch.tensor([0.0]), torch.tensor([-0.0]), "differs by at most 0"),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), "differs by at most 0.5"),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 3j]), "differs by at most 2"),
        (torch.tensor([True, False]), torch.tensor([True, True]), "differs in 1 of 2 places"),
        (torch.tensor([3]), torch.tensor([1]), "differs by at most 2"),
    ],
)
def test_tensors_are_compared_by_their_bits(
    one: torch.Tensor, other: torch.Tensor, found: str | None
) -> None:
    assert unequal(one, other) == found


def test_another_shape_is_a_difference() -> None:
    text = unequal(torch.zeros(2), torch.zeros(3))

    assert text is not None
    assert "(2,)" in text
    assert "(3,)" in text
