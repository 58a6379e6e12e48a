"""One suite for all backends: equal bits, equal effects, coded errors."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import nimble_lite
from nimble_lite.api import Backend
from nimble_lite.errors import InputMismatchError, NimbleError, StaleValueError
from tests.nimble_lite.contract import CASES, Branches, Case, assert_same, state_of

Schedule = Callable[..., nimble_lite.ScheduledFunction]


@pytest.fixture
def schedule(backend: Backend) -> Schedule:
    def make(fn: Callable[..., Any], inputs: Any) -> nimble_lite.ScheduledFunction:
        with nimble_lite.config.patch(measure=False):
            return nimble_lite.schedule(fn, inputs, streams="max", backend=backend)

    return make


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_replays_equal_eager_in_bits_and_effects(case: Case, schedule: Schedule) -> None:
    replayed, eager = case.make(), case.make()
    scheduled = schedule(replayed, case.inputs(0))
    assert_same(state_of(replayed), state_of(eager))

    for seed in range(1, 5):
        mine, theirs = case.inputs(seed), case.inputs(seed)
        torch.manual_seed(seed)
        found = scheduled(*mine)
        drawn = torch.rand(1)
        torch.manual_seed(seed)
        with torch.no_grad():
            right = eager(*theirs)
        assert_same(found, right)
        assert_same(mine, theirs)
        assert_same(state_of(replayed), state_of(eager))
        assert torch.equal(drawn, torch.rand(1)), "the generator is where eager leaves it"


def test_outputs_share_memory_exactly_as_eager_outputs_do(schedule: Schedule) -> None:
    scheduled = schedule(lambda x: (x, x[0], x + 1, (x + 1).t()), (torch.zeros(2, 2),))
    x = torch.ones(2, 2)

    same, row, fresh, _ = scheduled(x)

    assert same is x
    row.fill_(7)
    assert x[0].tolist() == [7, 7]
    fresh.fill_(9)
    assert x[1].tolist() == [1, 1]


def test_views_of_one_result_share_memory(schedule: Schedule) -> None:
    def fn(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 2
        return y, y.t()

    y, transposed = schedule(fn, (torch.ones(2, 3),))(torch.ones(2, 3))
    y[0, 1] = 40

    assert transposed[1, 0] == 40


def test_earlier_outputs_survive_later_replays(schedule: Schedule) -> None:
    scheduled = schedule(lambda x: x * 2, (torch.ones(3),))

    first = scheduled(torch.ones(3))
    scheduled(torch.zeros(3))

    assert first.tolist() == [2, 2, 2]


def test_keyword_inputs_and_literals(schedule: Schedule) -> None:
    def fn(x: Tensor, scale: float = 1.0, *, shift: Tensor) -> Tensor:
        return x * scale + shift

    scheduled = schedule(fn, {"x": torch.ones(2), "scale": 2.0, "shift": torch.ones(2)})

    assert scheduled(shift=torch.zeros(2), x=torch.ones(2), scale=2.0).tolist() == [2, 2]
    with pytest.raises(InputMismatchError, match="NL0201"):
        scheduled(x=torch.ones(2), scale=3.0, shift=torch.zeros(2))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(1, 16),
        torch.ones(16),
        torch.ones(2, 16, dtype=torch.float64),
        torch.ones(16, 2).t(),
        torch.ones(2, 16, device="meta"),
        [1.0],
        None,
    ],
    ids=["broadcastable", "rank", "dtype", "strides", "device", "list", "none"],
)
def test_an_input_that_differs_is_refused_and_never_broadcast(
    wrong: Any, schedule: Schedule
) -> None:
    scheduled = schedule(Branches().eval(), (torch.ones(2, 16),))

    for _ in range(2):
        with pytest.raises(InputMismatchError) as caught:
            scheduled(wrong)

        assert caught.value.code == "NL0201"
        assert scheduled(torch.ones(2, 16)).shape == (2, 80)


def test_missing_and_surplus_inputs_are_refused(schedule: Schedule) -> None:
    scheduled = schedule(lambda x: x + 1, (torch.ones(2),))

    for inputs in ((), (torch.ones(2), torch.ones(2))):
        with pytest.raises(InputMismatchError, match="NL0201"):
            scheduled(*inputs)


def test_inputs_that_share_memory_differently_are_refused(schedule: Schedule) -> None:
    scheduled = schedule(lambda a, b: a.mul_(2) + b, (torch.ones(4), torch.ones(4)))
    x = torch.ones(5)

    for inputs in ((x[:4], x[1:]), (x[:4], x[:4])):
        with pytest.raises(InputMismatchError) as caught:
            scheduled(*inputs)
        assert caught.value.code == "NL0202"
    assert x.tolist() == [1] * 5


def test_inputs_that_are_only_read_may_share_memory(schedule: Schedule) -> None:
    scheduled = schedule(lambda a, b: (a * 2 + b, a[1:]), (torch.ones(4), torch.zeros(4)))
    x = torch.arange(5.0)

    for a, b in ((x[:4], x[1:]), (x[:4], x[:4]), (y := torch.ones(4), y)):
        found, view = scheduled(a, b)
        assert_same(found, a * 2 + b)
        assert view.data_ptr() == a[1:].data_ptr()


def test_inputs_that_shared_memory_must_share_it_again(schedule: Schedule) -> None:
    x = torch.ones(4)
    scheduled = schedule(lambda a, b: a.mul_(2) + b, (x, x))

    assert scheduled(y := torch.ones(4), y).tolist() == [4] * 4
    with pytest.raises(InputMismatchError, match="NL0202"):
        scheduled(torch.ones(4), torch.ones(4))


def test_a_parameter_passed_as_an_input_that_is_written_is_refused(schedule: Schedule) -> None:
    layer = nn.Linear(4, 4).requires_grad_(requires_grad=False)
    scheduled = schedule(lambda x: layer(x.mul_(2)), (torch.ones(4, 4),))

    with pytest.raises(InputMismatchError, match="NL0202"):
        scheduled(layer.weight)


def test_another_autocast_state_is_refused(schedule: Schedule) -> None:
    scheduled = schedule(lambda x: x @ x, (torch.ones(2, 2),))

    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(InputMismatchError, match="NL0203"),
    ):
        scheduled(torch.ones(2, 2))


def test_a_change_of_kernels_is_followed_or_refused(backend: Backend, schedule: Schedule) -> None:
    def fn(x: Tensor) -> Tensor:
        q = x.view(1, 8, 2, 64).transpose(1, 2)
        y = nn.functional.scaled_dot_product_attention(q, q, q)
        return y.transpose(1, 2).reshape(1, 8, -1) * 2

    x = torch.randn(1, 8, 128)
    scheduled = schedule(fn, (x,))
    assert_same(scheduled(x), fn(x))
    with sdpa_kernel(SDPBackend.MATH):
        if backend == "cuda":
            with pytest.raises(InputMismatchError, match=r"NL0203(?s:.*)flash_sdp_enabled=False"):
                scheduled(x)
        elif backend != "recorder":  # which holds results to the layout of the recording
            assert_same(scheduled(x), fn(x))
    assert_same(scheduled(x), fn(x))


def test_autocast_at_schedule_time_is_replayed(schedule: Schedule) -> None:
    layer = nn.Linear(4, 4)
    x = torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        scheduled = schedule(layer, (x,))
        assert_same(scheduled(x), layer(x))


def test_a_lost_gradient_is_refused(schedule: Schedule) -> None:
    x = torch.ones(2, requires_grad=True)
    scheduled = schedule(lambda x: x * 2, (x,))

    with pytest.raises(InputMismatchError, match="NL0204"):
        scheduled(x)
    with torch.no_grad():
        assert scheduled(x).tolist() == [2, 2]
        # Kernels may depend on it: a weight that requires grad folds a product differently.
        with pytest.raises(InputMismatchError, match="NL0201"):
            scheduled(torch.ones(2))


def test_a_value_that_python_read_is_checked_with_every_replay(schedule: Schedule) -> None:
    scheduled = schedule(lambda x: x * 2 if x.sum() > 0 else x, (torch.ones(2),))

    assert scheduled(torch.full((2,), 3.0)).tolist() == [6, 6]
    with pytest.raises(StaleValueError, match="NL0206"):
        scheduled(-torch.ones(2))
    assert scheduled(torch.ones(2)).tolist() == [2, 2]


def test_a_value_read_before_it_was_overwritten_is_checked_as_it_was(schedule: Schedule) -> None:
    def fn(x: Tensor) -> Tensor:
        total = x.sum()
        sign = 1 if total > 0 else -1
        total.zero_()
        return x * sign + total

    scheduled = schedule(fn, (torch.ones(2),))

    assert scheduled(torch.full((2,), 3.0)).tolist() == [3, 3]
    with pytest.raises(StaleValueError, match="NL0206"):
        scheduled(-torch.ones(2))


def test_a_parameter_that_was_replaced_is_used_from_then_on(schedule: Schedule) -> None:
    layer = nn.Linear(3, 3)
    scheduled = schedule(lambda x: layer(x), (torch.ones(2, 3),))
    x = torch.randn(2, 3)

    layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()})
    assert_same(scheduled(x), layer(x).detach())
    layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}, assign=True)
    assert_same(scheduled(x), layer(x).detach())
    layer.weight = nn.Parameter(torch.randn(3, 3))
    assert_same(scheduled(x), layer(x).detach())
    layer.weight.data = torch.randn(3, 3)
    assert_same(scheduled(x), layer(x).detach())


def test_a_change_of_the_module_makes_a_new_schedule(schedule: Schedule) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).eval()
    scheduled = schedule(model, (torch.ones(2, 3),))
    x = torch.randn(2, 3)

    def assert_follows() -> None:
        torch.manual_seed(5)
        found = scheduled(x)
        torch.manual_seed(5)
        assert_same(found, model(x).detach())

    model.train()
    assert_follows()
    model[0] = nn.Linear(3, 4)
    assert_follows()
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    assert_follows()
    model.append(nn.ReLU())
    assert_follows()


def test_a_closed_schedule_says_so(schedule: Schedule) -> None:
    scheduled = schedule(lambda x: x + 1, (torch.ones(2),))
    scheduled.close()

    with pytest.raises(NimbleError, match="NL0407"):
        scheduled(torch.ones(2))


def test_arguments_of_any_type_are_kept_as_they_are(schedule: Schedule) -> None:
    class Axis(IntEnum):
        LAST = -1

    def fn(x: Tensor) -> Tensor:
        y = x * np.float64(1.5) + float("inf") * 0.5
        y = torch.where(y.isinf(), x * -0.0, y)
        return y.sum(Axis.LAST, dtype=torch.float64).reshape((-1,))[..., None]

    x = torch.randn(3, 4)
    assert_same(schedule(fn, (x,))(x), fn(x))
