"""Everything that awaits a GPU, in one call: `python -m benchmarks.gpu_run --out DIR`.

Runs straight from the tree, without network and without installing anything. Each step is a
process of its own with a time limit, so that one that hangs costs its own time and no other's;
the whole call ends within its limit. Each step leaves its log, its results and a line in
`summary.json`, written anew after every step, so that a call that is cut off leaves what it has.

Example:
    $ python -m benchmarks.gpu_run --out "$OUT" --only tests --only nimble
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import REPOSITORY, read_environment
from benchmarks.timing import Deadline, HostStopwatch, time_once

TOTAL_LIMIT_S = 530.0
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One process.

    Attributes:
        name: of its log and results.
        arguments: of the Python interpreter; `{out}` stands for the output folder.
        limit_s: it is ended after so many seconds.
    """

    name: str
    arguments: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a step ended: its exit code, or `None` when it ran out of time."""

    name: str
    exit_code: int | None
    seconds: float


def _suite(name: str, limit_s: float) -> Step:
    options = ("--quick", "--device", "cuda", "--json", f"{{out}}/{name}.json")
    return Step(
        name=name,
        arguments=("-m", "benchmarks", "run", "--suite", name, *options),
        limit_s=limit_s,
    )


def _tests(name: str, limit_s: float, *chosen: str) -> Step:
    """Tests that need a device, and no others: those of the CPU need more packages."""
    options = ("-m", "gpu", "-v", "-p", "no:cacheprovider", f"--junitxml={{out}}/{name}.xml")
    return Step(name=name, arguments=("-m", "pytest", *chosen, *options), limit_s=limit_s)


_REGIONS = "tests/gpu/test_regions.py"

STEPS: tuple[Step, ...] = (
    _tests("tests", 130.0, "tests/gpu", f"--ignore={_REGIONS}"),
    # An error inside a conditional node can end the process.
    _tests("regions", 50.0, _REGIONS),
    _suite("micro", 80.0),
    _suite("nimble", 145.0),
    _suite("models", 120.0),
)


def run_steps(steps: Sequence[Step], out: Path, limit_s: float = TOTAL_LIMIT_S) -> list[Ended]:
    """Run `steps` in order into `out` until `limit_s` seconds are over; return how each ended."""
    out.mkdir(parents=True, exist_ok=True)
    deadline = Deadline(limit_s)
    ended: list[Ended] = []
    for step in steps:
        if not deadline.left():
            break
        ended.append(_run(step, out, min(step.limit_s, deadline.left())))
        _write_summary(ended, out)
        print(_line(ended[-1]), flush=True)
    return ended


def _run(step: Step, out: Path, limit_s: float) -> Ended:
    codes: list[int | None] = []
    seconds = time_once(lambda: codes.append(_wait(step, out, limit_s)), HostStopwatch())
    return Ended(name=step.name, exit_code=codes[0], seconds=round(seconds, 1))


def _wait(step: Step, out: Path, limit_s: float) -> int | None:
    arguments = [argument.replace("{out}", str(out)) for argument in step.arguments]
    with (out / f"{step.name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and words from STEPS
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **_OFFLINE},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            # The whole group: a step may have children, and a GPU is freed by all of them only.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def _write_summary(ended: Sequence[Ended], out: Path) -> None:
    data: dict[str, Any] = {"steps": [asdict(step) for step in ended]}
    (out / "summary.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _line(step: Ended) -> str:
    how = "out of time" if step.exit_code is None else f"exit code {step.exit_code}"
    return f"{step.name:<8} {how:<14} {step.seconds:6.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; return 0 when each ended well."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_run", description=__doc__)
    default = Path(os.environ.get("OUT", ".benchmarks/gpu"))
    parser.add_argument("--out", type=Path, default=default, help="$OUT by default")
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    options = parser.parse_args(arguments)
    chosen = [step for step in STEPS if not options.only or step.name in options.only]
    environment = _cuda_environment()
    if environment is None:
        print("no CUDA device here; docs/gpu-status.md lists what awaits one", file=sys.stderr)
        return 2
    print(json.dumps(environment))
    ended = run_steps(chosen, options.out.resolve())
    return int(len(ended) < len(chosen) or any(step.exit_code for step in ended) or _late(ended))


def _late(ended: Sequence[Ended]) -> bool:
    return any(step.exit_code is None for step in ended)


def _cuda_environment() -> dict[str, Any] | None:
    import torch

    return read_environment("cuda").as_dict() if torch.cuda.is_available() else None


if __name__ == "__main__":
    sys.exit(main())
