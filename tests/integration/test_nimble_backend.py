"""`janus_lite.speculate(fn, backend="nimble")`: recorded by the one, scheduled by the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import janus_lite
import nimble_lite
from benchmarks.architectures import BY_NAME
from nimble_lite import dynamo
from tests.nimble_lite.contract import assert_same

MODELS = """
    timm/resnet timm/ghostnet torchvision/squeezenet transformers/mamba transformers/segformer
    transformers/bert transformers/gpt2
""".split()
DECIDING = frozenset({"transformers/bert", "transformers/gpt2"})
"""Ask whether a mask is all true: such a program stays with the built-in backend."""


@pytest.fixture(autouse=True)
def schedules(monkeypatch: pytest.MonkeyPatch) -> list[nimble_lite.ScheduledFunction]:
    """Every schedule that is made; the serial backend, whatever a measurement would keep."""
    made: list[nimble_lite.ScheduledFunction] = []

    def schedule(fn: Any, inputs: Any) -> nimble_lite.ScheduledFunction:
        made.append(nimble_lite.schedule(fn, inputs, backend="serial"))
        return made[-1]

    monkeypatch.setattr(dynamo, "schedule", schedule)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_speculated_model_is_scheduled_and_equals_eager(
    name: str, schedules: list[nimble_lite.ScheduledFunction]
) -> None:
    model, make_inputs = BY_NAME[name].build()
    eager, _ = BY_NAME[name].build()
    speculated = janus_lite.speculate(model, backend="nimble")

    with torch.no_grad():
        for seed in range(4):
            mine, theirs = make_inputs(seed), make_inputs(seed)
            found = speculated(*mine.args, **mine.kwargs)
            right = eager(*theirs.args, **theirs.kwargs)
            assert_same(tree_leaves(found), tree_leaves(right))

    report = janus_lite.explain(speculated)
    assert report.stats.hits >= 2, str(report)
    assert ("JL0604" in str(report)) == (name in DECIDING)
    assert len(schedules) == (0 if name in DECIDING else report.stats.converted), str(report)


def test_it_follows_weights_and_new_shapes() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    speculated: Any = janus_lite.speculate(lambda x: layer(x).relu(), backend="nimble")

    def assert_follows(x: Tensor) -> None:
        with torch.no_grad():
            assert_same(speculated(x), layer(x).relu())

    for rows in (2, 2, 2, 5, 5, 2):
        assert_follows(torch.randn(rows, 4))
    layer.weight.data = torch.randn(4, 4)
    assert_follows(torch.randn(2, 4))
    layer.weight = nn.Parameter(torch.randn(4, 4))
    for _ in range(3):
        assert_follows(torch.randn(2, 4))


def test_a_training_step_equals_eager() -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    mine, theirs = network(), network()
    speculated = janus_lite.speculate(mine, backend="nimble")
    for step in range(4):
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        losses = []
        for call, net in ((speculated, mine), (theirs, theirs)):
            net.zero_grad()
            loss = call(x).square().mean()
            loss.backward()
            losses.append(loss.detach())
            with torch.no_grad():
                for parameter in net.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(parameter.grad, alpha=0.1)
        assert_same(losses[0], losses[1])
    assert_same(dict(mine.state_dict()), dict(theirs.state_dict()))


def test_a_decision_on_values_stays_with_the_built_in_backend() -> None:
    def decided(x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1

    speculated: Any = janus_lite.speculate(decided, backend="nimble")
    for sign in (1, 1, 1, -1, -1, 1):
        x = torch.ones(3) * sign
        assert_same(speculated(x), decided(x))

    assert "JL0604" in str(janus_lite.explain(speculated))
