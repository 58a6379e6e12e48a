"""The one call on a GPU machine: no step can take the others' time, none is lost."""

from __future__ import annotations

import json
import re
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


TESTS = [each for each in STEPS if "pytest" in each.arguments]


@pytest.mark.slow
@pytest.mark.parametrize("each", TESTS, ids=lambda each: each.name)
def test_what_a_device_needs_is_collected_without_our_plugins(each: Step, tmp_path: Path) -> None:
    """The machines with a device lack these packages, and nothing is installed there."""
    absent = ("hypothesis", "pytest_randomly", "pytest_timeout", "inline_snapshot", "gymnasium")
    for name in absent:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not on that machine')\n")
    plugins = ("no:randomly", "no:timeout", "no:hypothesispytest", "no:benchmark", "no:xdist")
    collect = Step(
        name="collect",
        arguments=(
            *each.arguments,
            "--collect-only",
            *(word for plugin in plugins for word in ("-p", plugin)),
        ),
        limit_s=120,
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        (ended,) = run_steps([collect], tmp_path)

    log = (tmp_path / "collect.log").read_text()
    assert ended.exit_code == 0, log
    collected = re.findall(r"<Module (\w+\.py)>", log)
    assert collected, log
    files = {path.name for path in (Path(__file__).parents[1] / "gpu").glob("test_*.py")}
    is_regions = each.name == "regions"
    assert set(collected) == ({"test_regions.py"} if is_regions else files - {"test_regions.py"})


def test_the_steps_fit_into_one_call() -> None:
    assert sum(each.limit_s for each in STEPS) <= TOTAL_LIMIT_S < 9 * 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it does without a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "no CUDA device here" in capsys.readouterr().err
