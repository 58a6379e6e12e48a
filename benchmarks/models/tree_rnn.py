"""TreeRNN after Socher et al. (2011): one matrix joins the vectors of two parts, up to the root.

A plain recursive function over nested objects of two classes, beside a module that holds the
weights: the recursion is not a method.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLASSES = 5


@dataclass(eq=False)
class Tree:
    """A binary tree: leaves carry a word, other nodes two parts."""

    word: int
    parts: tuple[Tree, Tree] | None = None


def random_tree(leaves: int, vocabulary: int, rng: random.Random) -> Tree:
    """Return a binary tree with so many leaves, cut at random places."""
    if leaves == 1:
        return Tree(rng.randrange(vocabulary))
    cut = rng.randrange(1, leaves)
    left = random_tree(cut, vocabulary, rng)
    return Tree(0, (left, random_tree(leaves - cut, vocabulary, rng)))


class TreeRNN(nn.Module):
    """Weights of the network, and the scores of a root."""

    def __init__(self, vocabulary: int = 100, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.left = nn.Linear(hidden, hidden)
        self.right = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, CLASSES)

    def forward(self, tree: Tree) -> Tensor:
        """Return scores `f32[1, 5]` of a sentence."""
        scores: Tensor = self.score(encode(self, tree))
        return scores


def encode(model: TreeRNN, tree: Tree) -> Tensor:
    """Return the vector of a tree, `f32[1, hidden]`."""
    if tree.parts is None:
        vector: Tensor = model.embedding(torch.tensor([tree.word]))
        return vector
    left = encode(model, tree.parts[0])
    right = encode(model, tree.parts[1])
    return torch.tanh(model.left(left) + model.right(right))
