"""janus_lite on a CUDA device: what eager gives, bit for bit, on inputs it has not seen."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import janus_lite
from tests.gpu.device import DEVICE, assert_bitwise, normal, twice
from tests.janus_lite import test_in_place

pytestmark = [
    pytest.mark.gpu,
    # The machine with the device chooses its versions, not we: their warnings are not our errors.
    pytest.mark.filterwarnings("default"),
]

MODELS = ("torchvision/resnet", "transformers/bert", "transformers/gpt2", "timm/deit")


def convolutional() -> nn.Module:
    """Every part of an image classifier whose backward pass is deterministic on a device."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 6 * 6, 5),
    ).to(DEVICE)


def with_seed(seed: int, function: Callable[..., Any], *args: Any) -> tuple[Any, Tensor]:
    """The result under `seed`, and the device's next random numbers after it."""
    torch.manual_seed(seed)
    return function(*args), torch.rand(4, device=DEVICE)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_replays_what_eager_gives(name: str) -> None:
    model, eager, make_inputs = twice(name)
    janus_lite.speculate(model)

    with torch.no_grad():
        for seed in (1, 2, 3):
            mine, theirs = make_inputs(seed), make_inputs(seed)
            assert_bitwise(model(*mine.args, **mine.kwargs), eager(*theirs.args, **theirs.kwargs))

    assert janus_lite.explain(model).stats.hits == 2, str(janus_lite.explain(model))


def test_training_steps_give_the_same_losses_and_weights() -> None:
    model, eager = convolutional(), convolutional()
    janus_lite.speculate(model)
    criterion = nn.CrossEntropyLoss()

    def steps(network: nn.Module) -> list[Tensor]:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        losses = []
        for seed in range(4):
            labels = torch.arange(6, device=DEVICE) % 5
            loss = criterion(network(normal(seed, 6, 3, 8, 8)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        assert_bitwise(steps(model), steps(eager))

    assert_bitwise(dict(model.named_parameters()), dict(eager.named_parameters()))
    assert_bitwise(dict(model.named_buffers()), dict(eager.named_buffers()))
    assert janus_lite.explain(model).stats.hits == 3, str(janus_lite.explain(model))


def test_random_numbers_are_drawn_as_eager_draws_them() -> None:
    def noisy(x: Tensor) -> Tensor:
        return F.dropout(x, 0.5) + torch.rand_like(x)

    replayed = janus_lite.speculate(noisy)
    for seed in range(4):
        x = normal(seed, 64)
        assert_bitwise(with_seed(seed, replayed, x), with_seed(seed, noisy, x))

    assert janus_lite.explain(replayed).stats.hits == 3


def test_an_assertion_that_fails_after_a_draw_gives_the_numbers_back() -> None:
    def decided(x: Tensor) -> Tensor:
        kept = F.dropout(x, 0.5)
        return kept * 2 if x.sum() > 0 else kept - 1

    replayed = janus_lite.speculate(decided)
    ones = torch.ones(64, device=DEVICE)
    for seed, x in enumerate((ones, ones, -ones, ones, -ones)):
        assert_bitwise(with_seed(seed, replayed, x), with_seed(seed, decided, x))

    assert janus_lite.explain(replayed).stats.assertion_failures > 0


def test_half_precision_autocast_is_replayed() -> None:
    model, eager = convolutional(), convolutional()
    janus_lite.speculate(model)

    with torch.no_grad(), torch.autocast("cuda", torch.float16):
        for seed in (1, 2, 3):
            x = normal(seed, 6, 3, 8, 8)
            assert_bitwise(model(x), eager(x))

    assert janus_lite.explain(model).stats.hits == 2


def test_a_tensor_on_another_device_is_computed_there() -> None:
    def scaled(x: Tensor) -> Tensor:
        return x * 3 + 1

    replayed = janus_lite.speculate(scaled)
    x = normal(1, 16)
    for argument in (x, x, x.cpu(), x):
        assert_bitwise(replayed(argument), scaled(argument))

    assert janus_lite.explain(replayed).stats.converted == 2


@pytest.fixture
def matmul_precision() -> Iterator[Callable[[str], None]]:
    """Sets torch's precision of products, for one test."""
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def test_a_changed_precision_setting_is_followed(
    matmul_precision: Callable[[str], None],
) -> None:
    def product(x: Tensor, y: Tensor) -> Tensor:
        return x @ y

    replayed = janus_lite.speculate(product)
    x, y = normal(1, 256, 256), normal(2, 256, 256)
    for precision in ("highest", "highest", "high", "high", "highest"):
        matmul_precision(precision)
        assert_bitwise(replayed(x, y), product(x, y))


def test_a_dropped_model_gives_its_memory_back() -> None:
    def allocated() -> int:
        gc.collect()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    model = convolutional()
    with torch.no_grad():
        model(normal(0, 6, 3, 8, 8))  # handles and workspaces, which stay
    del model
    before = allocated()

    model = janus_lite.speculate(convolutional())
    with torch.no_grad():
        for seed in (1, 2, 3):
            model(normal(seed, 6, 3, 8, 8))
    assert allocated() > before
    del model

    assert allocated() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(3,), (1, 3), (5, 3), (2, 5, 3), (2, 1, 5, 3), (0, 3)])
def test_linear_lays_its_result_out_row_by_row(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    """The emitted code relies on it, see `janus_lite.program.lowering`."""
    weights = (
        torch.ones(8, 3, dtype=dtype, device=DEVICE),
        torch.ones(3, 8, dtype=dtype, device=DEVICE).t(),
    )
    for order in ([*range(len(sizes))], [*reversed(range(len(sizes) - 1)), len(sizes) - 1]):
        x = torch.ones(sizes, dtype=dtype, device=DEVICE).permute(order)
        for weight in weights:
            for bias in (None, torch.ones(8, dtype=dtype, device=DEVICE)):
                result = F.linear(x, weight, bias)
                assert result.stride() == torch.empty(result.shape).stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(1, 8), (32, 8), (1, 32, 8), (4, 2, 3, 8)])
def test_layers_kept_as_rows_equal_eager(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    layers = nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8, bias=False), nn.LayerNorm(8)
    plain = nn.Sequential(*layers, nn.Linear(8, 8)).to(DEVICE, dtype).eval()
    speculated: Any = janus_lite.speculate(copy.deepcopy(plain))
    for call in range(5):
        if call == 3:  # moved without a mark
            for network in (plain, speculated):
                weight: Any = network[0].weight
                weight.data = weight.data * 2
        x = normal(call, *sizes).to(dtype)
        with torch.no_grad():
            found, expected = speculated(x), plain(x)
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
    assert "addmm" in speculated.forward.code()


@pytest.mark.parametrize("dtype", test_in_place.DTYPES, ids=str)
@pytest.mark.parametrize("name", sorted(test_in_place.FUNCTIONS))
def test_what_overwrites_its_operand_equals_eager(name: str, dtype: torch.dtype) -> None:
    function = test_in_place.FUNCTIONS[name]

    def program(x: Tensor, y: Tensor) -> Any:
        return function(x * 1, y).clone()

    x, y = (test_in_place.numbers(dtype, (3, 5, 33), seed).to(DEVICE) for seed in (1, 2))
    speculated = test_in_place.calls(program, x, y)
    assert len(test_in_place.overwrites(speculated)) == 1
    with torch.no_grad():
        assert test_in_place.bits(speculated(x, y)) == test_in_place.bits(program(x, y))


def test_a_number_of_the_host_is_not_overwritten_with_one_of_the_device() -> None:
    def program(x: Tensor) -> Tensor:
        return ((torch.ones(()) + 1) * x).neg()

    x = torch.full((), 3.0, device=DEVICE)
    speculated = test_in_place.calls(program, x)
    with torch.no_grad():
        assert_bitwise(speculated(x), program(x))
