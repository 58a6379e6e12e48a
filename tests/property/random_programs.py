"""Random small programs as source text: a module tree, containers, globals, closures, stores.

The frame (classes, globals, names) is the same for each program, so that the changes in
`random_changes` find what they change; the bodies of its functions are random. Feature size is 3
everywhere and every statement is legal for any batch size, so most programs run to their end; some
raise, which is something to be equal in as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

FRAME = """\
import collections
import contextvars
import functools
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SCALE = 1.5
LEVEL = 2
COUNT = 0
NAMES = {{"a": 0.5, "b": 2.0}}
ORDER = collections.OrderedDict(first=1.0, second=0.5)
STEPS = [1.0, 2.0]
TAGS = {{"x", "yy"}}
QUEUE = collections.deque([0.5, 1.5], maxlen=3)
LOG = []
y, flag, parts = None, True, ()  # what a body that has no such arguments finds
RATE = contextvars.ContextVar("rate", default=1)
Result = collections.namedtuple("Result", "value, extra")


class Part:
    kind = 1
    limits = [1.0, 2.0]

    def __init__(self, gain):
        self.gain = gain
        self.items = [1.0, 0.5]

    @property
    def double(self):
        return self.gain * 2

    def apply(self, x):
{part}


class Other(Part):
    def apply(self, x):
        return x - self.gain


class Slotted:
    __slots__ = ("size",)

    def __init__(self, size):
        self.size = size


def helper(x, by=2.0, *, shift=1.0):
{helper}


def make_inner(amount):
    def inner(x):
        return x + amount

    return inner


def make_counter():
    total = 0

    def counter(x):
        nonlocal total
        total += 1
        return x + total

    return counter


inner = make_inner(0.25)
counter = make_counter()
PART = Part(0.75)


class Mixin:
    extra = 6.0
    kind = 3


class Middle(Part):
    kind = 4


def replaced(x, by=2.0, *, shift=1.0):
    return x * 3 + by


def recoded(x, by=2.0, *, shift=1.0):
    return x - by


def thrice(x):
    return x * 3


def plus_gain(self, x):
    return x + self.gain


def plus_rate(self, x, y=None, flag=True, parts=()):
    return x + self.rate


def triple(self):
    return self.gain * 3


def doubled(module, args, out):
    return out * 2


def plus_one(module, args):
    return (args[0] + 1,)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.4)
        self.gain = nn.Parameter(torch.randn(3))
        self.register_buffer("state", torch.ones(3))
        self.flag = True
        self.rate = 0.5
        self.count = 0
        self.last = None
        self.part = PART
        self.slotted = Slotted(2.0)
        self.table = {{"k": 1.0, "n": {{"deep": 2.0}}}}
        self.values = [0.5, 1]
        self.pair = (PART, PART)
        self.fn = inner

    def forward(self, x, y=None, flag=True, parts=()):
{block}


class Net(Block):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x, y=None, flag=True, parts=()):
{net}


net = Net()


def step(x, y=None, flag=True, parts=()):
{step}
"""

UNARY = ("torch.relu({0})", "torch.tanh({0})", "{0}.abs()", "-{0}", "{0}.square()", "{0} * 1")
SHUFFLES = (
    "{0}.t().contiguous().t()",
    "{0}.reshape(-1).view(-1, 3)",
    "torch.cat([{0}, {0}])[: {0}.shape[0]]",
    "torch.stack([{0}, {0}]).sum(0)",
    "{0}.chunk(2)[0].sum(0) + {0}",
    "{0}.flip(0)",
    "torch.where({0} > 0, {0}, {0} * 0.5)",
    "{0}[{0}.shape[0] - 1] + {0}",
)
BINARY = ("{0} + {1}", "{0} * {1}", "{0} - {1}", "{1} * {0}", "torch.add({0}, {1}, alpha=0.5)")
SCALARS = (
    "SCALE",
    "LEVEL",
    "COUNT",
    'NAMES["a"]',
    'NAMES.get("c", 3.0)',
    "STEPS[0]",
    "STEPS[-1]",
    "len(STEPS)",
    "sum(STEPS)",
    "max(NAMES.values())",
    "len(TAGS)",
    "PART.gain",
    "Part.kind",
    "PART.double",
    "len(QUEUE)",
    "QUEUE[0]",
    "sum(QUEUE)",
    "x.shape[0]",
    "x.dim()",
    "Part.limits[1]",
    "sum(v for v in STEPS)",
    'len("".join(NAMES))',
    "next(iter(ORDER.values()))",
    "LEVEL ** 2",
    'getattr(PART, "extra", 4.0)',
    "len(LOG)",
    "[s * 2 for s in STEPS][0]",
    "min(STEPS, default=1.0)",
    'float(f"{LEVEL}.5")',
    "len(sorted(TAGS)[0])",
    "(lambda s: s + 1)(SCALE)",
    "max(LEVEL, 1)",
    "tuple(ORDER)[0].count('s')",
    "STEPS[0] if STEPS else 2.0",
    "int(LEVEL) // 2",
    "helper.__defaults__[0]",
    "RATE.get()",
    "len({*parts})",
    "sum(part.gain for part in parts)",
    "[part.kind for part in parts].count(1)",
    "getattr(helper, 'note', 2.0)",
    "Other.kind",
)
OWN_SCALARS = (
    "self.rate",
    "self.count",
    "self.part.gain",
    "self.part.kind",
    'self.table["k"]',
    'self.table["n"]["deep"]',
    "self.values[1]",
    "len(self.values)",
    "self.slotted.size",
    'getattr(self, "extra", 4.0)',
    "self.part.items[0]",
    "sum(self.values)",
    "self.drop.p",
    'self.__dict__.get("late", 1.0)',
    "self.norm.eps",
    "self.linear.in_features",
    "len(self.table)",
    "self.pair[0].gain",
    'vars(self.part)["gain"]',
    "len(list(self.parameters()))",
)
TENSORS = (
    "x",
    "x",
    "x",
    "x.detach()",
    "torch.ones(3)",
    "torch.zeros_like(x)",
    "x.new_full((3,), 0.5)",
)
OWN_TENSORS = (
    "self.gain",
    "self.state",
    "self.linear.bias",
    "self.norm.running_mean",
    "self.linear.weight.sum(0)",
)
CALLS = (
    "helper({0})",
    "helper({0}, by={1})",
    "helper({0}, shift={1})",
    "inner({0})",
    "PART.apply({0})",
)
OWN_CALLS = (
    "self.linear({0})",
    "self.linear({0})",
    "self.norm({0})",
    "self.drop({0})",
    "self.part.apply({0})",
    "self.fn({0})",
    "F.linear({0}, self.linear.weight)",
    "F.dropout({0}, 0.3, self.training)",
    "F.layer_norm({0}, (3,), self.gain)",
    "{0} @ self.linear.weight",
)
RANDOM = (
    "torch.rand_like({0}) + {0}",
    "F.dropout({0}, 0.3)",
    "{0} + torch.randn(3)",
    "{0} * random.random()",
    "{0} + random.choice([1.0, 2.0, 3.0])",
    "{0} * np.random.uniform(1, 2)",
    "{0} + torch.from_numpy(np.random.rand(3)).to({0}.dtype)",
)
CONDITIONS = (
    "flag",
    "LEVEL > 1",
    '"c" in NAMES',
    '"x" in TAGS',
    "len(STEPS) > 2",
    "isinstance(PART, Other)",
    "x.shape[0] > 2",
    "x.dtype is torch.float64",
    "torch.is_grad_enabled()",
    "y is x",
    "y is None",
    "x.requires_grad",
    "not LOG",
    "STEPS == [1.0, 2.0]",
    'hasattr(PART, "extra")',
    "SCALE == 1",
    "STEPS is Part.limits",
    "type(LEVEL) is bool",
    "x.is_contiguous()",
    "callable(helper)",
    "QUEUE",
    "1.0 < SCALE < 2.5",
    "LEVEL and SCALE",
    'NAMES.keys() == {"a", "b"}',
    "PART.items is not STEPS",
    "parts and parts[0] is parts[1]",
    "PART in parts",
    "issubclass(Other, Middle)",
    "type(PART) is Part",
)
OWN_CONDITIONS = (
    "self.training",
    "self.flag",
    "isinstance(self.part, Other)",
    'hasattr(self, "extra")',
    "self.part is PART",
    "self.pair[0] is self.pair[1]",
    "self.values",
    '"k" in self.table',
    "self.last is None",
    "self.gain.requires_grad",
    "self.gain is self.linear.bias",
    "self.fn is inner",
    '"late" in self.__dict__',
    "self.count % 2 == 0",
    "type(self.part) is Part",
    "self.linear.bias is not None",
    "bool(self.linear._forward_hooks)",
)
RARE_CONDITIONS = (
    "flag is False",
    "LEVEL > 2",
    '"c" in NAMES',
    "x.shape[0] < 3",
    "SCALE == 1",
    "isinstance(PART, Other)",
    "x.sum() > 20",
    "len(STEPS) > 3",
    "not torch.is_grad_enabled()",
    "True",
)
DATA_CONDITIONS = (
    "x.sum() > 0",
    "bool((x > 5).any())",
    "x.abs().max().item() > 1.0",
    "random.random() < 0.7",
)
STORES = (
    'NAMES["c"] = {1}',
    "LOG.append({1})",
    "LOG.append(x)",
    "PART.gain = {1}",
    "STEPS[0] = {1}",
    "QUEUE.append({1})",
    "TAGS.add('zzz')",
    "NAMES.update(b={1})",
    "PART.extra = {1}",
    "LOG.clear()",
    "STEPS.extend([])",
    "PART.items = [{1}, 2.0]",
    "STEPS[:] = [{1}, 2.0]",
    "COUNT += 1",
    "Part.kind = {1}",
    "Part.kind += 1",
    "Other.kind = {1}",
    "helper.note = {1}",
    "for part in parts[:1]: part.gain = {1}",
    "x = counter(x)",
)
OWN_STORES = (
    "self.count += 1",
    "self.last = x",
    "self.last = x.detach()",
    'self.table["k"] = {1}',
    "self.rate = {1}",
    'self.table["seen"] = len(self.table)',
    "self.values.append(1.0)",
    "self.part.gain = {1}",
    "self.extra = {1}",
    "self.slotted.size = {1}",
    'setattr(self, "late", {1})',
    "self.values[0] = {1}",
    "self.pair = (PART, self.part)",
    "self.part = Other({1})",
    "self.last = [x, {1}]",
    'self.table["n"]["deep"] = {1}',
    'self.__dict__["late"] = {1}',
    "self.state = x.detach().mean(0)",
    "self.values = [{1}, 1]",
    "self.flag = not self.flag",
    'self.table.pop("seen", None)',
)
WRITES = (
    "x = x.clone(); x.mul_({1})",
    "x.add_(1.0)",
    "y = x.clone(); y[0] = 0.5; x = x + y",
    "x = x + 0; x *= 2",
    "x = x.clone(); x[:, 0] += 1",
)
OWN_WRITES = (
    "with torch.no_grad(): self.state.mul_(0.5)",
    "self.state.copy_(x.detach()[0])",
    "self.state += 1",
    "self.linear.weight.data.mul_(0.9)",
    "self.state[0] = {1}",
)
IMPERATIVE = (
    'print("at", LEVEL)',
    "SCALE_ = random.random(); x = x * SCALE_; seen = SCALE_ > 2",
    "print(x.shape)",
    "y = x.tolist()",
)
RETURNS = (
    "return x",
    "return x",
    "return x",
    "return x, x",
    '{{"out": x, "by": {1}}}',
    "return Result(x, {1})",
    "return x[0]",
    "return [x, {1}, None]",
    "return x, y",
    "return x, STEPS",
    "return x.t(), x",
    "return collections.OrderedDict(a=x, b=[x, x])",
    "return x, PART",
    "return (x.detach(), x)",
)
OWN_RETURNS = (
    "return x, self.state",
    'return {{"x": x, "t": self.table}}',
    "return x + self.gain, self.gain",
    "return x, self.last",
    "return x, self.part",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a body may mention.

    Attributes:
        has_self: whether it is a method of a `Block`.
        calls: calls of other random functions, which must not lead back here.
        effects: how many of a hundred statements write something.
        is_top: whether it is the function that is called from outside.
    """

    has_self: bool
    calls: tuple[str, ...]
    effects: int
    is_top: bool = False


class Body:
    """Draws one function body."""

    def __init__(self, draw: st.DrawFn, scope: Scope) -> None:
        self._draw = draw
        self._scope = scope

    def text(self, indent: int) -> str:
        """The lines of the body, indented."""
        lines = ["global COUNT"]
        lines += self._block(self._int(*((3, 7) if self._scope.is_top else (1, 3))), depth=0)
        lines.append(self._return())
        return "\n".join(" " * indent + line for line in lines)

    def _int(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def _pick(self, *tables: tuple[str, ...]) -> str:
        return self._draw(st.sampled_from([row for table in tables for row in table]))

    def _own(self, common: tuple[str, ...], own: tuple[str, ...]) -> str:
        return self._pick(common, own) if self._scope.has_self else self._pick(common)

    def _scalar(self) -> str:
        return self._own(SCALARS, OWN_SCALARS)

    def _tensor(self) -> str:
        return self._own(TENSORS, OWN_TENSORS)

    def _condition(self) -> str:
        if self._int(0, 9) == 9:
            return self._pick(DATA_CONDITIONS)
        return self._own(CONDITIONS, OWN_CONDITIONS)

    def _block(self, count: int, depth: int) -> list[str]:
        return [line for _ in range(count) for line in self._statement(depth)]

    def _statement(self, depth: int) -> list[str]:
        if self._int(0, 99) < self._scope.effects:
            return [self._effect()]
        kind = self._int(0, 13 if depth < 2 else 6)
        if kind <= 6:
            return [f"x = {self._expression(kind)}"]
        return self._compound(kind, depth)

    def _expression(self, kind: int) -> str:
        match kind:
            case 0:
                return self._pick(UNARY, SHUFFLES).format(
                    self._tensor() if self._int(0, 4) == 4 else "x"
                )
            case 1 | 2:
                return self._pick(BINARY).format("x", self._scalar())
            case 3:
                return self._pick(BINARY[:4]).format("x", self._tensor())
            case 4 if self._scope.calls:
                return self._pick(self._scope.calls).format("x", self._scalar())
            case 5 if self._int(0, 5) == 5:
                return self._pick(RANDOM).format("x")
            case _:
                own = OWN_CALLS if self._scope.has_self else ("x * {1}",)
                return self._pick(own).format("x", self._scalar())

    def _effect(self) -> str:
        kind = self._int(0, 9)
        if kind <= 6:
            text = self._own(STORES, OWN_STORES)
        elif kind <= 8:
            text = self._own(WRITES, OWN_WRITES)
        else:
            text = self._pick(IMPERATIVE)
        return text.format("x", self._scalar())

    def _compound(self, kind: int, depth: int) -> list[str]:
        inside = self._block(self._int(1, 2), depth + 1)
        match kind:
            case 7 | 8 | 9:
                lines = [f"if {self._condition()}:", *_indent(inside)]
                if self._int(0, 1):
                    lines += ["else:", *_indent(self._block(1, depth + 1))]
                return lines
            case 10:
                return [self._loop(), *_indent(inside)]
            case 11:
                return [self._manager(), *_indent(inside)]
            case 12:
                failing = [f"if {self._pick(RARE_CONDITIONS)}:", '    raise ValueError("refused")']
                if self._int(0, 1):
                    return failing
                handler = [*_indent(failing), "except ValueError:", *_indent(inside)]
                return ["try:", *_indent(self._block(1, depth + 1)), *handler]
            case _:
                body = f"v * {self._scalar()}"
                return ["def local(v):", f"    return {body}", "x = local(x)", *inside]

    def _loop(self) -> str:
        return self._pick(
            (
                "for s in STEPS:",
                "for k, s in NAMES.items():",
                "for i in range(LEVEL):",
                "for s in ORDER:",
                "for s in list(QUEUE):",
                "for i, s in enumerate(STEPS):",
                "for s in sorted(TAGS):",
                "for a, b in zip(STEPS, [0.5, 1.0]):",
                "while len(STEPS) < 1:",
            )
        )

    def _manager(self) -> str:
        return self._pick(
            (
                "with torch.no_grad():",
                "with torch.enable_grad():",
                'with torch.autocast("cpu", enabled=flag):',
            )
        )

    def _return(self) -> str:
        if not self._scope.is_top:
            return "return x"
        text = self._own(RETURNS, OWN_RETURNS).format("x", self._scalar())
        return text if text.startswith("return") else f"return {text}"


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Source text of one program."""
    effects = draw(st.sampled_from([0, 0, 10, 30]))
    plain = Scope(has_self=False, calls=(), effects=effects // 2)
    block = Scope(has_self=True, calls=CALLS, effects=effects)
    blocks = ("self.blocks[0]({0})", "self.blocks[1]({0}, flag=flag)", "super().forward({0})")
    net = replace(block, calls=(*CALLS, *blocks, *blocks), is_top=True)
    step = replace(net, has_self=False, calls=(*CALLS, "net.blocks[0]({0})", "net.blocks[1]({0})"))
    sources = {
        "part": Body(draw, plain).text(8),
        "helper": f"    x = x * by + shift\n{Body(draw, plain).text(4)}",
        "block": Body(draw, block).text(8),
        "net": Body(draw, net).text(8),
        "step": Body(draw, step).text(4),
    }
    return FRAME.format(**sources)
