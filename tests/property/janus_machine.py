"""A state machine that runs a random program plainly and speculated, in lock step.

Its rules call the program (with whatever arguments, under whatever mode of torch) and change it
from outside. After each call all that a person could see is compared: output, gradients, every
object of the program, prints, logs, warnings and random numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import janus_lite
from janus_lite.function import SpeculativeFunction
from janus_lite.runtime import emit
from tests.differential.harness import compare, load, observe
from tests.differential.kit import World
from tests.property.random_changes import CHANGES, VALUES
from tests.property.random_programs import programs


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "plain": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: _default_dtype(torch.float64),
}
STATE = "SCALE LEVEL COUNT NAMES ORDER STEPS TAGS QUEUE LOG PART net inner counter".split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One call: its arguments and the mode around it.

    Attributes:
        second: what is passed as `y`: nothing, a new tensor, `x` itself, a view of it.
        parts: which objects are passed as `parts`, by their position in `Copy.parts`.
    """

    rows: int = 4
    dtype: torch.dtype = torch.float32
    is_strided: bool = False
    requires_grad: bool = False
    second: str = "none"
    flag: bool | None = None
    parts: tuple[int, ...] = ()
    mode: str = "plain"

    def arguments(self, step: int, parts: list[Any]) -> tuple[Any, ...]:
        """New tensors, the same for each copy of the program, and objects of that copy."""
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(self.rows, 3, generator=generator, dtype=self.dtype)
        if self.is_strided:
            x = x.t().contiguous().t()
        x.requires_grad_(self.requires_grad)
        others = {"new": x.detach() + 1, "same": x, "view": x.detach()[:]}
        named: dict[str, Any] = {} if self.flag is None else {"flag": self.flag}
        if self.parts:
            named["parts"] = [parts[index] for index in self.parts]
        if self.second in others:
            return x, others[self.second], {"**": named}
        return x, {"**": named}


PARTS = st.sampled_from([(0, 1), (0, 0), (1, 0), (2, 1)])
PLANS = st.builds(
    Plan,
    rows=st.sampled_from([4, 4, 4, 2]),
    dtype=st.sampled_from([torch.float32] * 5 + [torch.float64]),
    is_strided=st.sampled_from([False, False, True]),
    requires_grad=st.booleans(),
    second=st.sampled_from(["none", "none", "new", "same", "view"]),
    flag=st.sampled_from([None, True, False]),
    parts=st.just(()) | PARTS,
    mode=st.sampled_from(["plain", "plain", *MODES]),
)


class Copy:
    """One of the two copies of a program."""

    def __init__(self, file: Path, subject: str) -> None:
        torch.manual_seed(0)
        self.module = load(file)
        self._subject = getattr(self.module, subject)
        self.plan = Plan()
        self.parts = [self.module.Part(1.0), self.module.Part(2.0), self.module.PART]
        self.world = World(
            call=self._call,
            inputs=lambda step: self.plan.arguments(step, self.parts),
            around=lambda _: MODES[self.plan.mode](),
        )

    def speculate(self) -> SpeculativeFunction:
        """Put the subject under speculation."""
        self._subject = janus_lite.speculate(self._subject)
        is_module = isinstance(self._subject, torch.nn.Module)
        found = self._subject.forward if is_module else self._subject
        assert isinstance(found, SpeculativeFunction)
        return found

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        output = self._subject(*args, **kwargs)
        tensors = [t for t in torch.utils._pytree.tree_leaves(output) if torch.is_tensor(t)]
        followed = [t.float().sum() for t in tensors if t.requires_grad]
        if followed:
            torch.stack(followed).sum().backward()
        return output

    def refresh(self) -> None:
        """Compare what the names of the program mean now."""
        self.world.state = {name: getattr(self.module, name) for name in STATE}
        self.world.state["parts"] = self.parts


class Tally:
    """What all sequences of a test did, so that the test can tell that it tests something."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, machine: JanusMachine) -> None:
        """Count one finished sequence."""
        stats = machine.speculative.stats
        self.counts["sequences"] += 1
        self.counts["calls"] += stats.calls
        self.counts["hits"] += stats.hits
        self.counts["converted"] += stats.converted
        self.counts["sequences with hits"] += stats.hits > 0
        self.counts["sequences with a change after a hit"] += machine.changed_after_hit
        self.reasons.update(reason.code.value for reason in machine.speculative.reasons)

    def share(self, of: str) -> float:
        """Part of the sequences that did something."""
        return self.counts[of] / max(1, self.counts["sequences"])

    def __str__(self) -> str:
        counts = ", ".join(f"{value} {name}" for name, value in self.counts.items())
        return f"{counts}, {len(self.changes)} kinds of change, reasons {dict(self.reasons)}"


class JanusMachine(RuleBasedStateMachine):
    """Rules over one random program; a subclass names the folder and the tally.

    Attributes:
        folder: where the programs are written.
        tally: counts what was done.
        changes: names of the changes to choose from.
    """

    folder: Path
    tally: Tally
    changes: tuple[str, ...] = tuple(sorted(CHANGES))

    def __init__(self) -> None:
        super().__init__()
        self._fingerprint_from = emit.FINGERPRINT_FROM
        self._step = 0
        self._modules: list[ModuleType] = []
        self.changed_after_hit = False

    @initialize(
        text=programs(),
        subject=st.sampled_from(["net", "step"]),
        is_fingerprinted=st.booleans(),
    )
    def make(self, text: str, subject: str, is_fingerprinted: bool) -> None:
        """Build both copies from one file."""
        emit.FINGERPRINT_FROM = 0 if is_fingerprinted else 1_000_000
        file = self.folder / f"program_{hashlib.sha256(text.encode()).hexdigest()[:16]}.py"
        file.write_text(text, encoding="utf-8")
        self.plain, self.other = Copy(file, subject), Copy(file, subject)
        self._modules = [self.plain.module, self.other.module]
        self.speculative = self.other.speculate()
        self._again(2)

    @rule(plan=PLANS, times=st.integers(1, 2))
    def call(self, plan: Plan, times: int) -> None:
        """Call it in a way of its own."""
        self.plain.plan = self.other.plan = plan
        self._again(times)

    @rule(parts=PARTS)
    def exchange(self, parts: tuple[int, ...]) -> None:
        """Call it with other objects of the same class, and everything else as it was."""
        self.plain.plan = self.other.plan = replace(self.plain.plan, parts=parts)
        self._again(2)

    @rule(times=st.integers(1, 3))
    def call_again(self, times: int) -> None:
        """Call it in the same way, with new numbers."""
        self._again(times)

    @rule(data=st.data(), value=st.sampled_from(VALUES))
    def change(self, data: st.DataObject, value: Any) -> None:
        """Let the outside change something, then look at once."""
        self._change(data.draw(st.sampled_from(self.changes)), value)
        self._again(2)

    @rule(data=st.data(), value=st.sampled_from(VALUES))
    def change_only(self, data: st.DataObject, value: Any) -> None:
        """Let the outside change something, more may follow before the next call."""
        self._change(data.draw(st.sampled_from(self.changes)), value)

    @precondition(lambda self: self.speculative.stats.calls > 6)
    @rule()
    def reset(self) -> None:
        """Drop all graphs."""
        self.speculative.reset()

    def teardown(self) -> None:
        """Put everything back."""
        emit.FINGERPRINT_FROM = self._fingerprint_from
        for module in self._modules:
            sys.modules.pop(module.__name__, None)
        if self._modules:
            self.tally.add(self)

    def _change(self, name: str, value: Any) -> None:
        self.changed_after_hit |= self.speculative.stats.hits > 0
        self.tally.changes[name] += 1
        seen = []
        for copy in (self.plain, self.other):
            torch.manual_seed(self._step)
            try:
                CHANGES[name](copy.module, value)
                seen.append("done")
            except Exception as error:
                seen.append(f"{type(error).__name__}: {error}")
        assert seen[0] == seen[1], name

    def _again(self, times: int) -> None:
        for _ in range(times):
            self._step += 1
            self.plain.refresh()
            self.other.refresh()
            expected = observe(self.plain.world, self._step)
            found = observe(self.other.world, self._step)
            compare(expected, found, f"call {self._step}, {self.speculative.stats}")
