"""Emitted lines: the cheapest call that is the same call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import nimble_lite
from nimble_lite.backends.serial import SerialExecutable, constant_views
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.contract import assert_same


def source_of(scheduled: nimble_lite.ScheduledFunction) -> str:
    executable = scheduled._entry.executable
    assert isinstance(executable, SerialExecutable)
    return executable.source


INDICES: list[Any] = [
    3, -1, None, Ellipsis, True, slice(1, 3), (0,), (0, 1), (slice(None), 2), (slice(None), -1),
    (slice(None), slice(None), 1), (None, slice(None)), (slice(None), None), (Ellipsis, 0),
    (Ellipsis, None), (slice(None, None, 2), 1), (slice(0, 9), 1), (slice(None),), (0, None),
    (slice(None), [0, 2]), (slice(None), True),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_every_form_of_index_gives_the_view_that_eager_gives(index: Any) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4, 4))

    def fn(x: Tensor) -> tuple[Tensor, ...]:
        return x[index], weight[index], x[index] * weight[index]

    x = torch.randn(4, 4, 4)
    scheduled = nimble_lite.schedule(fn, (torch.zeros(4, 4, 4),), backend="serial")

    with torch.no_grad():
        found, right = scheduled(x), fn(x)
    assert_same(found, right)
    for mine, theirs in zip(found, right, strict=True):
        assert mine._is_view() == theirs._is_view()
        assert mine.requires_grad == theirs.requires_grad
    assert found[0].storage_offset() == right[0].storage_offset()
    assert (found[0].data_ptr() == x.data_ptr()) == (right[0].data_ptr() == x.data_ptr())


def test_plain_indices_are_written_as_what_they_end_in() -> None:
    def fn(x: Tensor) -> Tensor:
        return x[:, 1] * x[0] * x[None][0] + x[0:2, 1:3].sum()

    scheduled = nimble_lite.schedule(fn, (torch.zeros(4, 4),), backend="serial")

    source = source_of(scheduled)
    assert "slice(" not in source
    assert source.count("= getitem") == 1
    assert source.count("= select") == 3
    assert source.count("= unsqueeze") == 1
    assert_same(scheduled(x := torch.randn(4, 4)), fn(x))


def test_views_of_constants_are_made_once_and_follow_the_module() -> None:
    layer = torch.nn.Linear(4, 4)

    def fn(x: Tensor) -> Tensor:
        return x @ layer.weight[1:3].t()

    scheduled = nimble_lite.schedule(fn, (torch.zeros(2, 4),), backend="serial")
    x = torch.randn(2, 4)
    replayed = source_of(scheduled).partition("def replay")[2]
    assert "getitem" not in replayed
    assert " t_" not in replayed

    for change in (
        lambda: layer.weight.data.mul_(2),
        lambda: setattr(layer, "weight", torch.nn.Parameter(torch.randn(4, 4))),
        lambda: setattr(layer.weight, "data", torch.randn(4, 4)),
        lambda: layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}),
    ):
        change()
        with torch.no_grad():
            assert_same(scheduled(x), fn(x))


def test_a_view_that_is_returned_or_reshaped_is_made_anew() -> None:
    weight = torch.randn(4, 3)
    returned = record(lambda x: (x + 1, weight.t()), (torch.ones(2),))
    reshaped = record(lambda x: x @ weight.view(2, 6).t_(), (torch.ones(2, 6),))
    plain = record(lambda x: x @ weight.view(2, 6).t(), (torch.ones(2, 6),))

    assert not constant_views(returned)
    assert not constant_views(reshaped)
    assert len(constant_views(plain)) == 2
