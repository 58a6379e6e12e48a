"""Partition a partial order into the fewest streams that need the fewest synchronisations.

In: a minimum equivalent graph. Out: for each task the next task of its stream.
Two optima at once, in this order (Nimble proves the first, `docs/design/0021` argues both):

1. *fewest syncs*: a cover edge inside a stream is free, every other one needs a sync, and cover
   edges inside streams form a matching of the bipartite graph of the cover edges. So a maximum
   matching M leaves |E'| - |M| syncs, and no partition into chains has fewer;
2. *fewest streams*: chains that can never overlap share a stream. Linking the end of one chain
   to the start of the next costs no sync and no concurrency.

The names `u, v, M, E` are the paper's: tasks, the matching, the edges.

Example:
    >>> from nimble_lite.plan.meg import minimum_equivalent_graph
    >>> match_chains(minimum_equivalent_graph(((), (0,), (0,), (1, 2)))).next_of
    (1, 3, None, None)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nimble_lite.plan.meg import BitAncestry, Meg

EXACT_LIMIT = 2048
"""Largest graph for which the number of streams is proved minimal (an n * n matrix is built)."""

MERGE_LIMIT = 2048
"""Most chains that are compared with each other when chains are joined into streams."""

_FREE = -1
_FAR = np.int16(20_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainMatching:
    """Which task follows which on the same stream.

    Attributes:
        next_of: successor of each task on its stream, or None at the end of a stream.
        cover_links: number of links that are cover edges, the paper's |M|.
        chains: chains of cover edges before they were joined, `n - |M|`.
        width: largest number of tasks of which no two are ordered; None when `n` is too large.
    """

    next_of: tuple[int | None, ...]
    cover_links: int
    chains: int
    width: int | None

    @property
    def streams(self) -> int:
        """Number of streams."""
        return sum(1 for follower in self.next_of if follower is None)

    def stream_of(self) -> tuple[int, ...]:
        """Number the streams by their first task and return the stream of each task."""
        streams = [_FREE] * len(self.next_of)
        count = 0
        for start in range(len(self.next_of)):
            if streams[start] != _FREE:
                continue
            task: int | None = start
            while task is not None:
                streams[task] = count
                task = self.next_of[task]
            count += 1
        return tuple(streams)


def match_chains(meg: Meg, *, spine: Sequence[int] = ()) -> ChainMatching:
    """Link tasks into streams with the fewest syncs and, among those, the fewest streams.

    Args:
        meg: minimum equivalent graph.
        spine: tasks of one path of cover edges, linked first; a later step parts them only
            where that saves a sync or a stream.

    Returns:
        Links whose cover links number |M|. Up to `EXACT_LIMIT` tasks the number of streams is
        minimal among all such partitions; above it, chains are joined by one more matching.

    Shapes/units: Hopcroft-Karp O(e * sqrt(n)), then O(n^2) per stream saved beyond the join.
    """
    following = maximum_matching(meg.successors, meg.n, seed=tuple(pairwise(spine)))
    cover_links = sum(1 for v in following if v != _FREE)
    _join_chains(meg, following)
    width = None
    if meg.n <= EXACT_LIMIT and isinstance(meg.ancestry, BitAncestry):
        width = _save_streams(meg, meg.ancestry, following)
    return ChainMatching(
        next_of=tuple(None if v == _FREE else v for v in following),
        cover_links=cover_links,
        chains=meg.n - cover_links,
        width=width,
    )


def maximum_matching(
    adjacency: Sequence[Sequence[int]],
    right_count: int,
    *,
    seed: Iterable[tuple[int, int]] = (),
) -> list[int]:
    """Match left to right nodes of a bipartite graph, as many as possible (Hopcroft-Karp).

    Args:
        adjacency: right neighbours of each left node; the first ones are preferred.
        right_count: number of right nodes.
        seed: pairs to start from, each node at most once on its side.

    Returns:
        For each left node its right partner, or -1.
    """
    left = [_FREE] * len(adjacency)
    right = [_FREE] * right_count
    for u, v in seed:
        left[u], right[v] = v, u
    for u, targets in enumerate(adjacency):
        if left[u] == _FREE:
            for v in targets:
                if right[v] == _FREE:
                    left[u], right[v] = v, u
                    break
    while _augment_all(adjacency, left, right):
        continue
    return left


def _augment_all(adjacency: Sequence[Sequence[int]], left: list[int], right: list[int]) -> bool:
    """Flip a maximal set of disjoint shortest augmenting paths; False when there is none."""
    level = _levels(adjacency, left, right)
    if level is None:
        return False
    cursors = [0] * len(adjacency)
    for root, partner in enumerate(left):
        if partner == _FREE and adjacency[root]:
            _augment_from(root, adjacency, left, right, level, cursors)
    return True


def _levels(
    adjacency: Sequence[Sequence[int]], left: list[int], right: list[int]
) -> list[int] | None:
    """Return breadth-first levels of the left nodes, None when no right node is left to match."""
    level = [_FREE] * len(adjacency)
    queue: deque[int] = deque()
    for u, partner in enumerate(left):
        if partner == _FREE:
            level[u] = 0
            queue.append(u)
    is_open = False
    while queue:
        u = queue.popleft()
        for v in adjacency[u]:
            owner = right[v]
            if owner == _FREE:
                is_open = True
            elif level[owner] == _FREE:
                level[owner] = level[u] + 1
                queue.append(owner)
    return level if is_open else None


def _augment_from(
    root: int,
    adjacency: Sequence[Sequence[int]],
    left: list[int],
    right: list[int],
    level: list[int],
    cursors: list[int],
) -> None:
    path = [root]
    while path:
        u = path[-1]
        if cursors[u] == len(adjacency[u]):
            path.pop()
            continue
        v = adjacency[u][cursors[u]]
        cursors[u] += 1
        owner = right[v]
        if owner == _FREE:
            _flip(path, v, left, right)
            return
        if level[owner] == level[u] + 1:
            path.append(owner)


def _flip(path: list[int], v: int, left: list[int], right: list[int]) -> None:
    """Give each left node of the path its new partner, from the free end backwards."""
    for u in reversed(path):
        previous = left[u]
        left[u], right[v] = v, u
        v = previous


def _join_chains(meg: Meg, following: list[int]) -> None:
    """Join chains that can never overlap by a maximum matching of ends that reach starts."""
    has_previous = [False] * meg.n
    for v in following:
        if v != _FREE:
            has_previous[v] = True
    starts = [v for v in range(meg.n) if not has_previous[v]]
    ends = [u for u in range(meg.n) if following[u] == _FREE]
    if len(starts) > MERGE_LIMIT:
        return
    reaches = meg.ancestry.reaches
    adjacency = [[j for j, v in enumerate(starts) if u < v and reaches(u, v)] for u in ends]
    for u, j in zip(ends, maximum_matching(adjacency, len(starts)), strict=True):
        if j != _FREE:
            following[u] = starts[j]


def _save_streams(meg: Meg, ancestry: BitAncestry, following: list[int]) -> int:
    """Reach the fewest streams without losing a cover link; return the width of the order."""
    descendants = _descendants(ancestry.rows)
    weights: npt.NDArray[np.int16] | None = None
    while _has_augmenting_path(descendants, following):
        weights = _link_weights(meg, ancestry) if weights is None else weights
        if not _augment_cheaply(weights, following):
            # A wider link would cost a sync; the width then follows from plain matching.
            return _width(descendants)
    return sum(1 for v in following if v == _FREE)


def _descendants(rows: Sequence[int]) -> list[int]:
    below = [0] * len(rows)
    for v in range(len(rows) - 1, -1, -1):
        ancestors, bit = rows[v], 1 << v
        while ancestors:
            lowest = ancestors & -ancestors
            below[lowest.bit_length() - 1] |= bit
            ancestors ^= lowest
    return below


def _has_augmenting_path(descendants: Sequence[int], following: Sequence[int]) -> bool:
    """Tell whether any partition into chains, at any number of syncs, has fewer streams."""
    owner = {v: u for u, v in enumerate(following) if v != _FREE}
    unseen = (1 << len(descendants)) - 1
    queue = [u for u, v in enumerate(following) if v == _FREE]
    while queue:
        fresh = descendants[queue.pop()] & unseen
        unseen ^= fresh
        while fresh:
            lowest = fresh & -fresh
            v = lowest.bit_length() - 1
            if v not in owner:
                return True
            queue.append(owner[v])
            fresh ^= lowest
    return False


def _width(descendants: Sequence[int]) -> int:
    n = len(descendants)
    adjacency = [[v for v in range(u + 1, n) if descendants[u] >> v & 1] for u in range(n)]
    return sum(1 for v in maximum_matching(adjacency, n) if v == _FREE)


def _link_weights(meg: Meg, ancestry: BitAncestry) -> npt.NDArray[np.int16]:
    """Cost of linking `u` to `v`: 0 for a cover edge, 1 for another descendant, else far."""
    n = meg.n
    weights = np.full((n, n), _FAR, dtype=np.int16)
    for v, row in enumerate(ancestry.rows):
        raw = np.frombuffer(row.to_bytes((n + 7) // 8, "little"), dtype=np.uint8)
        is_ancestor = np.unpackbits(raw, count=n, bitorder="little").astype(bool)
        weights[is_ancestor, v] = 1
        weights[list(meg.predecessors[v]), v] = 0
    return weights


def _augment_cheaply(weights: npt.NDArray[np.int16], following: list[int]) -> bool:
    """Add one link at the price of no cover link: a shortest augmenting path of cost one.

    Bellman-Ford over tasks: taking the follower of `w` away from it and giving it to `u`
    costs `weights[u, next[w]] - weights[w, next[w]]`. Negative steps exist, negative cycles do
    not, because the present links already have the least cost for their number.
    """
    n = len(following)
    following_array = np.array(following)
    linked = np.flatnonzero(following_array != _FREE)
    taken = following_array[linked]
    is_start = np.ones(n, dtype=bool)
    is_start[taken] = False
    steps = weights[:, taken] - weights[linked, taken]
    steps[weights[:, taken] >= _FAR] = _FAR
    steps[linked, np.arange(len(linked))] = _FAR
    distance = np.where(following_array == _FREE, np.int16(0), _FAR)
    parent = np.full(n, _FREE)
    while True:
        totals = distance[:, None].astype(np.int32) + steps
        best = totals.argmin(axis=0)
        values = totals[best, np.arange(len(linked))]
        is_better = (values < distance[linked]) & (values < _FAR // 2)
        if not is_better.any():
            break
        parent[linked[is_better]] = best[is_better]
        distance[linked[is_better]] = values[is_better]
    starts = np.flatnonzero(is_start)
    finals = distance[:, None].astype(np.int32) + weights[:, starts]
    u, column = np.unravel_index(int(finals.argmin()), finals.shape)
    if finals[u, column] != 1:
        return False
    _relink(int(u), int(starts[column]), parent, following)
    return True


def _relink(u: int, v: int, parent: npt.NDArray[np.int64], following: list[int]) -> None:
    while True:
        previous = following[u]
        following[u] = v
        if previous == _FREE:
            return
        u, v = int(parent[u]), previous
