"""Several callers at once: threads, tasks, generators, and functions inside functions."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import janus_lite
from janus_lite import function
from janus_lite.record.recorder import record

THREADS = 8
CALLS = 1_000
SECONDS = 120


class Net(nn.Module):
    """A module that looks at Python state, at a shape, and at data."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x)) * self.scale
        if x.shape[0] > 3:
            y = y + x.mean(0)
        if x.sum() > 0:
            y = y - 1
        out: torch.Tensor = self.second(y)
        return out


def speculated_net() -> Any:
    """The same module under speculation."""
    return janus_lite.speculate(Net())


def inputs(count: int) -> list[torch.Tensor]:
    """Tensors of six batch sizes."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(1 + n % 6, 6, generator=generator) for n in range(count)]


def run_together(*workers: Callable[[], object]) -> None:
    """Run the workers at the same time; raise what any of them raised.

    Raises:
        TimeoutError: one does not come to its end.
    """
    errors: list[BaseException] = []
    start = threading.Barrier(len(workers))

    def run(worker: Callable[[], object]) -> None:
        try:
            start.wait(SECONDS)
            worker()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(w,), daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        if thread.is_alive():
            raise TimeoutError("a thread hangs")
    if errors:
        raise errors[0]


@pytest.mark.slow
def test_eight_threads_with_mixed_shapes_get_eagers_answers() -> None:
    net, speculated = Net(), speculated_net()
    pool = inputs(24)
    expected = [net(x) for x in pool]

    def worker(number: int) -> Callable[[], None]:
        def work() -> None:
            for turn in range(CALLS):
                at = (turn * 7 + number * 5) % len(pool)
                assert torch.equal(speculated(pool[at]), expected[at])

        return work

    run_together(*map(worker, range(THREADS)))

    hits = speculated.forward.stats.hits
    for x, right in zip(pool, expected, strict=True):
        assert torch.equal(speculated(x), right)
    assert speculated.forward.stats.hits > hits, "what the threads left behind is of use"


@pytest.mark.slow
def test_threads_under_different_modes_do_not_mix() -> None:
    net, speculated = Net(), speculated_net()
    modes: list[Callable[[], Any]] = [
        contextlib.nullcontext,
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
    ]
    pool = inputs(6)

    def worker(mode: Callable[[], Any]) -> Callable[[], None]:
        def work() -> None:
            for turn in range(100):
                x = pool[turn % len(pool)]
                with mode():
                    right, found = net(x), speculated(x)
                assert torch.equal(found, right)
                assert found.dtype == right.dtype
                assert found.requires_grad == right.requires_grad
                assert found.is_inference() == right.is_inference()

        return work

    run_together(*map(worker, modes))


def test_others_run_imperatively_while_one_converts(monkeypatch: pytest.MonkeyPatch) -> None:
    is_recording, may_go_on = threading.Event(), threading.Event()
    recordings = []

    def slowly(*args: Any, **kwargs: Any) -> Any:
        recordings.append(threading.get_ident())
        is_recording.set()
        assert may_go_on.wait(SECONDS)
        return record(*args, **kwargs)

    monkeypatch.setattr(function, "record", slowly)
    double: Any = janus_lite.speculate(lambda x: x * 2)
    x = torch.randn(3)

    def convert() -> None:
        assert torch.equal(double(x), x * 2)

    def meanwhile() -> None:
        assert is_recording.wait(SECONDS)
        for _ in range(20):
            assert torch.equal(double(x), x * 2)
        may_go_on.set()

    run_together(convert, meanwhile)

    assert len(recordings) == 1
    assert double.stats.fallbacks == 20
    assert double.stats.converted == 1
    assert torch.equal(double(x), x * 2)
    assert double.stats.hits == 1


def test_several_functions_convert_at_the_same_time() -> None:
    pairs = [[(Net(), speculated_net()) for _ in range(5)] for _ in range(4)]

    def worker(own: list[tuple[Net, Any]]) -> Callable[[], None]:
        def work() -> None:
            for net, speculated in own:
                for seed in range(3):
                    x = torch.full((2, 6), float(seed))
                    assert torch.equal(speculated(x), net(x))
                assert speculated.forward.stats.converted >= 1

        return work

    run_together(*map(worker, pairs))


def test_a_function_that_calls_itself() -> None:
    def descend(x: torch.Tensor, depth: int) -> torch.Tensor:
        if depth == 0:
            return x + 1
        below: torch.Tensor = speculated(x * 2, depth - 1)
        return below - depth

    def plain(x: torch.Tensor, depth: int) -> torch.Tensor:
        return x + 1 if depth == 0 else plain(x * 2, depth - 1) - depth

    speculated: Any = janus_lite.speculate(descend)
    for depth in (3, 3, 0, 3, 5, 0, 5):
        x = torch.randn(4)
        assert torch.equal(speculated(x, depth), plain(x, depth))
    assert speculated.stats.hits >= 3


def test_a_call_from_inside_a_recording_of_another_thread_is_not_recorded_there() -> None:
    inner: Any = janus_lite.speculate(lambda x: x + 1)
    asked: queue.Queue[torch.Tensor] = queue.Queue()
    answered: queue.Queue[torch.Tensor] = queue.Queue()

    def serve() -> None:
        for _ in range(4):
            answered.put(inner(asked.get(timeout=SECONDS)))

    def outer(x: torch.Tensor) -> torch.Tensor:
        asked.put(x * 2)
        return answered.get(timeout=SECONDS) + 1

    speculated: Any = janus_lite.speculate(outer)

    def ask() -> None:
        for seed in range(4):
            x = torch.full((3,), float(seed))
            assert torch.equal(speculated(x), x * 2 + 1 + 1)

    run_together(serve, ask)
    assert speculated.stats.hits == 0
    assert speculated.reasons, "a queue is no part of a graph"


def test_speculated_inside_speculated_from_threads() -> None:
    inner, plain = speculated_net(), Net()
    outer: Any = janus_lite.speculate(lambda x: inner(x * 2) + 1)
    pool = inputs(6)
    expected_outer = [plain(x * 2) + 1 for x in pool]
    expected_inner = [plain(x) for x in pool]

    def through_outer() -> None:
        for turn in range(60):
            at = turn % len(pool)
            assert torch.equal(outer(pool[at]), expected_outer[at])

    def directly() -> None:
        for turn in range(60):
            at = turn % len(pool)
            assert torch.equal(inner(pool[at]), expected_inner[at])

    run_together(through_outer, directly, through_outer, directly)


def test_a_generator_that_calls_a_speculated_function() -> None:
    net, speculated = Net(), speculated_net()
    pool = inputs(6)

    def results() -> Iterator[torch.Tensor]:
        for x in pool * 3:
            yield speculated(x)

    interleaved = zip(results(), results(), strict=True)
    for x, (one, other) in zip(pool * 3, interleaved, strict=True):
        assert torch.equal(one, net(x))
        assert torch.equal(other, net(x))
    assert speculated.forward.stats.hits > 0


def test_a_generator_is_stepped_by_another_thread_than_the_one_that_made_it() -> None:
    def numbers(x: torch.Tensor) -> Iterator[torch.Tensor]:
        for factor in range(3):
            yield x * factor

    speculated: Any = janus_lite.speculate(numbers)
    x = torch.randn(3)
    for _ in range(3):
        made = speculated(x)
        with ThreadPoolExecutor(1) as executor:
            found = executor.submit(list, made).result(SECONDS)
        assert all(torch.equal(a, b) for a, b in zip(found, numbers(x), strict=True))


def test_tasks_of_an_event_loop() -> None:
    net, speculated = Net(), speculated_net()
    pool = inputs(6)
    expected = [net(x) for x in pool]

    async def task(number: int) -> None:
        for turn in range(20):
            at = (turn + number) % len(pool)
            assert torch.equal(speculated(pool[at]), expected[at])
            await asyncio.sleep(0)

    async def in_a_thread(number: int) -> None:
        for turn in range(20):
            at = (turn + number) % len(pool)
            found = await asyncio.to_thread(speculated, pool[at])
            assert torch.equal(found, expected[at])

    async def everything() -> None:
        tasks = [*map(task, range(4)), *map(in_a_thread, range(4))]
        await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)

    asyncio.run(everything())
    assert speculated.forward.stats.hits > 0


def test_a_speculated_coroutine_is_imperative_and_right() -> None:
    async def double(x: torch.Tensor) -> torch.Tensor:
        await asyncio.sleep(0)
        return x * 2

    speculated: Any = janus_lite.speculate(double)
    x = torch.randn(3)

    for _ in range(3):
        assert torch.equal(asyncio.run(speculated(x)), x * 2)
    assert speculated.reasons[0].code is janus_lite.errors.Code.COROUTINE


@pytest.mark.parametrize("attribute", ["scale", "weights", "module"])
def test_a_change_made_by_another_thread_between_two_calls_is_seen(attribute: str) -> None:
    plain, changed = Net(), Net()
    speculated: Any = janus_lite.speculate(changed)
    turns: queue.Queue[int] = queue.Queue()
    done: queue.Queue[int] = queue.Queue()

    def change(net: Net, turn: int) -> None:
        if attribute == "scale":
            net.scale = float(turn)
        elif attribute == "weights":
            net.first.weight.data = torch.full((6, 6), float(turn))
        else:
            torch.manual_seed(turn)
            net.second = nn.Linear(6, 6)

    def from_outside() -> None:
        for _ in range(10):
            turn = turns.get(timeout=SECONDS)
            change(changed, turn)
            done.put(turn)

    def calls() -> None:
        for turn in range(10):
            turns.put(turn)
            change(plain, done.get(timeout=SECONDS))
            for x in inputs(2):
                assert torch.equal(speculated(x), plain(x))
                assert torch.equal(speculated(x), plain(x))

    run_together(from_outside, calls)
    assert speculated.forward.stats.hits > 0
