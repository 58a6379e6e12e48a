"""Sizes that vary: in every place of an expression, and in random chains of operations.

Shapes, strides, sharing of storages and what became of the inputs are part of the answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import janus_lite
from tests.differential.harness import load
from tests.differential.snapshot import Snapshot
from tests.property.test_number_expressions import EXPRESSIONS, FRAME

ROWS = (4, 4, 7, 3, 9, 2, 1, 12)
SOURCES = {
    "of_an_input": "x.shape[0]",
    "of_a_result": "(x * 2).size(0)",
    "of_a_part": "len(x[1:].contiguous())",
}
STEPS = """
h = h * 2
h = h * h.shape[0] + h.size(1)
h = h[: (h.shape[0] + 1) // 2]
h = h[::2]
h = h[1:]
h = h[:, : h.shape[1] // 2 + 1]
h = h[h[:, :1].sum(1) > 0]
h = h.t()
h = h.contiguous()
h = h.t().contiguous().t()
h = h.reshape(-1, h.shape[0]) if h.numel() else h
h = h.reshape(h.shape[1], h.shape[0])
h = h.view(-1, h.shape[1]) if h.is_contiguous() and h.numel() else h
h = h.flatten()[:, None]
h = h.squeeze().reshape(-1, 1)
h = h.expand(h.shape[0], h.shape[1])
h = h[:, None].expand(-1, 2, -1).reshape(-1, h.size(1))
h = torch.cat([h, h[:1]])
h = torch.cat([h, torch.zeros(len(h), 1)], 1)
h = torch.nn.functional.pad(h, (0, 1, 1, 0))
h = torch.nn.functional.dropout(h, 0.5)
h = h + torch.randn(h.shape)
h = h @ h.t()
h = h.cumsum(0)
h = h.sum(0, keepdim=True)
h = h.repeat(2, 1)
h = h + torch.arange(h.shape[0])[:, None]
h = h.sort(0)[0]
h = h.to(torch.float64).to(torch.float32)
h = h.masked_fill(torch.ones(h.shape, dtype=torch.bool).triu(1), -1.0)
h = torch.stack([h, h]).sum(0)
h = torch.stack(h.split(2)[:1])[0]
h = h.unbind(1)[0][:, None] if h.shape[1] else h
h.add_(1)
h.mul_(h.shape[0])
h[: h.shape[0] // 2] = 0
x.add_(1)
x[:1] = x.shape[0]
h = h.unsqueeze_(0).squeeze_(0)
h, other = other, h
other = h
other = h.reshape(-1)[:4].reshape(-1, 1)
out.append(h.shape)
out.append([h.numel(), list(h.stride()), h.is_contiguous(), len(h), h.dim()])
out.append(h[:1])
out.append(h.shape == other.shape)
out.append(max(h.shape[0], 3) - min(h.shape))
out.append(math.prod(h.shape) / 7)
out.append([size // 2 for size in h.shape])
STATE.n += h.shape[0]
STATE.n = h
if h.shape[0] > 3: h = h - 1
if h.shape[0] == other.shape[0]: h = h * 3
if h.sum() > 2: h = h / 2
if h.numel() % 2: out.append(h.mean())
assert h.shape[0] < 40
""".strip().splitlines()


def seen(module: Any, function: Callable[..., Any], step: int, x: torch.Tensor) -> Any:
    """What one call shows."""
    torch.manual_seed(step)
    result, error = None, None
    try:
        result = function(x)
    except Exception as raised:
        error = type(raised).__name__
    state = vars(module.STATE)
    return Snapshot().of((result, x, state)), error, torch.get_rng_state().sum().item()


def check(source: str, name: str, inputs: list[torch.Tensor], folder: Path) -> janus_lite.Stats:
    """Run a program over tensors of all sizes, plainly and speculated."""
    file = folder / "program.py"
    file.write_text(source, encoding="utf-8")
    plain, other = load(file), load(file)
    speculated: Any = janus_lite.speculate(getattr(other, name))
    for step, x in enumerate(inputs):
        expected = seen(plain, getattr(plain, name), step, x.clone())
        found = seen(other, speculated, step, x.clone())
        assert found == expected, f"shape {tuple(x.shape)}, {speculated.stats}\n{source}"
    stats: janus_lite.Stats = speculated.stats
    return stats


def with_size(expression: str, size: str) -> str:
    """A program that puts a size into an expression."""
    body = f"    n = {size}\n    return finish({expression})\n"
    return f"{FRAME.split('def of_argument')[0]}STATE = State()\n\n\ndef function(x):\n{body}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", EXPRESSIONS[::6])
@pytest.mark.parametrize("source", SOURCES)
def test_a_sample_equals_eager(source: str, expression: str, tmp_path: Path) -> None:
    inputs = [torch.randn(n, 3) for n in ROWS]
    check(with_size(expression, SOURCES[source]), "function", inputs, tmp_path)


@pytest.mark.parametrize("expression", ["x * int.__add__(int(n), 1)", "x * int.bit_length(n)"])
@pytest.mark.parametrize("source", SOURCES)
def test_what_a_night_has_found(source: str, expression: str, tmp_path: Path) -> None:
    inputs = [torch.randn(n, 3) for n in ROWS]
    check(with_size(expression, SOURCES[source]), "function", inputs, tmp_path)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_each_expression_equals_eager(source: str, expression: str, tmp_path: Path) -> None:
    inputs = [torch.randn(n, 3) for n in ROWS]
    check(with_size(expression, SOURCES[source]), "function", inputs, tmp_path)


def test_a_varying_size_replays(tmp_path: Path) -> None:
    inputs = [torch.randn(n, 3) for n in ROWS]
    source = with_size("x.view(n, -1) * n", "x.shape[0]")
    assert check(source, "function", inputs, tmp_path).hits >= 5


CHAIN = """
import math

import torch


class State:
    n = 0


STATE = State()


def function(x):
    h, other, out = x * 1, x, []
{steps}
    return h, other, out
"""


@st.composite
def chains(draw: st.DrawFn) -> str:
    """A random chain of operations on a matrix, with decisions on sizes and data."""
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8))
    return CHAIN.format(steps="\n".join(f"    {step}" for step in steps))


SIZES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=6, max_size=10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=25)
@given(source=chains(), sizes=SIZES)
def test_a_random_chain_equals_eager(source: str, sizes: list[tuple[int, int]]) -> None:
    inputs = [torch.randn(*size) for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        check(source, "function", inputs, Path(folder))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@settings(
    deadline=None,
    max_examples=1500,
    suppress_health_check=[HealthCheck.too_slow],  # on a busy machine
)
@given(source=chains(), sizes=SIZES)
def test_many_random_chains_equal_eager(source: str, sizes: list[tuple[int, int]]) -> None:
    inputs = [torch.randn(*size) for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        check(source, "function", inputs, Path(folder))
