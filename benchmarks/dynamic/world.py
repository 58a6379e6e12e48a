"""One copy of a program of the table, alone in a namespace of its own.

Enters: a file of programs, a name, and how to convert. Leaves: what calls showed. Invariant:
two worlds share no object of the program, so that what one changes the other does not see.

Example:
    >>> World("control", "branch", lambda target: target).calls(range(8), HostStopwatch())
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.baselines import Target
from benchmarks.dynamic.kit import Construct
from benchmarks.timing import Stopwatch, time_once

PROGRAMS = Path(__file__).parent / "programs"
FILES = ("control", "state", "promised")
_counter = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What some calls showed."""

    outputs: Any
    errors: list[tuple[str, str]]
    arguments: Any
    gradients: list[Any]
    owner: Any
    stdout: str


def constructs() -> dict[tuple[str, str], Construct]:
    """Return all programs by file and name, in the order in which they are written."""
    found = {}
    for file in FILES:
        names = vars(importlib.import_module(f"benchmarks.dynamic.programs.{file}"))
        for name, value in names.items():
            plan = vars(value).get("construct") if hasattr(value, "__dict__") else None
            if isinstance(plan, Construct):
                found[file, name] = plan
    return found


def _load(file: str) -> ModuleType:
    name = f"benchmarks_dynamic_{file}_{next(_counter)}"
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class World:
    """A program under one way of running it."""

    def __init__(self, file: str, name: str, convert: Callable[[Target], Target]) -> None:
        self._names = vars(_load(file))
        subject = self._names[name]
        self._plan: Construct = subject.construct
        torch.manual_seed(0)
        self._owner: Any = None
        self._first: tuple[Any, ...] = ()
        if isinstance(subject, type):
            self._owner = subject = subject()
        elif self._plan.state is not None:
            self._owner = self._plan.state()
            self._first = (self._owner,)
        self.subject = convert(subject)

    @torch.enable_grad()  # the outside may change the mode; this puts it back
    def calls(self, steps: range, stopwatch: Stopwatch) -> tuple[Shown, float]:
        """Make the calls of `steps`; return what they showed, and the seconds they took."""
        if self._plan.change is not None:
            self._plan.change(self._names, self._owner, steps.start)
        arguments = [self._arguments(step) for step in steps]
        _seed(steps.start)
        outputs: list[Any] = []
        errors: list[tuple[str, str]] = []

        def run() -> None:
            for args in arguments:
                try:
                    outputs.append(self.subject(*args))
                except Exception as raised:
                    errors.append((type(raised).__name__, str(raised)))

        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            seconds = time_once(run, stopwatch)
        gradients = [self._gradients(*pair) for pair in zip(outputs, arguments, strict=False)]
        shown = Shown(
            outputs=plain(outputs),
            errors=errors,
            arguments=plain([args[len(self._first) :] for args in arguments]),
            gradients=gradients if self._plan.is_trained else [],
            owner=plain(self._owner),
            stdout=stdout.getvalue(),
        )
        return shown, seconds

    def _arguments(self, step: int) -> tuple[Any, ...]:
        args = self._plan.inputs(step)
        if self._plan.is_trained:
            args = tuple(a.requires_grad_() if isinstance(a, Tensor) else a for a in args)
        return self._first + args

    def _gradients(self, output: Any, args: tuple[Any, ...]) -> list[Tensor | None]:
        """Follow back from the sum of the output; return the gradients of all that was given."""
        leaves = [
            t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.requires_grad
        ]
        if not self._plan.is_trained or not leaves:
            return []
        wanted = [a for a in args if isinstance(a, Tensor)]
        if isinstance(self._owner, nn.Module):
            wanted += self._owner.parameters()
        total = torch.stack([leaf.sum() for leaf in leaves]).sum()
        return list(torch.autograd.grad(total, wanted, allow_unused=True))


def _seed(step: int) -> None:
    torch.manual_seed(step)
    random.seed(step)
    np.random.seed(step)


def plain(value: Any) -> Any:
    """Return what a person could see of a value, without classes: the worlds have their own."""
    if isinstance(value, nn.Module):
        own = {k: v for k, v in vars(value).items() if k[0] != "_" and k != "forward"}
        grads = [p.grad for p in value.parameters()]
        return plain(own), {k: v.clone() for k, v in value.state_dict().items()}, grads
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, (Tensor, int, float, str, type(None))):
        return value
    is_opaque = isinstance(value, torch.optim.Optimizer) or callable(value)
    return type(value).__name__, None if is_opaque else plain(getattr(value, "__dict__", None))
