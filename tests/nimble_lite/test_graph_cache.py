"""Many forms of inputs: one pool, a bounded number of graphs, nothing stale, all given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nimble_lite
from nimble_lite import api
from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.fake import FakeDriver
from nimble_lite.errors import InputMismatchError, NimbleError
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.contract import Branches, assert_same
from tests.nimble_lite.graphs import planned

MIB = 1 << 20


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeDriver]]:
    """The fake devices that schedules run on."""
    made: list[FakeDriver] = []

    def fake(device: torch.device, streams: int) -> FakeDriver:
        made.append(FakeDriver(streams))
        return made[-1]

    monkeypatch.setattr(api, "make_driver", fake)
    with nimble_lite.config.patch(measure=False):
        yield made
    assert [race for driver in made for race in driver.races] == []


def scheduled_for(fn: Callable[..., Any], *rows: int, **options: Any) -> Any:
    """`fn` on the fake device, for `f32[rows, 16]` each."""
    scheduled = nimble_lite.schedule(
        fn, (torch.ones(rows[0], 16),), streams="max", backend="cuda", **options
    )
    for count in rows[1:]:
        scheduled.add((torch.ones(count, 16),))
    return scheduled


def assert_follows(scheduled: Any, fn: Callable[..., Any], *rows: int) -> None:
    for count in rows:
        x = torch.randn(count, 16)
        with torch.no_grad():
            assert_same(scheduled(x), fn(x))


@pytest.mark.parametrize("backend", ["serial", "recorder", "threads", "cuda"])
def test_each_form_of_inputs_has_a_schedule(backend: Any, drivers: list[FakeDriver]) -> None:
    model = Branches().eval()
    scheduled = nimble_lite.schedule(model, (torch.ones(2, 16),), backend=backend)
    scheduled.add((torch.ones(5, 16),))

    assert_follows(scheduled, model, 2, 5, 5, 2)
    assert scheduled.plan.graph.values[0].shape == (2, 16)
    with pytest.raises(InputMismatchError, match="NL0201"):
        scheduled(torch.ones(3, 16))
    assert_follows(scheduled, model, 2, 5)
    assert "2 forms" in str(scheduled.report())


def test_no_more_graphs_than_allowed_are_kept(drivers: list[FakeDriver]) -> None:
    model = Branches().eval()
    with nimble_lite.config.patch(max_graphs=2):
        scheduled = scheduled_for(model, 1, 2, 3)

    assert_follows(scheduled, model, 1, 2, 2, 1)
    assert (len(scheduled._graphs), scheduled._graphs.evictions) == (2, 0)
    assert_follows(scheduled, model, 3)
    assert scheduled._graphs.evictions == 1
    assert_follows(scheduled, model, 1)  # 2 went: it had waited longest
    assert scheduled._graphs.evictions == 1
    assert_follows(scheduled, model, 2, 3, 1)
    assert len(scheduled._graphs) == 2
    assert "captured again" in str(scheduled.report())


def chain(x: Tensor) -> Tensor:
    """Large intermediates, a small output."""
    return ((x @ x.t()) * 2).relu().sum(0)


def test_graphs_share_a_pool_and_give_it_back(drivers: list[FakeDriver]) -> None:
    rows = (700, 710, 720)
    alone = []
    for count in rows:
        scheduled = scheduled_for(chain, count)
        scheduled(torch.ones(count, 16))
        alone.append(drivers[-1].allocator.reserved)
        scheduled.close()

    shared = scheduled_for(chain, *rows)
    assert_follows(shared, chain, *rows)
    allocator = drivers[-1].allocator

    assert len(drivers) == len(rows) + 1, "one device for all forms"
    assert min(alone) > 2 * MIB
    assert allocator.reserved < sum(alone) - min(alone)
    assert 0 < allocator.live < MIB, "outputs only"
    shared.close()
    assert allocator.live == 0
    assert drivers[-1].allocator.reserved == 0
    with pytest.raises(NimbleError, match="NL0407"):
        shared(torch.ones(rows[0], 16))


def test_memory_stays_bounded_however_many_forms_come(drivers: list[FakeDriver]) -> None:
    with nimble_lite.config.patch(max_graphs=2):
        scheduled = scheduled_for(chain, *range(700, 708))
    live = []
    for count in [*range(700, 708)] * 2:
        scheduled(torch.ones(count, 16))
        live.append(drivers[-1].allocator.live)

    assert len(scheduled._graphs) == 2
    assert max(live[2:]) <= 2 * 4096
    reserved = drivers[-1].allocator.reserved
    assert_follows(scheduled, chain, *range(700, 708))
    assert drivers[-1].allocator.reserved == reserved


def test_a_lent_output_expires_with_a_replay_of_another_graph(drivers: list[FakeDriver]) -> None:
    scheduled = scheduled_for(chain, 2, 3, outputs="reuse")
    first = scheduled(torch.ones(2, 16))
    assert_same(first, chain(torch.ones(2, 16)))

    scheduled(torch.ones(3, 16))

    with pytest.raises(RuntimeError, match="NL0207"):
        first + 1


def test_a_lent_output_expires_with_its_graph(drivers: list[FakeDriver]) -> None:
    scheduled = scheduled_for(chain, 2, outputs="reuse")
    last = scheduled(torch.ones(2, 16))

    scheduled.close()

    with pytest.raises(RuntimeError, match="NL0207"):
        last + 1


CHANGES: list[Callable[[Any], object]] = [
    lambda m: m.branches[0].weight.data.mul_(2),
    lambda m: setattr(m.branches[0].weight, "data", torch.randn(16, 16)),
    lambda m: setattr(m.branches[1], "weight", nn.Parameter(torch.randn(16, 16))),
    lambda m: m.load_state_dict({k: v + 1 for k, v in m.state_dict().items()}, assign=True),
]


def test_moved_weights_reach_every_form_without_a_new_recording(
    drivers: list[FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Branches().eval()
    scheduled = scheduled_for(model, 1, 2, 3)
    assert_follows(scheduled, model, 1, 2, 3)
    monkeypatch.setattr(api, "record", None)

    for change in CHANGES:
        change(model)
        assert_follows(scheduled, model, 1, 2, 3, 2)


def test_a_graph_that_was_replaced_is_given_back(drivers: list[FakeDriver]) -> None:
    model = Branches().eval()
    scheduled = scheduled_for(model, 1, 2)
    assert_follows(scheduled, model, 1, 2)
    model.branches.append(nn.Linear(16, 16))

    assert_follows(scheduled, model, 1, 2)

    assert len(scheduled._graphs) == 2
    scheduled.close()
    assert drivers[-1].allocator.reserved == 0


def test_an_executable_can_be_released_and_run_again() -> None:
    driver = FakeDriver(4)
    executable = CudaExecutable(planned(record(chain, (torch.ones(4, 4),))), driver)
    x = torch.randn(4, 4)

    for _ in range(2):
        assert_same(executable.run((x,))[0], chain(x))
        executable.release()
        assert driver.allocator.reserved == 0
