"""What a replay puts back when it is called off: bytes of outside tensors, random states.

Bytes are kept and restored by storage, so that views and aliases come back with them, and version
counters are set back: no later `backward` can tell that anything was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from janus_lite.runtime import ambient
from janus_lite.torch_internals import set_versions


@dataclass(frozen=True, slots=True)
class Saved:
    """State at entry.

    Attributes:
        bytes: pairs of a storage and a copy of it.
        tensors: tensors with a version counter.
        versions: their versions.
        random: torch's own generators, `None` when nothing was drawn.
        generators: pairs of a generator of the program and its state.
    """

    bytes: tuple[tuple[torch.UntypedStorage, torch.UntypedStorage], ...]
    tensors: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    random: ambient.RandomState | None
    generators: tuple[tuple[torch.Generator, torch.Tensor], ...]


def remember(
    tensors: Sequence[torch.Tensor],
    generators: Sequence[torch.Generator],
    *,
    draws: bool,
) -> Saved:
    """Keep what the operations to come will change.

    Args:
        tensors: outside tensors that they write.
        generators: generators of the program that they draw from.
        draws: whether they draw at all.
    """
    storages = {s.data_ptr(): s for s in (t.untyped_storage() for t in tensors)}
    counted = tuple(t for t in tensors if not t.is_inference())
    return Saved(
        tuple((s, s.clone()) for s in storages.values()),
        counted,
        tuple(t._version for t in counted),
        ambient.random_state() if draws else None,
        tuple((g, g.get_state()) for g in generators),
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
