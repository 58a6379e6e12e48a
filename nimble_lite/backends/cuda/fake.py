"""A CUDA device that is not there: real CPU kernels under CUDA's rules.

In: the calls of the real emission code. Out: the results, or the error that CUDA would give, or
a race. It models what the tests cannot otherwise see without a GPU:

* *capture rules*: work on a stream that was not forked, a wait for an event that was not
  recorded in this capture, a stream that was not joined, a host read in mid-capture;
* *the caching allocator*: a block goes back to the stream that allocated it, at the moment the
  last tensor on it dies, and may be handed out again at once on that stream. Births and deaths
  are those of the actual Python objects, so a reference that lives too long or too short counts;
* *captured addresses*: a replay that would touch a tensor which has moved since its capture;
* *order*: every kernel's bytes are compared with all earlier accesses; two that overlap, one of
  them a write, must be ordered by stream order and events.

What it does not model: streams inside a kernel, copy engines, timing.
"""

from __future__ import annotations

import ctypes
import sys
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from nimble_lite.backends.cuda.driver import (
    Captured,
    Values,
    iterate,
    rehearse_branch,
    rehearse_loop,
)
from nimble_lite.backends.cuda.topology import Edges
from nimble_lite.tasks.alias import (
    ALLOCATION_ONLY,
    HOST_READS,
    SHAPE_ONLY,
    bytes_of,
    declared_writes,
    tensors_in,
)

_SMALL_LIMIT = 1 << 20
_SMALL_SEGMENT = 2 << 20
_LARGE_SEGMENT = 20 << 20
_ROUND_LARGE = 2 << 20
_BLOCK = 512


class FakeCudaError(RuntimeError):
    """What the CUDA runtime would have reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Two accesses to the same bytes that no stream order or event orders."""

    first: str
    second: str
    address: int


@dataclass(slots=True)
class _Access:
    lo: int
    hi: int
    stream: int
    time: int
    is_write: bool
    name: str


class CachingAllocator:
    """Blocks by stream, as `CUDACachingAllocator` keeps them; addresses are numbers.

    Attributes:
        reserved: bytes of all segments.
        live: bytes of all blocks in use.
        peak_live: the most that was in use.
    """

    def __init__(self) -> None:
        self.reserved = self.live = self.peak_live = 0
        self._free: dict[tuple[int, bool], list[tuple[int, int]]] = {}
        self._next_segment = 1 << 32

    def allocate(self, nbytes: int, stream: int) -> tuple[int, int]:
        """Return address and size of a block for the stream."""
        size = max(_BLOCK, -(-nbytes // _BLOCK) * _BLOCK)
        is_small = size <= _SMALL_LIMIT
        blocks = self._free.setdefault((stream, is_small), [])
        fitting = [block for block in blocks if block[1] >= size]
        if fitting:
            address, length = min(fitting, key=lambda block: (block[1], block[0]))
            blocks.remove((address, length))
        else:
            address, length = self._segment(size)
        if length - size >= (_BLOCK if is_small else _SMALL_LIMIT + 1):
            insort(blocks, (address + size, length - size))
            length = size
        self.live += length
        self.peak_live = max(self.peak_live, self.live)
        return address, length

    def free(self, address: int, size: int, stream: int) -> None:
        """Give a block back to its stream and merge it with its neighbours."""
        self.live -= size
        for is_small in (True, False):
            blocks = self._free.setdefault((stream, is_small), [])
            if is_small == (size <= _SMALL_LIMIT):
                insort(blocks, (address, size))
                self._free[(stream, is_small)] = _merged(blocks)

    def _segment(self, size: int) -> tuple[int, int]:
        if size <= _SMALL_LIMIT:
            length = _SMALL_SEGMENT
        elif size < _LARGE_SEGMENT // 2:
            length = _LARGE_SEGMENT
        else:
            length = -(-size // _ROUND_LARGE) * _ROUND_LARGE
        address = self._next_segment
        self._next_segment += length + _ROUND_LARGE  # a gap: segments never merge
        self.reserved += length
        return address, length


def _merged(blocks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for address, size in blocks:
        if merged and merged[-1][0] + merged[-1][1] == address:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((address, size))
    return merged


@dataclass(slots=True)
class _Placed:
    """A storage on the device: weakly held, so that its death is seen."""

    reference: Any
    address: int
    size: int
    stream: int


@dataclass(slots=True)
class _Clocks:
    """What each stream knows to be complete."""

    now: list[list[int]] = field(default_factory=list)
    events: dict[int, list[int]] = field(default_factory=dict)
    tails: dict[int, frozenset[int]] = field(default_factory=dict)
    event_tails: dict[int, frozenset[int]] = field(default_factory=dict)
    edges: list[tuple[int, int]] = field(default_factory=list)
    nodes: int = 0
    forked: set[int] = field(default_factory=lambda: {0})


class FakeDriver:
    """Answers the driver protocol on the CPU.

    Args:
        streams: how many streams programs use.

    Attributes:
        races: every race found, in all runs so far.
        allocator: of the pool that the captured graphs share; a new one once all are released.
    """

    def __init__(self, streams: int) -> None:
        self.races: list[Race] = []
        self.allocator = CachingAllocator()
        self._graphs = 0
        self._count = streams
        self._stream = 0
        self._clocks = self._fresh_clocks()
        self._is_capturing = False
        self._is_replaying = False

    @contextmanager
    def on(self, stream: int) -> Iterator[None]:
        """Make a stream current."""
        if stream not in self._clocks.forked:
            raise FakeCudaError(
                f"operation not permitted on stream {stream}: it is not part of the capture "
                "(cudaErrorStreamCaptureIsolation)"
            )
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    def record(self, stream: int, event: int) -> None:
        """Record an event on a stream."""
        clocks = self._clocks
        clocks.events[event] = list(clocks.now[stream])
        clocks.event_tails[event] = clocks.tails.get(stream, frozenset())

    def wait(self, stream: int, event: int) -> None:
        """Let a stream wait for an event; the first wait of a stream forks it."""
        if event not in self._clocks.events:
            raise FakeCudaError(
                f"stream {stream} waits for event {event}, which was not recorded "
                "(cudaErrorStreamCaptureIsolation)"
            )
        now = self._clocks.now[stream]
        self._clocks.now[stream] = list(map(max, now, self._clocks.events[event]))
        tails = self._clocks.tails
        tails[stream] = tails.get(stream, frozenset()) | self._clocks.event_tails[event]
        self._clocks.forked.add(stream)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch one run of a program outside the pool; its streams must be joined at the end."""
        with self._watched(CachingAllocator()) as device:
            yield
        device.forget(())

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Watch one replay, in which a region runs only what its condition asks for."""
        self._is_replaying = True
        try:
            with self.running():
                yield
        finally:
            self._is_replaying = False

    def capture(self, body: Callable[[], Values], held: Sequence[torch.Tensor]) -> Captured:
        """Run the body once under the rules of capture; its outputs stay in the pool."""
        self._is_capturing = True
        try:
            with self._watched(self.allocator) as device:
                outputs = body()
        finally:
            self._is_capturing = False
        self._graphs += 1
        blocks = device.forget(outputs.values())
        edges = self._clocks.edges
        return _FakeGraph(self, body, outputs, blocks, held, edges)

    def release(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        """Give the blocks of a graph back, and the pool with the last graph."""
        for address, size, stream in blocks:
            self.allocator.free(address, size, stream)
        self._graphs -= 1
        if not self._graphs:
            self.allocator = CachingAllocator()

    def turn(self) -> AbstractContextManager[object]:
        """The CPU does one thing after another."""
        return nullcontext()

    def synchronize(self) -> None:
        """The CPU is always done."""

    def reserve(self, streams: int) -> None:
        """Have at least so many streams."""
        self._count = max(self._count, streams)
        self._clocks = self._fresh_clocks()

    def tail(self) -> frozenset[int]:
        """Nodes that the next operation on the current stream would follow."""
        return self._clocks.tails.get(self._stream, frozenset())

    def branch(self, selector: torch.Tensor, bodies: Sequence[Callable[[], None]]) -> None:
        """Issue every body once in a capture; run the chosen one."""
        chosen = self._setter_reads(selector)
        place = 1 - chosen if selector.dtype is torch.bool else chosen
        if self._is_replaying:
            bodies[place]()
        else:
            rehearse_branch(place, bodies)

    def loop(
        self,
        predicate: torch.Tensor,
        state: Sequence[torch.Tensor],
        body: Callable[[], None],
        cap: int,
    ) -> None:
        """Issue the body once in a capture; repeat it while the predicate holds."""
        decide = partial(self._setter_reads, predicate)
        if self._is_replaying:
            iterate(decide, body, cap)
        else:
            rehearse_loop(decide, state, body, cap)

    def _setter_reads(self, tensor: torch.Tensor) -> int:
        """Read a condition as the setter's kernel does, which is no read of the host's."""
        tensor.clone()
        raw = ctypes.string_at(tensor.data_ptr(), tensor.itemsize)
        return int.from_bytes(raw, sys.byteorder)

    @contextmanager
    def _watched(self, allocator: CachingAllocator) -> Iterator[_Device]:
        self._clocks = self._fresh_clocks()
        device = _Device(self, allocator)
        try:
            with device:
                yield device
            self._require_joined()
        except BaseException:
            device.forget(())
            raise

    # Called by the device -------------------------------------------------------------------

    @property
    def stream(self) -> int:
        """The current stream."""
        return self._stream

    def tick(self) -> tuple[int, list[int]]:
        """Launch one kernel: its position on the current stream and what is complete before."""
        clocks = self._clocks
        clocks.edges += [(tail, clocks.nodes) for tail in self.tail()]
        clocks.tails[self._stream] = frozenset({clocks.nodes})
        clocks.nodes += 1
        now = clocks.now[self._stream]
        before = list(now)
        now[self._stream] += 1
        return now[self._stream], before

    def refuse_host_read(self, name: str) -> None:
        """Raise as CUDA does when a captured stream is synchronised."""
        if self._is_capturing:
            raise FakeCudaError(
                f"{name}: operation not permitted when stream is capturing "
                "(cudaErrorStreamCaptureUnsupported)"
            )

    def _fresh_clocks(self) -> _Clocks:
        return _Clocks(now=[[0] * self._count for _ in range(self._count)])

    def _require_joined(self) -> None:
        now = self._clocks.now
        for stream in sorted(self._clocks.forked - {0}):
            if now[0][stream] < now[stream][stream]:
                raise FakeCudaError(
                    f"capture ended while stream {stream} was not joined "
                    "(cudaErrorStreamCaptureUnjoined)"
                )


class _FakeGraph:
    """Replays by issuing the body again; results are copied to the captured addresses."""

    def __init__(
        self,
        driver: FakeDriver,
        body: Callable[[], Values],
        outputs: Values,
        blocks: Sequence[tuple[int, int, int]],
        held: Sequence[torch.Tensor],
        edges: Edges,
    ) -> None:
        self._driver = driver
        self._body = body
        self._blocks: Sequence[tuple[int, int, int]] | None = blocks
        self._held = [(tensor, tensor.data_ptr()) for tensor in held]
        self.edges = edges
        self.outputs = dict(outputs)

    def replay(self) -> None:
        """Run again; watched like the capture."""
        if any(tensor.data_ptr() != address for tensor, address in self._held):
            raise FakeCudaError(
                "an illegal memory access was encountered: the graph has the address of a "
                "tensor that has moved since (cudaErrorIllegalAddress)"
            )
        with self._driver.replaying():
            fresh = self._body()
        for value, tensor in fresh.items():
            kept = self.outputs[value]
            if kept is not tensor:
                bytes_of(kept).copy_(bytes_of(tensor))

    def release(self) -> None:
        """Let go of the results and their place in the pool."""
        blocks, self._blocks, self.outputs = self._blocks, None, {}
        if blocks is not None:
            self._driver.release(blocks)


class _Device(TorchDispatchMode):
    """Sees every ATen call: places storages, notices deaths, compares accesses."""

    def __init__(self, driver: FakeDriver, allocator: CachingAllocator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self._driver = driver
        self._allocator = allocator
        self._placed: dict[int, _Placed] = {}
        self._outside = 1
        self._accesses: list[_Access] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one ATen call on the CPU and account for it on the device."""
        kwargs = kwargs or {}
        name = str(func._schema.name)
        if name in HOST_READS:
            self._driver.refuse_host_read(name)
        self._bury_dead()
        taken = tensors_in((args, kwargs))
        for tensor in taken:
            self._place_outside(tensor)
        written = declared_writes(func, args, kwargs)
        result = func(*args, **kwargs)
        made = [t for t in tensors_in(result) if t.untyped_storage()._cdata not in self._placed]
        for tensor in made:
            self._place(tensor)
        is_view = not written and not made and bool(tensors_in(result))
        if name in ALLOCATION_ONLY or is_view or torch.Tag.inplace_view in func.tags:
            return result
        reads = [] if name in SHAPE_ONLY else taken
        self._access(name, reads, [*written, *made])
        return result

    def forget(self, kept: Iterable[torch.Tensor]) -> list[tuple[int, int, int]]:
        """End of a run: free what it allocated, but for the blocks below `kept`, which return."""
        below = {tensor.untyped_storage()._cdata for tensor in kept}
        blocks: list[tuple[int, int, int]] = []
        for key, placed in self._placed.items():
            if placed.stream >= 0:
                block = (placed.address, placed.size, placed.stream)
                if key in below:
                    blocks.append(block)
                else:
                    self._allocator.free(*block)
        self._placed.clear()
        return blocks

    def _bury_dead(self) -> None:
        for key, placed in list(self._placed.items()):
            if placed.reference.expired():
                del self._placed[key]
                if placed.stream >= 0:
                    self._allocator.free(placed.address, placed.size, placed.stream)

    def _place(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        stream = self._driver.stream
        address, size = self._allocator.allocate(storage.nbytes(), stream)
        self._placed[storage._cdata] = _Placed(_weak(storage), address, size, stream)

    def _place_outside(self, tensor: torch.Tensor) -> None:
        """Bytes that were there before: at addresses of their own, for ever."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._placed:
            size = max(int(storage.nbytes()), 1)
            self._placed[storage._cdata] = _Placed(_weak(storage), self._outside, size, -1)
            self._outside += size

    def _access(
        self, name: str, reads: Sequence[torch.Tensor], writes: Sequence[torch.Tensor]
    ) -> None:
        time, before = self._driver.tick()
        ranges: dict[tuple[int, int], bool] = {}
        for tensors, is_write in ((reads, False), (writes, True)):
            for tensor in tensors:
                placed = self._placed[tensor.untyped_storage()._cdata]
                key = (placed.address, placed.address + placed.size)
                ranges[key] = ranges.get(key, False) or is_write
        for (lo, hi), is_write in ranges.items():
            new = _Access(lo, hi, self._driver.stream, time, is_write, name)
            self._accesses = [
                old for old in self._accesses if not self._is_settled(old, new, before)
            ]
            self._accesses.append(new)

    def _is_settled(self, old: _Access, new: _Access, before: Sequence[int]) -> bool:
        """Report a race with an earlier access; True when the new one takes its place."""
        if old.hi <= new.lo or new.hi <= old.lo:
            return False
        is_ordered = before[old.stream] >= old.time or (
            old.stream == new.stream and old.time <= new.time
        )
        if not is_ordered and (old.is_write or new.is_write):
            race = Race(
                first=f"{old.name} on stream {old.stream}",
                second=f"{new.name} on stream {new.stream}",
                address=max(old.lo, new.lo),
            )
            self._driver.races.append(race)
        # Whoever comes after a covering write comes after everything that the write came after.
        return is_ordered and new.is_write and new.lo <= old.lo and old.hi <= new.hi


def _weak(storage: torch.UntypedStorage) -> Any:
    return StorageWeakRef(storage)
