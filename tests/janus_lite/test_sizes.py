"""Sizes that vary: what is relaxed, what stays, and what a person is told."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import janus_lite
from janus_lite.errors import Code


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def add(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x + 1, y * 2


def rows_of_a_result(x: torch.Tensor) -> list[torch.Tensor]:
    return [row + 1 for row in x * 2]


def sized(x: torch.Tensor) -> torch.Tensor:
    h = x * 2
    return h.view(h.shape[0], 2, -1)


def calls(function: Callable[..., Any], *shapes: Any) -> Any:
    """Speculate on a function, call it with tensors of these shapes, compare with eager."""
    speculated: Any = janus_lite.speculate(function)
    for shape in shapes:
        check(speculated, function, torch.randn(shape))
    return speculated


def check(speculated: Any, function: Callable[..., Any], *tensors: torch.Tensor) -> None:
    expected, found = function(*tensors), speculated(*tensors)
    leaves = torch.utils._pytree.tree_leaves
    for one, other in zip(leaves(expected), leaves(found), strict=True):
        assert one.stride() == other.stride()
        assert torch.equal(one, other)


def codes(speculated: Any) -> list[Code]:
    return [reason.code for reason in speculated.reasons]


def test_one_more_recording_takes_every_size() -> None:
    speculated = calls(double, (4, 8), (7, 8), (2, 8), (31, 8))

    assert speculated.stats.converted == 2
    assert speculated.stats.hits == 2


def test_a_neighbouring_dim_stays_as_it_was() -> None:
    speculated = calls(double, (4, 8), (7, 8), (5, 8))

    text = speculated.explain_miss((torch.randn(5, 9),))
    assert text.startswith("dim 1 of args[0] is 9, recorded as Tensor float32[")


def test_another_tensor_of_the_same_size_stays_as_it_was() -> None:
    speculated: Any = janus_lite.speculate(add)
    check(speculated, add, torch.randn(4, 3), torch.randn(4, 3))
    check(speculated, add, torch.randn(5, 3), torch.randn(4, 3))

    assert "args[1]" in speculated.explain_miss((torch.randn(6, 3), torch.randn(6, 3)))
    assert speculated.explain_miss((torch.randn(6, 3), torch.randn(4, 3))).startswith("torch's")


def test_tensors_that_differ_in_one_call_are_relaxed_together() -> None:
    speculated: Any = janus_lite.speculate(add)
    for n in (4, 5, 6, 9):
        check(speculated, add, torch.randn(n, 3), torch.randn(2, n))

    assert speculated.stats.converted == 2


def test_a_size_is_not_relaxed_where_the_dtype_differs_too() -> None:
    speculated = calls(double, (4, 8))
    check(speculated, double, torch.randn(5, 8, dtype=torch.float64))
    check(speculated, double, torch.randn(6, 8, dtype=torch.float64))

    assert not any("varies" in text for text in speculated.explain().graphs[1].assumptions)
    assert "dim 0 of args[0] varies" in speculated.explain().graphs[0].assumptions


@pytest.mark.parametrize("small", [0, 1])
def test_small_sizes_have_graphs_of_their_own(small: int) -> None:
    speculated = calls(double, (4, 8), (7, 8), (small, 8), (5, 8), (small, 8))

    assert speculated.stats.converted == 3
    assert speculated.stats.hits == 2


@pytest.mark.parametrize("small", [0, 1])
def test_a_small_size_first_relaxes_to_larger_ones(small: int) -> None:
    speculated = calls(double, (small, 8), (7, 8), (5, 8), (small, 8))

    assert speculated.stats.converted == 2


def test_the_report_names_what_varies() -> None:
    speculated = calls(double, (4, 8), (7, 8))

    assert "dim 0 of args[0] varies" in str(speculated.explain())
    assert speculated.explain().last_miss.startswith("dim 0 of args[0] is 7, recorded as")


def test_code_of_functions_without_varying_sizes_asks_for_none() -> None:
    speculated = calls(sized, (4, 8))

    assert "size_" not in speculated.code()
    assert ".size(" not in speculated.code()


def test_sizes_that_nobody_uses_are_not_asked() -> None:
    speculated = calls(sized, (4, 8), (6, 8), (5, 8))

    assert speculated.code().count("= size_") == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_a_dense_tensor_varies_in_any_order_of_dims(order: tuple[int, int, int]) -> None:
    speculated: Any = janus_lite.speculate(lambda x: (x.reshape(-1), x.contiguous() * 2))
    for step in range(2, 9):
        x = torch.randn(step, step + 3, 2 * step).permute(order)
        check(speculated, speculated.original, x)

    assert speculated.stats.converted == 2


def test_a_tensor_with_gaps_is_not_taken_for_a_dense_one() -> None:
    speculated: Any = janus_lite.speculate(lambda x: x.reshape(-1) * 2)
    for n in (4, 6, 8):
        check(speculated, speculated.original, torch.randn(5, n))

    assert speculated.stats.hits == 1
    check(speculated, speculated.original, torch.randn(5, 8)[:, :4])
    assert speculated.stats.hits == 1


def test_a_foreign_backend_gets_one_graph_for_each_size() -> None:
    compiled: list[tuple[int, ...]] = []

    def backend(gm: Any, examples: Sequence[torch.Tensor]) -> Any:
        compiled.append(tuple(examples[0].shape))
        return gm.forward

    speculated: Any = janus_lite.speculate(double, backend=backend)
    for n in (4, 5, 6, 4, 5):
        check(speculated, double, torch.randn(n, 2))

    assert compiled == [(4, 2), (5, 2), (6, 2)]
    assert codes(speculated) == [Code.BACKEND]
    assert "args[0].shape[0] varies" in speculated.reasons[0].found


def test_verified_replays_of_other_sizes_are_equal() -> None:
    speculated: Any = janus_lite.speculate(sized, verify="always")
    for n in (4, 5, 6, 9):
        check(speculated, sized, torch.randn(n, 4))

    assert speculated.stats.hits == 2
    assert not speculated.reasons


def test_decisions_on_results_that_fail_too_often_fix_the_sizes_again() -> None:
    speculated = calls(rows_of_a_result, *((n, 3) for n in range(2, 12)))

    assert Code.MEGAMORPHIC in codes(speculated)
    assert not any("varies" in t for t in speculated.explain().graphs[0].assumptions)


def test_a_reader_that_no_hook_sees_fixes_the_sizes() -> None:
    def count(x: Any) -> tuple[torch.Tensor, int]:
        return x, dict(zip("a", map(len, [x]), strict=True))["a"]

    speculated: Any = janus_lite.speculate(count)
    for n in (4, 5, 6, 5):
        x = torch.randn(n, 2)
        assert speculated(x)[1] == n


def test_reset_forgets_what_varied() -> None:
    speculated = calls(double, (4, 8), (7, 8))
    speculated.reset()
    check(speculated, double, torch.randn(5, 8))

    assert not any("varies" in t for t in speculated.explain().graphs[0].assumptions)


def test_no_symbolic_size_outlives_the_run() -> None:
    kept: list[Any] = []

    def keeps(x: torch.Tensor) -> torch.Tensor:
        h = x * 2
        kept.append([h.shape, (x.shape[0], {"n": len(h)}), list(h.size())])
        return h

    speculated: Any = janus_lite.speculate(keeps)
    for n in (4, 5, 6):
        speculated(torch.randn(n, 2))

    for n, (shape, (first, table), sizes) in zip((4, 5, 6), kept, strict=True):
        assert (shape, first, table, sizes) == (torch.Size([n, 2]), n, {"n": n}, [n, 2])
        found = {type(v) for v in (*shape, first, *table.values(), *sizes)}
        assert found == {int}


def test_the_heap_is_not_searched_for_sizes_that_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the longer the more objects a process has."""
    kept: dict[str, Any] = {}

    def stores(x: torch.Tensor) -> torch.Tensor:
        kept["rows"] = x.shape[0]
        return x * len(x)

    def search(*_: object) -> list[object]:
        raise AssertionError("searched")

    monkeypatch.setattr(gc, "get_referrers", search)
    speculated: Any = janus_lite.speculate(stores)
    for n in (4, 5, 6, 7):
        x = torch.randn(n, 2)
        assert torch.equal(speculated(x), x * n)
        assert type(kept["rows"]) is int
    assert speculated.stats.hits >= 2
