"""Real architectures through every backend: equal bits on fresh inputs.

The list takes one member of many families from the benchmark's catalogue, the faster ones. A
dozen of them let Python read a value (whether a mask is all true): such values are compared with
every replay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.architectures import BY_NAME
from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.fake import FakeDriver
from nimble_lite.backends.protocol import Executable
from nimble_lite.backends.recorder import RecorderExecutable
from nimble_lite.backends.serial import SerialExecutable
from nimble_lite.backends.threads import ThreadsExecutable
from nimble_lite.errors import BackendError
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import thread_scope
from nimble_lite.replay import Replay
from nimble_lite.tasks.graph import TaskGraph
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.contract import assert_same
from tests.nimble_lite.graphs import planned

pytestmark = pytest.mark.slow

NAMES = """
    timm/cait timm/convnext timm/cspnext timm/deit timm/dla timm/edgenext timm/efficientvim
    timm/eva timm/ghostnet timm/levit timm/mambaout timm/mlp_mixer timm/resnet timm/resnest
    timm/swin_transformer timm/xcit torchvision/googlenet torchvision/inception
    torchvision/mobilenet_v3 torchvision/shufflenet_v2 torchvision/squeezenet torch/lstm
    torch/transformer transformers/albert transformers/deberta-v2 transformers/fnet
    transformers/funnel transformers/roformer transformers/xlnet transformers/gpt2
    transformers/llama transformers/gemma2 transformers/bloom transformers/mixtral
    transformers/qwen2_moe transformers/mamba transformers/xlstm transformers/longformer
    transformers/mbart transformers/wav2vec2 transformers/clip transformers/segformer
    transformers/swinv2 transformers/decision_transformer
""".split()
NOT_CAPTURABLE = frozenset({"transformers/longformer"})
"""Launches with a host value (an index that is read back): refused by name, with its line."""
TRAINED = (
    "timm/resnet", "timm/ghostnet", "torchvision/googlenet", "transformers/albert",
    "transformers/gpt2", "transformers/vit",
)  # fmt: skip


def _fake_cuda(made: Schedule) -> CudaExecutable:
    return CudaExecutable(made, FakeDriver(made.plan.streams))


BACKENDS: dict[str, Callable[[TaskGraph], Executable]] = {
    "serial": lambda graph: SerialExecutable(planned(graph, streams=1)),
    "recorder": lambda graph: RecorderExecutable(planned(graph)),
    "threads": lambda graph: ThreadsExecutable(
        planned(graph, streams=2, scope=thread_scope(graph))
    ),
    "fake cuda": lambda graph: _fake_cuda(planned(graph)),
}


@cache
def recorded(name: str) -> tuple[nn.Module, Callable[[int], Any], TaskGraph]:
    model, make_inputs = BY_NAME[name].build()
    call = make_inputs(0)
    return model, make_inputs, record(model, call.args, call.kwargs)


def assert_replays(
    name: str, model: nn.Module, make_inputs: Callable[[int], Any], graph: TaskGraph, backend: str
) -> None:
    if backend == "fake cuda" and name in NOT_CAPTURABLE:
        with pytest.raises(BackendError, match=r"NL0402(?s:.*)modeling_longformer.py"):
            BACKENDS[backend](graph)
        return
    executable = BACKENDS[backend](graph)
    replay = Replay(model, graph, executable)
    for seed in (1, 2):
        call = make_inputs(seed)
        torch.manual_seed(seed)
        found = replay(*call.args, **call.kwargs)
        call = make_inputs(seed)
        torch.manual_seed(seed)
        with torch.no_grad():
            right = model(*call.args, **call.kwargs)
        assert_same(torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(right))
    driver = getattr(executable, "_driver", None)
    assert driver is None or driver.races == []
    executable.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_replays_on_fresh_inputs_equal_eager_bit_for_bit(name: str, backend: str) -> None:
    model, make_inputs, graph = recorded(name)

    assert_replays(name, model, make_inputs, graph, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TRAINED)
def test_train_mode_with_dropout_and_statistics_equals_eager(name: str, backend: str) -> None:
    model, make_inputs = BY_NAME[name].build()
    twin, _ = BY_NAME[name].build()
    model.train()
    twin.train()
    call = make_inputs(0)
    graph = record(model, call.args, call.kwargs)
    replay = Replay(model, graph, BACKENDS[backend](graph))
    for seed in (1, 2):
        torch.manual_seed(seed)
        call = make_inputs(seed)
        found = replay(*call.args, **call.kwargs)
        torch.manual_seed(seed)
        call = make_inputs(seed)
        with torch.no_grad():
            right = twin(*call.args, **call.kwargs)
        assert_same(torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(right))
        assert_same(dict(model.state_dict()), dict(twin.state_dict()))
    replay.executable.close()
