"""Programs with branches and loops, for any device."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from nimble_lite.tasks.regions import cond, switch, while_loop


@cache
def weight(device: torch.device) -> Tensor:
    """A tensor that lives outside the programs."""
    return torch.linspace(-1, 1, 6, device=device)


def scalar(x: Tensor, value: int = 0, dtype: torch.dtype = torch.int64) -> Tensor:
    return x.new_full((), value, dtype=dtype)


def branch(x: Tensor) -> Tensor:
    y: Tensor = cond(x.sum() > 0, lambda x: x.sin() * 2, lambda x: x - weight(x.device), (x,))
    return y * 3


def one_side_only(x: Tensor) -> tuple[Tensor, Tensor]:
    # Both arms hand on what they got, in another order.
    a, b = cond(x[0] > x[1], lambda a, b: (a, b), lambda a, b: (b, a), (x, x * 2))
    return a + 1, b


def newton(x: Tensor) -> tuple[Tensor, Tensor]:
    root, count = while_loop(
        lambda r, n, t: ((r * r - t).abs() > 1e-4).any(),
        lambda r, n, t: ((r + t / r) / 2, n + 1),
        (torch.ones_like(x), scalar(x)),
        (x.abs() + 1,),
    )
    return root, count


def exchange(x: Tensor) -> tuple[Tensor, ...]:
    # The state changes places, one of it stays, and one result stands twice.
    return while_loop(
        lambda n, a, b, c: n < 3,
        lambda n, a, b, c: (n + 1, b, a + c, c),
        (scalar(x, 0, torch.int32), x, x * 2, x + 5),
    )


def never(x: Tensor) -> tuple[Tensor, ...]:
    return while_loop(lambda a: (a != a).all(), lambda a: (a * 7,), (x,))


def nested(x: Tensor) -> Tensor:
    def body(n: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        def inner(m: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            y = cond(x.sum() > 3, lambda x: x * 0.5, lambda x: x * 1.5 + 0.1, (x,))
            return m + 1, y

        _, x = while_loop(lambda m, x: m < n, inner, (torch.zeros_like(n), x))
        return n + 1, x

    _, y = while_loop(lambda n, x: n < 4, body, (scalar(x, 1), x))
    return y.relu() + branch(y)


def cases_of_four(x: Tensor) -> Tensor:
    index = (x.abs().sum() * 2).long() - 2
    arms = [lambda x: x + 1, lambda x: x * 2, lambda x: x.flip(0), lambda x: x]
    result: Tensor = switch(index, arms, (x,))
    return result


def decode(x: Tensor) -> tuple[Tensor, Tensor]:
    """Greedy decoding: append the best next token until the end token or the buffer's end."""
    table = x.new_ones(6, 6).cumsum(0).cumsum(1).sin()

    def step(n: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        scores = table.index_select(0, tokens.gather(0, n.view(1)))[0] + x
        token = scores.argmax().view(1)
        return n + 1, tokens.scatter(0, (n + 1).view(1), token)

    n, tokens = while_loop(
        lambda n, tokens: (n < 7) & (tokens.gather(0, n.view(1))[0] != 5),
        step,
        (scalar(x), x.new_zeros(8, dtype=torch.int64)),
    )
    return n, tokens


PROGRAMS = (branch, one_side_only, newton, exchange, never, cases_of_four, nested, decode)


def inputs(seed: int) -> Tensor:
    x = torch.randn(6, generator=torch.Generator().manual_seed(seed))
    return x * (0.05 if seed % 3 == 0 else 1)


def random_program(seed: int) -> Callable[[Tensor], Tensor]:
    """Operations, branches, switches and loops, two deep at most."""

    def block(rng: random.Random, depth: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(rng.randint(1, 3)):
            choice, below = rng.random(), rng.getrandbits(30)
            if depth == 0 or choice < 0.4:
                x, y = y * 0.5 + x.sin(), x - y.cos() if choice < 0.2 else x
            elif choice < 0.6:
                x, y = cond(x.sum() > y.sum(), arm(below, depth), arm(below + 1, depth), (x, y))
            elif choice < 0.8:
                arms = [arm(below + n, depth) for n in range(3)]
                x, y = switch((x.abs().sum() % 4).int(), arms, (x, y))
            else:
                count = rng.randint(0, 3)

                def body(n: Tensor, x: Tensor, y: Tensor, below: int = below) -> Any:
                    return n + 1, *arm(below, depth)(x, y)

                def test(n: Tensor, x: Tensor, y: Tensor, count: int = count) -> Tensor:
                    return (n < count) & (x.abs().max() < 4)

                _, x, y = while_loop(test, body, (scalar(x, 0, torch.int32), x, y))
        return x, y

    def arm(seed: int, depth: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return lambda x, y: block(random.Random(seed), depth - 1, x, y)

    def program(x: Tensor) -> Tensor:
        a, b = block(random.Random(seed), 2, x, x * 2)
        return a + b

    return program
