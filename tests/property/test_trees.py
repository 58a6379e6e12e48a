"""Tree models on random trees, with changes in between: eager's bits, few conversions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import janus_lite
from benchmarks.models import tree_lstm, tree_rnn

WORDS = 6
Change = Callable[[nn.Module], object]


def binary_trees() -> st.SearchStrategy[tree_lstm.Tree]:
    leaf = st.builds(tree_lstm.Tree, word=st.integers(0, WORDS - 1))

    def join(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.builds(tree_lstm.Tree, left=parts, right=parts)

    return st.recursive(leaf, join, max_leaves=8)


def dependency_trees() -> st.SearchStrategy[tree_lstm.Node]:
    words = st.integers(0, WORDS - 1)
    leaf = st.builds(tree_lstm.Node, words, st.just([]))

    def join(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.builds(tree_lstm.Node, words, st.lists(parts, min_size=1, max_size=2))

    return st.recursive(leaf, join, max_leaves=6)


def paired_trees() -> st.SearchStrategy[tree_rnn.Tree]:
    words = st.integers(0, WORDS - 1)

    def join(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.builds(tree_rnn.Tree, words, st.tuples(parts, parts))

    return st.recursive(st.builds(tree_rnn.Tree, words), join, max_leaves=8)


def _shift(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data.add_(0.01)


def _freeze(model: nn.Module) -> None:
    next(model.parameters()).requires_grad_(False)


def _double(model: nn.Module) -> None:
    model.double()


def _replace(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.detach() * 0.5)
            return


def _nothing(_model: nn.Module) -> None:
    return


CHANGES = st.sampled_from([_nothing, _nothing, _nothing, _shift, _freeze, _replace, _double])
MODELS = [
    pytest.param(lambda: tree_lstm.BinaryTreeLSTM(WORDS, 4, 4), binary_trees(), id="binary"),
    pytest.param(lambda: tree_lstm.ChildSumTreeLSTM(WORDS, 4, 4), dependency_trees(), id="sum"),
    pytest.param(lambda: tree_rnn.TreeRNN(WORDS, 4), paired_trees(), id="rnn"),
]


def pair(make: Callable[[], nn.Module]) -> tuple[nn.Module, Any]:
    """A plain model and an equal one that is speculated on."""
    torch.manual_seed(0)
    plain = make()
    return plain, janus_lite.speculate(copy.deepcopy(plain))


def check_call(plain: nn.Module, speculated: Any, tree: object) -> None:
    """Both give the same bits, forward and backward.

    Raises:
        AssertionError: they do not.
    """
    for model in (plain, speculated):
        model.zero_grad()
    expected, found = plain(tree), speculated(tree)
    for one, other in zip(_tensors(expected), _tensors(found), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad == other.requires_grad
    for answer in (expected, found):
        _tensors(answer)[0].sum().backward()
    for one, other in zip(plain.parameters(), speculated.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or other.grad is None or torch.equal(one.grad, other.grad)


def _tensors(answer: Any) -> tuple[torch.Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def conversions(model: Any) -> int:
    """Of the model and of all roots below it."""
    stats = model.forward.stats
    return int(stats.converted + sum(child.converted for _, child in stats.children))


@pytest.mark.parametrize(("make", "trees"), MODELS)
def test_random_trees_and_changes_give_eagers_bits(
    make: Callable[[], nn.Module], trees: st.SearchStrategy[Any]
) -> None:
    @settings(
        max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(st.tuples(CHANGES, trees), min_size=3, max_size=8))
    def run(steps: list[tuple[Change, object]]) -> None:
        plain, speculated = pair(make)
        for change, tree in steps:
            change(plain)
            change(speculated)
            check_call(plain, speculated, tree)

    run()


@pytest.mark.parametrize(("make", "trees"), MODELS)
def test_ever_new_trees_find_the_graphs_of_a_few(
    make: Callable[[], nn.Module], trees: st.SearchStrategy[Any]
) -> None:
    plain, speculated = pair(make)
    calls = 0

    @settings(
        max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(trees)
    def run(tree: object) -> None:
        nonlocal calls
        calls += 1
        check_call(plain, speculated, tree)

    run()

    stats = speculated.forward.stats
    # Two more than for trees of some size: the first ones are single words.
    assert conversions(speculated) <= 6, speculated.forward.explain()
    assert stats.hits > calls * 0.7
