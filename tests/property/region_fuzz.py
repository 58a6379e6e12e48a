"""Run many random programs with control flow on data: `python -m tests.property.region_fuzz`.

Prints each program that was not as in eager, with its seed and source, then a summary. The exit
code is not 0 when there was such a program, or one that stayed imperative without saying why.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from tests.property.region_lockstep import Verdict, run, shrink
from tests.property.region_programs import RegionProgram, make

LARGE_EVERY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What running many programs showed."""

    verdicts: tuple[Verdict, ...]

    @property
    def wrong(self) -> tuple[Verdict, ...]:
        """Those that were not as in eager, silent, or showed an error of ours."""
        return tuple(v for v in self.verdicts if v.is_wrong)

    @property
    def hits(self) -> float:
        """Replayed calls per call."""
        return sum(v.stats.hits for v in self.verdicts) / max(1, self._calls)

    @property
    def _calls(self) -> int:
        return sum(v.calls for v in self.verdicts)

    def __str__(self) -> str:
        different = sum(v.difference is not None for v in self.verdicts)
        silent = sum(v.is_silent for v in self.verdicts)
        lines = [
            f"{len(self.verdicts)} programs, {self._calls} calls: "
            f"{len(self.verdicts) - different} right, {different} wrong, {silent} silent",
            f"replayed {self.hits:.0%} of the calls, "
            f"{sum(v.raised for v in self.verdicts)} raised as in eager, "
            f"{sum(v.own_errors for v in self.verdicts)} raised in a replay only "
            f"(seeds {[v.program.seed for v in self.verdicts if v.own_errors]})",
            self._row("small", [v for v in self.verdicts if not v.program.is_large]),
            self._row("large", [v for v in self.verdicts if v.program.is_large]),
            "programs by reason (one may have several):",
        ]
        codes = Counter(code for v in self.verdicts for code in set(v.codes))
        lines += [f"  {code}  {count}" for code, count in codes.most_common()]
        lines.append(f"  none    {sum(not v.codes for v in self.verdicts)}")
        return "\n".join(lines)

    def _row(self, name: str, verdicts: Sequence[Verdict]) -> str:
        if not verdicts:
            return f"{name}: none"
        converted = sorted(v.stats.converted for v in verdicts)
        recorded = sorted(v.stats.recorded for v in verdicts)
        parts = [
            f"{what} median {statistics.median(counts):.0f}, "
            f"p90 {counts[int(0.9 * (len(counts) - 1))]}, max {counts[-1]}"
            for what, counts in (("conversions", converted), ("recordings", recorded))
        ]
        return f"{name}: {len(verdicts)} programs; {'; '.join(parts)}"


def programs(seeds: Iterable[int], *, large_every: int = LARGE_EVERY) -> Iterator[RegionProgram]:
    """The programs of the seeds; one in `large_every` is large, none when it is 0."""
    for seed in seeds:
        yield make(seed, is_large=bool(large_every) and seed % large_every == large_every - 1)


def describe(verdict: Verdict) -> str:
    """A failing program, for a person."""
    program = verdict.program
    what = verdict.difference or "stayed imperative without a reason"
    if verdict.difference is None and verdict.own_errors:
        what = "raised in a replay what eager does not"
    elif verdict.difference is None and verdict.has_failed:
        what = "met an error of ours, see the codes"
    size = " --large" if program.is_large else ""
    again = f"python -m tests.property.region_fuzz --seed {program.seed}{size}"
    return f"{'-' * 100}\n{again}\n{what}\n{verdict.stats}, {verdict.codes}\n{program.text}"


def _run(program: RegionProgram) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        return run(program, Path(folder))


def _only_one_thread() -> None:
    torch.set_num_threads(1)


def run_all(
    chosen: Iterable[RegionProgram], workers: int, *, drops_unprofitable: bool = False
) -> Iterator[Verdict]:
    """Run programs in processes of their own, in order.

    Args:
        chosen: the programs.
        workers: how many processes.
        drops_unprofitable: graphs that are not quicker than the program go, as they do for users.
            Otherwise they stay, so that more calls are replayed and compared.
    """
    os.environ["JANUS_LITE_PROFIT"] = str(int(drops_unprofitable))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _only_one_thread) as pool:
            yield from pool.map(_run, chosen, chunksize=4)
    finally:
        del os.environ["JANUS_LITE_PROFIT"]


def _shrunk(verdict: Verdict) -> Verdict:
    kind = (verdict.difference or "").split(":")[1:2]

    def differs(candidate: RegionProgram) -> bool:
        found = _run(candidate)
        return found.difference is not None and found.difference.split(":")[1:2] == kind

    return verdict if verdict.difference is None else _run(shrink(verdict.program, differs))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.region_fuzz")
    parser.add_argument("--programs", type=int, default=3000, help="how many (default 3000)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this program, with its source")
    parser.add_argument("--large", action="store_true", help="with --seed: the large one")
    parser.add_argument("--shrink", action="store_true", help="make what differs smaller first")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--profit", action="store_true", help="drop graphs that do not pay")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    seeds = range(options.first, options.first + options.programs)
    chosen = programs(seeds)
    if options.seed is not None:
        chosen = iter((make(options.seed, is_large=options.large),))
    verdicts = []
    for verdict in run_all(chosen, options.workers, drops_unprofitable=options.profit):
        verdicts.append(verdict)
        if verdict.is_wrong:
            _say(describe(_shrunk(verdict) if options.shrink else verdict))
        elif options.seed is not None:
            _say(verdict.program.text)
    summary = Summary(verdicts=tuple(verdicts))
    _say(str(summary))
    return 1 if summary.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
