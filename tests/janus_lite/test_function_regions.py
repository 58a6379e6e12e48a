"""Recursive calls stay calls: conversions, counters, refusals, threads, nothing left behind."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import gc
import pickle
import random
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import janus_lite
from benchmarks.models import tree_rnn
from benchmarks.models.tree_lstm import (
    BinaryTreeLSTM,
    ChildSumTreeLSTM,
    Tree,
    random_node,
    random_tree,
)
from janus_lite.errors import Code

WORDS = 12


def binary_trees(count: int, seed: int = 0) -> list[Tree]:
    """Trees of 2 to 9 leaves."""
    rng = random.Random(seed)
    return [random_tree(rng.randrange(2, 10), WORDS, rng) for _ in range(count)]


def speculated(model: nn.Module) -> Any:
    """An equal model under speculation."""
    return janus_lite.speculate(copy.deepcopy(model))


def all_converted(model: Any) -> int:
    stats = model.forward.stats
    return int(stats.converted + sum(child.converted for _, child in stats.children))


def test_two_hundred_random_trees_take_two_conversions() -> None:
    plain = BinaryTreeLSTM(WORDS, 4, 4)
    fast = speculated(plain)

    for tree in binary_trees(200):
        for one, other in zip(plain(tree), fast(tree), strict=True):
            assert torch.equal(one, other)

    assert all_converted(fast) == 2
    assert fast.forward.stats.recorded <= 4


def test_a_node_with_any_number_of_children_takes_one_conversion_per_number() -> None:
    rng = random.Random(0)
    plain = ChildSumTreeLSTM(WORDS, 4, 4)
    fast = speculated(plain)

    for _ in range(100):
        tree = random_node(rng.randrange(1, 15), WORDS, rng)
        assert torch.equal(plain(tree), fast(tree))

    assert all_converted(fast) <= 4
    assert fast.forward.stats.hits >= 90


def test_a_recursive_function_beside_the_module_takes_three() -> None:
    rng = random.Random(0)
    plain = tree_rnn.TreeRNN(WORDS, 4)
    fast = speculated(plain)

    for _ in range(100):
        tree = tree_rnn.random_tree(rng.randrange(1, 12), WORDS, rng)
        assert torch.equal(plain(tree), fast(tree))

    assert all_converted(fast) == 3


def test_the_report_lists_the_root_with_its_graphs() -> None:
    fast = speculated(ChildSumTreeLSTM(WORDS, 4, 4))
    rng = random.Random(0)
    for _ in range(20):
        fast(random_node(rng.randrange(1, 9), WORDS, rng))

    report = janus_lite.explain(fast)

    ((name, stats),) = report.stats.children
    assert name == "ChildSumTreeLSTM.encode"
    assert stats.hits > 20
    assert report.children[0].name == name
    assert name in str(report)
    assert name in report.to_json()
    assert "tree_lstm.py" in str(report.children[0])


def test_reset_forgets_the_roots() -> None:
    fast = speculated(ChildSumTreeLSTM(WORDS, 4, 4))
    rng = random.Random(0)
    for _ in range(10):
        fast(random_node(rng.randrange(1, 9), WORDS, rng))

    fast.forward.reset()

    assert fast.forward.stats.children == ()
    tree = random_node(5, WORDS, rng)
    assert torch.equal(fast(tree), fast(tree))


def test_threads_share_the_graphs_of_a_region() -> None:
    plain = BinaryTreeLSTM(WORDS, 4, 4)
    fast = speculated(plain)
    trees = binary_trees(60)
    expected = [plain(tree)[0] for tree in trees]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for number in range(len(trees)):
            index = (number + offset) % len(trees)
            if not torch.equal(fast(trees[index])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(13 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert not wrong
    assert not any(thread.is_alive() for thread in threads)
    assert fast.forward.stats.hits > 60


def test_calls_beside_a_recording_cost_no_credit() -> None:
    """They cannot be recorded themselves, however many there are meanwhile."""
    plain = BinaryTreeLSTM(WORDS, 4, 4)
    fast = speculated(plain)
    trees = binary_trees(60)
    fast(trees[0])
    fast(trees[1])
    top = fast.forward
    with contextlib.ExitStack() as recording:
        for root in (top, *top._children()):
            recording.enter_context(root._lock)
        for tree in trees:
            assert torch.equal(fast(tree)[0], plain(tree)[0])
    for tree in trees:
        assert torch.equal(fast(tree)[0], plain(tree)[0])

    assert top.stats.hits > 40
    assert all_converted(fast) == 2
    assert Code.RECURSION not in {reason.code for reason in top.reasons}


def test_the_module_dies_with_its_regions() -> None:
    fast = speculated(BinaryTreeLSTM(WORDS, 4, 4))
    for tree in binary_trees(6):
        fast(tree)
    alive = weakref.ref(fast)

    del fast
    gc.collect()

    assert alive() is None


def test_copies_and_pickles_start_anew() -> None:
    fast = speculated(BinaryTreeLSTM(WORDS, 4, 4))
    for tree in binary_trees(6):
        fast(tree)
    (tree,) = binary_trees(1, seed=5)

    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert other.forward.stats.calls == 0
        assert torch.equal(other(tree)[0], fast(tree)[0])


class Chain:
    """A linked list that calls may write on."""

    def __init__(self, below: Chain | None = None) -> None:
        self.below = below
        self.seen: object = None


def chain(length: int) -> Chain:
    """A list of so many links."""
    link = Chain()
    for _ in range(length - 1):
        link = Chain(link)
    return link


def marks(x: torch.Tensor, link: Chain) -> torch.Tensor:
    link.seen = True
    return x if link.below is None else marks(x, link.below) + 1


def counts(x: torch.Tensor, link: Chain) -> tuple[torch.Tensor, int]:
    if link.below is None:
        return x, 1
    y, n = counts(x, link.below)
    return torch.tanh(y), n + 1


def draws(x: torch.Tensor, link: Chain) -> torch.Tensor:
    y = x if link.below is None else draws(x, link.below)
    return y + torch.rand(2)


def compares(x: torch.Tensor, link: Chain) -> torch.Tensor:
    if link.below is None:
        return x + 1
    y, z = compares(x, link.below), compares(x, link.below)
    return y if y is z else z


def hashes(x: torch.Tensor, link: Chain) -> torch.Tensor:
    if link.below is None:
        return x + 1
    seen = {hashes(x, link.below), hashes(x, link.below)}
    return x * len(seen)


def gives_a_list(x: torch.Tensor, link: Chain) -> Any:
    return [x, link] if link.below is None else [gives_a_list(x, link.below)[0] * 2, link]


def finds(x: torch.Tensor, link: Chain) -> torch.Tensor:
    if link.below is None:
        return x + 1
    seen = [x, finds(x, link.below)]
    return seen[1 - seen.index(x)] * 2


NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="a")


def names(x: torch.Tensor, link: Chain) -> torch.Tensor:
    if link.below is None:
        return x + len(NAME.get())
    token = NAME.set("longer")
    y = names(x, link.below) * 2
    NAME.reset(token)
    return y


REFUSED = [marks, counts, draws, compares, hashes, gives_a_list, finds, names]


@pytest.mark.parametrize("function", REFUSED)
def test_what_a_replay_could_not_take_back_or_compare_is_refused_with_a_line(function: Any) -> None:
    fast = janus_lite.speculate(function)

    for step in range(12):
        torch.manual_seed(step)
        expected = function(torch.ones(2), chain(1 + step % 4))
        torch.manual_seed(step)
        found = fast(torch.ones(2), chain(1 + step % 4))
        one, other = (r[0] if isinstance(r, tuple | list) else r for r in (expected, found))
        assert torch.equal(one, other)

    assert Code.RECURSION in {reason.code for reason in fast.reasons}


def test_strict_raises_the_refusal() -> None:
    fast = janus_lite.speculate(counts, strict=True)

    def call_often() -> None:
        for step in range(6):
            fast(torch.ones(2), chain(1 + step % 4))

    with pytest.raises(janus_lite.JanusError, match="JL0204"):
        call_often()


def test_fail_on_miss_refuses_a_call_that_is_called_off() -> None:
    fast = speculated(BinaryTreeLSTM(WORDS, 4, 4))
    for tree in binary_trees(6):
        fast(tree)
    (tree,) = binary_trees(1, seed=9)

    with janus_lite.stance("fail_on_miss"):
        fast(tree)
        tree.left = Tree(word=1, right=Tree(word=2))
        tree.right = chain(3)  # type: ignore[assignment]  # another kind of node
        with pytest.raises(janus_lite.JanusError):
            fast(tree)


def power(x: torch.Tensor, n: int) -> torch.Tensor:
    return x if n == 0 else power(x, n - 1) * x


def test_a_recursion_of_fixed_depth_is_inlined_into_one_graph() -> None:
    fast: Any = janus_lite.speculate(power)
    for _ in range(5):
        fast(torch.full((2,), 1.5), 4)

    (conversion,) = fast.conversions
    assert not conversion.program.calls_regions
    assert fast.stats.hits == 4


def test_a_recursion_of_varying_depth_becomes_a_region() -> None:
    fast: Any = janus_lite.speculate(power)
    for step in range(30):
        x = torch.full((2,), 1.5)
        assert torch.equal(fast(x, step % 9), power(x, step % 9))

    assert any(conversion.program.calls_regions for conversion in fast.conversions)
    assert fast.stats.recorded <= 5


def test_a_rare_kind_of_node_costs_no_graph() -> None:
    def walk(link: Chain, x: torch.Tensor) -> torch.Tensor:
        return walk_chain(link, x)

    fast: Any = janus_lite.speculate(walk)
    for step in range(60):
        link = chain(3)
        if step % 20 == 19:
            assert link.below is not None
            link.below.seen = step  # a number that is another one each time
        x = torch.ones(2)
        assert torch.equal(fast(link, x), walk(link, x))

    (stats,) = [child for _, child in fast.stats.children]
    assert stats.hits > 100
    assert fast.stats.hits > 40


def walk_chain(link: Chain, x: torch.Tensor) -> torch.Tensor:
    if link.seen is not None:
        x = x * float(hash(link.seen) % 7)
    return x if link.below is None else torch.tanh(walk_chain(link.below, x))


def test_under_verify_recursion_is_inlined_and_compared() -> None:
    fast: Any = janus_lite.speculate(power, verify="always")
    for step in range(6):
        x = torch.full((2,), 1.5)
        assert torch.equal(fast(x, step % 2), power(x, step % 2))

    assert not any(conversion.program.calls_regions for conversion in fast.conversions)
    assert Code.UNEQUAL not in {reason.code for reason in fast.reasons}
