"""The `torch.compile` backend: inference, training, new shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nimble_lite.dynamo import backend

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()


def model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 4))


def test_inference_equals_eager_for_every_shape() -> None:
    eager = model().eval()
    compiled = torch.compile(eager, backend=backend, dynamic=False)

    with torch.no_grad():
        for batch in (2, 5, 2):
            x = torch.randn(batch, 8)
            assert torch.equal(compiled(x), eager(x))


def test_training_steps_equal_eager() -> None:
    mine, theirs = model().train(), model().train()
    compiled = torch.compile(mine, backend=backend, dynamic=False)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (mine, theirs)]
    for step in range(4):
        x = torch.randn(6, 8, generator=torch.Generator().manual_seed(step))
        losses = []
        for net, optimizer in ((compiled, optimizers[0]), (theirs, optimizers[1])):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        assert torch.equal(*losses)
    for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_branch_that_torch_states_is_scheduled_as_a_region() -> None:
    layer = nn.Linear(3, 3)

    def fn(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.cond(x.sum() > 0, lambda x: layer(x), lambda x: x - 1, (x,))
        return y * 2

    compiled = torch.compile(fn, backend=backend, fullgraph=True)

    with torch.no_grad():
        for x in (torch.ones(3), -torch.ones(3), torch.randn(3)):
            assert torch.equal(compiled(x), fn(x))
