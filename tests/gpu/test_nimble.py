"""nimble_lite on a CUDA device: the contract of the backends, held by real streams and graphs."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nimble_lite
from nimble_lite.errors import NimbleError
from nimble_lite.plan.planner import Streams
from tests.gpu.device import DEVICE, assert_bitwise, normal, on_device, twice
from tests.nimble_lite.contract import CASES, Branches, Case, state_of

pytestmark = [
    pytest.mark.gpu,
    # The machine with the device chooses its versions, not we: their warnings are not our errors.
    pytest.mark.filterwarnings("default"),
]

# These make CPU tensors of their own, which eager itself refuses to mix with the device's.
MADE_FOR_CPU = frozenset({"random", "sliced weight"})
ON_DEVICE = [case for case in CASES if case.name not in MADE_FOR_CPU]
MODELS = ("torchvision/inception", "timm/resnet", "transformers/bert", "transformers/gpt2")


def scheduled_on_device(fn: Any, inputs: Any, streams: Streams) -> nimble_lite.ScheduledFunction:
    """`fn` on the cuda backend, whatever a measurement would prefer."""
    with nimble_lite.config.patch(measure=False):
        return nimble_lite.schedule(fn, inputs, streams=streams, backend="cuda")


@pytest.mark.parametrize("streams", [1, "max"])
@pytest.mark.parametrize("case", ON_DEVICE, ids=lambda case: case.name)
def test_replays_equal_eager_in_bits_and_effects(case: Case, streams: Streams) -> None:
    replayed, eager = case.make(), case.make()
    for function in (replayed, eager):
        if isinstance(function, nn.Module):
            function.to(DEVICE)
    scheduled = scheduled_on_device(replayed, on_device(case.inputs(0)), streams)
    assert_bitwise(state_of(replayed), state_of(eager))

    for seed in range(1, 5):
        mine, theirs = on_device(case.inputs(seed)), on_device(case.inputs(seed))
        torch.manual_seed(seed)
        found = scheduled(*mine)
        drawn = torch.rand(1, device=DEVICE)
        torch.manual_seed(seed)
        with torch.no_grad():
            right = eager(*theirs)
        assert_bitwise(found, right)
        assert_bitwise(mine, theirs)
        assert_bitwise(state_of(replayed), state_of(eager))
        assert_bitwise(drawn, torch.rand(1, device=DEVICE))


@pytest.mark.parametrize("streams", [1, "max"])
def test_random_numbers_are_drawn_as_eager_draws_them(streams: Streams) -> None:
    def noisy(x: Tensor) -> tuple[Tensor, ...]:
        return F.dropout(x, 0.4), torch.rand_like(x), x.abs().clamp(max=1).bernoulli()

    scheduled = scheduled_on_device(noisy, (normal(0, 32),), streams)

    for seed in range(1, 5):
        x = normal(seed, 32)
        torch.manual_seed(seed)
        found = scheduled(x)
        torch.manual_seed(seed)
        assert_bitwise(found, noisy(x))


@pytest.mark.parametrize("streams", [1, "auto", "max"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_replays_what_eager_gives(name: str, streams: Streams) -> None:
    model, eager, make_inputs = twice(name)
    example = make_inputs(0)

    class Bound(nn.Module):
        """The model with the keyword arguments of its catalogue entry."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, args: Any, kwargs: Any) -> Any:
            return self.model(*args, **kwargs)

    scheduled = scheduled_on_device(Bound(), (example.args, example.kwargs), streams)

    for seed in (1, 2, 3):
        mine, theirs = make_inputs(seed), make_inputs(seed)
        with torch.no_grad():
            right = eager(*theirs.args, **theirs.kwargs)
        assert_bitwise(scheduled(mine.args, mine.kwargs), right)


def test_each_call_has_outputs_of_its_own() -> None:
    scheduled = scheduled_on_device(lambda x: x * 2, (torch.ones(3, device=DEVICE),), 1)

    first = scheduled(torch.ones(3, device=DEVICE))
    scheduled(torch.zeros(3, device=DEVICE))

    assert first.tolist() == [2, 2, 2]


def test_a_replaced_weight_is_used_from_then_on() -> None:
    layer = nn.Linear(3, 3).to(DEVICE)
    scheduled = scheduled_on_device(layer, (normal(0, 2, 3),), 1)
    x = normal(1, 2, 3)

    layer.weight.data = normal(2, 3, 3)

    with torch.no_grad():
        assert_bitwise(scheduled(x), layer(x))


@torch.library.custom_op("janus_lite_tests::waits", mutates_args=())
def waits(x: Tensor) -> Tensor:
    """Waits for the device inside one operation, which no capture allows."""
    return x * x.sum().item()


@waits.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_a_capture_that_fails_is_named_and_torch_goes_on() -> None:
    scheduled = scheduled_on_device(lambda x: waits(x + 1), (normal(0, 8),), 1)

    with pytest.raises(NimbleError, match="NL0403"):
        scheduled(normal(1, 8))

    assert torch.ones(2, device=DEVICE).sum().item() == 2
    assert not torch.cuda.is_current_stream_capturing()
    following = scheduled_on_device(lambda x: x + 1, (normal(0, 8),), 1)
    assert_bitwise(following(normal(1, 8)), normal(1, 8) + 1)


def test_a_closed_schedule_gives_its_memory_back() -> None:
    def allocated() -> int:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()

    model = Branches().eval().to(DEVICE)
    x = torch.ones(2, 16, device=DEVICE)
    with torch.no_grad():
        model(x)  # handles, which stay
    torch._C._cuda_clearCublasWorkspaces()
    before = allocated()

    scheduled = scheduled_on_device(model, (x,), "max")
    scheduled(x)
    scheduled.close()
    del scheduled
    torch._C._cuda_clearCublasWorkspaces()

    assert allocated() == before
