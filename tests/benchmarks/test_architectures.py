"""The coverage list: long enough, of every kind, and built alike each time."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from benchmarks.architectures import ARCHITECTURES, BY_NAME, Architecture, Kind
from benchmarks.equality import Comparison, Verdict, compare

# One small architecture per library and per way of making inputs.
SAMPLE = (
    "torch/lstm",
    "timm/starnet",
    "torchvision/squeezenet",
    "transformers/bert",
    "transformers/llama-cached",
    "transformers/t5",
    "transformers/clip",
)


def test_names_are_unique_and_stand_for_one_family_each() -> None:
    assert len(BY_NAME) == len(ARCHITECTURES)
    assert all(row.name.startswith(f"{row.library}/{row.family}") for row in ARCHITECTURES)


def test_the_list_is_long_and_has_every_kind() -> None:
    libraries = Counter(row.library for row in ARCHITECTURES)

    assert len(ARCHITECTURES) >= 100
    assert {row.kind for row in ARCHITECTURES} == set(Kind)
    assert all(libraries[name] >= 20 for name in ("timm", "torchvision", "transformers"))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [BY_NAME[name] for name in SAMPLE], ids=lambda a: a.name)
def test_building_twice_gives_equal_results(architecture: Architecture) -> None:
    outputs = []
    for _ in range(2):
        model, make_inputs = architecture.build()
        args, kwargs = make_inputs(1)
        with torch.no_grad():
            outputs.append(model(*args, **kwargs))

    assert compare(*outputs) == Comparison(Verdict.BITWISE)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [BY_NAME[name] for name in SAMPLE], ids=lambda a: a.name)
def test_inputs_depend_on_the_seed_alone(architecture: Architecture) -> None:
    _, make_inputs = architecture.build()
    state = torch.random.get_rng_state()

    first, again, other = make_inputs(1), make_inputs(1), make_inputs(2)

    assert compare(first, again) == Comparison(Verdict.BITWISE)
    assert compare(first, other).verdict is Verdict.WRONG
    assert torch.equal(torch.random.get_rng_state(), state)


def test_building_leaves_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()

    BY_NAME["torch/gru"].build()

    assert torch.equal(torch.random.get_rng_state(), state)
