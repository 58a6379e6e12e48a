"""Speculate on a whole train step: forward, backward and the optimiser.

$ python examples/train_step.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn, optim

import janus_lite


def classifier() -> nn.Module:
    """A small network with state of its own (BatchNorm) and random numbers (dropout)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(8 * 6 * 6, 10),
    )  # fmt: skip


def step(model: nn.Module, optimizer: optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """One step; returns the loss."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def train(
    one_step: Callable[..., Tensor], model: nn.Module, optimizer: optim.Optimizer
) -> list[Tensor]:
    """A few steps on made-up digits; returns the losses."""
    torch.manual_seed(1)
    batches = [(torch.randn(16, 1, 8, 8), torch.randint(10, (16,))) for _ in range(5)]
    return [one_step(model, optimizer, *batch) for batch in batches]


eager, speculated = classifier(), classifier()
adam, other = (optim.Adam(model.parameters(), lr=0.01) for model in (eager, speculated))
fast_step = janus_lite.speculate(step)

losses, found_losses = train(step, eager, adam), train(fast_step, speculated, other)
for right, found in zip(losses, found_losses, strict=True):
    assert torch.equal(right, found)
for name, right in eager.state_dict().items():
    assert torch.equal(right, speculated.state_dict()[name])

report = janus_lite.explain(fast_step)
assert report.stats.hits == 4
print(report)
