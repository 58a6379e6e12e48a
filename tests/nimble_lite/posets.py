"""Every small partial order, and brute-force answers to compare the planner with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

Adjacency = tuple[tuple[int, ...], ...]


def all_dags(n: int) -> Iterator[Adjacency]:
    """Every DAG on `n` tasks whose edges go forward in number, as predecessor lists."""
    choices = [range(1 << v) for v in range(n)]
    for masks in product(*choices):
        yield tuple(bits(mask) for mask in masks)


def all_orders(n: int) -> Iterator[tuple[int, ...]]:
    """Every partial order on `n` tasks in recorded order, as bitsets of ancestors.

    A new maximal task may have any downward closed set below it: 1, 2, 7, 40, 357, 4824, 96428
    orders for 1 to 7 tasks (OEIS A006455).
    """
    if n == 0:
        yield ()
        return
    for smaller in all_orders(n - 1):
        for below in range(1 << (n - 1)):
            if all(smaller[u] & ~below == 0 for u in bits(below)):
                yield (*smaller, below)


def bits(mask: int) -> tuple[int, ...]:
    """Numbers of the bits that are set, ascending."""
    return tuple(u for u in range(mask.bit_length()) if mask >> u & 1)


def closure(predecessors: Adjacency) -> tuple[int, ...]:
    """Ancestors of each task by plain repetition, independent of the code under test."""
    rows: list[int] = []
    for sources in predecessors:
        row = 0
        for u in sources:
            row |= rows[u] | 1 << u
        rows.append(row)
    return tuple(rows)


def cover_edges(ancestors: tuple[int, ...]) -> set[tuple[int, int]]:
    """Pairs in order with nothing between them, by definition."""
    return {
        (u, v)
        for v, below in enumerate(ancestors)
        for u in bits(below)
        if not any(ancestors[w] >> u & 1 for w in bits(below))
    }


def best_partition(ancestors: tuple[int, ...]) -> tuple[int, int]:
    """Fewest syncs, then fewest streams, over every partition into chains."""
    covers = cover_edges(ancestors)
    best = (len(covers) + 1, len(ancestors) + 1)
    stack: list[tuple[int, tuple[int, ...], int]] = [(0, (), 0)]
    while stack:
        v, tails, free = stack.pop()
        if v == len(ancestors):
            best = min(best, (len(covers) - free, len(tails)))
            continue
        stack.append((v + 1, (*tails, v), free))
        for index, u in enumerate(tails):
            if ancestors[v] >> u & 1:
                joined = (*tails[:index], v, *tails[index + 1 :])
                stack.append((v + 1, joined, free + ((u, v) in covers)))
    return best


def width(ancestors: tuple[int, ...]) -> int:
    """Largest set of tasks of which no two are ordered, by trying every set."""
    n = len(ancestors)
    return max(
        (
            subset.bit_count()
            for subset in range(1 << n)
            if all(ancestors[v] & subset == 0 for v in bits(subset))
        ),
        default=0,
    )
