"""What a replay puts back when it is called off: bytes of outside tensors, random states.

Bytes are kept and restored by storage, so that views and aliases come back with them, and version
counters are set back: no later `backward` can tell that anything was tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from janus_lite.runtime import ambient
from janus_lite.torch_internals import set_versions, trained_by


def _set_bits(generator: Any, state: Any) -> None:
    generator.bit_generator.state = state


def _gradients(owner: Any) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Which gradients there are; letting go of one leaves its bytes alone."""
    return [(p, p.grad) for p in trained_by(owner)]


def _set_gradients(_owner: Any, state: list[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
    for parameter, gradient in state:
        parameter.grad = gradient


def _state_rules(value: object) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    return _STATES.get(type(value), (_gradients, _set_gradients))


# How the state of a generator is read and written.
_STATES: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.RandomState: (lambda g: g.get_state(legacy=False), np.random.RandomState.set_state),
    np.random.Generator: (lambda g: g.bit_generator.state, _set_bits),
}


@dataclass(frozen=True, slots=True)
class Saved:
    """State at entry.

    Attributes:
        bytes: pairs of a storage and a copy of it.
        tensors: tensors with a version counter.
        versions: their versions.
        random: torch's own generators, `None` when nothing was drawn.
        generators: pairs of a generator of the program and its state.
        moved: pairs of another object that changes and its state.
    """

    bytes: tuple[tuple[torch.UntypedStorage, torch.UntypedStorage], ...]
    tensors: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    random: ambient.RandomState | None
    generators: tuple[tuple[torch.Generator, torch.Tensor], ...]
    moved: tuple[tuple[Any, Any], ...]


def remember(
    tensors: Sequence[torch.Tensor],
    generators: Sequence[torch.Generator],
    moves: Sequence[object] = (),
    *,
    draws: bool,
) -> Saved:
    """Keep what the operations to come will change.

    Args:
        tensors: outside tensors that they write.
        generators: generators of the program that they draw from.
        moves: other objects that they change: generators of Python or NumPy, owners of gradients.
        draws: whether they draw from torch's generators at all.
    """
    storages = {s.data_ptr(): s for s in (t.untyped_storage() for t in tensors)}
    counted = tuple(t for t in tensors if not t.is_inference())
    return Saved(
        tuple((s, s.clone()) for s in storages.values()),
        counted,
        tuple(t._version for t in counted),
        ambient.random_state() if draws else None,
        tuple((g, g.get_state()) for g in generators),
        tuple((one, _state_rules(one)[0](one)) for one in moves),
    )


def undo(saved: Saved | None) -> None:
    """Put everything back; nothing when nothing was kept yet."""
    if saved is None:
        return
    for storage, kept in saved.bytes:
        storage.copy_(kept)
    set_versions(saved.tensors, saved.versions)
    if saved.random is not None:
        ambient.set_random_state(saved.random)
    for generator, state in saved.generators:
        generator.set_state(state)
    for moved, state in saved.moved:
        _state_rules(moved)[1](moved, state)
