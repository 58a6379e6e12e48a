"""Branches and loops decided on values: exact on every backend, refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import nimble_lite
from nimble_lite import api
from nimble_lite.api import Backend
from nimble_lite.backends.cuda.fake import FakeDriver
from nimble_lite.backends.serial import SerialExecutable
from nimble_lite.errors import BackendError, RecordError, StaleValueError
from nimble_lite.tasks.graph import Region
from nimble_lite.tasks.regions import cond, while_loop
from tests.nimble_lite.contract import assert_same
from tests.nimble_lite.region_programs import PROGRAMS, inputs, nested, random_program

Schedule = Callable[..., nimble_lite.ScheduledFunction]


@pytest.fixture
def schedule(backend: Backend) -> Schedule:
    def make(fn: Callable[..., Any], *inputs: Any) -> nimble_lite.ScheduledFunction:
        with nimble_lite.config.patch(measure=False):
            return nimble_lite.schedule(fn, inputs, streams="max", backend=backend)

    return make


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_program_with_regions_equals_eager(program: Any, schedule: Schedule) -> None:
    scheduled = schedule(program, inputs(0))

    for seed in range(12):
        x = inputs(seed)
        assert_same(scheduled(x), program(x))
    assert any(isinstance(task.target, Region) for task in scheduled.plan.graph.tasks)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_equal_eager(seed: int, schedule: Schedule) -> None:
    program = random_program(seed)
    scheduled = schedule(program, inputs(0))

    for run in range(4):
        assert_same(scheduled(x := inputs(run)), program(x))


def with_torchs_operators(x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
    higher = torch.ops.higher_order
    y = torch.cond(x.sum() > 0, lambda x: x.sin() * 2, lambda x: x - 1, (x,))
    count, z = higher.while_loop(
        lambda n, y: (y.abs().sum() < 100) & (n < 10), lambda n, y: (n + 1, y * 1.5), (n, y), ()
    )
    return count, z + y


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_torchs_own_regions_of_a_graph_module_are_read(schedule: Schedule) -> None:
    x, n = torch.ones(3), torch.zeros((), dtype=torch.int64)
    module = make_fx(with_torchs_operators)(x, n)

    scheduled = schedule(module, x, n)

    kinds = [
        t.target.kind.value for t in scheduled.plan.graph.tasks if isinstance(t.target, Region)
    ]
    assert kinds == ["if", "while"]
    for given in (torch.ones(3), -torch.ones(3), torch.full((3,), 50.0)):
        for start in (0, 9):
            n = torch.tensor(start)
            assert_same(tuple(scheduled(given, n)), tuple(module(given, n)))


def test_results_have_bytes_of_their_own(schedule: Schedule) -> None:
    def fn(x: Tensor) -> tuple[Tensor, ...]:
        a, b = cond(x.sum() > 0, lambda x: (x, x), lambda x: (x * 2, x), (x,))
        (c,) = while_loop(lambda x: x.sum() > 1e9, lambda x: (x,), (x,))
        return a, b, c

    x = torch.ones(4)
    results = schedule(fn, x)(x)

    assert len({t.untyped_storage().data_ptr() for t in (x, *results)}) == 4


def test_weights_inside_arms_are_followed(schedule: Schedule) -> None:
    layer, other = nn.Linear(3, 3), nn.Linear(3, 3)

    def fn(x: Tensor) -> Tensor:
        result: Tensor = cond(x.sum() > 0, lambda x: layer(x), lambda x: other(x), (x,))
        return result

    scheduled = schedule(fn, torch.ones(3))
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: layer.weight.data.mul_(2),
        lambda: setattr(other.weight, "data", torch.randn(3, 3)),
        lambda: setattr(layer, "bias", nn.Parameter(torch.randn(3))),
    ]
    for change in changes:
        change()
        with torch.no_grad():
            for x in (torch.ones(3), -torch.ones(3)):
                assert_same(scheduled(x), fn(x))


def doubling(cap: int) -> Callable[[Tensor], Tensor]:
    def fn(x: Tensor) -> Tensor:
        (y,) = while_loop(lambda x: x.sum() < 100, lambda x: (x * 2,), (x,), cap=cap)
        return y

    return fn


def test_a_loop_that_does_not_end_is_an_error(schedule: Schedule) -> None:
    scheduled = schedule(doubling(5), torch.full((1,), 50.0))

    assert_same(scheduled(torch.full((1,), 4.0)), torch.full((1,), 128.0))  # five iterations
    with pytest.raises(StaleValueError, match=r"NL0208(?s:.*)5 iterations"):
        scheduled(torch.full((1,), 3.0))
    assert_same(scheduled(torch.full((1,), 64.0)), torch.full((1,), 128.0))


def test_a_loop_inside_a_branch_has_its_cap_too(schedule: Schedule) -> None:
    def fn(x: Tensor) -> Tensor:
        result: Tensor = cond(x.sum() > 0, doubling(5), lambda x: x * 1, (x,))
        return result

    scheduled = schedule(fn, torch.full((1,), 50.0))

    assert_same(scheduled(torch.full((1,), -3.0)), torch.full((1,), -3.0))
    with pytest.raises(StaleValueError, match="NL0208"):
        scheduled(torch.full((1,), 3.0))


def test_plain_calls_are_an_if_and_a_while() -> None:
    with pytest.raises(StaleValueError, match="NL0208"):
        doubling(5)(torch.ones(1))
    x = torch.ones(2, requires_grad=True)
    newton_of = while_loop(lambda x: x.sum() < 10, lambda x: (x * x + 1,), (x,))[0]
    newton_of.sum().backward()
    assert x.grad is not None


def writes(x: Tensor) -> Any:
    return cond(x.sum() > 0, lambda x: x.mul_(2), lambda x: x, (x,))


def other_shape(x: Tensor) -> Any:
    return cond(x.sum() > 0, lambda x: x[:1] * 2, lambda x: x * 2, (x,))


def other_structure(x: Tensor) -> Any:
    return cond(x.sum() > 0, lambda x: (x * 2,), lambda x: x * 2, (x,))


def other_state(x: Tensor) -> Any:
    return while_loop(lambda x: x.sum() < 9, lambda x: (x.double() * 2,), (x,))


def no_tensor(x: Tensor) -> Any:
    return cond(x.sum() > 0, lambda x: (x * 2, 3), lambda x: (x, 4), (x,))


def wide_condition(x: Tensor) -> Any:
    return while_loop(lambda x: x < 9, lambda x: (x * 2,), (x,))


@pytest.mark.parametrize(
    "program", [writes, other_shape, other_structure, other_state, no_tensor, wide_condition]
)
def test_arms_that_do_not_fit_are_refused_with_their_line(program: Any) -> None:
    with pytest.raises(BackendError, match=r"NL0404(?s:.*)test_regions.py:\d+(?s:.*)expected"):
        nimble_lite.schedule(program, (torch.ones(3),), backend="serial")


def test_what_the_run_made_before_becomes_an_operand(schedule: Schedule) -> None:
    def fn(x: Tensor) -> Tensor:
        hidden = x * 2
        y: Tensor = cond(x.sum() > 0, lambda x: x + hidden, lambda x: x - hidden, (x,))
        (z,) = while_loop(lambda y: y.sum() < 9, lambda y: (y + hidden.abs() + 1,), (y,))
        return z

    scheduled = schedule(fn, torch.ones(3))

    for x in (torch.ones(3), torch.full((3,), -2.0), torch.randn(3)):
        assert_same(scheduled(x), fn(x))


def random_arm(x: Tensor) -> Any:
    return cond(x.sum() > 0, lambda x: x + torch.rand(3), lambda x: x * 1, (x,))


def deciding_arm(x: Tensor) -> Any:
    def arm(x: Tensor) -> Tensor:
        return x * 2 if x[0] > 0 else x * 3

    return cond(x.sum() > 0, arm, lambda x: x * 1, (x,))


@pytest.mark.parametrize("program", [random_arm, deciding_arm])
def test_what_a_body_cannot_hold_is_refused_on_a_device_only(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "make_driver", lambda device, streams: FakeDriver(streams))
    x = torch.ones(3)
    for backend in ("serial", "recorder"):
        scheduled = nimble_lite.schedule(program, (x,), backend=backend)
        torch.manual_seed(1)
        found = scheduled(x)
        torch.manual_seed(1)
        assert_same(found, program(x))
    with pytest.raises(BackendError, match=r"NL0404(?s:.*)test_regions.py"):
        nimble_lite.schedule(program, (x,), backend="cuda")


def test_the_cpu_runs_plain_python() -> None:
    scheduled = nimble_lite.schedule(nested, (inputs(0),), backend="serial")

    executable = scheduled._entry.executable
    assert isinstance(executable, SerialExecutable)
    assert executable.source.count("while True:") == 2
    assert executable.source.count("if r") + executable.source.count("if v") >= 2


def test_a_refused_arm_leaves_nothing_behind() -> None:
    x = torch.ones(3)
    state = torch.get_rng_state()
    with pytest.raises(BackendError):
        nimble_lite.schedule(writes, (x,), backend="serial")

    assert x.tolist() == [1, 1, 1]
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(RecordError, match="NL0102"):
        nimble_lite.schedule(lambda x: cond(x[0] > 0, lambda x: x.numpy(), abs, (x,)), (x,))
    assert_same(cond(x[0] > 0, lambda x: x + 1, abs, (x,)), x + 1)
