"""What a schedule is and why: one value, rendered as text, Chrome trace and DOT.

In: a `Schedule` and what was measured. Out: `Report` and files. Estimated figures are called
estimates; capture gain and stream gain are separate lines, never one number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimble_lite.measure import Measurement
from nimble_lite.plan.planner import Candidate, Schedule
from nimble_lite.tasks.graph import Task, TaskGraph

_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Facts about one schedule.

    Attributes:
        name: of the scheduled function.
        backend: what runs it; `eager` when nothing was faster.
        summary: figures of the plan (`Schedule.summary`).
        candidates: plans that were compared before anything ran.
        measurement: medians on this machine, None where nothing was measured.
        notes: facts that a user should know.
    """

    name: str
    backend: str
    summary: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    measurement: Measurement | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        measured = self.measurement
        return {
            "name": self.name,
            "backend": self.backend,
            "summary": dict(self.summary),
            "candidates": [
                {
                    "label": c.label,
                    "streams": c.streams,
                    "waits": c.waits,
                    "simulated_us": c.simulated_us,
                    "verdict": c.verdict,
                }
                for c in self.candidates
            ],
            "measured_us": dict(measured.median_us) if measured else None,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        s = self.summary
        width = "unknown" if s["width"] is None else s["width"]
        lines = [
            f"{self.name}: runs on {self.backend}",
            f"  graph      {s['operations']} operations, {s['tasks']} with a kernel, "
            f"{s['cover_edges']} cover edges, width {width}",
            f"  streams    {s['streams']} used, {s['max_streams']} at maximum concurrency "
            f"({s['chains']} chains)",
            f"  syncs      {s['syncs']} waits, {s['max_syncs']} at maximum concurrency "
            f"(cover edges less matching {s['matching']})",
            f"  estimate   critical path {s['critical_path_us']} us, serial {s['serial_us']} us, "
            f"this plan {s['simulated_us']} us on {s['device']}",
            f"  floor      {s['replay_floor_us']} us to launch {s['tasks']} kernels in one replay: "
            "below it only fusion helps",
            f"  memory     {_mib(s['arena_bytes'])} arena, {_mib(s['serial_bytes'])} if serial, "
            f"{_mib(s['no_reuse_bytes'])} without reuse",
        ]
        lines += [
            f"  plan       {c.label}: {c.streams} streams, {c.waits} waits, "
            f"{c.simulated_us:.0f} us simulated; {c.verdict}"
            for c in self.candidates
            if c.verdict
        ]
        lines += self._measured()
        lines += [f"  note       {note}" for note in self.notes]
        return "\n".join(lines)

    def _measured(self) -> list[str]:
        if self.measurement is None:
            return ["  measured   nothing: the backend was named or measuring is off"]
        medians = self.measurement.median_us
        lines = [
            f"  measured   {name}: median {value:.1f} us"
            + (" (kept)" if name == self.measurement.chosen else "")
            for name, value in medians.items()
        ]
        eager = medians.get("eager")
        one = medians.get("one stream", medians.get("serial"))
        many = medians.get("many streams", medians.get("threads"))
        if eager and one:
            lines.append(f"  replay     one stream against eager: {eager / one:.2f}x")
        if one and many:
            lines.append(f"  overlap    many streams against one: {one / many:.2f}x")
        return lines


def _mib(nbytes: Any) -> str:
    return f"{nbytes / 2**20:.2f} MiB"


def write_chrome_trace(schedule: Schedule, path: str | Path) -> None:
    """Write the estimated timeline for chrome://tracing or Perfetto.

    Lanes are streams, boxes are tasks with module, line and bytes, arrows are waits.
    """
    graph, plan, timeline = schedule.graph, schedule.plan, schedule.timeline
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": s, "args": {"name": f"stream {s}"}}
        for s in range(plan.streams)
    ]
    for number, task_id in enumerate(schedule.scope.members):
        task = graph.tasks[task_id]
        start, end = timeline.start_us[number], timeline.end_us[number]
        events.append(
            {
                "ph": "X",
                "name": task.name,
                "cat": "estimated",
                "pid": 0,
                "tid": plan.stream_of[number],
                "ts": start,
                "dur": end - start,
                "args": _facts(graph, task),
            }
        )
    for index, wait in enumerate(plan.waits):
        arrow = {"id": index, "name": "wait", "cat": "wait", "pid": 0}
        tail = {"ph": "s", "tid": plan.stream_of[wait.on], "ts": timeline.end_us[wait.on]}
        head = {"ph": "f", "tid": plan.stream_of[wait.task], "ts": timeline.start_us[wait.task]}
        events += [arrow | tail, arrow | head | {"bp": "e"}]
    Path(path).write_text(json.dumps({"traceEvents": events}), encoding="utf-8")


def _facts(graph: TaskGraph, task: Task) -> dict[str, Any]:
    return {
        "module": task.origin.module,
        "line": f"{task.origin.file}:{task.origin.line}",
        "kernels": list(task.kernels),
        "bytes_made": sum(graph.storages[number].nbytes for number in task.births),
        "flops": task.flops,
    }


def write_dot(schedule: Schedule, path: str | Path) -> None:
    """Write the cover edges as Graphviz DOT: colours are streams, bold edges are waits."""
    graph, plan = schedule.graph, schedule.plan
    waits = {(wait.on, wait.task) for wait in plan.waits}
    lines = ["digraph schedule {", '  node [shape=box, style=filled, fontname="Helvetica"];']
    for number, task_id in enumerate(schedule.scope.members):
        task = graph.tasks[task_id]
        colour = _COLOURS[plan.stream_of[number] % len(_COLOURS)]
        label = _quoted(f"{task.name}\\n{task.origin.module}")
        lines.append(f'  t{number} [label="{label}", fillcolor="{colour}"];')
    for v, sources in enumerate(schedule.scope.hazards):
        lines += [f"  t{u} -> t{v};" for u in sources if (u, v) not in waits]
    lines += [f"  t{u} -> t{v} [penwidth=3];" for u, v in sorted(waits)]
    Path(path).write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


def _quoted(text: str) -> str:
    return text.replace('"', "'")
