"""What the CUDA backend asks of a device, and the real device behind torch.

In: stream numbers, event numbers, a body to capture. Out: a `Captured` graph that can be
replayed. The fake driver (`nimble_lite.backends.cuda.fake`) answers the same protocol on the
CPU, so that everything above this file runs, unchanged, in the tests.

Not run on a GPU by this project's own tests where there is none: `docs/gpu-status.md` lists what
awaits one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

import torch

from nimble_lite.backends.cuda.conditional import ConditionalNodes
from nimble_lite.errors import BackendError
from nimble_lite.torch_internals import clear_cublas_workspaces

Values = Mapping[int, torch.Tensor]


class Captured(Protocol):
    """A graph with the tensors that its replays fill."""

    @property
    def outputs(self) -> Values:
        """Result tensors by value number, at addresses that stay."""

    def replay(self) -> None:
        """Run the graph once more on the current stream."""

    def release(self) -> None:
        """Give the graph and its memory back."""


class Driver(Protocol):
    """Streams, events and capture of one device."""

    def on(self, stream: int) -> AbstractContextManager[object]:
        """Make a stream current."""

    def record(self, stream: int, event: int) -> None:
        """Record an event on a stream."""

    def wait(self, stream: int, event: int) -> None:
        """Let a stream wait for an event."""

    def running(self) -> AbstractContextManager[object]:
        """Around uncaptured runs of a program: begins after and ends before all other work."""

    def capture(self, body: Callable[[], Values]) -> Captured:
        """Capture what `body` issues; on an error the device is as before, and it is raised."""

    def synchronize(self) -> None:
        """Wait until the device is idle."""

    def reserve(self, streams: int) -> None:
        """Have at least so many streams."""

    def branch(self, selector: torch.Tensor, bodies: Sequence[Callable[[], None]]) -> None:
        """Run one body on the current stream, chosen on the device.

        Args:
            selector: `bool[]` for two bodies, the first where it holds, or `i32[]` by number.
            bodies: write only what nobody reads before the branch ends.
        """

    def loop(
        self,
        predicate: torch.Tensor,
        state: Sequence[torch.Tensor],
        body: Callable[[], None],
        cap: int,
    ) -> None:
        """Repeat the body on the current stream while `predicate: bool[]` holds.

        Args:
            predicate: decided before; the body writes it for the next iteration.
            state: all that the body writes and that outlives it.
            body: one iteration.
            cap: most iterations.
        """


def rehearse_branch(selector: int, bodies: Sequence[Callable[[], None]]) -> None:
    """Run a branch outside a capture, every body once: each must have been seen before."""
    for body in bodies:
        body()
    bodies[selector]()


def rehearse_loop(
    decide: Callable[[], object],
    state: Sequence[torch.Tensor],
    body: Callable[[], None],
    cap: int,
) -> None:
    """Run a loop outside a capture, its body at least once without leaving a trace of that."""
    kept = [tensor.clone() for tensor in state]
    body()
    for tensor, copy in zip(state, kept, strict=True):
        tensor.copy_(copy)
    iterate(decide, body, cap)


def iterate(decide: Callable[[], object], body: Callable[[], None], cap: int) -> None:
    """Run a loop, decided by the host."""
    count = 0
    while count < cap and decide():
        body()
        count += 1


class TorchDriver:
    """One CUDA device through torch's public interface.

    Args:
        device: where to capture.
        streams: how many streams programs use; stream 0 gets a higher priority, which capture
            copies into the priority of its nodes: the critical path goes first.
    """

    def __init__(self, device: torch.device, streams: int) -> None:
        self._device = device
        self._streams = [torch.cuda.Stream(device, priority=-1)]
        self.reserve(streams)
        self._events: dict[int, torch.cuda.Event] = {}
        self._pool: torch.cuda.MemPool | None = None
        self._graphs = 0
        self._last: tuple[int, torch.cuda.Event] | None = None
        self._nodes: ConditionalNodes | None = None

    def on(self, stream: int) -> AbstractContextManager[object]:
        """Make a stream current."""
        return torch.cuda.stream(self._streams[stream])

    def record(self, stream: int, event: int) -> None:
        """Record an event on a stream; each record takes a new event of its number."""
        self._events[event] = torch.cuda.Event()
        self._events[event].record(self._streams[stream])

    def wait(self, stream: int, event: int) -> None:
        """Let a stream wait for an event."""
        self._streams[stream].wait_event(self._events[event])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Order an uncaptured run after the caller's work, and the caller's work after it."""
        caller = torch.cuda.current_stream(self._device)
        for stream in self._streams:
            stream.wait_stream(caller)
        with torch.cuda.stream(self._streams[0]):
            yield
        for stream in self._streams:
            caller.wait_stream(stream)

    def capture(self, body: Callable[[], Values]) -> Captured:
        """Capture into a graph of its own, with memory from this driver's pool."""
        torch.cuda.synchronize(self._device)
        clear_cublas_workspaces()
        pool = self._pool = self._pool or torch.cuda.MemPool()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        # The pool is entered first: a capture routes by stream, a pool by thread, so that what
        # side streams allocate is caught too.
        with (
            _without_collection(),
            torch.cuda.use_mem_pool(pool, self._device),
            torch.cuda.stream(self._streams[0]),
        ):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                outputs = body()
            except BaseException:
                self._abandon(graph)
                raise
            graph.capture_end()
        clear_cublas_workspaces()
        graph.instantiate()
        self._graphs += 1
        return _TorchGraph(self, graph, outputs)

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        torch.cuda.synchronize(self._device)

    def reserve(self, streams: int) -> None:
        """Have at least so many different streams: torch hands out 32 per priority in turn."""
        while len(self._streams) < streams:
            stream = torch.cuda.Stream(self._device)
            if stream.cuda_stream not in {known.cuda_stream for known in self._streams}:
                self._streams.append(stream)

    def branch(self, selector: torch.Tensor, bodies: Sequence[Callable[[], None]]) -> None:
        """Add an IF, IF/ELSE or SWITCH node in a capture; rehearse it outside of one."""
        nodes = self._conditional_nodes()
        is_flag = selector.dtype is torch.bool
        if not torch.cuda.is_current_stream_capturing():
            chosen = int(selector)
            rehearse_branch(1 - chosen if is_flag else chosen, bodies)
        elif is_flag:
            nodes.if_(self._raw_stream(), selector, *bodies)
        else:
            nodes.switch(self._raw_stream(), selector, bodies)

    def loop(
        self,
        predicate: torch.Tensor,
        state: Sequence[torch.Tensor],
        body: Callable[[], None],
        cap: int,
    ) -> None:
        """Add a WHILE node in a capture; rehearse it outside of one."""
        nodes = self._conditional_nodes()
        if torch.cuda.is_current_stream_capturing():
            counter = torch.empty((), dtype=torch.int32, device=self._device)
            nodes.while_(self._raw_stream(), predicate, counter, body, cap)
        else:
            rehearse_loop(lambda: bool(predicate), state, body, cap)

    def _conditional_nodes(self) -> ConditionalNodes:
        """Made at the first rehearsal: a capture forbids what it takes."""
        if self._nodes is None:
            try:
                from cuda.bindings import driver
            except ImportError as error:
                raise BackendError(
                    "NL0404",
                    what="a region needs conditional nodes, which need the driver's bindings",
                    found=str(error),
                    hint="pip install 'cuda-bindings>=13.0.3,<14'",
                ) from error
            self._nodes = ConditionalNodes(driver)
        return self._nodes

    def _raw_stream(self) -> int:
        return int(torch.cuda.current_stream(self._device).cuda_stream)

    def launch(self, graph: torch.cuda.CUDAGraph) -> None:
        """Replay on the current stream, behind the last replay of any graph of the pool."""
        stream = torch.cuda.current_stream(self._device)
        if self._last is not None and self._last[0] != stream.cuda_stream:
            stream.wait_event(self._last[1])
        graph.replay()
        event = self._last[1] if self._last is not None else torch.cuda.Event()
        event.record(stream)
        self._last = (stream.cuda_stream, event)

    def forget(self, graph: torch.cuda.CUDAGraph) -> None:
        """Give a graph back, and with the last one the pool, whose memory is free then."""
        self.synchronize()
        graph.reset()
        self._graphs -= 1
        if not self._graphs:
            self._pool = None
            torch.cuda.empty_cache()

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a failed capture so that streams, allocator and generator work again."""
        with suppress(RuntimeError):
            graph.capture_end()
        with suppress(RuntimeError):
            graph.reset()
        self._events.clear()
        with suppress(RuntimeError):
            torch.cuda.synchronize(self._device)


class _TorchGraph:
    """A captured graph and the tensors that it fills."""

    def __init__(self, driver: TorchDriver, graph: torch.cuda.CUDAGraph, outputs: Values) -> None:
        self._driver = driver
        self._graph: torch.cuda.CUDAGraph | None = graph
        self.outputs = outputs

    def replay(self) -> None:
        """Launch the graph on the current stream."""
        if self._graph is not None:
            self._driver.launch(self._graph)

    def release(self) -> None:
        """Give graph and memory back."""
        graph, self._graph, self.outputs = self._graph, None, {}
        if graph is not None:
            self._driver.forget(graph)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector from freeing CUDA memory in the middle of a capture."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
