"""Is the captured graph the planned one? Its order, compared with the plan's, pair by pair.

In: for each task the nodes at the tail of its stream when it had been launched, and the edges of
the captured graph. Out: nothing, or `CaptureError` with the first pair. After a capture streams
and events are gone, only nodes and edges remain: a wait that was lost is a race, and one too many,
such as two streams that were one and the same, is concurrency that the report promised in vain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nimble_lite.errors import CaptureError
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import happens_before

Edges = Sequence[tuple[int, int]]
Tails = Mapping[int, frozenset[int]]


def require_planned_order(schedule: Schedule, tails: Tails, edges: Edges) -> None:
    """Raise NL0405 unless two tasks are ordered in the graph exactly where they are in the plan.

    Args:
        schedule: the plan.
        tails: for each kernel task, the last nodes of its stream right after its launch.
        edges: of the captured graph, from node to node.
    """
    graph = schedule.graph
    order = happens_before(schedule.program)
    below = _ancestors(edges, {node for nodes in tails.values() for node in nodes})
    tasks = [task for task in graph.kernel_tasks if tails.get(task)]
    planned = order.matrix(tasks)
    reached = {v: set().union(*(below[node] for node in tails[v])) for v in tasks}
    for i, u in enumerate(tasks):
        for j, v in enumerate(tasks):
            is_before = u != v and tails[u] <= reached[v]
            if u != v and is_before != bool(planned[i, j]):
                first, second = graph.tasks[u], graph.tasks[v]
                raise CaptureError(
                    "NL0405",
                    what=f"the captured graph orders {first.name} at {first.origin} and "
                    f"{second.name} at {second.origin} in another way than the plan",
                    found="one before the other" if is_before else "no order",
                    expected="no order" if is_before else "one before the other",
                    hint="please report it with the versions of torch and of the driver",
                )


def _ancestors(edges: Edges, extra: set[int]) -> dict[int, set[int]]:
    """All nodes that come before a node; edges may come in any order."""
    before: dict[int, list[int]] = {node: [] for node in extra}
    after: dict[int, list[int]] = {}
    for source, target in edges:
        before.setdefault(source, [])
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    missing = {node: len(sources) for node, sources in before.items()}
    ready = [node for node, count in missing.items() if not count]
    found: dict[int, set[int]] = {}
    while ready:
        node = ready.pop()
        found[node] = set(before[node]).union(*(found[source] for source in before[node]))
        for target in after.get(node, ()):
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    return found


class CaptureReader:
    """Asks the CUDA driver about streams under capture and about captured graphs.

    Args:
        driver: the module `cuda.bindings.driver`, or its double in the tests.
    """

    def __init__(self, driver: Any) -> None:
        self._drv = driver

    def tail(self, stream: int) -> frozenset[int]:
        """Nodes that the next operation of a raw stream under capture would follow."""
        _, _, _, nodes, _, _ = self._call(self._drv.cuStreamGetCaptureInfo, stream)
        return frozenset(int(node) for node in nodes)

    def edges(self, graph: int) -> Edges:
        """Edges of a raw graph."""
        handle = self._drv.CUgraph(graph)
        count = self._call(self._drv.cuGraphGetEdges, handle, 0)[-1]
        sources, targets = self._call(self._drv.cuGraphGetEdges, handle, count)[:2]
        return [(int(u), int(v)) for u, v in zip(sources, targets, strict=True)]

    def _call(self, function: Any, *args: Any) -> Any:
        error, *results = function(*args)
        if int(error):
            raise CaptureError(
                "NL0403",
                what=f"{function.__name__} failed while a captured graph was checked",
                found=str(error),
                hint="leave check_capture off, or report it",
            )
        return results
