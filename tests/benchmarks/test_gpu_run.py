"""The one call on a GPU machine: no step can take the others' time, none is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_run import STEPS, TOTAL_LIMIT_S, Step, main, run_steps

pytestmark = pytest.mark.slow


def step(name: str, code: str, limit_s: float = 60.0) -> Step:
    return Step(name=name, arguments=("-c", code), limit_s=limit_s)


def test_each_step_leaves_its_log_and_its_end(tmp_path: Path) -> None:
    ended = run_steps(
        [step("good", "print('hello')"), step("bad", "raise SystemExit(3)")], tmp_path
    )

    assert [(each.name, each.exit_code) for each in ended] == [("good", 0), ("bad", 3)]
    assert (tmp_path / "good.log").read_text() == "hello\n"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [each["exit_code"] for each in summary["steps"]] == [0, 3]


def test_a_hanging_step_is_ended_with_its_children_and_the_next_one_runs(tmp_path: Path) -> None:
    child = f"import subprocess; subprocess.run(['{sys.executable}', '-c', 'input()'])"
    hang = step("hang", f"{child}; import time; time.sleep(600)", limit_s=0.5)

    ended = run_steps([hang, step("next", "print(1)")], tmp_path)

    assert [each.exit_code for each in ended] == [None, 0]


def test_the_whole_call_ends_within_its_limit(tmp_path: Path) -> None:
    hang = step("hang", "import time; time.sleep(600)")

    ended = run_steps([hang, step("never", "print(1)")], tmp_path, limit_s=0.5)

    assert [each.name for each in ended] == ["hang"]


def test_output_goes_where_it_is_told(tmp_path: Path) -> None:
    where = Step(
        name="where", arguments=("-c", "import sys; print(sys.argv[1])", "{out}/x"), limit_s=60
    )

    run_steps([where], tmp_path)

    assert (tmp_path / "where.log").read_text() == f"{tmp_path}/x\n"


def test_the_steps_fit_into_one_call() -> None:
    assert sum(each.limit_s for each in STEPS) <= TOTAL_LIMIT_S < 9 * 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it does without a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "no CUDA device here" in capsys.readouterr().err
