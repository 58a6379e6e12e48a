"""What the CUDA backend asks of a device, and what every device does alike.

In: stream numbers, event numbers, a body to capture. Out: a `Captured` graph that can be
replayed. Torch's device (`torch_driver`) and the fake one (`fake`) answer the same protocol, so
that everything above this file runs, unchanged, in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from nimble_lite.backends.cuda.topology import Edges

Values = Mapping[int, torch.Tensor]


class Captured(Protocol):
    """A graph with the tensors that its replays fill."""

    @property
    def outputs(self) -> Values:
        """Result tensors by value number, at addresses that stay."""

    @property
    def edges(self) -> Edges:
        """Edges of the graph, from node to node."""

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

    def capture(self, body: Callable[[], Values], held: Sequence[torch.Tensor]) -> Captured:
        """Capture what `body` issues; on an error the device is as before, and it is raised.

        Args:
            body: issues the program.
            held: tensors from outside whose addresses the graph has then: it keeps their bytes.
        """

    def turn(self) -> AbstractContextManager[object]:
        """Around one use of captured graphs, copies in and out included.

        On the device it begins after the one before has ended, on whatever stream that was.
        """

    def synchronize(self) -> None:
        """Wait until the device is idle."""

    def reserve(self, streams: int) -> None:
        """Have at least so many streams."""

    def tail(self) -> frozenset[int]:
        """In a capture, the nodes that the next operation on the current stream would follow."""

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
