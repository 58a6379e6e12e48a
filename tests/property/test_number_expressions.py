"""A number that varies, in every place of an expression: speculated equals plain for each value.

Shapes, dtypes and strides of what comes out are part of the answer, so that a number which decides
a shape is told from one that is only multiplied.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import janus_lite
from tests.differential.harness import load
from tests.differential.snapshot import Snapshot

EXPRESSIONS = """
x * n
x + n
x - n
n - x
n / (x + 9)
x // (n + 5)
x % (n + 5)
x ** n
n ** x.abs()
x > n
x == n
torch.full((3,), n)
torch.full_like(x, n)
x.new_full((2,), n)
x.clamp(min=n)
x.clamp(n, n + 1)
x.masked_fill(x > 0, n)
torch.where(x > 0, x, n)
x.add(x, alpha=n)
torch.add(x, x, alpha=n)
x.roll(n)
x.roll(n, 0)
x.sum(n % 2)
x.sum(dim=n % 2)
x.mean((n % 2,))
x.transpose(0, n % 2)
x.unsqueeze(n % 3)
x.squeeze(n % 2)
x.split(n % 3 + 1)[0]
x.chunk(n % 3 + 1)[0]
len(x.split(n % 3 + 1)) * x
x.topk(n % 3 + 1)[0]
torch.cat([x, x], n % 2)
torch.cat([x, x], dim=n % 2)
torch.stack([x, x], n % 3)
x.repeat(n % 3 + 1, 1)
x.expand(n % 3 + 1, 4, 3)
x[: n % 4]
x[n % 4]
x[n % 4 :]
x[:, n % 3]
x[..., : n % 3]
x[None, n % 4]
x[:: n % 3 + 1]
x[[n % 4, 0]]
x[torch.tensor([n % 4])]
torch.arange(n % 5)
torch.arange(0, n % 5 + 1, 2)
torch.eye(n % 4 + 1)
torch.zeros(n % 4)
torch.zeros(n % 4, 2)
torch.zeros((n % 4, 2))
torch.zeros([n % 4, 2])
torch.ones(2, n % 4)
x.narrow(0, 0, n % 4)
x.narrow(0, n % 3, 1)
torch.linspace(0, 1, n % 4 + 1)
x.tril(n)
x.diagonal(n % 3)
x.std(correction=n % 2)
x.norm(p=n % 3 + 1)
torch.nn.functional.pad(x, (n % 3, 0))
torch.nn.functional.one_hot(torch.tensor([0]), n % 4 + 1)
torch.nn.functional.softmax(x, n % 2)
torch.nn.functional.leaky_relu(x, n)
torch.nn.functional.elu(x, n)
torch.nn.functional.interpolate(x[None], scale_factor=n % 2 + 1)
torch.nn.functional.max_pool1d(x[None], n % 2 + 1)
torch.nn.functional.layer_norm(x, (3,), eps=abs(n) + 1)
x.view(n % 2 + 1, -1)
x.reshape(-1, n % 2 * 2 + 1)
x.reshape((n % 2 + 1, -1))
x.unflatten(0, (n % 2 + 1, -1))
x.flatten(n % 2)
x.permute(n % 2, 1 - n % 2)
x.movedim(0, n % 2)
x.cumsum(n % 2)
x.flip(n % 2)
x.argmax(n % 2)
x.max(n % 2)[0]
x.sort(n % 2)[0]
x.gather(n % 2, torch.zeros(1, 1, dtype=torch.int64))
x.repeat_interleave(n % 3)
x.unfold(0, n % 3 + 1, 1)
torch.tensor(n)
torch.tensor([n, 1])
torch.tensor([n, 1.0])
torch.as_tensor(n) * x
torch.scalar_tensor(n)
torch.randn(n % 4)
torch.randint(n % 4 + 1, (3,))
torch.randint(0, n % 4 + 1, (2,))
torch.rand(3) * n
torch.normal(n, 1.0, (3,))
torch.nn.functional.dropout(x, abs(n) % 1)
torch.tensor_split(x, n % 3 + 1)[0]
torch.einsum("ij->j", x) * n
torch.addmm(x[:3], x[:3], x[:3], beta=n, alpha=n)
torch.lerp(x, x + 1, n)
torch.pow(n, x)
torch.quantile(x, abs(n) % 1)
torch.clamp(x, max=n)
torch.heaviside(x, torch.tensor(float(n)))
torch.logit(x.sigmoid(), eps=abs(n) % 1 / 3)
torch.polygamma(n % 3, x.abs() + 1)
torch.renorm(x, 2, n % 2, 1.0)
torch.combinations(x[0], n % 3 + 1)
torch.cdist(x, x, p=n % 3 + 1)
torch.bitwise_left_shift(torch.ones(3, dtype=torch.int32), n % 4)
x.to(torch.float64) * n
x.int() * n
x.int() + n
x.int() // (abs(n) + 1)
x.bool() * n
x.mul_(n)
x.fill_(n)
x.index_fill(n % 2, torch.tensor([0]), n)
x.scatter(n % 2, torch.zeros(1, 1, dtype=torch.int64), n)
x.clone().fill_diagonal_(n)
x.clone().uniform_(0, abs(n) + 1)
set_item(x.clone(), n % 4, n)
set_item(x.clone(), slice(0, n % 4), n)
x * list(range(10))[n % 5]
x * len([0] * (n % 4))
x * sum(range(n % 5))
x * (n if n > 1 else -n)
x * max(n, 1)
x * min(1, n)
x * abs(n)
x * round(n)
x * round(n * 1.26, 1)
x * int(n)
x * float(n)
x * bool(n)
x * (not n)
x * (n and 2)
x * (n or 2)
x * (n == 1)
x * (n in (1, 2))
x * {0: 1, 1: 2}.get(n, 3)
x * [1, 2, 3][n % 3]
x * (1, 2, 3)[int(n) % 3]
x * len(str(n))
x * len(f"{n}")
x * len("%s" % n)
x * len("{}".format(n))
x * len(repr(n))
x * (type(n) is int)
x * isinstance(n, int)
x * isinstance(n, float)
x * len({n, 1})
x * len({n: 1, 1: 2})
x * (n ** 2)
x * (n ** -1 if n else 0)
x * (2 ** n if n < 99 else 1)
x * (n // 2)
x * (n % 3)
x * divmod(n, 3)[1]
x * (-n)
x * (+n)
x * (n << 1 if isinstance(n, int) else n)
x * (~n if isinstance(n, int) else n)
x * (n / 3)
x * math.sqrt(abs(n))
x * math.floor(n)
x * math.copysign(1, n)
x * math.isnan(n)
x * math.pow(abs(n), 0.5)
x * complex(n, 1).real
x * pow(n, 2)
x * pow(int(n), 2, 5)
x * sorted([n, 1])[0]
x * sum([n, 1])
x * [n, 1].index(n)
x * [n, 1].count(1)
x * any([n])
x * (n < 2 < 3)
x * (lambda m=n: m + 1)()
x * getattr(n, "real")
x * n.real
x * n.conjugate()
x * (n.is_integer() if isinstance(n, float) else 1)
x * (n.bit_length() if isinstance(n, int) else 1)
x * int.__add__(int(n), 1)
x * (n.__add__(1))
x * operator.add(n, 1)
x * functools.reduce(operator.add, [n, 1])
x * sum(i for i in range(int(n) % 4))
x * len([i for i in range(3) if i < n])
x * next(i for i in itertools.count() if i >= n % 5 or n != n)
x * json_len(n)
x * dataclass_of(n).value
x * np_of(n)
(x, n)
(x, [n, n + 1])
(x, {"a": n})
(x, {n: 1})
(x, (n,))
(x, str(n))
(x, n == 1)
(x, range(int(n) % 4))
(x, slice(n, None))
(x, Pair(n, 1))
(x, {n})
""".strip().splitlines()

VALUES: dict[str, list[float]] = {
    "integers": [1, 2, 3, 3, 2, 1, 0, -1, 2],
    "floats": [0.5, 1.5, 2.0, 0.0, -0.0, float("nan"), 0.5, 3.25],
    "mixed": [1, 2.0, True, 3, False, 2, 1.0],
    "counter": [0, 1, 2, 3, 4, 5, 6],
    "probability": [0.0, 0.5, 0.25, 0.0, 0.7],
    "rarely": [2, 2, 2, 5, 2, 7, 10**20],
}
FRAME = """\
import collections
import dataclasses
import functools
import itertools
import json
import math
import operator

import numpy as np
import torch

Pair = collections.namedtuple("Pair", "a, b")


@dataclasses.dataclass
class Data:
    value: object


class State:
    n = 0


def dataclass_of(n):
    return Data(n)


def json_len(n):
    return len(json.dumps(n))


def np_of(n):
    return float(np.sqrt(abs(n)))


def set_item(t, key, value):
    t[key] = value
    return t


def finish(y):
    if isinstance(y, torch.Tensor):
        return y, y * y.dim(), y * len(y.shape), y.sum() * sum(y.shape), y.stride(), y.dtype
    return y


def of_argument(x, n):
    return finish(EXPRESSION)


STATE = State()


def of_attribute(x, _):
    n = STATE.n
    return finish(EXPRESSION)
"""


def outcome(module: Any, function: Any, step: int, n: float) -> Any:
    """What one call shows."""
    torch.manual_seed(step)
    module.STATE.n = n
    x = torch.randn(4, 3)
    result, error = None, None
    try:
        result = function(x, n)
    except Exception as raised:
        # torch's parser names the class of what it cannot take, and so names ours.
        text = re.sub("symbolic", "", str(raised), flags=re.IGNORECASE).lower()
        error = type(raised).__name__, text
    return Snapshot().of((result, x)), error, torch.get_rng_state().sum().item()


def check(expression: str, values: str, name: str, folder: Path) -> janus_lite.Stats:
    """Run an expression over a row of values, plainly and speculated."""
    file = folder / "program.py"
    file.write_text(FRAME.replace("EXPRESSION", expression), encoding="utf-8")
    plain, other = load(file), load(file)
    speculated: Any = janus_lite.speculate(getattr(other, name))
    for step, n in enumerate(VALUES[values]):
        expected = outcome(plain, getattr(plain, name), step, n)
        found = outcome(other, speculated, step, n)
        assert found == expected, f"n = {n}, {speculated.stats}"
    stats: janus_lite.Stats = speculated.stats
    return stats


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", EXPRESSIONS[::8])
def test_a_sample_equals_eager(expression: str, tmp_path: Path) -> None:
    check(expression, "integers", "of_argument", tmp_path)


@pytest.mark.parametrize("name", ["of_argument", "of_attribute"])
@pytest.mark.parametrize("expression", ["x * int.__add__(int(n), 1)", "x * int.bit_length(int(n))"])
def test_what_a_night_has_found(expression: str, name: str, tmp_path: Path) -> None:
    check(expression, "integers", name, tmp_path)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_equals_eager(expression: str, tmp_path: Path) -> None:
    for values in VALUES:
        for name in ("of_argument", "of_attribute"):
            folder = tmp_path / f"{values}_{name}"
            folder.mkdir()
            check(expression, values, name, folder)


def test_a_varying_number_replays(tmp_path: Path) -> None:
    assert check("x * n", "counter", "of_attribute", tmp_path).hits >= 5
