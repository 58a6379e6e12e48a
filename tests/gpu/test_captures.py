"""Captured graphs on a device: their order, their memory, several forms of inputs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nimble_lite
from nimble_lite.plan.planner import Streams
from tests.gpu.device import DEVICE, assert_bitwise, normal, on_device
from tests.nimble_lite.contract import CASES, Branches, Case

pytestmark = [
    pytest.mark.gpu,
    # The machine with the device chooses its versions, not we: their warnings are not our errors.
    pytest.mark.filterwarnings("default"),
]

# These make CPU tensors of their own, which eager itself refuses to mix with the device's.
ON_DEVICE = [case for case in CASES if case.name not in {"random", "sliced weight"}]


def scheduled_on_device(
    fn: Callable[..., Any], *forms: tuple[Tensor, ...], **options: Any
) -> nimble_lite.ScheduledFunction:
    with nimble_lite.config.patch(measure=False, **options):
        scheduled = nimble_lite.schedule(fn, forms[0], streams="max", backend="cuda")
        for form in forms[1:]:
            scheduled.add(form)
    return scheduled


def reserved() -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()


@pytest.mark.parametrize("streams", [1, "max"])
@pytest.mark.parametrize("case", ON_DEVICE, ids=lambda case: case.name)
def test_the_captured_order_is_the_planned_one(case: Case, streams: Streams) -> None:
    pytest.importorskip("cuda.bindings", reason="asks the driver for the graph's edges")
    function = case.make()
    if isinstance(function, nn.Module):
        function.to(DEVICE)
    given = on_device(case.inputs(0))

    with nimble_lite.config.patch(measure=False, check_capture=True):
        nimble_lite.schedule(function, given, streams=streams, backend="cuda")(*given)


def test_each_form_of_inputs_has_its_graph_and_weights_reach_all() -> None:
    model = Branches().eval().to(DEVICE)
    forms = [(normal(0, rows, 16),) for rows in (1, 2, 3)]
    scheduled = scheduled_on_device(model, *forms, max_graphs=2)

    def assert_follows() -> None:
        for rows in (1, 2, 3, 2, 1):
            x = normal(rows, rows, 16)
            with torch.no_grad():
                assert_bitwise(scheduled(x), model(x))

    assert_follows()
    first: Any = model.branches[0]
    first.weight.data = normal(9, 16, 16)
    assert_follows()
    first.weight = nn.Parameter(normal(10, 16, 16))
    assert_follows()
    assert len(scheduled._graphs) == 2


def test_replays_on_two_streams_take_turns() -> None:
    def fn(x: Tensor) -> Tensor:
        for _ in range(20):
            x = torch.tanh(x @ x.t()) @ x
        return x

    forms = [(normal(0, rows, 256),) for rows in (256, 512)]
    scheduled = scheduled_on_device(fn, *forms)
    right = [fn(*form) for form in forms]
    side = torch.cuda.Stream()
    for form in forms:
        scheduled(*form)
    torch.cuda.synchronize()

    for _ in range(10):
        first = scheduled(*forms[0])
        with torch.cuda.stream(side):
            second = scheduled(*forms[1])
        torch.cuda.synchronize()
        assert_bitwise([first, second], right)


def test_with_the_last_graph_the_pool_goes_back_to_the_device() -> None:
    def fn(x: Tensor) -> Tensor:
        return ((x @ x.t()) * 2).relu().sum(0)

    fn(normal(0, 64, 64))  # handles, which stay
    before = reserved()
    forms = [(normal(0, rows, 64),) for rows in (2048, 3072)]
    scheduled = scheduled_on_device(fn, *forms)
    for form in forms:
        scheduled(*form)
    held = reserved()
    scheduled.close()
    del scheduled, forms

    assert held > before + (16 << 20)
    assert reserved() == before
