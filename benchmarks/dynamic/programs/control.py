"""Control flow that depends on data: branches, loops, recursion, exceptions, generators."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.dynamic.kit import construct, normal


@construct("data-dependent if", "if / elif / else")
def branch(x):
    if x.sum() > 4:
        y = x * 2
    elif x.sum() > -4:
        y = x + 1
    else:
        y = -x
    return y * 3


@construct("data-dependent if", "a name bound in one arm only")
def one_sided(x):
    y = x * 0.5
    if x.mean() > 0:
        extra = x.abs()
        y = y + extra
    return y.tanh()


@construct(
    "data-dependent if",
    "None or a tensor",
)
def none_or_tensor(x):
    bias = None
    if x[0, 0] > 0:
        bias = x.mean(0)
    y = torch.tanh(x)
    return y if bias is None else y + bias


@construct("data-dependent if", "conditional expression, `and`, `or`, `not`")
def expressions(x):
    y = x.relu() if x.sum() > 0 and x.max() > 1 else x * 0.1
    if not (y.mean() > 0.5 or y.min() < -0.1):
        y = y + 1
    return y


@construct("data-dependent if", "`match` on `.item()`")
def matched(x):
    match int(x.abs().sum()) % 3:
        case 0:
            return x * 2
        case 1:
            return x + 2
        case _:
            return x - 2


@construct("data-dependent if", "with gradients", is_trained=True)
class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.small = nn.Linear(16, 16)
        self.large = nn.Linear(16, 16)

    def forward(self, x):
        y = torch.tanh(self.small(x))
        if y.norm() > 4:
            y = y + self.large(y)
        return y


@construct("data-dependent while", "Newton's iteration until it converges")
def newton(x):
    target = x.abs() + 0.1
    y = target.clone()
    while (y * y - target).abs().max() > 1e-3:
        y = 0.5 * (y + target / y)
    return y


@construct("data-dependent while", "a counter, an `if` inside")
def counted(x):
    steps = 0
    while x.norm() > 1 and steps < 8:
        if x.sum() > 0:
            x = x * 0.6 - 0.01
        else:
            x = x * 0.6 + 0.01
        steps += 1
    return x, steps


@construct("data-dependent while", "with gradients", is_trained=True)
class Settling(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        z = torch.zeros_like(x)
        rounds = 0
        while rounds < 6:
            new = torch.tanh(0.5 * self.linear(z) + x)
            rounds += 1
            if (new - z).detach().abs().max() < 0.2:
                break
            z = new
        return z


def _rows(step):
    return (normal(step, random.Random(step).randint(1, 6), 16),)


@construct("for over a tensor", "rows of a batch that varies", inputs=_rows)
def rows(x):
    total = torch.zeros(16)
    for row in x:
        total = torch.tanh(total + row)
    return total


def _sequence(step):
    return (normal(step, random.Random(step).randint(2, 7), 2, 16),)


@construct("for over a tensor", "an RNN over sequences of all lengths", inputs=_sequence)
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(16, 16)

    def forward(self, xs):
        h = torch.zeros(2, 16)
        outputs = []
        for x in xs:
            h = self.cell(x, h)
            outputs.append(h)
        return torch.stack(outputs)


@construct("for over a tensor", "`range(int(t))`")
def ranged(x):
    for _ in range(int(x.abs().max())):
        x = x * 0.5 + 0.1
    return x


@construct("break, continue, return there", "`for` with `break` and `else`")
def searched(x):
    for row in x:
        if row.sum() > 3:
            found = row
            break
    else:
        found = torch.zeros(16)
    return found * 2


@construct("break, continue, return there", "`continue` in a loop over a tensor")
def skipping(x):
    total = torch.zeros(16)
    for row in x:
        if row.sum() < 0:
            continue
        total = total + row
    return total


@construct("break, continue, return there", "`return` out of a loop")
def returning(x):
    for row in x:
        if row.max() > 1.5:
            return row * 2
    return x.mean(0)


@construct("break, continue, return there", "nested loops, `while True` with two exits")
def two_exits(x):
    total = torch.zeros(16)
    for row in x:
        trips = 0
        while True:
            row = row * 0.7
            trips += 1
            if row.norm() < 1:
                break
            if trips > 5:
                return total - 1
        total = total + row
    return total


class Node:
    def __init__(self, left, right, word):
        self.left, self.right, self.word = left, right, word


def tree(rng, depth):
    if depth == 0 or rng.random() < 0.3:
        return Node(None, None, torch.tensor([rng.randrange(10)]))
    return Node(tree(rng, depth - 1), tree(rng, depth - 1), None)


@construct(
    "recursion",
    "over a new Python tree each time",
    inputs=lambda step: (tree(random.Random(step), 4),),
)
class TreeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.join = nn.Linear(32, 16)

    def forward(self, node):
        return self.encode(node)

    def encode(self, node):
        if node.word is not None:
            return self.embed(node.word)
        children = torch.cat([self.encode(node.left), self.encode(node.right)], 1)
        return torch.tanh(self.join(children))


@construct("recursion", "depth that depends on data")
def halving(x):
    if x.norm() < 1:
        return x
    return halving(x * 0.5) + 0.1


@construct("exceptions", "raised on a tensor test, caught outside")
def checked(x):
    y = x * 2
    if y.max() > 5:
        raise ValueError("too large")
    return y.tanh()


@construct("exceptions", "raised and caught inside")
def recovered(x):
    try:
        if x.min() < -2.2:
            raise ValueError("too small")
        y = x * 2
    except ValueError:
        y = x.clamp(min=-2)
    return y + 1


@construct("exceptions", "`try` / `finally`", state=lambda: {"calls": 0})
def finally_counts(state, x):
    try:
        return x.relu() if x.sum() > 0 else x
    finally:
        state["calls"] += 1


@construct("generator", "a local one")
def generated(x):
    def scaled():
        for factor in (0.5, 1.0, 2.0):
            yield x * factor

    return sum(scaled())


@construct("generator", "a live one: `next(it)`", state=lambda: iter(range(1000)))
def live(numbers, x):
    return x * next(numbers)


@construct("numbers of tensors", "`.item()` in arithmetic")
def item_scaled(x):
    scale = x.abs().max().item()
    return x / scale + min(scale, 2.0)


@construct("numbers of tensors", "`.item()` decides")
def item_decides(x):
    if x.mean().item() > 0.05:
        return x * 2
    return x + 1


@construct("numbers of tensors", "`.tolist()` builds a list")
def listed(x):
    weights = x.mean(1).tolist()
    return sum(w * row for w, row in zip(weights, x, strict=True))


@construct("numbers of tensors", "an index from `argmax`")
def indexed(x):
    best = int(x.sum(1).argmax())
    return F.softmax(x[best], dim=0), best
