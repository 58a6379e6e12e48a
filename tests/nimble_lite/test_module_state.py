"""Nothing stale: whatever happens to a module between two calls is seen, with and without tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nimble_lite
from nimble_lite import dict_tags, module_state
from nimble_lite.dict_tags import tag_reader
from tests.nimble_lite.contract import assert_same


class Scaled(nn.Module):
    """A layer, a parameter and a buffer of one element each, and a tied weight."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("gain", torch.ones(()))
        self.tied = self.inner[0].weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x) * self.scale * self.gain @ self.tied
        return y


def double(module: nn.Module, args: Any, output: Any) -> Any:
    return output * 2


def replace_in_dict(m: Any) -> None:
    m.inner[0]._parameters["weight"] = nn.Parameter(torch.randn(3, 3))


def replace_by_an_equal_one(m: Any) -> None:
    m.scale = nn.Parameter(torch.ones(1))
    m.scale.data.fill_(5)


def exchange(m: Any) -> None:
    m.inner[0], m.inner[1] = m.inner[1], m.inner[0]


def tie(m: Any) -> None:
    m.inner[0]._parameters["bias"] = nn.Parameter(m.inner[0].weight.data[0])


def share_data(m: Any) -> None:
    m.inner[0].weight.data = m.inner[0].weight.data.t()


CHANGES: dict[str, Callable[[Any], object]] = {
    "data in place": lambda m: m.scale.data.fill_(3),
    "data exchanged": lambda m: setattr(m.scale, "data", torch.full((1,), 4.0)),
    "data transposed": share_data,
    "parameter replaced": lambda m: setattr(m, "scale", nn.Parameter(torch.full((1,), 6.0))),
    "parameter replaced by an equal one": replace_by_an_equal_one,
    "parameter replaced in the dict": replace_in_dict,
    "buffer replaced": lambda m: setattr(m, "gain", torch.full((), 7.0)),
    "another shape": lambda m: setattr(m, "scale", nn.Parameter(torch.full((3,), 8.0))),
    "another dtype": lambda m: setattr(m, "gain", torch.full((), 9.0, dtype=torch.float64)),
    "state loaded": lambda m: m.load_state_dict({k: v + 1 for k, v in m.state_dict().items()}),
    "state assigned": lambda m: m.load_state_dict(
        {k: v + 1 for k, v in m.state_dict().items()}, assign=True
    ),
    "module replaced": lambda m: setattr(m, "inner", nn.Sequential(nn.Linear(3, 3))),
    "modules exchanged": exchange,
    "training": lambda m: m.train(),
    "training of one": lambda m: m.inner[1].train(),
    "training in the dict": lambda m: vars(m.inner[1]).update(training=True),
    "hook": lambda m: m.inner.register_forward_hook(double),
    "pre-hook": lambda m: m.inner[0].register_forward_pre_hook(lambda m, args: (args[0] + 1,)),
    "double and back": lambda m: m.double().float().scale.data.mul_(2),
    "tied": tie,
    "requires grad": lambda m: m.requires_grad_(requires_grad=False),
}


@pytest.fixture(params=["tags", "full look"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "full look":
        monkeypatch.setattr(module_state, "tag_reader", lambda tables: None)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_followed(change: Callable[[Any], object]) -> None:
    torch.manual_seed(1)
    model = Scaled().eval()
    x = torch.randn(2, 3)
    scheduled = nimble_lite.schedule(model, (x,), backend="serial")

    def assert_follows() -> None:
        torch.manual_seed(5)
        found = scheduled(x)
        torch.manual_seed(5)
        with torch.no_grad():
            assert_same(found, model(x))

    for _ in range(2):
        assert_follows()
    change(model)
    for _ in range(2):
        assert_follows()
    model.scale.data.mul_(3)
    assert_follows()


@pytest.mark.usefixtures("either_way")
def test_a_renamed_member_is_as_gone_as_it_is_in_eager() -> None:
    layer = nn.Linear(3, 3)
    scheduled = nimble_lite.schedule(layer, (torch.ones(2, 3),), backend="serial")
    table = layer._parameters
    weight, bias = table.pop("weight"), table.pop("bias")
    table.update({"kernel": weight, "bias": bias})

    with pytest.raises(AttributeError, match="weight"):
        scheduled(torch.ones(2, 3))


def test_a_hook_of_all_modules_is_run() -> None:
    layer = nn.Linear(3, 3)
    x = torch.randn(2, 3)
    scheduled = nimble_lite.schedule(layer, (x,), backend="serial")
    with torch.no_grad():
        right = layer(x) * 2

    handle = nn.modules.module.register_module_forward_hook(double)
    try:
        assert_same(scheduled(x), right)
    finally:
        handle.remove()


def test_a_name_bound_anew_is_followed() -> None:
    def make() -> tuple[Callable[[Tensor], Tensor], Callable[[Any, Tensor], None]]:
        layer: Any = nn.Linear(3, 3)
        factor = torch.ones(())

        def fn(x: Tensor) -> Tensor:
            y: Tensor = layer(x) * factor
            return y

        def bind(module: Any, tensor: Tensor) -> None:
            nonlocal layer, factor
            layer, factor = module, tensor

        return fn, bind

    fn, bind = make()
    x = torch.randn(2, 3)
    scheduled = nimble_lite.schedule(fn, (x,), backend="serial")
    for module in (nn.Linear(3, 3), nn.Tanh()):
        bind(module, torch.randn(()))
        with torch.no_grad():
            assert_same(scheduled(x), fn(x))


def test_a_steady_module_is_not_looked_at_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    if dict_tags._tag_word() is None:
        pytest.skip("this interpreter keeps no tags")
    model = Scaled().eval()
    scheduled = nimble_lite.schedule(model, (torch.ones(2, 3),), backend="serial")
    looks: list[int] = []
    full_look = module_state.ModuleState._look_at_members

    def counted(state: module_state.ModuleState) -> dict[int, Tensor]:
        looks.append(1)
        return full_look(state)

    monkeypatch.setattr(module_state.ModuleState, "_look_at_members", counted)

    for _ in range(3):
        scheduled(torch.ones(2, 3))
    assert not looks
    model.note = "written"  # type: ignore[assignment]  # any attribute will do
    for _ in range(3):
        scheduled(torch.ones(2, 3))
    assert len(looks) == 1


@pytest.fixture
def probed_anew() -> Iterator[None]:
    dict_tags._tag_word.cache_clear()
    yield
    dict_tags._tag_word.cache_clear()


@pytest.mark.usefixtures("probed_anew")
def test_tags_are_not_used_where_a_write_leaves_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    silent: dict[str, Any] = {}
    monkeypatch.setattr(dict_tags, "_attribute_writes", lambda: iter([(silent, lambda: None)]))

    assert tag_reader([{}]) is None


def test_equal_tags_mean_that_no_dict_was_written() -> None:
    tables: list[dict[Any, Any]] = [{i: i} for i in range(50)]
    read = tag_reader(tables)
    if read is None:
        pytest.skip("this interpreter keeps no tags")
    for table in tables:
        before = read()
        assert read() == before
        table[0] = object()
        assert read() != before
