"""Branches and loops in one CUDA graph: conditional nodes against eager, bit for bit.

In a process of its own (`benchmarks.gpu_run`): an error inside a body can end the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nimble_lite
from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.errors import StaleValueError
from nimble_lite.plan.planner import Streams
from nimble_lite.tasks.regions import cond, while_loop
from tests.gpu.device import DEVICE, assert_bitwise, normal
from tests.nimble_lite.region_programs import PROGRAMS, inputs, nested, newton, random_program

pytestmark = [
    pytest.mark.gpu,
    # The machine with the device chooses its versions, not we: their warnings are not our errors.
    pytest.mark.filterwarnings("default"),
]


def scheduled_on_device(
    fn: Callable[..., Any], *given: Tensor, streams: Streams = "max"
) -> nimble_lite.ScheduledFunction:
    with nimble_lite.config.patch(measure=False):
        return nimble_lite.schedule(fn, given, streams=streams, backend="cuda")


def on_device(seed: int) -> Tensor:
    return inputs(seed).to(DEVICE)


@pytest.mark.parametrize("streams", [1, "max"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_program_with_regions_equals_eager(program: Any, streams: Streams) -> None:
    scheduled = scheduled_on_device(program, on_device(0), streams=streams)

    for seed in range(12):
        x = on_device(seed)
        assert_bitwise(scheduled(x), program(x))


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_equal_eager(seed: int) -> None:
    program = random_program(seed)
    scheduled = scheduled_on_device(program, on_device(0))

    for run in range(6):
        x = on_device(run)
        assert_bitwise(scheduled(x), program(x))


@pytest.fixture
def syncs_are_errors() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("syncs_are_errors")
@pytest.mark.parametrize("program", [newton, nested], ids=lambda p: p.__name__)
def test_a_replay_never_waits_for_the_device(program: Any) -> None:
    scheduled = scheduled_on_device(program, on_device(0))
    scheduled(on_device(1))
    executable = scheduled._entry.executable
    assert isinstance(executable, CudaExecutable)
    assert executable._captured is not None

    torch.cuda.set_sync_debug_mode("error")
    executable._captured.replay()


def test_bodies_with_libraries_inside() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(16, 16).to(DEVICE)
    convolution = nn.Conv2d(4, 4, 3, padding=1).to(DEVICE)

    def body(n: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.softmax(linear(x), -1) @ x.t() @ x
        z = convolution(y.view(1, 4, 8, -1)).view_as(x)
        return n + 1, torch.tanh(z) + x * 0.5

    def fn(x: Tensor) -> tuple[Tensor, ...]:
        start = x.new_zeros((), dtype=torch.int64)
        return while_loop(lambda n, x: (n < 5) & (x.abs().max() > 1e-3), body, (start, x))

    x = normal(0, 16, 16)
    with torch.no_grad(), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        scheduled = scheduled_on_device(fn, x)
        for seed in (1, 2, 3):
            x = normal(seed, 16, 16)
            assert_bitwise(scheduled(x), fn(x))


def test_work_beside_the_replay_does_not_reach_its_memory() -> None:
    scheduled = scheduled_on_device(nested, on_device(0))
    scheduled(on_device(0))

    for seed in range(5):
        churn = [torch.full((1 << 16,), float("nan"), device=DEVICE) for _ in range(20)]
        x = on_device(seed)
        assert_bitwise(scheduled(x), nested(x))
        del churn


def test_side_streams_may_be_open_while_a_body_is_captured() -> None:
    def fn(x: Tensor) -> tuple[Tensor, ...]:
        big = normal_like(x)
        left, right = (big @ big).relu(), (big @ big.t()).tanh()
        y = cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))
        return left.sum(), right.sum(), y

    def normal_like(x: Tensor) -> Tensor:
        return x.new_ones(256, 256).cumsum(0)

    scheduled = scheduled_on_device(fn, on_device(0))
    assert scheduled.plan.plan.streams > 1
    for seed in range(6):
        x = on_device(seed)
        assert_bitwise(scheduled(x), fn(x))


def test_a_loop_that_does_not_end_is_an_error_and_not_a_hang() -> None:
    def fn(x: Tensor) -> Tensor:
        (y,) = while_loop(lambda x: x.sum() < 100, lambda x: (x * 2,), (x,), cap=5)
        return y

    def one(value: float) -> Tensor:
        return torch.full((1,), value, device=DEVICE)

    scheduled = scheduled_on_device(fn, one(50))

    assert_bitwise(scheduled(one(4)), one(128))
    with pytest.raises(StaleValueError, match="NL0208"):
        scheduled(one(3))
    assert_bitwise(scheduled(one(64)), one(128))


def test_weights_inside_arms_are_followed() -> None:
    layer = nn.Linear(6, 6).to(DEVICE)

    def fn(x: Tensor) -> Tensor:
        y: Tensor = cond(x.sum() > 0, lambda x: layer(x), lambda x: x * 1, (x,))
        return y

    scheduled = scheduled_on_device(fn, on_device(0))
    for weight in (layer.weight.data, normal(5, 6, 6)):
        layer.weight.data = weight
        with torch.no_grad():
            for seed in range(4):
                x = on_device(seed)
                assert_bitwise(scheduled(x), fn(x))
