"""A training that runs twice in lock step: eagerly, and with its functions converted.

Enters: a `TrainingCase` and a variant. Leaves: `Trained`: pairs of step times, all losses and all
final weights of both. Invariant: both trainings start equal, and draw equal random numbers in
each step, whichever of the two steps first.

Example:
    >>> trained = train_both(case, VARIANTS["janus"], "cpu", steps=50, is_quick=True)
    >>> trained.losses == trained.eager_losses
    True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.architectures.base import WEIGHT_SEED, Call, seeded
from benchmarks.baselines import VARIANTS, Target, Variant
from benchmarks.timing import Pairs, measure_steps, stopwatch_for

_FIRST_SEED = 1_000


class Convert(Protocol):
    """Prepares a function or module for one variant."""

    def __call__(self, target: Target, *example: Any) -> Target:
        """Return `target` under the variant; `example` are arguments of one call."""
        ...


class Training(Protocol):
    """A training on its way."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All that is trained."""
        ...

    def step(self) -> tuple[Tensor, ...]:
        """Train on what comes next; return the losses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCase:
    """One training to run both ways.

    Attributes:
        name: stable; part of benchmark IDs.
        build: starts a training from a variant, a device and whether it should be small.
        missing: says what it lacks on this machine; `None` when it can run.
        is_random: what is converted draws random numbers, as dropout does.
        is_quick: it is part of `--quick`.
        is_compiled_in_quick: in `--quick`, `torch.compile` is measured too.
    """

    name: str
    build: Callable[[Convert, str, bool], Training]
    missing: Callable[[], str | None] = lambda: None
    is_random: bool = False
    is_quick: bool = True
    is_compiled_in_quick: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of training both ways.

    Attributes:
        pairs: seconds of each step, eager first.
        eager_losses: of each step.
        losses: the same under the variant.
        eager_weights: parameters and buffers at the end, one mapping per network.
        weights: the same under the variant.
        targets: what was converted.
    """

    pairs: Pairs
    eager_losses: list[tuple[Tensor, ...]]
    losses: list[tuple[Tensor, ...]]
    eager_weights: list[dict[str, Tensor]]
    weights: list[dict[str, Tensor]]
    targets: tuple[Target, ...]


class _Lane:
    """One of the two trainings."""

    def __init__(
        self, case: TrainingCase, variant: Variant, device: str, *, is_quick: bool
    ) -> None:
        self.targets: list[Target] = []
        self.losses: list[tuple[Tensor, ...]] = []
        self._variant = variant
        with seeded(WEIGHT_SEED):
            self._training = case.build(self._convert, device, is_quick)

    def step(self) -> None:
        torch.manual_seed(_FIRST_SEED + len(self.losses))
        self.losses.append(self._training.step())

    def weights(self) -> list[dict[str, Tensor]]:
        return [dict(network.state_dict()) for network in self._training.networks]

    def _convert(self, target: Target, *example: Any) -> Target:
        converted = self._variant.prepare(target, Call(example, {}))
        self.targets.append(converted)
        return converted


def train_both(
    case: TrainingCase, variant: Variant, device: str, steps: int, *, is_quick: bool
) -> Trained:
    """Train once eagerly and once under `variant`, step by step in turn."""
    plain = _Lane(case, VARIANTS["eager"], device, is_quick=is_quick)
    subject = _Lane(case, variant, device, is_quick=is_quick)
    pairs = measure_steps(plain.step, subject.step, stopwatch_for(device), steps)
    return Trained(
        pairs=pairs,
        eager_losses=plain.losses,
        losses=subject.losses,
        eager_weights=plain.weights(),
        weights=subject.weights(),
        targets=tuple(subject.targets),
    )
