"""Run a program twice in lock step, plain and speculated, and compare all that can be seen.

Each of the two worlds is built from a module of its own, loaded anew from the same file, so that
globals and classes are not shared.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import io
import itertools
import logging
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch

import janus_lite
from janus_lite.function import SpeculativeFunction
from tests.differential.kit import CALLS, CHANGE_AT, Expectation, World
from tests.differential.snapshot import Snapshot

PROGRAMS = Path(__file__).parent / "programs"
_counter = itertools.count()


@dataclass(frozen=True, slots=True, eq=False)
class Warned:
    """A warning and the line it names.

    C code names the Python line that called it, and that is one of the package; there, any line is
    right.
    """

    text: str
    place: str | None

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Warned)
        is_right_place = None in (self.place, other.place) or self.place == other.place
        return self.text == other.text and is_right_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one call showed."""

    output: Any
    error: tuple[str, str] | None
    heap: Any
    stdout: str
    logs: tuple[str, ...]
    warnings: tuple[Warned, ...]
    random: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a speculated world did, after it was found equal to the plain one."""

    stats: janus_lite.Stats
    hits_before_change: int
    reasons: tuple[Any, ...]
    speculative: SpeculativeFunction


@functools.cache
def _compiled(file: Path) -> CodeType:
    return compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True)


def load(file: Path) -> ModuleType:
    """A new module from a file of programs."""
    module = ModuleType(f"program_{file.stem}_{next(_counter)}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up
    exec(_compiled(file), module.__dict__)
    return module


def expectations(file: str) -> dict[str, Expectation]:
    """The programs of a file by name."""
    functions = vars(load(PROGRAMS / f"{file}.py")).items()
    return {n: f.expectation for n, f in functions if hasattr(f, "expectation")}


def build(file: str, name: str) -> World:
    """A new world of one program."""
    _seed(0)
    world = getattr(load(PROGRAMS / f"{file}.py"), name)()
    assert isinstance(world, World)
    return world


def speculate(world: World, **options: Any) -> SpeculativeFunction:
    """Put a world's function under speculation, in the world."""
    world.call = janus_lite.speculate(world.call, **options)
    found = world.call.forward if isinstance(world.call, torch.nn.Module) else world.call
    assert isinstance(found, SpeculativeFunction)
    return found


def equal_calls(file: str, name: str, calls: int = CALLS, **options: Any) -> Outcome:
    """Call a program plainly and speculated, `calls` times, and compare what each call shows."""
    plain, other = build(file, name), build(file, name)
    speculative = speculate(other, **options)
    hits_before = 0
    for step in range(calls):
        if step == CHANGE_AT:
            hits_before = speculative.stats.hits
        expected, found = observe(plain, step), observe(other, step)
        compare(expected, found, f"{name}, call {step}, {speculative.stats}")
    return Outcome(
        stats=speculative.stats,
        hits_before_change=hits_before,
        reasons=speculative.reasons,
        speculative=speculative,
    )


def compare(expected: Seen, found: Seen, where: str) -> None:
    """Fail on the first part in which two calls differ."""
    for field in fields(Seen):
        wanted, got = getattr(expected, field.name), getattr(found, field.name)
        assert wanted == got, f"{where}: {field.name} differs"


def differs(one: Seen, other: Seen) -> bool:
    """Whether two calls showed anything different."""
    return any(getattr(one, f.name) != getattr(other, f.name) for f in fields(Seen))


def observe(world: World, step: int, *, with_change: bool = True) -> Seen:
    """Make call number `step` of a world."""
    _seed(step)
    if world.between is not None:
        world.between(step)
    if with_change and step == CHANGE_AT and world.change is not None:
        world.change()
    _seed(step)
    args, kwargs = _arguments(world, step if with_change else 0)
    output, error = None, None
    with _captured() as (stdout, logs, warned), contextlib.ExitStack() as stack:
        if world.around is not None:
            stack.enter_context(world.around(step if with_change else 0))
        try:
            output = world.call(*args, **kwargs)
        except Exception as raised:
            error = type(raised).__qualname__, str(raised)
        if world.backward and error is None:
            _backward(output)
    snapshot = Snapshot()
    heap: tuple[Any, ...] = snapshot.of((args, kwargs)), snapshot.of(world.state)
    if isinstance(world.call, torch.nn.Module):
        heap = (*heap, snapshot.of(world.call))
    return Seen(
        output=snapshot.of(output),
        error=error,
        heap=heap,
        stdout=stdout.getvalue(),
        logs=tuple(logs),
        warnings=tuple(Warned(f"{w.category.__name__} {w.message}", _place(w)) for w in warned),
        random=_random_states(),
    )


def _place(warned: warnings.WarningMessage) -> str | None:
    of_package = (str(Path(janus_lite.__file__).parent), "<janus_lite")
    is_own = warned.filename.startswith(of_package)
    return None if is_own else f"{warned.filename}:{warned.lineno}"


def _arguments(world: World, step: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args = world.inputs(step)
    if args and isinstance(args[-1], dict) and "**" in args[-1]:
        return args[:-1], args[-1]["**"]
    return args, {}


def _backward(output: Any) -> None:
    tensors = [t for t in torch.utils._pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
    followed = [t.sum() for t in tensors if t.requires_grad]
    if followed:
        torch.stack(followed).sum().backward()


def _seed(step: int) -> None:
    torch.default_generator.manual_seed(1000 + step)  # `torch.manual_seed` asks every device
    random.seed(1000 + step)
    np.random.seed(1000 + step)


def _random_states() -> str:
    of_numpy = np.random.get_state(legacy=False)
    parts = (torch.get_rng_state().numpy().tobytes(), random.getstate(), str(of_numpy))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("janus_lite"):
            place = f"{record.filename}:{record.lineno} {record.funcName}"
            self.lines.append(f"{record.levelname} {record.getMessage()} {place}")


@contextlib.contextmanager
def _captured() -> Iterator[tuple[io.StringIO, list[str], list[warnings.WarningMessage]]]:
    handler, stdout = _Records(), io.StringIO()
    logging.getLogger().addHandler(handler)
    torch.set_warn_always(True)  # a warning once per process would go to the first world alone
    try:
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(stdout):
            warnings.simplefilter("always")
            yield stdout, handler.lines, warned
    finally:
        torch.set_warn_always(False)
        logging.getLogger().removeHandler(handler)


def collect() -> None:
    """Collect garbage now, so that a weak reference tells the truth."""
    gc.collect()
