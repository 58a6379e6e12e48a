"""One `Report`, several renderings: text, dict, JSON, HTML."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from janus_lite.errors import Reason
from janus_lite.program.assumptions import describe
from janus_lite.program.regions import Branch, Loop, ends_of
from janus_lite.record.torch_table import name_of
from janus_lite.runtime.cache import Conversion

_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters of a speculated function.

    Attributes:
        calls: all calls until it is left alone, see `Report.is_left_alone`.
        recorded: calls that ran under the recorder.
        converted: recordings that became a graph.
        hits: calls answered by a graph.
        misses: calls that no graph fitted.
        assertion_failures: replays given up because a tensor's value decided otherwise.
        fallbacks: calls that ran imperatively without being recorded.
        children: name and counters of each function below this one that has graphs of its own.
    """

    calls: int
    recorded: int
    converted: int
    hits: int
    misses: int
    assertion_failures: int
    fallbacks: int
    children: tuple[tuple[str, Stats], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """One cached graph.

    Attributes:
        operations: number of torch calls.
        inputs: number of outside tensors.
        assumptions: what is checked, one line each.
        assertions: tensor values compared inside the graph.
        branches: decisions on tensor values with more than one way on.
        loops: loops whose number of rounds data decides.
        runs: recorded runs that the graph was made of.
        words: memory words behind the quick accept, 0 when it is not used.
        hits: replays so far.
        backend: who runs it.
        record_ms: the recorded call.
        convert_ms: emission and backend.
        operation_names: the torch functions in order.
    """

    operations: int
    inputs: int
    assumptions: tuple[str, ...]
    assertions: int
    branches: int
    loops: int
    runs: int
    words: int
    hits: int
    backend: str
    record_ms: float
    convert_ms: float
    operation_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonReport:
    """Why calls stayed imperative."""

    code: str
    found: str
    site: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened to one speculated function.

    Attributes:
        name: the function.
        backend: as asked for.
        stats: the counters.
        graphs: newest first.
        reasons: why calls were not converted, oldest first.
        last_miss: the assumption that the last recorded miss broke.
        is_descended: the function runs imperatively, its callees have graphs of their own.
        is_left_alone: no graph will answer, so that calls reach the original without being counted.
        children: reports of the functions below this one that have graphs of their own.
    """

    name: str
    backend: str
    stats: Stats
    graphs: tuple[GraphReport, ...]
    reasons: tuple[ReasonReport, ...]
    last_miss: str | None
    is_descended: bool = False
    is_left_alone: bool = False
    children: tuple[Report, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return a self-contained page; also write it to `path` when given."""
        page = (
            "<!doctype html><meta charset='utf-8'>"
            f"<title>janus_lite: {html.escape(self.name)}</title>{self._repr_html_()}"
        )
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self._text(limit=None))}</pre>"

    def __str__(self) -> str:
        return self._text(limit=_SHOWN)

    def _text(self, limit: int | None) -> str:
        stats = self.stats
        lines = [
            f"{self.name} (backend {self.backend})",
            f"  calls {stats.calls}: hits {stats.hits}, recorded {stats.recorded}, "
            f"converted {stats.converted}, assertion failures {stats.assertion_failures}, "
            f"fallbacks {stats.fallbacks}",
        ]
        for number, graph in enumerate(self.graphs[: 3 if limit else None]):
            lines += _graph_lines(number, graph, limit)
        recent = self.reasons[-5:]
        lines += [f"  imperative: {r.code} {r.site} {r.found} ({r.hint})" for r in recent]
        if self.last_miss:
            lines.append(f"  last miss: {self.last_miss}")
        if self.is_descended:
            lines.append("  descended: runs imperatively, what it calls has graphs of its own")
        if self.is_left_alone:
            lines.append("  left alone: calls reach the original directly and are not counted")
        for child in self.children:
            lines += [f"  {line}" for line in child._text(limit).splitlines()]
        return "\n".join(lines)


def _graph_lines(number: int, graph: GraphReport, limit: int | None) -> list[str]:
    lines = [
        f"  graph {number}: {graph.operations} operations, {graph.inputs} inputs, "
        f"{len(graph.assumptions)} assumptions, {graph.assertions} assertions, {graph.hits} hits, "
        f"{graph.branches} branches, {graph.loops} loops of {graph.runs} runs, "
        f"recorded in {graph.record_ms:.1f} ms, converted in {graph.convert_ms:.1f} ms "
        f"({graph.backend})"
    ]
    shown = graph.assumptions[:limit]
    lines += [f"    {text}" for text in shown]
    if len(shown) < len(graph.assumptions):
        lines.append(f"    ... and {len(graph.assumptions) - len(shown)} more")
    return lines


def describe_reason(reason: Reason) -> ReasonReport:
    """Turn a reason into plain data."""
    return ReasonReport(
        code=reason.code.value,
        found=reason.found,
        site=str(reason.site or ""),
        hint=reason.hint,
    )


def describe_graph(conversion: Conversion) -> GraphReport:
    """Turn a cached graph into plain data."""
    program = conversion.program
    fingerprint = conversion.emitted.fingerprint
    ends = list(ends_of(program.block)) if program.block is not None else []
    branches = [end for end in ends if isinstance(end, Branch)]
    tensors = [f"{i.source} is {i.meta}" for i in program.inputs]
    varying = [f"dim {d} of {i.source} varies" for i in program.inputs for d in i.varying]
    return GraphReport(
        operations=len(program.operations),
        inputs=len(program.inputs),
        assumptions=(
            *varying,
            *map(describe, program.assumptions.reads),
            *tensors,
        ),
        assertions=sum(o.expected is not None for o in program.operations) - len(branches),
        branches=len(branches),
        loops=sum(isinstance(end, Loop) for end in ends),
        runs=len(program.traces),
        words=fingerprint.count if fingerprint is not None else 0,
        hits=conversion.hits,
        backend=conversion.backend,
        record_ms=conversion.record_seconds * 1e3,
        convert_ms=conversion.convert_seconds * 1e3,
        operation_names=tuple(name_of(o.target) for o in program.operations),
    )
