"""Options, gate, report and exports."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import pytest
import torch

import nimble_lite
from nimble_lite import api
from nimble_lite.backends.cuda.fake import FakeDriver
from nimble_lite.errors import BackendError, ScheduleError
from tests.nimble_lite.contract import Branches


@pytest.mark.parametrize(
    ("option", "value"),
    [("streams", "many"), ("streams", 0), ("streams", True), ("outputs", "mine"),
     ("backend", "tpu")],
)  # fmt: skip
def test_an_unknown_value_of_an_option_is_refused(option: str, value: object) -> None:
    options = {"backend": "recorder", option: value}
    with pytest.raises(ScheduleError, match="NL0302") as caught:
        nimble_lite.schedule(torch.sin, (torch.ones(2),), **options)  # type: ignore[arg-type]  # wrong on purpose
    assert repr(value) in str(caught.value)


def test_a_bare_tensor_is_no_tuple_of_inputs() -> None:
    with pytest.raises(ScheduleError, match="NL0302"):
        nimble_lite.schedule(torch.sin, torch.ones(2))  # type: ignore[arg-type]  # wrong on purpose


def test_the_summary_has_the_figures_of_the_plan() -> None:
    model = Branches(6).eval()

    summary = nimble_lite.schedule(
        model, (torch.ones(1, 16),), streams="max", backend="recorder"
    ).plan.summary()

    assert summary["tasks"] == 14
    assert summary["cover_edges"] == 18
    assert summary["width"] == summary["streams"] == summary["max_streams"] == 6
    assert summary["syncs"] == 18 - 8 == summary["max_syncs"]
    assert summary["chains"] == 6
    assert summary["serial_bytes"] <= summary["arena_bytes"] <= summary["no_reuse_bytes"]  # type: ignore[operator]  # numbers


def test_max_keeps_what_auto_gives_up() -> None:
    model, inputs = Branches(6).eval(), (torch.ones(1, 16),)

    wide = nimble_lite.schedule(model, inputs, streams="max", backend="recorder")
    chosen = nimble_lite.schedule(model, inputs, streams="auto", backend="recorder")
    two = nimble_lite.schedule(model, inputs, streams=2, backend="recorder")

    assert wide.plan.plan.streams == 6
    assert chosen.plan.plan.streams <= 4
    assert two.plan.plan.streams == 2


def test_auto_stays_on_one_stream_where_nothing_overlaps() -> None:
    chain = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(5))).eval()

    scheduled = nimble_lite.schedule(chain, (torch.ones(1, 4),), backend="recorder")

    assert scheduled.plan.plan.streams == 1


def test_a_memory_budget_trades_streams_for_bytes() -> None:
    model, inputs = Branches(6).eval(), (torch.ones(64, 16),)
    wide = nimble_lite.schedule(model, inputs, streams="max", backend="recorder")
    budget = int(wide.plan.arena.nbytes) - 1

    with nimble_lite.config.patch(memory_budget=budget):
        tight = nimble_lite.schedule(model, inputs, streams="max", backend="recorder")
    with nimble_lite.config.patch(memory_budget=100), pytest.raises(ScheduleError, match="NL0303"):
        nimble_lite.schedule(model, inputs, streams="max", backend="recorder")

    assert tight.plan.arena.nbytes <= budget
    assert tight.plan.plan.streams < wide.plan.plan.streams
    assert torch.equal(tight(*inputs), wide(*inputs))


def test_the_report_says_what_was_measured_and_kept() -> None:
    scheduled = nimble_lite.schedule(Branches().eval(), (torch.ones(1, 16),))

    report = scheduled.report()

    assert report.measurement is not None
    assert set(report.measurement.median_us) == {"serial", "eager"}
    assert report.backend == report.measurement.chosen
    assert f"{report.backend}: median" in str(report)
    assert len(str(report).splitlines()) <= 40
    json.dumps(report.to_dict())


def test_a_named_backend_is_not_measured_away() -> None:
    report = nimble_lite.schedule(torch.sin, (torch.ones(2),), backend="serial").report()

    assert (report.backend, report.measurement) == ("serial", None)


def test_measuring_leaves_no_trace() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(3, 4)
    state = torch.get_rng_state()

    nimble_lite.schedule(model, (x,))

    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_chrome_trace_has_a_lane_per_stream_and_an_arrow_per_wait(tmp_path: Path) -> None:
    scheduled = nimble_lite.schedule(
        Branches(3).eval(), (torch.ones(1, 16),), streams="max", backend="recorder"
    )

    scheduled.to_chrome_trace(tmp_path / "trace.json")

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    boxes = [event for event in events if event["ph"] == "X"]
    assert len(boxes) == len(scheduled.plan.graph.kernel_tasks)
    assert {event["tid"] for event in boxes} == set(range(scheduled.plan.plan.streams))
    assert sum(event["ph"] == "s" for event in events) == len(scheduled.plan.plan.waits)
    assert all(event["args"]["line"].rpartition(":")[2].isdigit() for event in boxes)
    assert any(event["args"]["module"].startswith("branches.") for event in boxes)


def test_the_dot_file_has_the_cover_edges(tmp_path: Path) -> None:
    scheduled = nimble_lite.schedule(
        Branches(3).eval(), (torch.ones(1, 16),), streams="max", backend="recorder"
    )

    scheduled.to_dot(tmp_path / "graph.dot")

    text = (tmp_path / "graph.dot").read_text()
    edges = [line.split("[")[0] for line in text.splitlines() if "->" in line]
    graph = nx.DiGraph(tuple(edge.strip(" ;").split(" -> ")) for edge in edges)
    assert nx.is_directed_acyclic_graph(graph)
    assert len(graph) == len(scheduled.plan.graph.kernel_tasks)
    assert text.count("penwidth=3") == len(scheduled.plan.plan.waits)


def test_an_unknown_knob_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown knob"), nimble_lite.config.patch(speed="high"):
        pass


def test_the_cuda_backend_needs_a_device() -> None:
    with pytest.raises(BackendError, match="NL0401"):
        nimble_lite.schedule(torch.sin, (torch.ones(2),), backend="cuda")


def test_on_a_device_one_and_many_streams_and_eager_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "make_driver", lambda device, streams: FakeDriver(streams))
    wide = torch.nn.ModuleList(torch.nn.Linear(512, 512) for _ in range(4)).eval()

    def fn(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([layer(layer(layer(x))) for layer in wide])

    x = torch.randn(64, 512)
    scheduled = nimble_lite.schedule(fn, (x,), backend="cuda")

    report = scheduled.report()
    assert report.measurement is not None
    assert {"one stream", "eager"} <= set(report.measurement.median_us)
    assert report.backend == report.measurement.chosen
    if "many streams" in report.measurement.median_us:
        assert "overlap" in str(report)
    assert torch.equal(scheduled(x), fn(x).detach())


def test_the_stages_of_a_schedule_can_be_dumped(tmp_path: Path) -> None:
    with nimble_lite.config.patch(dump=str(tmp_path)):
        for _ in range(2):
            nimble_lite.schedule(torch.sin, (torch.ones(2),), backend="serial")

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        f"0{i}_{n}" for i in (0, 1) for n in ("schedule.txt", "serial.py", "tasks.txt")
    ]
    assert "sin" in (tmp_path / "01_schedule.txt").read_text()
