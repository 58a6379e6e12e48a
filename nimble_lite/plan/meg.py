"""Minimum equivalent graph of a dependence DAG, with a reachability oracle.

In: `n` tasks and, for each, the earlier tasks that must be complete before it starts.
Out: the cover edges (the unique transitive reduction) and who reaches whom.
Invariant: every edge `(u, v)` has `u < v`, because tasks are numbered in recorded order;
so numbering is a topological order, no cycle can exist, and nothing here recurses.

Two representations of the ancestors of a task, chosen by size:

* bitsets (one Python integer per task): smallest and fastest up to some thousand tasks;
* chain clocks (one row of latest positions per task, one column per greedy chain): linear in
  `n * chains`, so 100,000 tasks in a few chains take a fraction of a second.

Example:
    >>> meg = minimum_equivalent_graph(((), (0,), (0, 1)))
    >>> meg.predecessors
    ((), (0,), (1,))
    >>> meg.ancestry.reaches(0, 2)
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nimble_lite.errors import InternalError

Adjacency = tuple[tuple[int, ...], ...]

BITSET_LIMIT = 4096
"""Largest graph whose ancestors are kept as bitsets: 4096 tasks take 2 MB."""


class Ancestry(Protocol):
    """Answers whether one task always completes before another starts."""

    def reaches(self, u: int, v: int) -> bool:
        """Tell whether a path of at least one edge leads from `u` to `v`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BitAncestry:
    """Ancestors as bitsets: bit `u` of `rows[v]` says that `u` reaches `v`."""

    rows: tuple[int, ...]

    def reaches(self, u: int, v: int) -> bool:
        """Tell whether a path leads from `u` to `v`."""
        return bool(self.rows[v] >> u & 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClockAncestry:
    """Ancestors as clocks: `rows[v, c]` is the last position of chain `c` that reaches `v`."""

    chain_of: tuple[int, ...]
    position_of: tuple[int, ...]
    rows: npt.NDArray[np.int32]

    def reaches(self, u: int, v: int) -> bool:
        """Tell whether a path leads from `u` to `v`."""
        return bool(self.rows[v, self.chain_of[u]] >= self.position_of[u])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Meg:
    """The transitive reduction of a DAG, as predecessor and as successor lists."""

    predecessors: Adjacency
    successors: Adjacency
    ancestry: Ancestry

    @property
    def n(self) -> int:
        """Number of tasks."""
        return len(self.predecessors)

    @property
    def edge_count(self) -> int:
        """Number of cover edges, the paper's |E'|."""
        return sum(map(len, self.predecessors))


def successors_of(predecessors: Sequence[Sequence[int]]) -> Adjacency:
    """Turn predecessor lists into successor lists, each in ascending order."""
    successors: list[list[int]] = [[] for _ in predecessors]
    for v, sources in enumerate(predecessors):
        for u in sources:
            successors[u].append(v)
    return tuple(map(tuple, successors))


def minimum_equivalent_graph(predecessors: Sequence[Sequence[int]]) -> Meg:
    """Remove every edge that another path implies.

    Args:
        predecessors: `predecessors[v]` lists tasks `u < v`, in any order, duplicates allowed.

    Returns:
        The cover edges and a reachability oracle.

    Shapes/units: O(n + e) bitset or clock operations.
    Paper: Nimble (NeurIPS 2020), step 1 of the stream assignment algorithm.
    """
    _check_numbering(predecessors)
    small = len(predecessors) <= BITSET_LIMIT
    covers, ancestry = (_reduce_bits if small else _reduce_clocks)(predecessors)
    frozen = tuple(covers)
    return Meg(predecessors=frozen, successors=successors_of(frozen), ancestry=ancestry)


def _check_numbering(predecessors: Sequence[Sequence[int]]) -> None:
    for v, sources in enumerate(predecessors):
        if sources and not (min(sources) >= 0 and max(sources) < v):
            raise InternalError(
                f"task {v} depends on {sorted(sources)}; recorded order needs every "
                "predecessor to have a smaller number"
            )


def _reduce_bits(
    predecessors: Sequence[Sequence[int]],
) -> tuple[list[tuple[int, ...]], Ancestry]:
    rows: list[int] = []
    covers: list[tuple[int, ...]] = []
    for sources in predecessors:
        reached = 0
        kept: list[int] = []
        # Latest first: whatever implies an edge from `u` has a number above `u`.
        for u in sorted(sources, reverse=True):
            if not reached >> u & 1:
                kept.append(u)
                reached |= rows[u] | 1 << u
        rows.append(reached)
        covers.append(tuple(reversed(kept)))
    return covers, BitAncestry(rows=tuple(rows))


def _greedy_chains(predecessors: Sequence[Sequence[int]]) -> tuple[list[int], list[int], int]:
    """Append each task to the chain of a predecessor that is still a tail, if there is one."""
    chain_of = [0] * len(predecessors)
    position_of = [0] * len(predecessors)
    tails: list[int] = []
    for v, sources in enumerate(predecessors):
        for u in sources:
            if tails[chain_of[u]] == u:
                chain_of[v], position_of[v] = chain_of[u], position_of[u] + 1
                tails[chain_of[u]] = v
                break
        else:
            chain_of[v] = len(tails)
            tails.append(v)
    return chain_of, position_of, len(tails)


def _reduce_clocks(
    predecessors: Sequence[Sequence[int]],
) -> tuple[list[tuple[int, ...]], Ancestry]:
    chain_of, position_of, chains = _greedy_chains(predecessors)
    rows = np.full((len(predecessors), max(chains, 1)), -1, dtype=np.int32)
    covers: list[tuple[int, ...]] = []
    for v, sources in enumerate(predecessors):
        row = rows[v]
        kept: list[int] = []
        for u in sorted(sources, reverse=True) if len(sources) > 1 else sources:
            chain, position = chain_of[u], position_of[u]
            if row[chain] < position:
                kept.append(u)
                np.maximum(row, rows[u], out=row)
                row[chain] = position
        covers.append(tuple(reversed(kept)))
    ancestry = ClockAncestry(chain_of=tuple(chain_of), position_of=tuple(position_of), rows=rows)
    return covers, ancestry
