"""Streams as threads: overlap, failure, threads of torch, leftovers."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import nimble_lite
from nimble_lite.backends.threads import ThreadsExecutable
from nimble_lite.plan.schedule import thread_scope
from tests.nimble_lite.contract import Branches
from tests.nimble_lite.graphs import example, planned, random_graph, random_program


def workers() -> int:
    return sum(thread.name.startswith("nimble-stream") for thread in threading.enumerate())


def scheduled(fn: object, *inputs: Tensor) -> nimble_lite.ScheduledFunction:
    with nimble_lite.config.patch(measure=False):
        return nimble_lite.schedule(fn, inputs, streams="max", backend="threads")  # type: ignore[arg-type]  # any callable


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert workers() == 0


@pytest.fixture
def meeting_point() -> Iterator[threading.Barrier]:
    """Two operations that only return when both are running."""
    barrier = threading.Barrier(2, timeout=10)
    with torch.library._scoped_library("nimble_threads", "FRAGMENT") as library:
        library.define("meet(Tensor x) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
        armed = threading.Event()

        def meet(x: Tensor) -> Tensor:
            if threading.current_thread() is not threading.main_thread() or workers():
                barrier.wait()
            return x + 1

        library.impl("meet", meet, "CPU")
        armed.set()
        yield barrier


def test_streams_really_run_at_the_same_time(
    meeting_point: threading.Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nimble_lite.tasks import alias

    # Unknown operations are barriers, and rightly so; this one is known to be harmless.
    trusted = alias.TRUSTED_NAMESPACES | {"nimble_threads"}
    monkeypatch.setattr(alias, "TRUSTED_NAMESPACES", trusted)
    meet = torch.ops.nimble_threads.meet

    both = scheduled(lambda x: meet(x * 2) + meet(x * 3), torch.ones(3))

    assert both(torch.ones(3)).tolist() == [7, 7, 7]
    both.close()


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_equal_eager(seed: int) -> None:
    graph = random_graph(seed)
    executable = ThreadsExecutable(planned(graph, scope=thread_scope(graph)))
    for run in range(5):
        torch.manual_seed(run)
        found = executable.run(example(run))
        torch.manual_seed(run)
        right = random_program(seed)(*example(run))
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    executable.close()


def test_a_stream_that_raises_stops_the_others_and_the_next_run_works() -> None:
    table = torch.arange(10.0)

    def step(x: Tensor, index: Tensor) -> Tensor:
        left = (x @ x) @ x
        right = table.index_select(0, index) * 2
        return (left.sum() + right.sum()) @ x if left.dim() == 9 else left + right.sum()

    x, good, bad = torch.ones(8, 8), torch.tensor([1, 2]), torch.tensor([1, 99])
    both = scheduled(step, x, good)

    for _ in range(10):
        with pytest.raises(IndexError):
            both(x, bad)
        assert torch.equal(both(x, good), step(x, good))
    both.close()


def test_workers_use_the_callers_number_of_threads() -> None:
    model = Branches(4).eval()
    both = scheduled(model, torch.ones(2, 16))
    seen: set[int] = set()

    before = torch.get_num_threads()
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            assert torch.equal(both(torch.ones(2, 16)), model(torch.ones(2, 16)).detach())
            assert torch.get_num_threads() == count
            seen.add(count)
    finally:
        torch.set_num_threads(before)
    assert seen == {1, 2}
    both.close()


def test_callers_in_several_threads_take_turns() -> None:
    model = Branches(3).eval()
    both = scheduled(model, torch.ones(2, 16))
    wrong: list[int] = []

    def call(seed: int) -> None:
        torch.set_num_threads(1)
        for run in range(20):
            x = torch.randn(2, 16, generator=torch.Generator().manual_seed(100 * seed + run))
            with torch.no_grad():
                if not torch.equal(both(x), model(x)):
                    wrong.append(seed)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)

    assert not wrong
    both.close()


def test_inference_mode_reaches_the_workers() -> None:
    both = scheduled(Branches(3).eval(), torch.ones(2, 16))
    with torch.inference_mode():
        assert both(torch.ones(2, 16)).is_inference()
    both.close()


def test_forgetting_an_executable_ends_its_workers() -> None:
    graph = random_graph(1)
    executable = ThreadsExecutable(planned(graph, scope=thread_scope(graph)))
    watcher = weakref.ref(executable)
    assert workers() > 0

    del executable
    gc.collect()

    assert watcher() is None


def test_intermediate_tensors_die_during_the_run() -> None:
    """Cells that cross streams are let go at the drop of their storage, locals at last use."""
    graph = random_graph(5)
    executable = ThreadsExecutable(planned(graph, scope=thread_scope(graph)))

    assert executable.source.count("del v") >= len(graph.kernel_tasks) // 2
    executable.close()


def test_threads_are_kept_only_when_measured_faster() -> None:
    tiny = nimble_lite.schedule(Branches(3).eval(), (torch.ones(2, 16),), backend="threads")

    report = tiny.report()

    assert report.measurement is not None
    assert set(report.measurement.median_us) == {"threads", "serial", "eager"}
    assert report.backend == report.measurement.chosen
    tiny.close()
