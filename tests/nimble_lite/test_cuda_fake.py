"""The real emission, capture and replay code on a device that is not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision.models as vision
from torch import Tensor

from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.emit import run_program
from nimble_lite.backends.cuda.fake import CachingAllocator, FakeCudaError, FakeDriver
from nimble_lite.errors import BackendError, CaptureError
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import FORK, Drop, Launch, Program, Record, Wait, argument_values
from nimble_lite.tasks.graph import Ref
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.graphs import example, planned, random_graph, random_program
from tests.nimble_lite.mutants import mutants


def last_use_drops(made: Schedule) -> Program:
    """The program as ordinary Python lifetimes would have it: a name dies at its last use."""
    steps = [step for step in made.program if not isinstance(step, Drop)]
    values: dict[int, list[int]] = {}
    for value, meta in enumerate(made.graph.values):
        values.setdefault(meta.storage, []).append(value)
    last: dict[int, int] = {}
    for index, step in enumerate(steps):
        if isinstance(step, Launch):
            for value in made.graph.tasks[step.task].values:
                last[made.graph.values[value].storage] = index
    program: list[Any] = []
    for index, step in enumerate(steps):
        program.append(step)
        for number, at in last.items():
            storage = made.graph.storages[number]
            if at == index and storage.birth is not None and not storage.is_output:
                program.append(Drop(step.stream, number, tuple(values[number])))
    return tuple(program)


def races_of(made: Schedule, inputs: tuple[Tensor, ...], program: Program | None = None) -> int:
    """Races that one watched run of a program shows."""
    steps = made.program if program is None else program
    driver = FakeDriver(max(step.stream for step in steps) + 1)
    order = sorted({leaf.value for leaf in made.graph.inputs if isinstance(leaf, Ref)})
    outside = dict(zip(order, inputs, strict=True))
    outside |= {c.value: c.tensor for c in made.graph.constants}
    with torch.no_grad(), driver.running():
        run_program(made, driver, outside, program)
    return len(driver.races)


@pytest.fixture(scope="module")
def inception() -> tuple[Schedule, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    model = vision.inception_v3(init_weights=False).eval()
    x = torch.randn(1, 3, 96, 96)
    return planned(record(model, (x,))), (x,)


@pytest.mark.slow
def test_clock_drops_are_free_of_races_where_python_lifetimes_are_not(
    inception: tuple[Schedule, tuple[Tensor, ...]],
) -> None:
    made, inputs = inception

    assert races_of(made, inputs) == 0
    assert races_of(made, inputs, last_use_drops(made)) > 0


@pytest.mark.parametrize("seed", range(15))
def test_random_programs_replay_like_eager_without_a_race(seed: int) -> None:
    made = planned(random_graph(seed))
    driver = FakeDriver(made.plan.streams)
    executable = CudaExecutable(made, driver)
    for run in range(3):
        torch.manual_seed(run)
        found = executable.run(example(run))
        torch.manual_seed(run)
        right = random_program(seed)(*example(run))
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert driver.races == []


@pytest.mark.slow
def test_every_missing_wait_and_join_is_a_race_or_breaks_a_rule() -> None:
    """A missing fork is left to the checker: any later wait of the stream forks it as well."""
    kinds = ("wait dropped", "join dropped", "hazard omitted")
    seen = dict.fromkeys(kinds, 0)
    missed = dict.fromkeys(kinds, 0)
    for seed in range(4):
        made = planned(random_graph(seed, kinds=("mix", "mix", "view", "in place")))
        for mutant in mutants(made, seed):
            if mutant.kind not in kinds:
                continue
            seen[mutant.kind] += 1
            try:
                caught = races_of(made, example(seed), mutant.program) > 0
            except FakeCudaError:
                caught = True
            missed[mutant.kind] += not caught

    assert all(seen.values())
    assert sum(missed.values()) == 0, (seen, missed)


@pytest.mark.parametrize("drop", [FORK, "join"])
def test_a_capture_that_breaks_a_rule_is_refused_in_cudas_words(drop: int | str) -> None:
    made = planned(record(lambda x: (x @ x).relu() + (x @ x).tanh(), (torch.ones(64, 64),)))

    def is_gone(step: Any) -> bool:
        if not isinstance(step, Wait):
            return False
        return step.event == FORK if drop == FORK else step.event >= 0

    program = tuple(step for step in made.program if not is_gone(step))
    broken = replace(made, program=program)

    with pytest.raises((CaptureError, FakeCudaError), match=r"Isolation|Unjoined"):
        CudaExecutable(broken, FakeDriver(made.plan.streams)).run((torch.ones(64, 64),))


def test_a_wait_for_an_event_of_another_time_is_refused() -> None:
    driver = FakeDriver(2)

    with pytest.raises(FakeCudaError, match="not recorded"):
        driver.wait(1, 7)


def test_an_operation_that_needs_a_host_value_is_refused_before_anything_runs() -> None:
    rows = torch.tensor([1])
    made = planned(record(lambda x: x[: rows.sum()] * 2, (torch.ones(2, 2),)))

    with pytest.raises(BackendError, match=r"NL0402(?s:.*)test_cuda_fake.py"):
        CudaExecutable(made, FakeDriver(1))


def test_a_host_read_in_mid_capture_fails_and_names_the_operation() -> None:
    calls: list[int] = []

    def sneaky(x: Tensor) -> Tensor:
        return x * 2

    made = planned(record(sneaky, (torch.ones(2),)))

    def reads_back(x: Tensor, factor: int) -> Tensor:
        calls.append(1)
        return x * factor if len(calls) < 3 else x * int(x.sum().item())

    tasks = (replace(made.graph.tasks[0], target=reads_back),)
    broken = replace(made, graph=replace(made.graph, tasks=tasks))

    with pytest.raises(CaptureError) as caught:
        CudaExecutable(broken, FakeDriver(1)).run((torch.ones(2),))

    assert caught.value.code == "NL0403"
    assert "mul at" in str(caught.value)
    assert "test_cuda_fake.py" in str(caught.value)
    assert "cudaErrorStreamCaptureUnsupported" in str(caught.value)


def test_a_failed_capture_can_be_tried_again() -> None:
    made = planned(record(lambda x: x * 2, (torch.ones(2),)))
    failing = [True]

    def once(x: Tensor, factor: int) -> Tensor:
        if failing[0]:
            raise RuntimeError("out of memory")
        return x * factor

    tasks = (replace(made.graph.tasks[0], target=once),)
    executable = CudaExecutable(
        replace(made, graph=replace(made.graph, tasks=tasks)), FakeDriver(1)
    )
    with pytest.raises(CaptureError, match="out of memory"):
        executable.run((torch.ones(2),))

    failing[0] = False
    assert executable.run((torch.full((2,), 4.0),))[0].tolist() == [8, 8]


def test_reused_outputs_are_the_graphs_own_and_expire_with_the_next_replay() -> None:
    made = planned(record(lambda x: x * 2, (torch.ones(3),)))
    executable = CudaExecutable(made, FakeDriver(1), reuse_outputs=True)

    (first,) = executable.run((torch.ones(3),))
    assert first.tolist() == [2, 2, 2]
    address = first.data_ptr()
    (second,) = executable.run((torch.zeros(3),))

    assert second.data_ptr() == address
    assert second.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="NL0207"):
        first + 1


def test_an_input_that_is_the_static_buffer_is_not_copied() -> None:
    made = planned(record(lambda x: x * 2, (torch.ones(3),)))
    executable = CudaExecutable(made, FakeDriver(1))
    executable.run((torch.ones(3),))
    (buffer,) = (static.tensor for static in executable._statics.values())

    buffer.fill_(5)

    assert executable.run((buffer,))[0].tolist() == [10, 10, 10]


def test_expanded_and_offset_inputs_are_copied_byte_for_byte() -> None:
    base = torch.arange(12.0)
    x = base[2:].as_strided((3, 2), (0, 4), 3)
    made = planned(record(lambda x: x * 2, (x,)))
    executable = CudaExecutable(made, FakeDriver(1))

    for shift in (0.0, 1.0):
        given = (base + shift)[2:].as_strided((3, 2), (0, 4), 3)
        assert torch.equal(executable.run((given,))[0], given * 2)


def test_everything_is_given_back() -> None:
    made = planned(random_graph(3))
    driver = FakeDriver(made.plan.streams)
    executable = CudaExecutable(made, driver)
    executable.run(example(1))

    executable.close()

    assert driver.allocator.live == 0


def test_the_allocator_reuses_a_block_on_its_own_stream_only() -> None:
    allocator = CachingAllocator()
    address, size = allocator.allocate(1000, stream=0)
    allocator.free(address, size, stream=0)

    elsewhere, _ = allocator.allocate(1000, stream=1)
    again, _ = allocator.allocate(900, stream=0)

    assert again == address
    assert elsewhere != address
    assert allocator.reserved == 2 * (2 << 20)


def test_the_allocator_splits_and_merges_blocks() -> None:
    allocator = CachingAllocator()
    first, first_size = allocator.allocate(512, stream=0)
    second, second_size = allocator.allocate(512, stream=0)
    assert second == first + 512

    allocator.free(first, first_size, stream=0)
    allocator.free(second, second_size, stream=0)
    whole, _ = allocator.allocate(2 << 20, stream=0)
    small, _ = allocator.allocate(1024, stream=0)

    assert small == first
    assert whole != first
    assert allocator.peak_live >= 1024


def test_views_are_issued_where_their_reader_is() -> None:
    made = planned(random_graph(2))
    launches = [step for step in made.program if isinstance(step, Launch)]
    for index, step in enumerate(launches[:-1]):
        task = made.graph.tasks[step.task]
        following = made.graph.tasks[launches[index + 1].task]
        if task.is_zero and {v for _, v in task.results} & set(argument_values(following)):
            assert launches[index + 1].stream == step.stream
    assert any(isinstance(step, Record) for step in made.program)
