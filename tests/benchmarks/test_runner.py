"""The commands that the README names, run as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.environment import REPOSITORY
from benchmarks.results import read_results

pytestmark = pytest.mark.slow


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    # pytest-benchmark measures nothing in what it takes for a worker of a distributed test run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one small program under eager and janus_lite, into all file formats."""
    folder = tmp_path_factory.mktemp("run")
    done = command(
        *("-m", "benchmarks", "run", "--quick", "--suite", "micro", "--device", "cpu"),
        *("--only", "x_plus_1 and bench_call and not compile"),
        *("--json", str(folder / "run.json"), "--csv", str(folder / "run.csv")),
        *("--html", str(folder / "run.html")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_a_run_prints_rows_and_writes_all_files(finished: Path) -> None:
    text = (finished / "stdout").read_text()

    assert "x_plus_1" in text
    assert "janus_lite: 1 " in text
    with (finished / "run.csv").open(newline="") as file:
        assert [line["variant"] for line in csv.DictReader(file)] == ["eager", "janus"]
    assert "<svg" in (finished / "run.html").read_text()


def test_the_json_is_pytest_benchmark_s_with_our_rows(finished: Path) -> None:
    data = json.loads((finished / "run.json").read_text())

    assert {"benchmarks", "machine_info", "commit_info", "version", "rows"} <= set(data)
    assert [row["variant"] for row in data["rows"]] == ["eager", "janus"]
    stored = data["benchmarks"][1]
    row = data["rows"][1]
    assert row["id"] == "bench_micro_calls::bench_call[janus-x_plus_1]"
    assert row["accuracy"] == "bitwise"
    assert stored["stats"]["median"] == pytest.approx(row["median_s"])
    assert len(stored["extra_info"]["eager_samples_s"]) == row["samples"]


def test_report_and_compare_read_what_run_wrote(finished: Path) -> None:
    results = str(finished / "run.json")

    report = command("-m", "benchmarks", "report", results)
    same = command("-m", "benchmarks", "compare", results, results, "--fail-above", "0")

    assert report.returncode == 0, report.stderr
    assert "x_plus_1" in report.stdout
    assert same.returncode == 0, same.stderr
    assert same.stdout.count("no difference") == 2


def test_list_names_every_row_and_runs_none() -> None:
    done = command("-m", "benchmarks", "list", "--suite", "models", "--device", "cpu")

    assert done.returncode == 0, done.stderr
    assert "bench_janus_models.py::bench_forward[janus-resnet50]" in done.stdout


def test_a_pattern_that_matches_nothing_says_so() -> None:
    done = command("-m", "benchmarks", "run", "--quick", "--only", "no_such_row")

    assert done.returncode != 0
    assert "no row's ID contains 'no_such_row'" in done.stdout


def test_a_wrong_output_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "bench_wrong.py").write_text(
        "from benchmarks.measure import Measured\n"
        "from benchmarks.results import Row\n"
        "def bench_wrong(identity, record):\n"
        "    row = Row(id=identity, suite='micro', case='c', variant='janus', device='cpu',\n"
        "              accuracy='wrong', detail='planted')\n"
        "    record(Measured(row=row))\n"
    )

    done = command(
        *("-m", "pytest", "-c", str(REPOSITORY / "benchmarks" / "pytest.ini"), "-s"),
        *("-p", "benchmarks.conftest", str(tmp_path / "bench_wrong.py")),
        f"--benchmark-json={tmp_path / 'run.json'}",
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG: planted" in done.stdout
    assert [row.accuracy for row in read_results(tmp_path / "run.json").rows] == ["wrong"]
