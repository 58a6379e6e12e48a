"""The regions of a run while it runs: what is open, and the marks noted so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from janus_lite.record.kinds import is_a
from janus_lite.record.trace import Mark

_IMMUTABLE = (torch.Tensor, int, float, str, bytes)  # the tape sees what happens to tensors


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Region:
    """One execution of an `if` or a loop, while it runs.

    Attributes:
        label: the statement.
        number: which execution in this run.
        since: how many operations had run when it began.
        changes: how many touched objects had been noted then.
    """

    label: str
    number: int
    since: int
    changes: int


@dataclass(slots=True, eq=False)
class RegionLog:
    """The regions of one run.

    Attributes:
        wanted: labels of the loops whose heads are to be marked.
        wants_all: every loop's.
        marks: in the order of the run.
        touched: the run's own objects that may have changed since the first decision.
        looked: ids of lists whose length or content the program has looked at since then.
        loops: labels of the loops that run now, outermost first.
        branches: the last `if` that data decided, by frame and line.
        count: how many regions there were.
        decisions: how many operations gave a value that the program may have decided on.
        spoiled: why this run cannot be merged with another one.
    """

    wanted: frozenset[str]
    wants_all: bool = False
    marks: list[Mark] = field(default_factory=list)
    touched: list[object] = field(default_factory=list)
    looked: set[int] = field(default_factory=set)
    loops: list[str] = field(default_factory=list)
    branches: dict[tuple[int, int], Region] = field(default_factory=dict)
    count: int = 0
    decisions: int = 0
    spoiled: str | None = None

    def touch(self, *values: object) -> None:
        """Note that objects may change now."""
        if self.count or self.decisions:
            self.touched.extend(v for v in values if not is_a(v, _IMMUTABLE))

    def look(self, *values: object) -> None:
        """Note that the content of lists, also inside other containers, decides something now."""
        if self.count or self.decisions:
            for value in values:
                if is_a(value, list):
                    self.looked.add(id(value))
                    self.look(*list.__iter__(value))
                elif is_a(value, tuple):
                    self.look(*tuple.__iter__(value))
                elif is_a(value, dict):
                    self.look(*dict.values(value))

    def spoil(self, found: str) -> None:
        """The program has told tensors apart by their identity, after a decision."""
        if self.decisions and self.spoiled is None:
            self.spoiled = found

    def keep_apart(self, found: str) -> None:
        """The run does what stands at one place of a program only, wherever that is."""
        self.spoiled = self.spoiled or found

    def decide(self) -> tuple[str, ...]:
        """Count a decision; the loops around it."""
        self.decisions += 1
        return tuple(self.loops)

    def release(self) -> None:
        """Let go of every object."""
        self.touched.clear()
        self.branches.clear()
