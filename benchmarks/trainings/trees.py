"""Sentiment of trees, each of which is met once: TreeRNN and TreeLSTM.

The treebank of the papers is not at hand. Words have a hidden polarity here, and the class of a
sentence is the sum of its words', so that there is something to learn. As in JANUS's evaluation,
these run on the host: their tensors are too small for anything else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models import tree_lstm as lstm
from benchmarks.models import tree_rnn as rnn
from benchmarks.trainings.base import Convert, Training

_WORDS = 100
_CLASSES = rnn.CLASSES
MakeTree = Callable[[int, int, random.Random], Any]


class Sentiment:
    """Adagrad on some new trees per step.

    Args:
        convert: prepares the encoder.
        encoder: what is converted: from a tree to a tensor, or to some; the first one counts.
        head: from that tensor to scores.
        make: a tree of so many leaves.
        batch: trees per step.
        leaves: the most a tree has.
    """

    def __init__(
        self,
        convert: Convert,
        encoder: nn.Module,
        head: nn.Module,
        make: MakeTree,
        *,
        batch: int,
        leaves: int,
    ) -> None:
        self._encoder, self._head = encoder, head
        self._rng = random.Random(0)
        self._make, self._batch, self._leaves = make, batch, leaves
        self._encode = convert(self._encoder, self._tree())
        parameters = [*encoder.parameters(), *head.parameters()]
        self._optimizer = torch.optim.Adagrad(parameters, lr=0.05)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Encoder and head."""
        return self._encoder, self._head

    def step(self) -> tuple[Tensor, ...]:
        """Train on trees that were not seen before."""
        self._optimizer.zero_grad()
        losses = []
        for _ in range(self._batch):
            tree = self._tree()
            label = torch.tensor([_label(tree)])
            losses.append(F.cross_entropy(self._scores(tree), label))
        loss = torch.stack(losses).mean()
        loss.backward()
        self._optimizer.step()
        return (loss.detach(),)

    def _tree(self) -> Any:
        return self._make(self._rng.randint(2, self._leaves), _WORDS, self._rng)

    def _scores(self, tree: Any) -> Tensor:
        found = self._encode(tree)
        scores: Tensor = self._head(found[0] if isinstance(found, tuple) else found)
        return scores


def _words(tree: Any) -> Iterator[int]:
    parts = tree.parts if isinstance(tree, rnn.Tree) else (tree.left, tree.right)
    if parts and parts[0] is not None:
        for part in parts:
            yield from _words(part)
    else:
        yield tree.word


def _label(tree: Any) -> int:
    polarity = sum(word % 3 - 1 for word in _words(tree))
    return max(0, min(_CLASSES - 1, polarity + _CLASSES // 2))


def tree_rnn(convert: Convert, _device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start a TreeRNN, whose own head is converted too."""
    hidden, batch, leaves = (32, 4, 10) if is_small else (128, 25, 30)
    network = rnn.TreeRNN(_WORDS, hidden)
    return Sentiment(convert, network, nn.Identity(), rnn.random_tree, batch=batch, leaves=leaves)


def tree_lstm(
    convert: Convert,
    _device: str,
    is_small: bool,  # noqa: FBT001 # a builder
) -> Training:
    """Start a binary TreeLSTM."""
    width, batch, leaves = (32, 4, 10) if is_small else (150, 25, 30)
    network, head = lstm.BinaryTreeLSTM(_WORDS, width, width), nn.Linear(width, _CLASSES)
    return Sentiment(convert, network, head, lstm.random_tree, batch=batch, leaves=leaves)
