"""Recording: effects, aliases, tokens, refusals; and nothing changed by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimble_lite.errors import RecordError, StaleValueError
from nimble_lite.tasks.graph import Ref, Region, Task, TaskGraph
from nimble_lite.tasks.tracing import record


def called(task: Task) -> Callable[..., Any]:
    """The function of a task that is no region."""
    assert not isinstance(task.target, Region)
    return task.target


def names(graph: TaskGraph) -> list[str]:
    return [task.name for task in graph.tasks]


def hazards(graph: TaskGraph) -> dict[str, list[str]]:
    kernels = graph.kernels
    return {
        task.name: [kernels[u].name for u in sources]
        for task, sources in zip(kernels, graph.hazards, strict=True)
    }


def code_of(fn: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(RecordError) as caught:
        record(fn, args)
    return caught.value.code


def test_torch_level_operations_become_tasks_and_views_become_zero_tasks() -> None:
    graph = record(lambda x: (x + 1).t() @ x, (torch.ones(2, 2),))

    assert names(graph) == ["add", "t", "matmul"]
    assert [task.is_zero for task in graph.tasks] == [False, True, False]
    assert hazards(graph) == {"add": [], "matmul": ["add"]}


def test_a_reader_is_ordered_after_a_write_through_another_view() -> None:
    def step(x: Tensor) -> Tensor:
        whole = x + 1
        part = whole[0]
        before = whole.sum()
        part.mul_(2)
        return whole.sum() + before

    graph = record(step, (torch.ones(2, 2),))

    assert hazards(graph) == {
        "add": [],
        "sum": ["add"],
        "mul_": ["add", "sum"],
        "sum_1": ["mul_"],
        "add_1": ["sum", "sum_1"],
    }


def test_shape_only_use_is_a_host_edge_and_no_hazard() -> None:
    graph = record(lambda x: (x * 2, torch.zeros_like(x * 2)), (torch.ones(3),))

    assert hazards(graph)["zeros_like"] == []
    assert graph.host[2] == (1,)


def test_batch_norm_in_training_writes_its_statistics_without_saying_so() -> None:
    norm = nn.BatchNorm1d(3).train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}

    graph = record(lambda x: norm(norm(x)), (torch.randn(4, 3),))

    first, second = (task for task in graph.tasks if task.name.startswith("batch_norm"))
    assert len(first.writes & second.reads) == 3  # both statistics and the first result
    assert "batch_norm" in hazards(graph)["batch_norm_1"]
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_batch_norm_in_evaluation_writes_only_its_result() -> None:
    graph = record(nn.BatchNorm1d(3).eval(), (torch.randn(4, 3),))

    assert graph.tasks[0].writes == graph.tasks[0].births


def test_random_operations_are_chained_and_leave_the_generator_alone() -> None:
    state = torch.get_rng_state()

    graph = record(lambda x: F.dropout(x, 0.5) + F.dropout(x, 0.5), (torch.ones(8),))

    assert hazards(graph)["dropout_1"] == ["dropout"]
    assert torch.equal(state, torch.get_rng_state())


def test_an_operation_that_could_draw_but_does_not_carries_no_token() -> None:
    q = torch.randn(1, 2, 4, 8)

    graph = record(F.scaled_dot_product_attention, (q, q, q))

    assert [task.tokens for task in graph.kernels] == [frozenset()]


def test_evaluation_dropout_and_contiguous_leave_no_task() -> None:
    graph = record(lambda x: F.dropout(x.contiguous(), training=False) + 1, (torch.ones(3),))

    assert names(graph) == ["add"]


def test_a_tensor_made_from_python_data_is_written_by_its_task() -> None:
    graph = record(lambda x: x + torch.tensor([1.0, 2.0]), (torch.ones(2),))

    assert not graph.tasks[0].is_zero
    assert graph.tasks[0].writes == graph.tasks[0].births


def test_empty_is_a_zero_task_and_its_first_writer_is_ordered() -> None:
    graph = record(lambda x: torch.empty_like(x).copy_(x), (torch.ones(2),))

    assert [task.is_zero for task in graph.tasks] == [True, False]


def test_metadata_changed_in_place_makes_a_new_value_and_waits_for_old_users() -> None:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 2
        z = y + 1
        return y.t_(), z

    graph = record(step, (torch.ones(2, 3),))

    assert graph.tasks[2].is_zero
    assert graph.host[2] == (0, 1)
    assert graph.values[graph.tasks[2].results[0][1]].shape == (3, 2)


def test_outputs_that_are_inputs_are_references_to_them() -> None:
    graph = record(lambda x, n: {"same": x, "view": x[0], "n": n}, (torch.ones(2, 2), 3))

    assert graph.outputs[0] == Ref(0)
    assert graph.outputs[2] == 3


def test_an_input_passed_twice_is_one_value() -> None:
    x = torch.ones(2)

    graph = record(lambda a, b: a + b, (x, x))

    assert graph.inputs == (Ref(0), Ref(0))


def test_arguments_and_buffers_written_by_the_run_are_restored() -> None:
    x = torch.ones(3)
    outside = torch.zeros(3)

    record(lambda x: outside.add_(x.mul_(5)), (x,))

    assert x.tolist() == [1, 1, 1]
    assert outside.tolist() == [0, 0, 0]


def test_constants_carry_the_name_by_which_the_module_knows_them() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    graph = record(lambda x: model(x), (torch.ones(1, 2),))

    paths = [constant.path for constant in graph.constants]
    assert paths == ["model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias"]


def test_origins_name_the_module_and_the_users_line() -> None:
    model = nn.Sequential(nn.Linear(2, 2))

    graph = record(lambda x: model(x), (torch.ones(1, 2),))

    origin = graph.tasks[0].origin
    assert origin.module == "model.0"
    assert Path(origin.file).name == "test_tracing.py"
    assert origin.line > 100


def test_an_fx_graph_module_is_recorded_with_the_origin_of_its_nodes() -> None:
    module = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))

    graph = record(module, (torch.ones(1, 2),))

    assert names(graph) == ["linear", "relu"]
    assert "0" in str(graph.tasks[0].origin)


def test_an_aten_graph_module_is_recorded() -> None:
    module = torch.fx.experimental.proxy_tensor.make_fx(lambda x: torch.softmax(x + 1, 0))(
        torch.ones(3)
    )

    assert names(record(module, (torch.ones(3),))) == ["add", "_softmax"]


def test_the_transformer_encoder_keeps_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()

    graph = record(layer, (torch.randn(2, 3, 16),))

    assert names(graph) == ["_transformer_encoder_layer_fwd"]


def test_autocast_around_an_operation_is_kept_with_its_task() -> None:
    def step(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ x
        return y + 1

    graph = record(step, (torch.randn(4, 4),))

    assert [task.ambient is not None for task in graph.tasks] == [True, False]


def test_a_value_read_by_python_becomes_a_check() -> None:
    graph = record(lambda x: x + 1 if x.sum() > 0 else x - 1, (torch.ones(2),))

    check = graph.tasks[2]
    assert check.is_sync
    called(check)(torch.tensor(True))
    with pytest.raises(StaleValueError, match=r"NL0206.*test_tracing.py") as caught:
        called(check)(torch.tensor(False))
    assert "found:    False" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "same"), [(float("nan"), True), (-0.0, False), (0.0, False), (1.0, False)]
)
def test_checks_tell_minus_zero_from_zero_and_know_nan(value: float, same: bool) -> None:
    recorded = float("nan") if value != 0.0 else -value
    graph = record(lambda x: x.item(), (torch.tensor(recorded),))

    if same:
        called(graph.tasks[0])(torch.tensor(value))
    else:
        with pytest.raises(StaleValueError):
            called(graph.tasks[0])(torch.tensor(value))


def test_an_operation_that_takes_a_host_value_must_keep_its_shape() -> None:
    graph = record(lambda n: torch.zeros(2, 2)[: n.sum()], (torch.tensor([1]),))

    sliced = next(task for task in graph.tasks if task.is_sync)
    with pytest.raises(StaleValueError, match="another shape"):
        called(sliced)(torch.zeros(2, 2), slice(None, 2))


@pytest.mark.parametrize(
    "fn",
    [
        torch.nonzero,
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        torch.unique,
    ],
)
def test_shapes_that_depend_on_values_are_refused(fn: Callable[[Tensor], Tensor]) -> None:
    assert code_of(fn, torch.ones(3)) == "NL0101"


def test_numpy_in_the_function_is_refused_with_its_line() -> None:
    with pytest.raises(RecordError, match=r"NL0102.*test_tracing.py"):
        record(lambda x: torch.from_numpy(x.numpy() + 1), (torch.ones(2),))


def test_an_autograd_engine_inside_is_refused() -> None:
    def step(x: Tensor) -> Any:
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            return torch.autograd.grad((y * y).sum(), y)

    assert code_of(step, torch.ones(2)) == "NL0103"


def test_an_output_that_cannot_be_rebuilt_is_refused() -> None:
    assert code_of(lambda x: object(), torch.ones(2)) == "NL0104"


def test_a_tensor_kept_outside_is_refused_with_the_line_that_made_it() -> None:
    kept: list[Tensor] = []

    def step(x: Tensor) -> Tensor:
        kept.append(x + 1)
        return x * 2

    with pytest.raises(RecordError, match=r"NL0105.*test_tracing.py"):
        record(step, (torch.ones(2),))


def test_a_cache_filled_by_the_first_run_is_a_constant_of_the_second() -> None:
    cache: dict[str, Tensor] = {}

    def step(x: Tensor) -> Tensor:
        if "table" not in cache:
            cache["table"] = torch.arange(2.0)
        return x + cache["table"]

    graph = record(step, (torch.ones(2),))

    assert names(graph) == ["add"]
    assert graph.constants[0].tensor is cache["table"]


@pytest.mark.parametrize("fn", [lambda x: x.set_(torch.ones(5)), lambda x: x.resize_(7)])
def test_exchanged_bytes_are_refused(fn: Callable[[Tensor], Tensor]) -> None:
    assert code_of(fn, torch.ones(2)) == "NL0106"


def test_assigning_data_is_refused() -> None:
    def step(x: Tensor) -> Tensor:
        y = x + 1
        y.data = x
        return y

    assert code_of(step, torch.ones(2)) == "NL0106"


def test_a_functorch_transform_is_refused() -> None:
    def step(x: Tensor) -> Tensor:
        record(torch.sin, (x,))
        return x

    with pytest.raises(RecordError, match="NL0107"):
        torch.func.vmap(step)(torch.ones(2, 2))


def test_a_subclass_that_overrides_torch_functions_is_refused() -> None:
    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))

    assert code_of(lambda x: x + 1, torch.ones(2).as_subclass(Loud)) == "NL0107"


def test_an_error_of_the_function_passes_unchanged() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        record(lambda x: x + torch.ones(5), (torch.ones(2),))


def test_other_threads_see_the_truth_about_subclasses_while_one_records() -> None:
    import threading

    answers: list[bool] = []

    class Subclass(torch.Tensor):
        pass

    def ask() -> None:
        answers.append(torch.overrides.has_torch_function((Subclass(),)))

    def step(x: Tensor) -> Tensor:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return x + 1

    record(step, (torch.ones(2),))

    assert answers == [True]
    assert torch.overrides.has_torch_function((Subclass(),))
