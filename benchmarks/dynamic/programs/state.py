"""Python state and effects: attributes, globals, containers, prints, other libraries, torch's modes."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import abc
import dataclasses
import functools
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.dynamic.kit import construct, matrix, normal

STEPS = 0


class Holder:
    def __init__(self):
        self.count = 0
        self.mean = torch.zeros(16)
        self.log = []
        self.table = {"scale": 1.0}


@construct("attribute mutation", "a counter in arithmetic", state=Holder)
def counter(o, x):
    o.count += 1
    return x * o.count


@construct("attribute mutation", "a running mean", state=Holder)
def running_mean(o, x):
    o.mean = 0.9 * o.mean + 0.1 * x.mean(0)
    return x - o.mean


@construct("attribute mutation", "in a branch on data", state=Holder)
def counted_branch(o, x):
    if x.sum() > 0:
        o.count += 1
        o.mean = x.mean(0)
    return x + o.mean


@construct("attribute mutation", "a step counter on a module")
class Warmup(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.step = 0

    def forward(self, x):
        self.step += 1
        return self.linear(x) * min(1.0, self.step / 10)


@construct("global mutation", "a global counter")
def global_counter(x):
    global STEPS
    STEPS += 1
    return x + STEPS


@construct("list append and pop", "a local list in a loop")
def local_list(x):
    stack = []
    for row in x:
        stack.append(row * 2)
        if row.sum() > 0:
            stack.pop()
    return torch.stack(stack).sum(0) if stack else x.sum(0)


@construct("list append and pop", "an outer list", state=Holder)
def outer_list(o, x):
    o.log.append(x.mean())
    if len(o.log) > 4:
        o.log.pop(0)
    return x * len(o.log)


@construct("dict and dataclass state", "an item that is read and stored", state=Holder)
def dict_state(o, x):
    o.table["scale"] *= 0.9
    o.table["calls"] = o.table.get("calls", 0) + 1
    return x * o.table["scale"]


@dataclasses.dataclass
class Progress:
    step: int = 0
    best: float = 0.0


@construct("dict and dataclass state", "the best value so far", state=Progress)
def best_so_far(progress, x):
    progress.step += 1
    progress.best = max(progress.best, x.max().item())
    return x / (1 + progress.best)


@construct("print and log", "`print` of a number")
def printing(x):
    y = x.tanh()
    print("mean", y.mean().item())
    return y * 2


@construct("print and log", "in an arm", state=Holder)
def printing_arm(o, x):
    if x.max() > 2.5:
        print("clipped", o.count)
        x = x.clamp(max=2.5)
    return x


@construct("NumPy on tensors", "`.numpy()` in the middle", time_limit=None)
def through_numpy(x):
    y = np.median(x.tanh().numpy(), axis=0)
    return x + torch.from_numpy(y)


@construct("third-party C call", "SciPy on a tensor", time_limit=None)
def through_scipy(x):
    from scipy.special import expit

    return x * torch.from_numpy(expit(x.numpy()))


class Doubling:
    def apply(self, x):
        return x * 2


class Adding:
    amount = 1.0

    def apply(self, x):
        return x + self.amount


@construct(
    "duck typing",
    "two classes in turn",
    inputs=lambda step: ((Doubling, Adding)[step % 2](), *matrix(step)),
)
def duck(part, x):
    return part.apply(x).tanh()


def _swap(names, owner, step):
    if step == 10:
        owner.activation = torch.sigmoid


@construct("duck typing", "a swapped attribute", change=_swap)
class Swapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.activation = torch.tanh

    def forward(self, x):
        return self.activation(self.linear(x))


def _patch(names, owner, step):
    if step == 10:
        names["Adding"].apply = lambda self, x: x - self.amount


@construct("duck typing", "a patched method", state=Adding, change=_patch)
def patched(part, x):
    return part.apply(x).tanh()


class Late(Adding):
    pass


def _shadow(names, owner, step):
    if step == 10:
        names["Late"].amount = 5.0


@construct("duck typing", "an attribute that shadows the base class's", state=Late, change=_shadow)
def shadowed(part, x):
    return part.apply(x).tanh()


class Shape(abc.ABC):
    pass


def _register(names, owner, step):
    if step == 10:
        names["Shape"].register(names["Adding"])


@construct("duck typing", "`ABC.register` changes `isinstance`", state=Adding, change=_register)
def registered(part, x):
    return x * 2 if isinstance(part, Shape) else x


@functools.lru_cache
def cached_scale(rows):
    return rows * 0.5


@construct("closures", "`functools.lru_cache`")
def remembered(x):
    return x * cached_scale(x.shape[0])


@construct("RNG", "torch's: dropout")
class Dropping(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5) + torch.rand_like(x)


@construct("RNG", "Python's")
def python_random(x):
    return x * random.random()


@construct("RNG", "Python's decides")
def random_depth(x):
    for _ in range(random.randint(1, 3)):
        x = torch.tanh(x)
    return x


@construct("RNG", "NumPy's")
def numpy_random(x):
    return x * np.random.rand()


@construct("in-place and views", "an argument is changed")
def argument(x):
    x.add_(1)
    x[0] *= 2
    return x.sum()


def _aliased(step):
    x = normal(step, 4, 16)
    return (x, x[1:3]) if step % 2 else (x, normal(step + 100, 2, 16))


@construct("in-place and views", "arguments that overlap in every second call", inputs=_aliased)
def overlapping(x, y):
    x.mul_(2)
    y.add_(1)
    return x + 0, y + 0


@construct("in-place and views", "in an arm", state=Holder)
def in_an_arm(o, x):
    if x.sum() > 0:
        o.mean.add_(x.mean(0))
    else:
        o.mean.mul_(0.5)
    return x + o.mean


class Learner:
    def __init__(self):
        torch.manual_seed(0)
        self.net = nn.Linear(16, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)


@construct("backward inside", "gradients of a loss", state=Learner)
def gradients(o, x):
    o.net.zero_grad()
    loss = o.net(x).square().mean()
    loss.backward()
    return loss.detach(), o.net.weight.grad.norm()


@construct("backward inside", "`autograd.grad` of the input")
def penalty(x):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(x.tanh().sum(), x)
    return slope.square().mean()


@construct("optimiser step inside", "a whole training step", state=Learner)
def train_step(o, x):
    o.optimizer.zero_grad()
    loss = o.net(x).square().mean()
    loss.backward()
    o.optimizer.step()
    return loss.detach()


def _schedule(names, owner, step):
    owner.optimizer.param_groups[0]["lr"] = 0.1 * 0.9**step


@construct(
    "optimiser step inside", "and a new learning rate each time", state=Learner, change=_schedule
)
def scheduled_step(o, x):
    o.optimizer.zero_grad()
    loss = o.net(x).square().mean()
    loss.backward()
    o.optimizer.step()
    return loss.detach()


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        return self.linear(x).tanh()


@construct("hooks", "registered before")
class EarlyHook(Hooked):
    def __init__(self):
        super().__init__()
        self.linear.register_forward_hook(lambda module, args, out: out * 2)


def _hook(names, owner, step):
    if step == 10:
        owner.linear.register_forward_hook(lambda module, args, out: out * 2)


@construct("hooks", "registered later", change=_hook)
class LateHook(Hooked):
    pass


@construct("hooks", "on a tensor", is_trained=True)
class TensorHook(Hooked):
    def forward(self, x):
        y = self.linear(x)
        y.register_hook(lambda grad: grad * 0.5)
        return y.tanh()


@construct("modes of torch", "`no_grad` and `autocast` inside")
class Modes(Hooked):
    def forward(self, x):
        with torch.no_grad():
            scale = self.linear(x).abs().mean()
        with torch.autocast("cpu", torch.bfloat16):
            y = self.linear(x)
        return y.float() * scale


def _toggle(names, owner, step):
    torch.set_grad_enabled(step % 2 == 0)


@construct("modes of torch", "grad mode changes outside", change=_toggle)
class Toggled(Hooked):
    pass


def _train(names, owner, step):
    owner.train(step % 2 == 0)


@construct("modes of torch", "`train` and `eval` in turn", change=_train)
class Switched(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x):
        return self.norm(x)


@construct(
    "closures",
    "a function that is handed in",
    inputs=lambda step: ((torch.tanh, torch.sigmoid)[step % 2], *matrix(step)),
)
def higher_order(fn, x):
    return [fn(row) for row in x][-1]


def make_scaled():
    scale = 1.0

    def scaled(x):
        return x * scale

    def rescale(value):
        nonlocal scale
        scale = value

    scaled.rescale = rescale
    return scaled


def _rescale(names, owner, step):
    owner.rescale(1.0 + step)


@construct("closures", "a changed cell", state=make_scaled, change=_rescale)
def cell(scaled, x):
    return scaled(x).tanh()
