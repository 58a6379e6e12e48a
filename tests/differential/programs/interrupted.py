"""Programs with something to lose: each changes outside state around its tensor operations."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="annotation-unchecked"

from __future__ import annotations

import collections

import torch
import torch.nn.functional as F
from tests.differential.kit import World, fresh_tensor
from torch import nn

TOTAL: list[object] = []


class Keeper:
    def __init__(self):
        self.first = None
        self.second = None
        self.table = {}


def attribute_stores():
    keeper = Keeper()

    def call(x):
        keeper.first = x * 2
        y = torch.tanh(x) + 1
        keeper.second = y.sum()
        return (y * x).relu()

    return World(call=call, state={"keeper": keeper})


def module_attribute_stores():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def call(x):
        first, second = net[0], net[1]
        y = first(x)
        net.hidden = y
        second.seen = True
        return second(torch.relu(y))

    return World(call=call, state={"net": net}, backward=True)


def dict_writes():
    table = {"n": 1}

    def call(x):
        table["mean"] = x.mean(0)
        y = x - x.mean(0)
        table["std"] = y.square().mean(0)
        table["n"] = 2
        return y / (y.square().mean(0) + 1).sqrt()

    return World(call=call, state={"table": table})


def nested_dict_writes():
    keeper = Keeper()
    keeper.table = {"inner": {}}

    def call(x):
        y = x @ x.t()
        keeper.table["inner"]["gram"] = y
        z = y.softmax(-1)
        keeper.table["inner"]["weights"] = z
        return z @ x

    return World(call=call, state={"keeper": keeper})


def list_appends():
    log = []

    def call(x):
        log.append(x.sum())
        y = x.exp()
        log.append(y.sum())
        z = y.log1p()
        log.append(1.0)
        return z * 2

    return World(call=call, state={"log": log})


def global_list_appends():
    def call(x):
        TOTAL.append(x * 2)
        y = x.sigmoid() * 3
        TOTAL.append(y)
        return y + x

    return World(call=call, state={"total": TOTAL})


def list_items():
    values = [None, None]

    def call(x):
        values[0] = x + 1
        y = x.abs().sqrt()
        values[1] = y
        return y.sum(0)

    return World(call=call, state={"values": values})


def deque_and_set():
    recent, names = collections.deque(maxlen=2), set()

    def call(x):
        recent.append(x.max())
        y = x.cumsum(0)
        names.add("seen")
        return y.flip(0) - x

    return World(call=call, state={"recent": recent, "names": names})


def batch_norm_in_training():
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    return World(call=net, backward=True)


def two_batch_norms():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh())
    return World(call=lambda x: net(x).sum(1), state={"net": net}, backward=True)


def dropout():
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.2))
    return World(call=net, backward=True)


def dropout_and_appends():
    log = []

    def call(x):
        log.append("began")
        y = F.dropout(x, 0.4)
        log.append(y)
        return F.dropout(y @ y.t(), 0.3).sum(0)

    return World(call=call, state={"log": log})


def random_numbers_and_an_attribute():
    keeper = Keeper()

    def call(x):
        noise = torch.randn(4, 3)
        keeper.first = noise
        y = x + noise * 0.1
        keeper.second = torch.rand(3)
        return y.clamp(-1, 1) * keeper.second

    return World(call=call, state={"keeper": keeper})


def in_place_on_an_argument():
    def call(x):
        y = x * 3
        x.add_(1)
        z = (y + x).square()
        x.mul_(0.5)
        return z.mean(0)

    return World(call=call)


def in_place_on_two_arguments():
    def call(x, y):
        x.sub_(y)
        z = x @ y.t()
        y.copy_(x)
        return z.softmax(0) @ y

    return World(call=call, inputs=lambda step: (*fresh_tensor(step), *fresh_tensor(step + 50)))


def in_place_on_a_buffer():
    net = nn.Module()
    net.register_buffer("mean", torch.zeros(3))

    def call(x):
        with torch.no_grad():
            net.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        y = (x - net.mean).abs()
        return y / y.sum()

    return World(call=call, state={"net": net})


def in_place_on_an_item():
    memory = torch.zeros(4, 3)

    def call(x):
        memory[0] = x[0]
        y = memory + x
        memory[1:3] += y[1:3]
        return y.prod(1)

    return World(call=call, state={"memory": memory})


def several_outputs():
    linear = nn.Linear(3, 4)

    def call(x):
        y = linear(x)
        first, second = y.chunk(2, 1)
        return {"a": first.relu(), "b": [second, second * 2], "x": x, "view": y[0]}

    return World(call=call, state={"linear": linear}, backward=True)


def gradients_through_a_loop():
    weights = [torch.ones(3, 3, requires_grad=True) for _ in range(3)]

    def call(x):
        for weight in weights:
            x = torch.tanh(x @ weight) + x
        return x

    return World(call=call, state={"weights": weights}, backward=True)


def attention():
    net = nn.MultiheadAttention(4, 2, batch_first=True)

    def inputs(step):
        return (torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(step)),)

    return World(
        call=lambda x: net(x, x, x)[0].sum(1), inputs=inputs, state={"net": net}, backward=True
    )


def recurrent_cell_that_keeps_its_state():
    cell, keeper = nn.GRUCell(3, 3), Keeper()
    keeper.first = torch.zeros(4, 3)

    def call(x):
        with torch.no_grad():
            hidden = cell(x, keeper.first)
            keeper.first = hidden
            return torch.sigmoid(hidden) * x

    return World(call=call, state={"cell": cell, "keeper": keeper})


def convolution_with_running_statistics():
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2))

    def inputs(step):
        return (torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(step)),)

    return World(call=net, inputs=inputs, backward=True)


def error_is_caught():
    log = []

    def call(x):
        try:
            y = torch.relu(x) * 2
            y = y.exp()
        except RuntimeError:
            log.append("caught")
            y = x
        return y + 1

    return World(call=call, state={"log": log})


def finally_runs():
    keeper = Keeper()

    def call(x):
        try:
            y = x.sum(0) * 2
            return y.exp()
        finally:
            keeper.first = "left"

    return World(call=call, state={"keeper": keeper})


def decision_on_data():
    keeper = Keeper()

    def call(x):
        y = x.abs()
        if (y.sum() > -1).item():
            y = y * 2
        keeper.first = y
        return y.sqrt() + x

    return World(call=call, state={"keeper": keeper})


def train_step():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    opt = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    keeper = Keeper()

    def call(x):
        keeper.first = "begun"
        opt.zero_grad()
        loss = model(x).square().mean()
        keeper.second = loss.detach()
        loss.backward()
        keeper.first = "backward"
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        opt.step()
        keeper.first = "done"
        return loss

    return World(call=call, state={"keeper": keeper, "model": model, "opt": opt})


def train_step_of_adam_after_a_decision():
    model = nn.Linear(3, 2)
    opt = torch.optim.AdamW(model.parameters(), 0.01)

    def call(x):
        opt.zero_grad()
        loss = model(x).square().mean()
        if loss > -1:
            loss = loss * 2
        loss.backward()
        opt.step()
        return loss.item()

    return World(call=call, state={"model": model, "opt": opt})


def context_changes_the_mode():
    linear = nn.Linear(3, 3)

    def call(x):
        with torch.no_grad():
            y = linear(x)
            y = y.relu()
        with torch.autocast("cpu", torch.bfloat16):
            z = linear(x)
        return y + z.float()

    return World(call=call, state={"linear": linear}, backward=True)
