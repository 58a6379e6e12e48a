"""Facts about real networks, as Nimble's table and our prototype's have them.

Counting rules. The reference counted the nodes of an fx graph with every batch normalisation
folded into the convolution before it. We count tasks that launch a kernel, and fold in the same
way: a normalisation whose argument comes from a convolution that nobody else reads is one task
with it. The reference's graph has a few nodes without a kernel (flatten, evaluation dropout,
slices, identities); each has one predecessor and one successor, so operations and cover edges
drop by one each, and chains, width, streams and syncs do not change at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import timm
import torch
import torchvision.models as vision
from torch import nn

from benchmarks.models.amoebanet import amoebanet
from benchmarks.models.darts import darts
from benchmarks.models.nasnet import nasnet_a_large, nasnet_a_mobile
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import argument_values
from nimble_lite.tasks.graph import TaskGraph
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.graphs import planned

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One row of the reference's table.

    Attributes:
        no_kernel: operations of the reference that launch nothing.
        mib: no reuse, serial lifetimes, safe at maximum concurrency.
    """

    make: Callable[[], nn.Module]
    image: int
    operations: int
    cover_edges: int
    chains: int
    streams: int
    syncs: int
    no_kernel: int
    mib: tuple[float, float, float] | None = None


GOLDEN = {
    "resnet50": Golden(
        make=vision.resnet50, image=224, operations=122, cover_edges=125,
        chains=5, streams=2, syncs=8, no_kernel=1,
    ),
    "inception_v3": Golden(
        make=lambda: vision.inception_v3(init_weights=False), image=299, operations=220,
        cover_edges=254, chains=36, streams=6, syncs=70, no_kernel=2, mib=(89.0, 10.6, 10.6),
    ),
    "googlenet": Golden(
        make=lambda: vision.googlenet(init_weights=False), image=224, operations=140,
        cover_edges=166, chains=28, streams=4, syncs=54, no_kernel=2,
    ),
    "mobilenet_v2": Golden(
        make=vision.mobilenet_v2, image=224, operations=101, cover_edges=100,
        chains=1, streams=1, syncs=0, no_kernel=2,
    ),
    "efficientnet_b0": Golden(
        make=vision.efficientnet_b0, image=224, operations=200, cover_edges=199,
        chains=1, streams=1, syncs=0, no_kernel=11,
    ),
    "densenet201": Golden(
        make=vision.densenet201, image=224, operations=612, cover_edges=611,
        chains=1, streams=1, syncs=0, no_kernel=1,
    ),
    "darts": Golden(
        make=darts, image=224, operations=553, cover_edges=627,
        chains=60, streams=7, syncs=134, no_kernel=5, mib=(58.9, 2.3, 3.7),
    ),
    "amoebanet": Golden(
        make=amoebanet, image=224, operations=561, cover_edges=649,
        chains=78, streams=11, syncs=166, no_kernel=5, mib=(55.8, 2.3, 3.9),
    ),
    "nasnet_a_mobile": Golden(
        make=nasnet_a_mobile, image=224, operations=812, cover_edges=939,
        chains=117, streams=13, syncs=244, no_kernel=40, mib=(94.1, 4.3, 13.1),
    ),
    "nasnet_a_large": Golden(
        make=nasnet_a_large, image=331, operations=1009, cover_edges=1184,
        chains=159, streams=16, syncs=334, no_kernel=33, mib=(987.8, 30.1, 88.0),
    ),
    "nasnet_a_large (timm)": Golden(
        make=lambda: timm.create_model("nasnetalarge"), image=331, operations=1009,
        cover_edges=1184, chains=159, streams=16, syncs=334, no_kernel=5,
    ),
}  # fmt: skip


@cache
def scheduled(name: str) -> Schedule:
    row = GOLDEN[name]
    torch.manual_seed(0)
    return planned(record(row.make().eval(), (torch.randn(1, 3, row.image, row.image),)))


def folded_normalisations(graph: TaskGraph) -> int:
    """Normalisations that an inference compiler would fold into the convolution before them."""
    maker = {value: task for task in graph.tasks for _, value in task.results}
    readers: dict[int, int] = {}
    for task in graph.tasks:
        for value in set(argument_values(task)):
            readers[value] = readers.get(value, 0) + 1
    count = 0
    for task in graph.tasks:
        if task.name.startswith("batch_norm"):
            source = argument_values(task)[0]
            made_by = maker.get(source)
            is_convolved = made_by is not None and made_by.name.startswith("conv2d")
            count += is_convolved and readers[source] == 1
    return count


@pytest.mark.parametrize("name", GOLDEN)
def test_the_plan_has_the_golden_figures(name: str) -> None:
    row, made = GOLDEN[name], scheduled(name)
    bounds = made.plan.concurrency
    folded = folded_normalisations(made.graph)

    assert bounds.tasks - folded == row.operations - row.no_kernel
    assert bounds.cover_edges - folded == row.cover_edges - row.no_kernel
    assert bounds.matching == bounds.tasks - row.chains
    assert bounds.chains == row.chains
    assert bounds.width == bounds.streams == made.plan.streams == row.streams
    assert len(made.plan.waits) == bounds.syncs == row.syncs


@pytest.mark.parametrize("name", [name for name, row in GOLDEN.items() if row.mib])
def test_the_arena_is_near_the_golden_bytes(name: str) -> None:
    """Normalisations are not folded here, so more tensors are made; what lives is the same."""
    row, arena = GOLDEN[name], scheduled(name).arena
    no_reuse, serial, concurrent = row.mib or (0, 0, 0)

    assert 0.99 * no_reuse <= arena.no_reuse_bytes / 2**20 <= 1.25 * no_reuse
    assert serial * 0.9 <= arena.serial_bytes / 2**20 <= 1.2 * serial
    assert arena.nbytes / 2**20 == pytest.approx(concurrent, rel=0.03)
