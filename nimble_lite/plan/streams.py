"""Assign tasks to streams, order their launches, place the fewest waits.

In: hazard predecessors (what the device must wait for), host predecessors (what Python must
have run before), costs. Out: a frozen `StreamPlan`.
Invariants: the launch order is topological in both edge sets; stream 0 carries the critical
path; no wait can be left out (`docs/design/0022`).

Tasks are dense integers in recorded order here; `nimble_lite.plan.schedule` maps them back.

Example:
    >>> plan = plan_streams(StreamProblem.from_edges(((), (), (0, 1)), cost_us=(5.0, 9.0, 1.0)))
    >>> plan.stream_of, plan.order, plan.waits
    ((1, 0, 0), (1, 0, 2), (Wait(task=2, on=0),))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from nimble_lite.plan.matching import match_chains
from nimble_lite.plan.meg import Adjacency, Meg, minimum_equivalent_graph, successors_of


@dataclass(frozen=True, slots=True)
class Wait:
    """The stream of `task` waits for the event recorded after `on`, then launches `task`."""

    task: int
    on: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamProblem:
    """What the planner knows.

    Attributes:
        meg: cover edges of the hazards.
        host: predecessors in host order, hazards included.
        cost_us: estimated device time of each task.
        is_foldable: tasks that depend on no input; they are no reason for a stream.
        sync_us: cost of one wait, in the same unit as `cost_us`.
    """

    meg: Meg
    host: Adjacency
    cost_us: tuple[float, ...]
    is_foldable: tuple[bool, ...]
    sync_us: float

    @staticmethod
    def from_edges(
        hazards: Sequence[Sequence[int]],
        *,
        host: Sequence[Sequence[int]] | None = None,
        cost_us: Sequence[float] | None = None,
        is_foldable: Sequence[bool] | None = None,
        sync_us: float = 2.0,
    ) -> StreamProblem:
        """Build a problem; unit costs and no further host edges unless they are given."""
        n = len(hazards)
        meg = minimum_equivalent_graph(hazards)
        merged = meg.predecessors
        if host is not None:
            pairs = zip(meg.predecessors, host, strict=True)
            merged = tuple(tuple(sorted({*device, *extra})) for device, extra in pairs)
        return StreamProblem(
            meg=meg,
            host=merged,
            cost_us=tuple(cost_us) if cost_us is not None else (1.0,) * n,
            is_foldable=tuple(is_foldable) if is_foldable is not None else (False,) * n,
            sync_us=sync_us,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """What the order of the hazards allows, whatever is chosen in the end.

    Attributes:
        tasks: number of tasks.
        cover_edges: |E'|.
        matching: |M|.
        chains: `tasks - matching`.
        streams: chains joined wherever they can never overlap.
        syncs: |E'| - |M|, the fewest waits at maximum concurrency.
        width: largest set of tasks of which no two are ordered; None when too costly to find.
        critical_path_us: longest path by cost.
        total_us: sum of the costs.
    """

    tasks: int
    cover_edges: int
    matching: int
    chains: int
    streams: int
    syncs: int
    width: int | None
    critical_path_us: float
    total_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Where and when every task is launched.

    Attributes:
        stream_of: stream of each task; stream 0 is the origin.
        order: tasks in launch order.
        waits: waits in launch order.
        concurrency: bounds of the graph, for the report.
        label: how the plan was made.
    """

    stream_of: tuple[int, ...]
    order: tuple[int, ...]
    waits: tuple[Wait, ...]
    concurrency: Concurrency
    label: str

    @property
    def streams(self) -> int:
        """Number of streams in use, at least one."""
        return max(self.stream_of, default=0) + 1


def plan_streams(problem: StreamProblem, *, streams: int | None = None) -> StreamPlan:
    """Plan for at most `streams` streams, or for the maximum logical concurrency.

    Args:
        problem: graph and costs.
        streams: upper limit; None keeps every two unordered tasks on different streams.

    Returns:
        The plan. With no limit, or one that the chains respect, its waits number |E'| - |M|.

    Raises:
        InternalError: the edges do not go forward in recorded order.
    """
    ranks = upward_ranks(problem)
    matching = match_chains(problem.meg, spine=critical_path(problem, ranks))
    concurrency = Concurrency(
        tasks=problem.meg.n,
        cover_edges=problem.meg.edge_count,
        matching=matching.cover_links,
        chains=matching.chains,
        streams=matching.streams,
        syncs=problem.meg.edge_count - matching.cover_links,
        width=matching.width,
        critical_path_us=max(ranks, default=0.0),
        total_us=sum(problem.cost_us),
    )
    chains = matching.stream_of()
    if streams is None or matching.streams <= streams:
        chosen, label = _critical_first(chains, problem, ranks), "maximum concurrency"
    else:
        chosen, label = _cap(chains, problem, ranks, streams), f"at most {streams} streams"
    order = launch_order(problem, ranks, chosen)
    waits = fewest_waits(problem.meg.predecessors, order, chosen)
    plan = StreamPlan(
        stream_of=chosen, order=order, waits=waits, concurrency=concurrency, label=label
    )
    return single_stream(plan) if plan.streams == 1 else plan


def single_stream(plan: StreamPlan) -> StreamPlan:
    """The same tasks in recorded order on stream 0, where nothing has to wait."""
    n = len(plan.stream_of)
    return replace(plan, stream_of=(0,) * n, order=tuple(range(n)), waits=(), label="one stream")


def upward_ranks(problem: StreamProblem) -> list[float]:
    """Longest path by cost from each task to the end, its own cost included."""
    ranks = [0.0] * problem.meg.n
    for v in range(problem.meg.n - 1, -1, -1):
        below = max((ranks[w] for w in problem.meg.successors[v]), default=0.0)
        ranks[v] = problem.cost_us[v] + below
    return ranks


def critical_path(problem: StreamProblem, ranks: Sequence[float]) -> list[int]:
    """Tasks of one longest path, first to last."""
    path: list[int] = []
    candidates: Sequence[int] = range(problem.meg.n)
    while candidates:
        task = max(candidates, key=lambda v: (ranks[v], -v))
        path.append(task)
        candidates = problem.meg.successors[task]
    return path


def _critical_first(
    streams: Sequence[int], problem: StreamProblem, ranks: Sequence[float]
) -> tuple[int, ...]:
    """Renumber so that stream 0 holds most of the critical path."""
    if not streams:
        return ()
    share = [0.0] * (max(streams) + 1)
    for task in critical_path(problem, ranks):
        share[streams[task]] += problem.cost_us[task]
    main = share.index(max(share))
    renamed = {main: 0, 0: main}
    return tuple(renamed.get(stream, stream) for stream in streams)


def launch_order(
    problem: StreamProblem, ranks: Sequence[float], stream_of: Sequence[int]
) -> tuple[int, ...]:
    """Order launches topologically in host order: longest remaining path first.

    Ties go to stream 0, then to recorded order. Main-first order matters beyond elegance: the
    CUDA driver was seen to open many more internal streams when side branches come first.
    """
    missing = [len(sources) for sources in problem.host]
    ready = [_priority(v, ranks, stream_of) for v, count in enumerate(missing) if count == 0]
    heapify(ready)
    followers = successors_of(problem.host)
    order: list[int] = []
    while ready:
        task = heappop(ready)[2]
        order.append(task)
        for v in followers[task]:
            missing[v] -= 1
            if missing[v] == 0:
                heappush(ready, _priority(v, ranks, stream_of))
    return tuple(order)


def _priority(v: int, ranks: Sequence[float], streams: Sequence[int]) -> tuple[float, bool, int]:
    return -ranks[v], streams[v] != 0, v


def _cap(
    chains: Sequence[int], problem: StreamProblem, ranks: Sequence[float], limit: int
) -> tuple[int, ...]:
    """Place whole chains on few streams, cheap or input-independent ones on stream 0.

    Chains stay whole: placing task by task lets streams swap chains, which was seen to more
    than double the waits (797 against 334 on NASNet-A large).
    """
    chains = _critical_first(chains, problem, ranks)
    folded = _foldable_chains(chains, problem)
    order = launch_order(problem, ranks, chains)
    home: dict[int, int] = {0: 0, **dict.fromkeys(folded, 0)}
    free_at = [0.0] * limit
    finish = [0.0] * problem.meg.n
    for task in order:
        sources = problem.meg.predecessors[task]
        chain = chains[task]
        if chain not in home:
            ready = max((finish[u] for u in sources), default=0.0)
            # Starting earliest first; among equals the stream that is busy longest, so that
            # a later chain finds an idle one.
            home[chain] = min(range(limit), key=lambda s: (max(free_at[s], ready), -free_at[s], s))
        stream = home[chain]
        begin = free_at[stream]
        for u in sources:
            is_remote = home[chains[u]] != stream
            begin = max(begin, finish[u] + (problem.sync_us if is_remote else 0.0))
        finish[task] = free_at[stream] = begin + problem.cost_us[task]
    return _dense(tuple(home[chain] for chain in chains))


def _foldable_chains(chains: Sequence[int], problem: StreamProblem) -> set[int]:
    cost: dict[int, float] = {}
    is_foldable: dict[int, bool] = {}
    for task, chain in enumerate(chains):
        cost[chain] = cost.get(chain, 0.0) + problem.cost_us[task]
        is_foldable[chain] = is_foldable.get(chain, True) and problem.is_foldable[task]
    # A stream of its own costs a fork and a join at least.
    limit = 2 * problem.sync_us
    return {chain for chain in cost if is_foldable[chain] or cost[chain] <= limit}


def _dense(streams: tuple[int, ...]) -> tuple[int, ...]:
    used = sorted({0, *streams})
    numbers = {stream: index for index, stream in enumerate(used)}
    return tuple(numbers[stream] for stream in streams)


def fewest_waits(
    predecessors: Sequence[Sequence[int]], order: Sequence[int], stream_of: Sequence[int]
) -> tuple[Wait, ...]:
    """Place waits by vector clocks; none of them is implied by the others.

    Args:
        predecessors: what each task must wait for.
        order: launch order.
        stream_of: stream of each task.

    Returns:
        As many waits as the transitive reduction of (hazards + stream order) has edges between
        streams, which is the least for this placement.

    Shapes/units: O(e + waits * streams) time.
    """
    count = max(stream_of, default=0) + 1
    position = [0] * len(order)
    for index, task in enumerate(order):
        position[task] = index
    # seen[s][t]: last launch position of stream t that is complete when s goes on.
    seen = [[-1] * count for _ in range(count)]
    # What was complete before a task: kept only for the tail of a run, shared otherwise.
    complete: list[list[int]] = [[] for _ in order]
    waits: list[Wait] = []
    for task in order:
        stream = stream_of[task]
        for u in _needed(predecessors[task], stream, stream_of, position, seen[stream], complete):
            waits.append(Wait(task, u))
            other = stream_of[u]
            merged = list(map(max, seen[stream], complete[u]))
            # The own entry of a shared row runs ahead of its task: take it from `position`.
            merged[other] = max(seen[stream][other], position[u])
            seen[stream] = merged
        # Tasks of a stream share a row until a wait replaces it, so n tasks need few rows.
        seen[stream][stream] = position[task]
        complete[task] = seen[stream]
    return tuple(waits)


def _needed(
    sources: Sequence[int],
    stream: int,
    stream_of: Sequence[int],
    position: Sequence[int],
    seen: Sequence[int],
    complete: Sequence[Sequence[int]],
) -> list[int]:
    """Predecessors on other streams that no other wait or earlier wait implies."""
    latest: dict[int, int] = {}
    for u in sources:
        other = stream_of[u]
        if other != stream and position[u] > seen[other]:
            current = latest.get(other)
            if current is None or position[u] > position[current]:
                latest[other] = u
    kept: list[int] = []
    for u in sorted(latest.values(), key=position.__getitem__, reverse=True):
        if not any(complete[w][stream_of[u]] >= position[u] for w in kept):
            kept.append(u)
    return kept
