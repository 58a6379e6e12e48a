"""The captured graph's order is the plan's, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cuda.bindings import driver as real

import nimble_lite
from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.fake import FakeDriver
from nimble_lite.backends.cuda.topology import CaptureReader
from nimble_lite.errors import CaptureError
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.contract import CASES, Branches, Case
from tests.nimble_lite.graphs import example, planned, random_graph


@pytest.fixture(autouse=True)
def checked() -> Iterator[None]:
    with nimble_lite.config.patch(check_capture=True):
        yield


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_captures_have_the_planned_order(case: Case) -> None:
    inputs = case.inputs(0)
    made = planned(record(case.make(), inputs))

    CudaExecutable(made, FakeDriver(made.plan.streams)).run(inputs)


@pytest.mark.parametrize("seed", range(10))
def test_random_captures_have_the_planned_order(seed: int) -> None:
    made = planned(random_graph(seed))

    CudaExecutable(made, FakeDriver(made.plan.streams)).run(example(seed))


class OneStream(FakeDriver):
    """Hands out the same stream under several numbers, as torch's pool of 32 can."""

    def on(self, stream: int) -> Any:
        return super().on(0)


class Deaf(FakeDriver):
    """Loses the waits of one side stream for the origin, all but the fork."""

    def wait(self, stream: int, event: int) -> None:
        super().wait(stream, -1 if stream == 1 else event)


@pytest.mark.parametrize(
    ("driver", "found"), [(OneStream, "one before the other"), (Deaf, "no order")]
)
def test_another_order_is_refused_and_given_back(driver: type[FakeDriver], found: str) -> None:
    x = torch.ones(2, 16)
    made = planned(record(Branches().eval(), (x,)))
    device = driver(made.plan.streams)
    executable = CudaExecutable(made, device)

    with pytest.raises(CaptureError, match=rf"NL0405(?s:.*)found: +{found}"):
        executable.run((x,))

    assert device.allocator.reserved == 0


class Answers:
    """The driver's answers, after the real bindings have seen the arguments' types."""

    CUgraph = real.CUgraph

    def cuGraphGetEdges(self, graph: Any, count: int) -> Any:  # noqa: N802 - the driver's name
        with pytest.raises(RuntimeError, match=r"cuda|driver|load"):
            real.cuGraphGetEdges(graph, count)
        nodes = [real.CUgraphNode(n) for n in (11, 12, 13)]
        if not count:
            return real.CUresult.CUDA_SUCCESS, [], [], [], 2
        return real.CUresult.CUDA_SUCCESS, nodes[:2], nodes[1:], [], 2

    def cuStreamGetCaptureInfo(self, stream: int) -> Any:  # noqa: N802 - the driver's name
        with pytest.raises(RuntimeError, match=r"cuda|driver|load"):
            real.cuStreamGetCaptureInfo(stream)
        return real.CUresult.CUDA_SUCCESS, 1, 7, real.CUgraph(5), [real.CUgraphNode(11)], None, 1


def test_edges_and_tails_are_asked_for_as_the_bindings_want_it() -> None:
    reader = CaptureReader(Answers())

    assert reader.edges(5) == [(11, 12), (12, 13)]
    assert reader.tail(9) == frozenset({11})
