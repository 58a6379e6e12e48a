"""What the outside may do to a random program between two calls.

Each change gets the program's module and one plain value, finds what it changes by the names that
`random_programs.FRAME` gives, and does the same in every copy of the program.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Change = Callable[[Any, Any], object]

VALUES = (0.5, 1.0, 1, True, 2.0, 2, -0.0, 0.0, 3.0, float("nan"), False)


def _assign(path: str) -> Change:
    """`path = value`, with the steps of `path` looked up from the module on."""

    def change(module: Any, value: Any) -> None:
        *steps, last = path.split(".")
        owner = module
        for step in steps:
            owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
        setattr(owner, last, value)

    return change


def _statement(text: str) -> Change:
    """One statement run in the module, as another module of the program would."""

    def change(module: Any, value: Any) -> None:
        scope = {"m": module, "value": value, "torch": torch, "nn": nn, "types": types}
        exec(text, scope)

    return change


def _weight_norm(module: Any, value: Any) -> None:
    linear = module.net.blocks[0].linear
    if not hasattr(linear, "parametrizations"):
        torch.nn.utils.parametrizations.weight_norm(linear)


def _parametrize(module: Any, value: Any) -> None:
    linear = module.net.linear
    if linear._parameters.get("bias") is not None:
        torch.nn.utils.parametrize.register_parametrization(linear, "bias", nn.Tanh())


_ASSIGNED = """
SCALE LEVEL COUNT PART.gain PART.extra PART.kind Part.kind Part.extra net.flag net.rate net.extra
net.blocks.0.rate net.blocks.1.flag net.training net.blocks.0.training net.drop.p net.part.gain
net.slotted.size net.norm.eps net.norm.momentum net.late net.linear.in_features
""".split()
_STATEMENTS = """
m.NAMES["a"] = value
m.NAMES["c"] = value
m.NAMES.pop("c", None)
m.NAMES["a"] = m.NAMES.pop("a")
m.NAMES = dict(m.NAMES)
m.STEPS[0] = value
m.STEPS.append(value)
m.STEPS[-1:] = []
m.STEPS[:] = [1.0, 2.0]
m.STEPS.reverse()
m.STEPS = list(m.STEPS)
m.STEPS = m.Part.limits
m.Part.limits.append(value)
m.TAGS.add("zzz")
m.TAGS.discard("x")
m.QUEUE.append(value)
m.QUEUE.rotate()
m.ORDER.move_to_end("first")
m.ORDER["third"] = value
m.LOG.append(value)
m.LOG.clear()
m.RATE.set(value)
m.PART = m.Part(value)
m.PART = m.Other(value)
m.PART.__class__ = m.Other
m.PART.__class__ = m.Part
m.PART.__dict__ = {"gain": value, "items": [2.0, 3.0]}
m.PART.__dict__["gain"] = value
m.PART.items[0] = value
m.PART.items = [value, 1.0]
m.PART.apply = m.thrice
vars(m.PART).pop("extra", None)
m.Part.apply = m.plus_gain
m.Part.double = property(m.triple)
m.Other.__bases__ = (m.Middle,)
m.Other.__bases__ = (m.Mixin, m.Part)
m.helper.__defaults__ = (value,)
m.helper.__kwdefaults__ = {"shift": value}
m.helper.__kwdefaults__["shift"] = value
m.helper.__code__ = m.recoded.__code__
m.helper = m.replaced
m.inner.__closure__[0].cell_contents = value
m.inner = m.make_inner(value)
m.len = sum
vars(m).pop("len", None)
m.net.train()
m.net.eval()
m.net.blocks[0].eval()
m.net.norm.train(not m.net.norm.training)
m.net.fn = m.helper
m.net.fn = m.make_inner(value)
m.net.blocks[0].fn = torch.relu
m.net.table["k"] = value
m.net.table["n"]["deep"] = value
m.net.table["n"] = {"deep": value}
m.net.table.setdefault("new", value)
m.net.values[1] = value
m.net.values.append(value)
m.net.pair = (m.PART, m.Part(value))
m.net.pair = (m.PART, m.PART)
m.net.part = m.Other(value)
m.net.part = m.PART
m.net.last = None
vars(m.net).pop("extra", None)
vars(m.net).pop("late", None)
m.net.__dict__["late"] = value
m.net.__dict__["rate"] = value
m.net.linear.weight.requires_grad_(bool(value))
m.net.gain.requires_grad_(bool(value))
m.net.linear.weight.data = torch.ones(3, 3)
m.net.linear.weight.data.mul_(0.5)
m.net.gain = nn.Parameter(torch.ones(3))
m.net.gain = m.net.linear.bias
m.net._parameters["gain"] = nn.Parameter(torch.full((3,), 2.0))
m.net.state = torch.full((3,), 0.5)
m.net._buffers["state"] = torch.full((3,), 0.25)
m.net.state = m.net.norm.running_var
m.net.state.add_(1)
m.net.linear = nn.Linear(3, 3)
m.net.linear = nn.Linear(3, 3, bias=False)
m.net.linear = m.net.blocks[0].linear
m.net.drop = nn.Identity()
m.net.norm = nn.BatchNorm1d(3, affine=False)
m.net._modules["drop"] = nn.ReLU()
m.net.blocks[0] = m.Block()
m.net.blocks[0] = m.net.blocks[1]
m.net.blocks.append(m.Block())
m.net.blocks[1] = m.net.blocks.pop(-1) if len(m.net.blocks) > 2 else m.net.blocks[1]
m.net.linear.forward = m.thrice
vars(m.net.linear).pop("forward", None)
m.net.load_state_dict({k: v + 1 for k, v in m.net.state_dict().items()}, strict=False)
m.net.load_state_dict({k: v.clone() for k, v in m.net.state_dict().items()}, assign=True)
m.net.to(torch.float64)
m.net.to(torch.float32)
m.net.linear.half()
m.net.zero_grad()
m.net.zero_grad(set_to_none=False)
m.net.linear.register_forward_hook(m.doubled)
m.net.linear.register_forward_pre_hook(m.plus_one)
m.net.linear._forward_hooks.clear()
m.net.linear._forward_pre_hooks.clear()
m.net.linear.register_full_backward_hook(lambda module, inside, outside: None)
m.net.blocks[0].register_forward_hook(m.doubled)
m.net.gain.register_hook(lambda grad: grad * 2)
m.Block.forward = m.plus_rate
m.Net.extra = value
m.net.blocks[0].__class__ = m.Net.__bases__[0]
""".strip().splitlines()

CHANGES: dict[str, Change] = {f"{path} = value": _assign(path) for path in _ASSIGNED}
CHANGES |= {text: _statement(text) for text in _STATEMENTS}
CHANGES |= {"weight_norm": _weight_norm, "register_parametrization": _parametrize}
