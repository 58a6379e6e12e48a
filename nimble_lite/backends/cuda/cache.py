"""Captured graphs over one pool of memory: bounded, the least recently used go first.

In: executables that capture and replay. Out: who may keep a graph. All graphs of a cache share
the driver's pool, so what one frees after its capture is used by the next. From this follow the
invariants:

* calls take turns, copies in and out included (one lock on the host, the driver's order on the
  device);
* every replay expires what any graph of the cache handed out of its own memory: a graph that was
  captured earlier may write where a later one keeps its outputs;
* with the last graph the pool goes too, and the device has its memory back.

An executable that had to go keeps its plan and captures anew when it is called again.
"""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

import torch

from nimble_lite.torch_internals import expire

_OVERWRITTEN = (
    "NL0207 an output of an earlier replay was used after it was overwritten\n"
    "  hint:     clone it before the next call, or schedule with outputs='safe'"
)


class Holder(Protocol):
    """Something that holds a captured graph."""

    def release(self) -> None:
        """Give the graph back; it can be captured again."""


class GraphCache:
    """At most so many graphs at a time.

    Args:
        most: of graphs.

    Attributes:
        mutex: held around every use.
        evictions: graphs that had to go so far.
    """

    def __init__(self, most: int) -> None:
        self.mutex = threading.RLock()
        self.evictions = 0
        self._most = most
        self._holders: dict[Holder, None] = {}
        self._lent: list[weakref.ref[torch.Tensor]] = []

    def __len__(self) -> int:
        return len(self._holders)

    def make_room(self) -> None:
        """Let the least recently used graph go when one more would be too many."""
        while len(self._holders) >= self._most:
            oldest = next(iter(self._holders))
            self.leave(oldest)
            oldest.release()
            self.evictions += 1

    def use(self, holder: Holder) -> None:  # hot
        """Note that a holder's graph is used now; whatever was lent before is lost."""
        self._holders.pop(holder, None)
        self._holders[holder] = None
        self.expire_lent()

    def leave(self, holder: Holder) -> None:
        """Forget a holder whose graph goes, with all that was lent from the pool."""
        if holder in self._holders:
            del self._holders[holder]
            self.expire_lent()

    def lend(self, tensor: torch.Tensor) -> None:
        """Note that a tensor on the pool's memory was handed out."""
        self._lent.append(weakref.ref(tensor))

    def expire_lent(self) -> None:
        """Let every tensor that was lent raise when its data is looked at."""
        for reference in self._lent:
            tensor = reference()
            if tensor is not None:
                expire(tensor, _OVERWRITTEN)
        self._lent.clear()
