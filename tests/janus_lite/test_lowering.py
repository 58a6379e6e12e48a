"""Linear layers in a replay: matrix products over rows, with weights that are kept transposed."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import janus_lite
from janus_lite.errors import Code
from janus_lite.program.linear_calls import is_product_of_rows
from janus_lite.program.lowering import _Lowering

SIZE = 4
# Each makes one more value from two that are there: `a` and `b`, all of one shape.
STEPS: dict[str, Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "linear": lambda m, a, b: F.linear(a, m.weight, m.bias),
    "other": lambda m, a, b: F.linear(a, m.other),
    "gelu": lambda m, a, b: F.gelu(a),
    "relu": lambda m, a, b: torch.relu(a),
    "add": lambda m, a, b: a + b,
    "scale": lambda m, a, b: a * 0.5 - 1,
    "norm": lambda m, a, b: F.layer_norm(a, (SIZE,), m.bias),
    "wide norm": lambda m, a, b: F.layer_norm(a, tuple(a.shape[-2:])),
    "heads": lambda m, a, b: a.view(*a.shape[:-1], 2, 2).transpose(-1, -2).reshape(a.shape),
    "turned": lambda m, a, b: a.transpose(0, -2).contiguous().view(a.shape),
    "twice": lambda m, a, b: (a * 2) * (b * 2),
    "precise": lambda m, a, b: ((a + 1) * b.double()).float(),
    "whole": lambda m, a, b: (a.long() + 1) * 0.5,
    "wider": lambda m, a, b: (b.flatten()[:SIZE] + 1) - a,
    "softmax": lambda m, a, b: torch.softmax(a, dim=0),
    "shifted": lambda m, a, b: torch.cat([b[:1], a[1:]]),
    "rows": lambda m, a, b: a + b[:1],
    "written": lambda m, a, b: a.clone().add_(b),
    "written here": lambda m, a, b: a.add_(b) if a is not m.given else a,
    "seen": lambda m, a, b: a.view(a.shape),
    "itself": lambda m, a, b: a.contiguous(),
    "turned here": lambda m, a, b: a.transpose_(0, -2) if a is not m.given else a,
}
Step = tuple[str, int, int]


class Net(nn.Module):
    """Runs steps, each on two of the values made before, and returns some of them."""

    def __init__(self, steps: Sequence[Step], leaving: Sequence[int], *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(SIZE, SIZE))
        self.other = nn.Parameter(torch.randn(SIZE, SIZE).t())
        self.bias = nn.Parameter(torch.randn(SIZE))
        self.steps, self.leaving = tuple(steps), tuple(leaving)
        self.given: Any = None

    def forward(self, x: torch.Tensor) -> Any:
        self.given = x
        values = [x]
        for name, first, second in self.steps:
            values.append(
                STEPS[name](self, values[first % len(values)], values[second % len(values)])
            )
        self.given = None
        return [values[i % len(values)] for i in self.leaving], values[-1][..., 0]


def facts(outputs: Any) -> list[object]:
    """Everything that can be told of the tensors in outputs, and of how they hang together."""
    found: list[object] = []
    tensors = [*outputs[0], outputs[1]]
    storages = [t.untyped_storage()._cdata for t in tensors]
    for index, tensor in enumerate(tensors):
        shares = [index for index, s in enumerate(storages) if s == storages[index]]
        forms = (tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
        base = tensor._base.shape if tensor._base is not None else None
        found.append((forms, base, tensor.requires_grad, shares, tensor.tolist()))
    tensors[0].add_(1)  # seen through all that share its memory
    found += [tensor.tolist() for tensor in tensors]
    return found


def versions(outputs: Any) -> list[int]:
    """How often tensors were written to."""
    return [t._version for t in (*outputs[0], outputs[1]) if not t.is_inference()]


def outcome(network: Net, x: torch.Tensor) -> tuple[list[int], object]:
    """What a call gives, or that it fails: steps may leave values of other sizes behind."""
    try:
        outputs = network(x)
        return versions(outputs), facts(outputs)
    except RuntimeError as error:
        return [], str(error)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)),
             min_size=1, max_size=9),
    st.lists(st.integers(0, 9), max_size=2),
    st.sampled_from([(3, SIZE), (2, 3, SIZE), (1, 3, SIZE), (3, 3, SIZE), (2, 1, 3, SIZE)]),
    st.sampled_from([torch.no_grad, torch.inference_mode]),
)  # fmt: skip
@example(
    [
        ("relu", 0, 0),
        ("linear", 1, 0),
        ("gelu", 2, 0),
        ("linear", 3, 0),
        ("turned here", 3, 0),
        ("linear", 3, 0),
    ],
    [],
    (3, 3, SIZE),
    torch.no_grad,
)
@example(
    [("linear", 0, 0), ("gelu", 1, 0), ("linear", 2, 0), ("seen", 2, 0)], [], (2, 3, SIZE),
    torch.no_grad,
)  # fmt: skip
def test_any_way_through_linear_layers_gives_eagers_tensors(
    steps: list[Step], leaving: list[int], shape: tuple[int, ...], mode: Callable[[], Any]
) -> None:
    plain = Net(steps, leaving, seed=1)
    speculated: Any = janus_lite.speculate(Net(steps, leaving, seed=1))
    for call in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(call))
        with mode():
            written, found = outcome(speculated, x.clone())
            expected_written, expected = outcome(plain, x.clone())
        assert found == expected
        # While torch is watched it adds a bias in another way, which only the version tells.
        assert written == expected_written or not speculated.forward.stats.hits


class Encoder(nn.Module):
    """What lies between two attentions of a transformer."""

    def __init__(self, features: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(features, 2 * features)
        self.second = nn.Linear(2 * features, features)
        self.norm = nn.LayerNorm(features)
        self.query = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x + self.second(F.gelu(self.first(x))))
        heads: torch.Tensor = self.query(x).view(*x.shape[:-1], 2, -1).transpose(1, 2)
        return heads.softmax(-1)


def both(features: int = 8) -> tuple[Encoder, Any]:
    """A network, and one like it that has a graph."""
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(Encoder(features).eval())
    plain = networks[0]
    speculated: Any = janus_lite.speculate(networks[1])
    for _ in range(3):
        compare(plain, speculated)
    assert speculated.forward.stats.hits
    return plain, speculated


def compare(plain: Encoder, speculated: Any) -> None:
    """Call both."""
    x = torch.randn(2, 3, plain.norm.weight.shape[0], dtype=plain.norm.weight.dtype)
    with torch.no_grad():
        assert torch.equal(speculated(x), plain(x))


def test_three_layers_are_products_over_one_matrix_of_rows() -> None:
    _, speculated = both()
    code = speculated.forward.code()
    assert code.count("= addmm_") == 3
    assert "= linear_" not in code
    assert code.count("= view_") == 1  # of the argument; nothing looks at a batch again


class Attention(nn.Module):
    """The layer after an attention sees a tensor that the attention's kernel laid out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.inner(x).view(*x.shape[:-1], 2, 4).transpose(-2, -3)
        mixed = F.scaled_dot_product_attention(heads, heads, heads).transpose(-2, -3)
        return F.gelu(self.outer(mixed.reshape(x.shape)))


def test_a_layer_of_what_a_kernel_laid_out_follows_the_kernel() -> None:
    torch.manual_seed(4)
    plain = Attention().eval()
    speculated: Any = janus_lite.speculate(copy.deepcopy(plain))
    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    strides = set()
    for call in range(8):
        x = torch.randn(2, 5, 8)
        with torch.no_grad(), sdpa_kernel(kernels[call // 3 % 2]):
            found, expected = speculated(x), plain(x)
            y = torch.randn(2, 5, 2, 4).transpose(1, 2)
            strides.add(F.scaled_dot_product_attention(y, y, y).stride())
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
    assert len(strides) == 2, "the kernels lay their results out alike"
    assert speculated.forward.stats.hits >= 5
    assert speculated.forward.code().count("= addmm_") == 2


def test_with_gradients_nothing_is_lowered() -> None:
    speculated: Any = janus_lite.speculate(Encoder())
    x = torch.randn(2, 3, 8)
    for _ in range(3):
        speculated(x)
    assert "addmm" not in speculated.forward.code()


def test_a_layer_alone_stays_as_it_is() -> None:
    """Looking at the argument and at the result would cost what the layer saves."""
    speculated: Any = janus_lite.speculate(nn.Linear(4, 4))
    with torch.no_grad():
        for _ in range(3):
            speculated(torch.randn(2, 3, 4))
    assert "= linear_" in speculated.forward.code()


def moved(layer: nn.Linear) -> None:
    layer.weight.data = torch.full_like(layer.weight, 0.25)


def moved_within(layer: nn.Linear) -> None:
    memory = torch.arange(2.0 * layer.weight.numel())
    layer.weight.data = memory[layer.weight.numel() :].view(layer.weight.shape)


def written(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.mul_(3)


def replaced(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.full_like(layer.weight, 0.5))


def loaded(layer: nn.Linear) -> None:
    layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()})


def assigned(layer: nn.Linear) -> None:
    layer.load_state_dict({k: v - 1 for k, v in layer.state_dict().items()}, assign=True)


def restored(layer: nn.Linear) -> None:
    """Away and back, to the memory that was there before."""
    data = layer.weight.data
    layer.weight.data = torch.zeros_like(data)
    layer.weight.data = data.mul_(2)


def resized(layer: nn.Linear) -> None:
    storage = layer.weight.untyped_storage()
    size = storage.nbytes()
    storage.resize_(0)
    storage.resize_(size)
    with torch.no_grad():
        layer.weight.fill_(2)


def turned(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data.t().contiguous().t()


def doubled(layer: nn.Linear) -> None:
    layer.double()


@pytest.mark.parametrize(
    "change",
    [moved, moved_within, written, replaced, loaded, assigned, restored, resized, turned],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("layer", ["first", "second", "query"])
def test_a_changed_weight_is_seen_by_the_next_call(
    layer: str, change: Callable[[nn.Linear], None]
) -> None:
    plain, speculated = both()
    for _ in range(2):
        for network in (plain, speculated):
            change(getattr(network, layer))
        compare(plain, speculated)
        compare(plain, speculated)


def test_a_network_of_another_dtype_is_recorded_anew() -> None:
    plain, speculated = both()
    for network in (plain, speculated):
        network.double()
    for _ in range(3):
        compare(plain, speculated)


def test_memory_that_a_weight_left_is_let_go_of_at_the_next_call() -> None:
    plain, speculated = both()
    storage = speculated.first.weight.untyped_storage()
    left = weakref.ref(storage)
    del storage
    for network in (plain, speculated):
        moved(network.first)
    compare(plain, speculated)
    gc.collect()
    assert left() is None


def test_large_weights_are_not_kept_transposed() -> None:
    _, speculated = both(520)
    assert "addmm" not in speculated.forward.code()


def test_swapped_tensors_are_followed() -> None:
    plain, speculated = both()
    for network in (plain, speculated):
        new = nn.Parameter(torch.full_like(network.first.weight, 0.75))
        torch.utils.swap_tensors(network.first.weight, new)
        del new
    compare(plain, speculated)


@pytest.mark.parametrize("sizes", [(3, 8), (2, 3, 8), (2, 2, 3, 8), (1, 1, 8)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_torch_makes_a_product_of_a_linear_layer(
    sizes: tuple[int, ...], has_bias: bool, dtype: torch.dtype
) -> None:
    form = (sizes, (5, 8), (8, 1), dtype, torch.device("cpu"))
    with torch.no_grad():
        layer = F.linear(torch.ones(sizes), torch.ones(5, 8), torch.ones(5) if has_bias else None)
    # Older releases hide that the result of a layer without a bias is a view.
    is_open = len(sizes) == 2 or layer._is_view()
    assert is_product_of_rows(*form, has_bias=has_bias) is is_open
    assert is_open or not has_bias


def test_verify_runs_what_a_replay_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _Lowering._product

    def without_bias(self: Any, operation: Any) -> Any:
        return replace(made(self, operation), bias=None)

    monkeypatch.setattr(_Lowering, "_product", without_bias)
    network = Encoder()
    speculated: Any = janus_lite.speculate(copy.deepcopy(network), verify="always")
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(2, 3, 8)
            assert torch.equal(speculated(x), network(x))
    (reason,) = [r for r in speculated.forward.reasons if r.code is Code.UNEQUAL]
    assert "`linear`" in str(reason)


def test_other_devices_are_not_asked() -> None:
    form = ((3, 8), (5, 8), (8, 1), torch.float32, torch.device("meta"))
    assert not is_product_of_rows(*form, has_bias=True)


def test_a_run_that_trains_keeps_its_layers_as_recorded() -> None:
    outcomes = []
    for is_speculated in (False, True):
        torch.manual_seed(6)
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

        def train(x: torch.Tensor, network: Any, optimizer: Any) -> torch.Tensor:
            network(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                result: torch.Tensor = network(x)
            return result

        step: Any = janus_lite.speculate(train) if is_speculated else train
        x = torch.ones(2, 3)
        outcomes.append([step(x, network, optimizer).tolist() for _ in range(5)])
    assert outcomes[0] == outcomes[1]
    assert step.stats.hits == 4
    assert "addmm" not in step.code()


def test_what_was_kept_in_inference_mode_serves_elsewhere_and_back() -> None:
    plain, speculated = both()
    modes = (torch.inference_mode, torch.no_grad, torch.enable_grad)
    for call in range(12):
        if call % 4 == 2:
            for network in (plain, speculated):
                moved(network.first)
        with modes[call % 3]():
            x = torch.randn(2, 3, 8)
            found, expected = speculated(x), plain(x)
            assert torch.equal(found, expected)
            assert found.is_inference() == expected.is_inference()
            assert found.requires_grad == expected.requires_grad
