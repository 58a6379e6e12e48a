"""Small programs with every kind of effect, and shorthands to schedule them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nimble_lite.plan.planner import Schedule, make_schedule
from nimble_lite.plan.schedule import Scope, device_scope
from nimble_lite.tasks.cost import H100
from nimble_lite.tasks.graph import TaskGraph
from nimble_lite.tasks.tracing import record

SIZE = 48
"""Elements of each tensor: large enough that two never share a cache line of the arena."""


def planned(
    graph: TaskGraph, *, streams: int | None = None, scope: Scope | None = None
) -> Schedule:
    """Plan a recorded graph for maximum concurrency or for at most `streams`."""
    return make_schedule(graph, scope or device_scope(graph), H100, streams or "max")


ALL_KINDS = ("mix", "mix", "mix", "view", "in place", "fill", "random", "dead")
VISIBLE_KINDS = ("mix", "mix", "mix", "view", "in place")


def random_program(
    seed: int, length: int = 24, kinds: Sequence[str] = ALL_KINDS
) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    """A program of pure, aliasing, in-place, random and dead operations; same for same seed.

    Integers, so that every bit depends on every bit that went in, in the right order. Without
    dead and masked results, whatever goes wrong on the way shows in the end.
    """

    def program(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        rng = random.Random(seed)
        live = [a * 3 + 1, b * 5 + 2]
        for _ in range(length):
            x, y = rng.choice(live), rng.choice(live)
            match rng.choice(kinds):
                case "mix":
                    live.append(x * 31 + y * 17 + 7)
                case "view":
                    live.append(x.flip(0).view(-1).view_as(x))
                case "in place":
                    x.view(-1)[: SIZE // 2].mul_(13).add_(y.view(-1)[SIZE // 2 :])
                case "fill":
                    live.append(torch.full_like(x, rng.randrange(1 << 20)) ^ y)
                case "random":
                    live.append(x + torch.randint_like(x, 1 << 20))
                case "dead":
                    _ = x * y + 1
            if len(live) > 6:
                gone = live.pop(rng.randrange(len(live)))
                live[0] = live[0] + gone
        return tuple(live)

    return program


def example(seed: int) -> tuple[Tensor, Tensor]:
    """Fresh inputs for a random program."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(1 << 40, (2, SIZE), generator=generator).unbind()
    return a.clone(), b.clone()


def random_graph(seed: int, length: int = 24, kinds: Sequence[str] = ALL_KINDS) -> TaskGraph:
    """A recorded random program."""
    return record(random_program(seed, length, kinds), example(seed))
