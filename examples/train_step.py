"""Train with a speculated forward pass; backward and the optimiser stay as they are.

$ python examples/train_step.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import janus_lite


def classifier() -> nn.Module:
    """A small network with state of its own (BatchNorm) and random numbers (dropout)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(8 * 6 * 6, 10),
    )  # fmt: skip


def train(model: nn.Module, steps: int = 5) -> list[Tensor]:
    """A few steps on made-up digits; returns the losses."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        images, labels = torch.randn(16, 1, 8, 8), torch.randint(10, (16,))
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


eager, speculated = classifier(), classifier()
janus_lite.speculate(speculated)

for right, found in zip(train(eager), train(speculated), strict=True):
    assert torch.equal(right, found)
for name, right in eager.state_dict().items():
    assert torch.equal(right, speculated.state_dict()[name])

report = janus_lite.explain(speculated)
assert report.stats.hits == 4
print(report)
