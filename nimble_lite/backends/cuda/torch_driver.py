"""One CUDA device behind torch: streams, capture, replay, conditional nodes.

In: the calls of `driver.Driver`. Out: work on a real device. No GPU has run this file where the
project has none: `docs/gpu-status.md` lists what awaits one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch

from nimble_lite.backends.cuda.conditional import ConditionalNodes
from nimble_lite.backends.cuda.driver import Captured, Values, rehearse_branch, rehearse_loop
from nimble_lite.backends.cuda.topology import CaptureReader, Edges
from nimble_lite.errors import BackendError
from nimble_lite.torch_internals import clear_cublas_workspaces


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

    def capture(self, body: Callable[[], Values], held: Sequence[torch.Tensor]) -> Captured:
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
        return _TorchGraph(self, graph, outputs, [tensor.untyped_storage() for tensor in held])

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        torch.cuda.synchronize(self._device)

    def reserve(self, streams: int) -> None:
        """Have at least so many different streams: torch hands out 32 per priority in turn."""
        while len(self._streams) < streams:
            stream = torch.cuda.Stream(self._device)
            if stream.cuda_stream not in {known.cuda_stream for known in self._streams}:
                self._streams.append(stream)

    def tail(self) -> frozenset[int]:
        """In a capture, the nodes that the next operation on the current stream would follow."""
        return CaptureReader(_bindings()).tail(self._raw_stream())

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
            self._nodes = ConditionalNodes(_bindings())
        return self._nodes

    def _raw_stream(self) -> int:
        return int(torch.cuda.current_stream(self._device).cuda_stream)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Order one use of the pool behind the last, where it is on another stream."""
        stream = torch.cuda.current_stream(self._device)
        if self._last is not None and self._last[0] != stream.cuda_stream:
            stream.wait_event(self._last[1])
        try:
            yield
        finally:
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
    """A captured graph, the tensors that it fills, and the bytes whose addresses it has."""

    def __init__(
        self,
        driver: TorchDriver,
        graph: torch.cuda.CUDAGraph,
        outputs: Values,
        held: Sequence[torch.UntypedStorage],
    ) -> None:
        self._driver = driver
        self._held = held
        self._graph: torch.cuda.CUDAGraph | None = graph
        self.outputs = outputs

    @property
    def edges(self) -> Edges:
        """Edges of the graph, from node to node."""
        if self._graph is None:
            return []
        return CaptureReader(_bindings()).edges(self._graph.raw_cuda_graph())

    def replay(self) -> None:
        """Launch the graph on the current stream."""
        if self._graph is not None:
            self._graph.replay()

    def release(self) -> None:
        """Give graph and memory back."""
        graph, self._graph, self.outputs, self._held = self._graph, None, {}, ()
        if graph is not None:
            self._driver.forget(graph)


def _bindings() -> Any:
    """NVIDIA's bindings of the driver; only regions and checks need them."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendError(
            "NL0401",
            what="conditional nodes and check_capture need the bindings of the CUDA driver",
            found=str(error),
            expected="cuda-bindings of version 13",
            hint="pip install 'cuda-bindings>=13.0.3,<14'",
        ) from error
    return driver


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
