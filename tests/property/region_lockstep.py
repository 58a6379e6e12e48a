"""Run a random program plainly and speculated, call by call, and compare all that can be seen."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import janus_lite
from janus_lite import config
from janus_lite.errors import Code
from janus_lite.function import SpeculativeFunction
from janus_lite.runtime.profit import IN_A_ROW, MOST_TURNS
from tests.differential.harness import load
from tests.differential.snapshot import Snapshot
from tests.property.region_programs import RegionProgram

CALLS = 80
# Of processor time, for all calls of a program together. None takes a tenth of it.
LIMIT_S = 60.0
# So many imperative calls for each graph need no reason; more where its trial takes them.
FEW_CALLS = 8
TRIAL_CALLS = MOST_TURNS * IN_A_ROW

Speculate = Callable[[Any], Any]


class ProgramHangsError(BaseException):
    """A program, each of which ends, does not. Nothing that catches errors may catch it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What running one program showed.

    Attributes:
        program: what ran.
        difference: the first call that was not as in eager, and how; `None` when all were.
        stats: of the speculated function.
        codes: why calls stayed imperative.
        calls: how many were made.
        raised: calls that raised, in both worlds alike.
        spared: imperative calls for each graph that need no reason.
        uncounted: calls that came to us, raised in neither world and are not in `stats`.
    """

    program: RegionProgram
    difference: str | None
    stats: janus_lite.Stats
    codes: tuple[str, ...]
    calls: int
    raised: int
    spared: int
    uncounted: int

    @property
    def own_errors(self) -> int:
        """Replays that raised what eager does not; the call was answered imperatively then."""
        return 0 if self.difference is not None else self.uncounted

    @property
    def is_silent(self) -> bool:
        """Whether calls stayed imperative, for other reasons than errors, without one code."""
        stats = self.stats
        imperative = stats.calls - stats.hits - stats.converted - self.raised
        return imperative > self.spared * stats.converted and not self.codes

    @property
    def has_failed(self) -> bool:
        """Whether a fault of ours was met, which cost no more than a graph."""
        return Code.INTERNAL.value in self.codes

    @property
    def is_wrong(self) -> bool:
        """Whether it was not as in eager, was silent, or an error of ours showed."""
        return bool(
            self.difference is not None or self.is_silent or self.own_errors or self.has_failed
        )


class Twin:
    """One of the two copies of a program."""

    def __init__(self, program: RegionProgram, file: Path) -> None:
        torch.default_generator.manual_seed(0)
        self._program = program
        self.module = load(file)
        self._cell = self.module.Cell()
        self._subject = self._cell if program.is_module else self.module.step

    def speculate(self, speculate: Speculate) -> SpeculativeFunction:
        """Put the subject under speculation."""
        self._subject = speculate(self._subject)
        found = self._subject.forward if self._program.is_module else self._subject
        assert isinstance(found, SpeculativeFunction)
        return found

    def observe(self, step: int) -> dict[str, Any]:
        """Make one call; what it showed, by name of the part."""
        args = self._arguments(step)
        owner = () if self._program.is_module else (self._cell,)
        output, error = None, None
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            try:
                output = self._subject(*owner, *args)
                self._follow_back(output)
            except Exception as raised:
                error = type(raised).__qualname__, str(raised)
        snapshot = Snapshot()
        seen = {
            "error": error,
            "output": snapshot.of(output),
            "arguments": snapshot.of(args),
            "state": (snapshot.of(self._state()), self.module.COUNT),
            "stdout": stdout.getvalue(),
            "random": torch.get_rng_state().numpy().tobytes(),
        }
        self._tidy(step)
        return seen

    def _arguments(self, step: int) -> tuple[Any, ...]:
        program = self._program
        rng = random.Random(f"{program.seed} {step}")
        torch.default_generator.manual_seed(rng.randrange(2**31))
        x, rows = torch.randn(3), rng.randint(*program.rows)
        return x.requires_grad_(program.has_grad), torch.randn(rows, 3), rng.randint(*program.trips)

    def _state(self) -> dict[str, Any]:
        """What a program may change, without the machinery of a module."""
        cell = self._cell
        own = {name: value for name, value in vars(cell).items() if not name.startswith("_")}
        own.pop("forward", None)  # there the speculated function stands
        return {"own": own, "total": cell.total, "parameters": list(cell.parameters())}

    def _follow_back(self, output: Any) -> None:
        leaves = torch.utils._pytree.tree_leaves(output)
        followed = [t.sum() for t in leaves if isinstance(t, torch.Tensor) and t.requires_grad]
        if self._program.has_grad and followed:
            torch.stack(followed).sum().backward()

    def _tidy(self, step: int) -> None:
        """Keep the state from growing; the outside may do that at any time."""
        if step % 9 == 8:
            self._cell.log.clear()
        self._cell.zero_grad()


def run(program: RegionProgram, folder: Path, speculate: Speculate | None = None) -> Verdict:
    """Call a program `CALLS` times in both worlds."""
    name = hashlib.sha256(program.text.encode()).hexdigest()[:16]
    file = folder / f"regions_{name}.py"
    file.write_text(program.text, encoding="utf-8")
    plain, other = Twin(program, file), Twin(program, file)
    speculative = other.speculate(speculate or janus_lite.speculate)
    difference, calls, raised, uncounted = None, 0, 0, 0
    try:
        with _limited(LIMIT_S), warnings.catch_warnings():
            # Said once per process: the world that runs first would have it alone.
            warnings.simplefilter("ignore")
            for step in range(CALLS):
                is_ours, counted = not speculative.is_left_alone, speculative.stats.calls
                expected, found = plain.observe(step), other.observe(step)
                calls += 1
                if expected["error"] is not None:
                    raised += 1
                elif is_ours and speculative.stats.calls == counted:
                    uncounted += 1
                difference = _difference(expected, found)
                if difference is not None:
                    difference = f"call {step}: {difference}"
                    break
    except ProgramHangsError as error:
        difference = str(error)
    finally:
        for twin in (plain, other):
            sys.modules.pop(twin.module.__name__, None)
    return Verdict(
        program=program,
        difference=difference,
        stats=speculative.stats,
        codes=tuple(reason.code.value for reason in speculative.reasons),
        calls=calls,
        raised=raised,
        spared=TRIAL_CALLS if config.current().profit else FEW_CALLS,
        uncounted=uncounted,
    )


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    for part, wanted in expected.items():
        if wanted != found[part]:
            hidden = part == "random"
            return part if hidden else f"{part}: expected {wanted!r}, found {found[part]!r}"
    return None


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Give up when the processor time is spent; the alarm leaves pytest's own alone."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise ProgramHangsError(f"does not end within {seconds:.0f} s of processor time")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# ------------------------------------------------------------------------------------ shrinking


def shrink(program: RegionProgram, differs: Callable[[RegionProgram], bool]) -> RegionProgram:
    """Leave out statements, and put bodies in the place of compounds, while it still differs."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for text in _smaller(program.text):
            candidate = replace(program, text=text)
            if differs(candidate):
                program, is_smaller = candidate, True
                break
    return program


def _smaller(text: str) -> Iterator[str]:
    """Programs with one statement less, the outermost first."""
    count = sum(1 for _ in _blocks(ast.parse(text)))
    for number in range(count):
        size = len(_nth_block(ast.parse(text), number))
        for position in range(size):
            for change in (_drop, _unwrap):
                tree = ast.parse(text)
                if change(_nth_block(tree, number), position):
                    yield ast.unparse(ast.fix_missing_locations(tree))


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for function in functions:
        if function.name != "__init__":
            for node in ast.walk(function):
                for part in ("body", "orelse", "handlers"):
                    block = getattr(node, part, None)
                    if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                        yield block


def _nth_block(tree: ast.Module, number: int) -> list[ast.stmt]:
    return next(block for index, block in enumerate(_blocks(tree)) if index == number)


def _drop(block: list[ast.stmt], position: int) -> bool:
    """Take out a statement, unless it is what ends a loop."""
    statement = block[position]
    counts = isinstance(statement, ast.AugAssign) and "trip" in ast.unparse(statement.target)
    ends = isinstance(statement, ast.If) and "trip" in ast.unparse(statement.test)
    if counts or ends or isinstance(statement, ast.Pass):
        return False
    block[position : position + 1] = [] if len(block) > 1 else [ast.Pass()]
    return True


def _unwrap(block: list[ast.stmt], position: int) -> bool:
    """Replace a branch, or a loop that nothing leaves, by its body."""
    statement = block[position]
    if not isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try):
        return False
    leaves = any(isinstance(n, ast.Break | ast.Continue) for n in ast.walk(statement))
    if leaves and not isinstance(statement, ast.If):
        return False
    block[position : position + 1] = statement.body
    return True
