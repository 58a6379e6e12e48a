"""A speculated module is the same module, to everyone who looks at it or takes it along."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import janus_lite


class Net(nn.Module):
    """Linear, normalisation, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        y: torch.Tensor = self.drop(self.norm(self.linear(x)))
        return y * scale


def pair() -> tuple[Net, Any]:
    """A plain net and an equal one under speculation."""
    plain = Net()
    return plain, janus_lite.speculate(copy.deepcopy(plain))


def inputs(step: int) -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def assert_same_calls(plain: nn.Module, other: Any, calls: int = 4) -> None:
    for step in range(calls):
        torch.manual_seed(step)
        expected = plain(inputs(step))
        torch.manual_seed(step)
        found = other(inputs(step))
        assert torch.equal(expected, found)
        assert expected.requires_grad == found.requires_grad
    for (name, one), (other_name, two) in zip(
        plain.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, two), name


def test_it_is_the_same_object_class_and_text() -> None:
    plain = Net()
    text, keys, members = (
        repr(plain),
        list(plain.state_dict()),
        [n for n, _ in plain.named_modules()],
    )

    model = janus_lite.speculate(plain)

    assert model is plain
    assert type(model) is Net
    assert repr(model) == text
    assert list(model.state_dict()) == keys
    assert [n for n, _ in model.named_modules()] == members
    assert inspect.signature(model.forward) == inspect.signature(Net().forward)
    assert callable(model.forward)


def test_training_statistics_and_dropout_are_eagers() -> None:
    plain, model = pair()

    assert_same_calls(plain, model)
    assert model.forward.stats.hits == 3


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: _through_torch_save(model),
    ],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_a_copy_is_independent_and_speculated(copied: Callable[[Any], Any]) -> None:
    plain, model = pair()
    model(inputs(0))
    plain(inputs(0))

    other = copied(model)

    assert other is not model
    assert other.linear.weight is not model.linear.weight
    with torch.no_grad():
        model.linear.weight.zero_()
    assert_same_calls(plain, other)
    assert other.forward.stats.hits >= 2
    assert other.forward is not model.forward


def _through_torch_save(model: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def test_a_state_dict_goes_both_ways() -> None:
    plain, model = pair()
    other = Net()

    model.load_state_dict(other.state_dict())
    plain.load_state_dict(model.state_dict())

    assert_same_calls(plain, model)


def test_a_speculated_module_inside_a_speculated_module() -> None:
    plain = nn.Sequential(Net(), nn.ReLU(), Net())
    model: Any = copy.deepcopy(plain)
    janus_lite.speculate(model[0])
    janus_lite.speculate(model)

    assert_same_calls(plain, model)
    assert model.forward.stats.hits == 3
    assert torch.is_tensor(model[0](inputs(0)))


def test_eval_and_train_alternate() -> None:
    plain, model = pair()
    for mode in (True, False, True, False, False):
        plain.train(mode)
        model.train(mode)
        assert_same_calls(plain, model, calls=2)
    assert model.forward.stats.recorded == 2


def test_gradients_through_replays_are_eagers() -> None:
    plain, model = pair()
    for step in range(4):
        grads = []
        for net in (plain, model):
            net.zero_grad()
            torch.manual_seed(step)
            x = inputs(step).requires_grad_()
            net(x).pow(2).sum().backward()
            grads.append([x.grad, *(p.grad for p in net.parameters())])
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert model.forward.stats.hits == 3


def test_double_backward_through_replays_is_eagers() -> None:
    function: Any = janus_lite.speculate(lambda x, w: (x @ w).tanh().pow(3).sum())
    for step in range(3):
        found = []
        for call in (function.original, function):
            x = inputs(step).requires_grad_()
            w = torch.ones(3, 3, requires_grad=True)
            (first,) = torch.autograd.grad(call(x, w), x, create_graph=True)
            found.append(torch.autograd.grad(first.pow(2).sum(), (x, w)))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert function.stats.hits == 2


def test_a_train_loop_is_eagers_bit_for_bit() -> None:
    plain, model = pair()
    losses: list[list[float]] = []
    for net in (plain, model):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        losses.append([])
        for step in range(12):
            optimizer.zero_grad()
            loss = net(inputs(step)).pow(2).mean()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == losses[1]
    assert model.forward.stats.recorded == 1


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_modes_around_it(mode: Callable[[], Any]) -> None:
    plain, model = pair()
    assert_same_calls(plain, model)
    with mode():
        assert_same_calls(plain, model)
    assert_same_calls(plain, model)
    assert model.forward.stats.recorded == 2


def test_hooks_of_every_kind_added_late_run() -> None:
    plain, model = pair()
    assert_same_calls(plain, model)
    seen: list[list[str]] = [[], []]
    for net, log in zip((plain, model), seen, strict=True):
        net.register_forward_pre_hook(lambda module, args, log=log: log.append("pre"))
        net.register_forward_hook(lambda module, args, out, log=log: log.append("forward"))
        net.linear.register_forward_hook(lambda module, args, out, log=log: log.append("inner"))
        net.register_full_backward_hook(lambda module, a, b, log=log: log.append("backward"))
    for step in range(3):
        for net in (plain, model):
            torch.manual_seed(step)
            net(inputs(step).requires_grad_()).sum().backward()
    assert seen[0] == seen[1]
    assert seen[0].count("inner") == 3


def test_deleting_the_model_frees_it_and_its_graphs() -> None:
    model: Any = janus_lite.speculate(Net())
    model(inputs(0))
    model(inputs(1))
    freed = [weakref.ref(model), weakref.ref(model.linear.weight), weakref.ref(model.forward)]

    del model
    gc.collect()

    assert [reference() for reference in freed] == [None] * 3


def test_a_function_does_not_keep_a_model_alive() -> None:
    function: Any = janus_lite.speculate(lambda model, x: model(x))
    model = Net()
    function(model, inputs(0))
    function(model, inputs(1))
    assert function.stats.hits == 1
    freed = weakref.ref(model)

    del model
    gc.collect()

    assert freed() is None
    assert function.conversions == ()


@pytest.mark.timeout(60)
@pytest.mark.slow
def test_threads_get_eagers_answers() -> None:
    plain, model = pair()
    plain.eval()
    model.eval()
    sizes = [2, 3, 5, 7]
    batches = {size: torch.randn(size, 3) for size in sizes}
    with torch.no_grad():
        expected = {size: plain(x) for size, x in batches.items()}
    wrong: list[str] = []

    def work(first: int) -> None:
        with torch.no_grad():
            for turn in range(200):
                size = sizes[(first + turn) % len(sizes)]
                try:
                    if not torch.equal(model(batches[size]), expected[size]):
                        wrong.append(f"size {size}")
                except Exception as error:
                    wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert wrong == []
    assert model.forward.stats.calls == 8 * 200
    # Waiting for a recording must not cost patience; how many calls hit, the scheduler decides.
    assert model.forward.reasons == ()
    assert model.forward.stats.converted >= 1
