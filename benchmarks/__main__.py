"""`python -m benchmarks list | run | compare | report`: a thin face over pytest-benchmark."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported: its profiler and transformers would write into the tables.
_QUIET = {
    "KINETO_LOG_LEVEL": "6",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # The rows show what a replay costs, also where it does not pay.
    "JANUS_LITE_PROFIT": "0",
    # Conversion is measured as a new machine would see it, never from an earlier run's cache.
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}
HERE = Path(__file__).resolve().parent
DEFAULT_JSON = Path(".benchmarks") / "latest.json"
SUITES = {
    "micro": "bench_micro_*.py",
    "models": "bench_janus_models.py",
    "train": "bench_janus_train.py",
    "janus": "bench_janus_paper.py",
    "nimble": "bench_nimble_*.py",
}
# Each row in a child process; these write a table of the documentation.
TABLES = ("coverage", "dynamic")
# What a run measures when no suite is named.
DEFAULT_SUITES = ("micro", "models", "train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; return the exit code of the process."""
    options = _parser().parse_args(arguments)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    command = {"list": _list, "run": _run, "compare": _compare, "report": _report}
    return command[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("list", help="print the IDs of all rows")
    run = commands.add_parser("run", help="measure, print tables, write files")
    for command in (show, run):
        command.add_argument(
            "--suite",
            action="append",
            choices=(*SUITES, *TABLES),
            help=f"may be repeated; {', '.join(DEFAULT_SUITES)} when left out",
        )
        command.add_argument("--quick", action="store_true", help="under 6 minutes on 2 cores")
        command.add_argument("--device", default=None, help="cpu or cuda; cuda where there is one")
        command.add_argument("--only", metavar="WORD", help="rows whose ID contains WORD")
    report = commands.add_parser("report", help="print or convert a results file")
    report.add_argument("results", type=Path)
    run.add_argument("--json", type=Path, default=None, help=f"results; {DEFAULT_JSON} by default")
    for command in (run, report):
        command.add_argument("--csv", type=Path, help="write one line per row")
        command.add_argument("--html", type=Path, help="write one file with plots")
    compare = commands.add_parser("compare", help="compare two results files, row by row")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.add_argument(
        "--fail-above", type=float, metavar="PERCENT", help="exit 1 when a row got slower by more"
    )
    return parser


def _device(options: argparse.Namespace) -> str:
    import torch

    if options.device:
        return str(options.device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def _suites(options: argparse.Namespace) -> list[str]:
    return list(options.suite or DEFAULT_SUITES)


def _pytest_arguments(options: argparse.Namespace) -> list[str]:
    patterns = [SUITES[suite] for suite in _suites(options) if suite in SUITES]
    files = sorted({str(path) for pattern in patterns for path in HERE.glob(pattern)})
    arguments = ["-c", str(HERE / "pytest.ini"), "--device", _device(options), *files]
    if options.quick:
        arguments.append("--quick")
    if options.only:
        arguments += ["-k", options.only]
    return arguments


def _list(options: argparse.Namespace) -> int:
    import pytest

    from benchmarks import coverage_suite
    from benchmarks.dynamic import table

    suites = _suites(options)
    if "coverage" in suites:
        print("\n".join(f"coverage::{row.name}" for row in coverage_suite.select(options.only)))
    if "dynamic" in suites:
        print("\n".join(f"dynamic::{'.'.join(row)}" for row in table.select(options.only)))
    if set(suites) <= set(TABLES):
        return 0
    return int(pytest.main([*_pytest_arguments(options), "--collect-only", "-q", "--no-header"]))


def _run(options: argparse.Namespace) -> int:
    codes = []
    suites = _suites(options)
    if "coverage" in suites:
        codes.append(_run_coverage(options))
    if "dynamic" in suites:
        codes.append(_run_dynamic(options))
    if not set(suites) <= set(TABLES):
        codes.append(_run_timed(options))
    return max(codes)


def _run_coverage(options: argparse.Namespace) -> int:
    from benchmarks import coverage_suite
    from benchmarks.coverage import CoverageRow
    from benchmarks.environment import REPOSITORY, read_environment
    from benchmarks.progress import Progress

    progress = Progress()
    architectures = coverage_suite.select(options.only)
    environment = read_environment("cpu")
    progress.start(len(architectures))

    def show(row: CoverageRow) -> None:
        progress.line(f"{row.name:<44} {row.outcome:<12} {' '.join(row.codes)} {row.detail[:90]}")
        progress.end()

    rows = coverage_suite.run_coverage(architectures, show)
    progress.stop()
    print(coverage_suite.summary(rows))
    default = HERE / "results" / environment.slug / "coverage.json"
    is_whole = options.only is None
    if is_whole or options.json:
        coverage_suite.write_json(rows, environment, options.json or default)
    if is_whole and options.json is None:
        text = coverage_suite.markdown(rows, environment.as_dict())
        (REPOSITORY / "docs" / "coverage.md").write_text(text, encoding="utf-8")
    return int(coverage_suite.has_failed(rows))


def _run_dynamic(options: argparse.Namespace) -> int:
    from benchmarks.dynamic import table
    from benchmarks.dynamic.examine import DynamicRow
    from benchmarks.environment import REPOSITORY, read_environment
    from benchmarks.progress import Progress

    progress = Progress()
    questions = table.select(options.only)
    environment = read_environment("cpu")
    progress.start(len(questions))

    def show(row: DynamicRow) -> None:
        side = row.ours
        progress.line(
            f"{row.name:<28} {side.verdict:<6} {side.treatment:<12} "
            f"{side.conversions:>3} conversions {' '.join(side.codes)} {side.detail[:90]}"
        )
        progress.end()

    rows = table.run_table(questions, show)
    progress.stop()
    print("\n".join((*table.broken_promises(rows), table.summary(rows))))
    default = HERE / "results" / environment.slug / "dynamic.json"
    is_whole = options.only is None
    if is_whole or options.json:
        table.write_json(rows, environment, options.json or default)
    if is_whole and options.json is None:
        text = table.markdown(rows, environment.as_dict())
        (REPOSITORY / "docs" / "dynamic-python.md").write_text(text, encoding="utf-8")
    return int(table.has_failed(rows))


def _run_timed(options: argparse.Namespace) -> int:
    import pytest

    target = (options.json or DEFAULT_JSON).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    code = pytest.main(
        [
            *_pytest_arguments(options),
            "-q",
            "-s",
            "--no-header",
            "--benchmark-quiet",
            f"--benchmark-json={target}",
        ]
    )
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        print(f"no row's ID contains {options.only!r}; see `python -m benchmarks list`")
    if target.exists():
        _present(target, options)
    return int(code)


def _report(options: argparse.Namespace) -> int:
    _present(options.results, options)
    return 0


def _present(path: Path, options: argparse.Namespace) -> None:
    from rich.console import Console

    from benchmarks.report import write_html
    from benchmarks.results import read_results, write_csv
    from benchmarks.tables import print_results

    results = read_results(path)
    print_results(results, Console(width=None if sys.stdout.isatty() else 160))
    if options.csv:
        write_csv(results.rows, options.csv)
    if options.html:
        write_html(results, options.html)
        print(f"wrote {options.html}")


def _compare(options: argparse.Namespace) -> int:
    from benchmarks.regression import compare_results, lines

    changes = compare_results(options.before, options.after)
    print("\n".join(lines(changes)))
    limit = options.fail_above
    return int(limit is not None and any(change.is_worse_than(limit) for change in changes))


if __name__ == "__main__":
    sys.exit(main())
