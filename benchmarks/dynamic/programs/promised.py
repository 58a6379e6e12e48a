"""Programs with a promised number of conversions: what varies must not convert again and again."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import random

import torch
from torch import nn

from benchmarks.dynamic.kit import construct, matrix, normal
from benchmarks.models.tree_lstm import BinaryTreeLSTM, random_tree


def _scaled(step):
    """Numbers that need 1 to 50 turns of the loop below."""
    trips = random.Random(step).randint(1, 50)
    x = normal(step, 16)
    return (x / x.norm() * 1.1**trips * 0.999,)


@construct("promised", "`while` with 1 to 50 trips", inputs=_scaled, calls=200, limit=3)
def shrinking(x):
    while x.norm() > 1:
        x = x / 1.1
    return x


@construct("promised", "`if` that flips", calls=200, limit=3)
def flipping(x):
    y = x * 0.5
    if x.sum() > 0:
        y = y + 1
    else:
        y = y - 1
    return y.tanh()


@construct("promised", "`if` in `while` in `for`", calls=200, limit=5)
def nested(x):
    total = torch.zeros(16)
    for row in x:
        while row.norm() > 2:
            if row.sum() > 0:
                row = row * 0.7
            else:
                row = row * 0.8 + 0.01
        total = total + row
    return total


@construct(
    "promised",
    "a float that varies",
    inputs=lambda s: (*matrix(s), 0.1 * 0.9**s),
    calls=50,
    limit=3,
)
def learning_rate(x, rate):
    return x - rate * x.tanh()


@construct(
    "promised",
    "batches of 1 to 32",
    inputs=lambda s: (normal(s, random.Random(s).randint(1, 32), 16),),
    calls=100,
    limit=3,
)
class Batches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.second = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.first(x)).view(x.shape[0], -1)
        return self.second(x).softmax(dim=-1)


@construct(
    "promised", "a growing KV cache", calls=50, limit=3, inputs=lambda s: (normal(s, 1, 16),)
)
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.keys = torch.zeros(0, 16)
        self.values = torch.zeros(0, 16)

    def forward(self, x):
        self.keys = torch.cat([self.keys, self.key(x)])
        self.values = torch.cat([self.values, self.value(x)])
        weights = (self.query(x) @ self.keys.t() / 4).softmax(dim=-1)
        return weights @ self.values


def _rare(step):
    x = normal(step, 4, 16)
    return (x + 10 if step == 50 else x,)


@construct("promised", "one flip in 100 calls", inputs=_rare, calls=100, limit=2)
def rare_flip(x):
    y = x.tanh()
    if x.sum() > 100:
        y = y * 0
    return y + 1


def _too_large(step):
    return (normal(step, 64, 16) + (10 if step % 3 == 2 else 0),)


@construct("promised", "an assertion that fails early", inputs=_too_large, calls=100)
class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(12))

    def forward(self, x):
        if x.max() > 9:
            raise ValueError("too large")
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def _tree(step):
    rng = random.Random(step)
    return (random_tree(rng.randint(1, 12), 100, rng),)


@construct("promised", "a TreeLSTM on new trees", inputs=_tree, calls=200, limit=4, time_limit=0.8)
class Trees(BinaryTreeLSTM):
    pass
