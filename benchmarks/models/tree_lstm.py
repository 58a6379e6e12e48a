"""TreeLSTM after Tai, Socher and Manning (2015): the binary and the child-sum variant.

Written as it is published: one linear layer per gate and child, and a module that calls itself on
the parts of a tree. Each sentence is another tree. Differs from the paper: no dropout, and the
score comes from the root alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]
CLASSES = 5


@dataclass(eq=False)
class Tree:
    """A binary tree: leaves carry a word, other nodes two parts."""

    word: int | None = None
    left: Tree | None = None
    right: Tree | None = None


@dataclass(eq=False)
class Node:
    """A dependency tree: every node carries a word and any number of children."""

    word: int
    children: list[Node]


def random_tree(leaves: int, vocabulary: int, rng: random.Random) -> Tree:
    """Return a binary tree with so many leaves, cut at random places."""
    if leaves == 1:
        return Tree(word=rng.randrange(vocabulary))
    cut = rng.randrange(1, leaves)
    left = random_tree(cut, vocabulary, rng)
    return Tree(left=left, right=random_tree(leaves - cut, vocabulary, rng))


def random_node(nodes: int, vocabulary: int, rng: random.Random, most_children: int = 2) -> Node:
    """Return a dependency tree with so many nodes."""
    children: list[Node] = []
    left = nodes - 1
    while left:
        is_last = len(children) == most_children - 1
        size = left if is_last else rng.randrange(1, left + 1)
        children.append(random_node(size, vocabulary, rng, most_children))
        left -= size
    return Node(rng.randrange(vocabulary), children)


class Leaf(nn.Module):
    """The state of a word."""

    def __init__(self, inputs: int, memory: int) -> None:
        super().__init__()
        self.cx = nn.Linear(inputs, memory)
        self.ox = nn.Linear(inputs, memory)

    def forward(self, x: Tensor) -> State:
        """Return state and memory for `x: f32[1, inputs]`."""
        c = self.cx(x)
        return torch.sigmoid(self.ox(x)) * torch.tanh(c), c


class Composer(nn.Module):
    """The state of a node from the states of its two parts."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.ilh, self.irh = nn.Linear(memory, memory), nn.Linear(memory, memory)
        self.lflh, self.lfrh = nn.Linear(memory, memory), nn.Linear(memory, memory)
        self.rflh, self.rfrh = nn.Linear(memory, memory), nn.Linear(memory, memory)
        self.ulh, self.urh = nn.Linear(memory, memory), nn.Linear(memory, memory)
        self.olh, self.orh = nn.Linear(memory, memory), nn.Linear(memory, memory)

    def forward(self, lc: Tensor, lh: Tensor, rc: Tensor, rh: Tensor) -> State:
        """Return state and memory; all are `f32[1, memory]`."""
        i = torch.sigmoid(self.ilh(lh) + self.irh(rh))
        lf = torch.sigmoid(self.lflh(lh) + self.lfrh(rh))
        rf = torch.sigmoid(self.rflh(lh) + self.rfrh(rh))
        update = torch.tanh(self.ulh(lh) + self.urh(rh))
        o = torch.sigmoid(self.olh(lh) + self.orh(rh))
        c = i * update + lf * lc + rf * rc
        return o * torch.tanh(c), c


class BinaryTreeLSTM(nn.Module):
    """Encodes a binary tree bottom-up, by calling itself on both parts."""

    def __init__(self, vocabulary: int = 100, inputs: int = 64, memory: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, inputs)
        self.leaf = Leaf(inputs, memory)
        self.composer = Composer(memory)

    def forward(self, tree: Tree) -> State:
        """Return state and memory of the root."""
        if tree.left is None:
            state: State = self.leaf(self.embedding(torch.tensor([tree.word])))
            return state
        lh, lc = self(tree.left)
        rh, rc = self(tree.right)
        composed: State = self.composer(lc, lh, rc, rh)
        return composed


class ChildSumTreeLSTM(nn.Module):
    """Scores a dependency tree; a node sums the states of however many children it has."""

    def __init__(self, vocabulary: int = 100, inputs: int = 64, memory: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, inputs)
        self.ioux = nn.Linear(inputs, 3 * memory)
        self.iouh = nn.Linear(memory, 3 * memory, bias=False)
        self.fx = nn.Linear(inputs, memory)
        self.fh = nn.Linear(memory, memory, bias=False)
        self.score = nn.Linear(memory, CLASSES)
        self.memory = memory

    def encode(self, node: Node) -> State:
        """Return state and memory of a node."""
        states = [self.encode(child) for child in node.children]
        x = self.embedding(torch.tensor([node.word]))
        if states:
            h_sum = torch.stack([h for h, _ in states]).sum(0)
        else:
            h_sum = x.new_zeros(1, self.memory)
        i, o, update = (self.ioux(x) + self.iouh(h_sum)).chunk(3, dim=1)
        c = torch.sigmoid(i) * torch.tanh(update)
        for h_child, c_child in states:
            c = c + torch.sigmoid(self.fx(x) + self.fh(h_child)) * c_child
        return torch.sigmoid(o) * torch.tanh(c), c

    def forward(self, root: Node) -> Tensor:
        """Return scores `f32[1, 5]` of a sentence."""
        h, _ = self.encode(root)
        scores: Tensor = self.score(h)
        return scores
