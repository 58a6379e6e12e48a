"""What pytest and pytest-benchmark are told so that they run and store our rows.

pytest-benchmark is the runner and its JSON the storage. Our samples are measured in pairs by
`timing.py`, which it cannot do, and are handed to it through a clock that replays them; rows,
also those that were not run, are added to the JSON under the key `rows`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.baselines import variants_for
from benchmarks.cases import Case
from benchmarks.environment import Environment, read_environment
from benchmarks.measure import Measured, Record, Setting
from benchmarks.progress import Progress
from benchmarks.results import Row
from benchmarks.timing import PairPlan, SampleClock
from benchmarks.trainings.base import TrainingCase

_CLOCK = SampleClock()
_QUICK_PLAN = PairPlan(budget_s=1.0, min_pairs=7, max_pairs=101)
_FULL_PLAN = PairPlan(budget_s=4.0, min_pairs=15, max_pairs=301)


@dataclasses.dataclass(slots=True)
class Session:
    """What one run of pytest collects."""

    environment: Environment
    setting: Setting
    progress: Progress
    rows: list[Row] = dataclasses.field(default_factory=list)


_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what decides which rows there are."""
    group = parser.getgroup("benchmarks of this repository")
    group.addoption("--quick", action="store_true", help="fewer programs, less time for each")
    group.addoption("--device", default="cpu", help="cpu or cuda")


def pytest_configure(config: pytest.Config) -> None:
    """Read the device once, before anything is measured."""
    device, is_quick = config.getoption("device"), config.getoption("quick")
    plan = _QUICK_PLAN if is_quick else _FULL_PLAN
    torch.set_num_threads(1)
    _hush()
    config.stash[_SESSION] = Session(
        environment=read_environment(device),
        setting=Setting(device=device, is_quick=is_quick, plan=plan),
        progress=Progress(),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a benchmark that asks for `variant` or `converting` the variants of the device."""
    family = getattr(metafunc.module, "FAMILY", "janus")
    eager, *others = variants_for(metafunc.config.getoption("device"), family)
    for name, variants in (("variant", [eager, *others]), ("converting", others)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, variants, ids=[variant.name for variant in variants])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the rows of this run; group them by program and keep the variants of one together."""
    is_quick = config.getoption("quick")
    left_out = [item for item in items if is_quick and not _is_quick(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    order = {_group(item): position for position, item in reversed(list(enumerate(items)))}
    items.sort(key=lambda item: order[_group(item)])
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=_CLOCK, group=_group(item)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the display how much there is to do."""
    if not session.config.getoption("collectonly"):
        session.config.stash[_SESSION].progress.start(len(session.items))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close the display; store the rows where pytest-benchmark, without a time, stores nothing."""
    ours = session.config.stash[_SESSION]
    ours.progress.stop()
    target = session.config.getoption("benchmark_json", None)
    if ours.rows and isinstance(target, str | os.PathLike) and not Path(target).exists():
        data = {
            "machine_info": ours.environment.as_dict(),
            "benchmarks": [],
            "rows": [dataclasses.asdict(row) for row in ours.rows],
        }
        Path(target).write_text(json.dumps(data), encoding="utf-8")


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Print no dots: the display shows a line per row."""
    return (report.outcome, "", "") if report.when == "call" else None


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """Store our own description of the machine: pytest-benchmark's names the host."""
    return config.stash[_SESSION].environment.as_dict()


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add all rows, also those that pytest-benchmark knows nothing of."""
    output_json["rows"] = [dataclasses.asdict(row) for row in config.stash[_SESSION].rows]


@pytest.fixture
def setting(pytestconfig: pytest.Config) -> Setting:
    """Where and how thoroughly this run measures."""
    return pytestconfig.stash[_SESSION].setting


@pytest.fixture
def identity(request: pytest.FixtureRequest) -> str:
    """The stable ID of the row: file stem and name."""
    return f"{Path(request.node.path).stem}::{request.node.name}"


@pytest.fixture(autouse=True)
def shown(pytestconfig: pytest.Config, identity: str) -> Iterator[None]:
    """Seed torch and show which row is being measured."""
    pytestconfig.stash[_SESSION].progress.begin(identity)
    torch.manual_seed(0)
    yield
    pytestconfig.stash[_SESSION].progress.end()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Store a row; fail when its output is wrong, skip when it was not run."""

    def store(measured: Measured) -> None:
        session = request.config.stash[_SESSION]
        session.rows.append(measured.row)
        session.progress.show(measured.row)
        if measured.row.accuracy == "wrong":
            pytest.fail(f"{measured.row.id}: {measured.row.detail}", pytrace=False)
        if not measured.samples:
            pytest.skip(measured.row.accuracy)
        _store_samples(request.getfixturevalue("benchmark"), measured)

    return store


def _hush() -> None:
    """Keep torch.compile's notices about disabled caches and absent CUDA out of the tables."""
    warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _store_samples(benchmark: Any, measured: Measured) -> None:
    _CLOCK.load(measured.samples)
    benchmark.pedantic(_CLOCK.advance, rounds=len(measured.samples))
    benchmark.extra_info["row"] = dataclasses.asdict(measured.row)
    benchmark.extra_info["eager_samples_s"] = list(measured.eager_samples)


def _is_quick(item: pytest.Item) -> bool:
    case = _parameters(item).get("case")
    if isinstance(case, Case | TrainingCase):
        return case.is_quick
    return item.get_closest_marker("full") is None


def _group(item: pytest.Item) -> str:
    case = _parameters(item).get("case")
    return case.name if isinstance(case, Case | TrainingCase) else item.name


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}
