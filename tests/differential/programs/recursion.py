"""Functions that call themselves on ever-new structures, or as deep as the data says."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import collections
import dataclasses
import functools
import random

import janus_lite
import torch
from tests.differential.kit import World, program
from torch import nn

CALLS = 14


class Tree:
    """A binary tree of words."""

    def __init__(self, word=None, left=None, right=None):
        self.word, self.left, self.right = word, left, right

    @property
    def is_leaf(self):
        return self.left is None


class Slotted:
    __slots__ = ("left", "right", "value")

    def __init__(self, value, left=None, right=None):
        self.value, self.left, self.right = value, left, right


@dataclasses.dataclass(eq=False)
class Node:
    value: torch.Tensor
    children: list[Node]


@dataclasses.dataclass(eq=False)
class Leaf:
    value: torch.Tensor


@dataclasses.dataclass(eq=False)
class Pair:
    left: object
    right: object


Cons = collections.namedtuple("Cons", "head tail")


def rng_of(step):
    return random.Random(1000 + step)


def tensor_of(rng, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(rng.randrange(1 << 30)))


def word_tree(leaves, rng):
    if leaves == 1:
        return Tree(word=rng.randrange(20))
    cut = rng.randrange(1, leaves)
    left = word_tree(cut, rng)
    return Tree(None, left, word_tree(leaves - cut, rng))


def word_trees(step):
    rng = rng_of(step)
    return (word_tree(rng.randrange(1, 7), rng),)


def node_tree(size, rng, most=2):
    children, left = [], size - 1
    while left > 0:
        part = left if len(children) == most - 1 else rng.randrange(1, left + 1)
        children.append(node_tree(part, rng, most))
        left -= part
    return Node(tensor_of(rng, 1, 3), children)


def node_trees(step):
    rng = rng_of(step)
    return (node_tree(rng.randrange(1, 8), rng),)


def slotted_tree(leaves, rng):
    if leaves == 1:
        return Slotted(tensor_of(rng, 3))
    cut = rng.randrange(1, leaves)
    return Slotted(None, slotted_tree(cut, rng), slotted_tree(leaves - cut, rng))


def nested(leaves, rng, make):
    if leaves == 1:
        return tensor_of(rng, 2)
    cut = rng.randrange(1, leaves)
    return make(nested(cut, rng, make), nested(leaves - cut, rng, make))


def nested_inputs(make):
    def inputs(step):
        rng = rng_of(step)
        return (nested(rng.randrange(1, 6), rng, make),)

    return inputs


class Cell(nn.Module):
    """Joins two states."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)

    def forward(self, left, right):
        return torch.tanh(self.left(left) + self.right(right))


class Encoder(nn.Module):
    """Calls itself on both parts of a tree."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.cell = Cell()
        self.scale = 1.0

    def forward(self, tree):
        if tree.is_leaf:
            return self.words(torch.tensor([tree.word])) * self.scale
        return self.cell(self(tree.left), self(tree.right))


class Scored(nn.Module):
    """A head over a recursive method."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.cell = Cell()
        self.head = nn.Linear(4, 2)

    def encode(self, tree):
        if tree.is_leaf:
            return self.words(torch.tensor([tree.word]))
        return self.cell(self.encode(tree.left), self.encode(tree.right))

    def forward(self, tree):
        return self.head(self.encode(tree))


# --------------------------------------------------------------------------------- ever-new trees


@program(hits=20)
def module_that_calls_itself():
    return World(call=Encoder(), inputs=word_trees, backward=True)


@program(hits=20)
def recursive_method():
    return World(call=Scored(), inputs=word_trees, backward=True)


@program(hits=20)
def state_of_two_tensors():
    class LSTM(Encoder):
        def forward(self, tree):
            if tree.is_leaf:
                h = self.words(torch.tensor([tree.word]))
                return h, torch.sigmoid(h)
            (lh, lc), (rh, rc) = self(tree.left), self(tree.right)
            h = self.cell(lh, rh)
            return torch.tanh(h) * lc, lc + rc

    return World(call=LSTM(), inputs=word_trees, backward=True)


def state_dict_walk(model, tree):
    if tree.is_leaf:
        return {"h": model.words(torch.tensor([tree.word])), "c": None}
    left, right = state_dict_walk(model, tree.left), state_dict_walk(model, tree.right)
    return {"h": model.cell(left["h"], right["h"]), "c": None}


@program(hits=20)
def state_in_a_dict():
    model = Encoder()
    return World(call=lambda tree: state_dict_walk(model, tree)["h"], inputs=word_trees)


def child_sum(model, node):
    states = [child_sum(model, child) for child in node.children]
    total = model.first(node.value)
    for state in states:
        total = total + model.second(state)
    return torch.tanh(total)


class TwoLinear(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, node):
        return child_sum(self, node)


@program(hits=20)
def child_sum_over_lists():
    return World(call=TwoLinear(), inputs=node_trees, backward=True)


def left_spine(model, node, state):
    if not node.children:
        return model.first(node.value) + state
    for child in node.children:
        state = left_spine(model, child, torch.tanh(state))
    return state


class Threaded(TwoLinear):
    def forward(self, node, state):
        return left_spine(self, node, state)


@program(hits=10)
def state_threaded_through_the_calls():
    return World(
        call=Threaded(),
        inputs=lambda step: (*node_trees(step), torch.full((1, 3), 0.5 + step)),
        backward=True,
    )


def top_down(model, tree, state):
    if tree.is_leaf:
        return model.words(torch.tensor([tree.word])) + state[0]
    h, depth = state
    below = torch.tanh(h), depth + 1
    return top_down(model, tree.left, below) * top_down(model, tree.right, below)


@program(hits=10)
def tuple_of_tensors_handed_down():
    model = Encoder()
    return World(
        call=lambda tree: top_down(model, tree, (torch.ones(1, 4), torch.zeros(1))),
        inputs=word_trees,
    )


def slotted_sum(tree):
    if tree.value is not None:
        return torch.sin(tree.value)
    return torch.tanh(slotted_sum(tree.left) * 2 + slotted_sum(tree.right))


@program(hits=8)
def objects_with_slots():
    def inputs(step):
        rng = rng_of(step)
        return (slotted_tree(rng.randrange(1, 6), rng),)

    return World(call=slotted_sum, inputs=inputs)


def by_class(tree):
    if isinstance(tree, Leaf):
        return torch.cos(tree.value)
    return by_class(tree.left) + torch.sigmoid(by_class(tree.right))


@program()
def a_class_for_leaves_and_one_for_pairs():
    def make(rng, leaves):
        if leaves == 1:
            return Leaf(tensor_of(rng, 3))
        cut = rng.randrange(1, leaves)
        return Pair(make(rng, cut), make(rng, leaves - cut))

    return World(call=by_class, inputs=lambda step: (make(rng_of(step), 1 + step % 5),))


def by_tuple(tree):
    if isinstance(tree, tuple):
        left, right = tree
        return torch.tanh(by_tuple(left) + 2 * by_tuple(right))
    return tree.exp()


@program()
def nested_tuples():
    return World(call=by_tuple, inputs=nested_inputs(lambda a, b: (a, b)))


def by_list(tree):
    return torch.tanh(sum(map(by_list, tree))) if isinstance(tree, list) else tree * 2


@program()
def nested_lists_through_map():
    return World(call=by_list, inputs=nested_inputs(lambda a, b: [a, b]))


def by_dict(tree):
    if "value" in tree:
        return tree["value"] * 2
    return by_dict(tree["left"]) - torch.tanh(by_dict(tree["right"]))


@program()
def nested_dicts():
    def make(rng, leaves):
        if leaves == 1:
            return {"value": tensor_of(rng, 2)}
        cut = rng.randrange(1, leaves)
        return {"left": make(rng, cut), "right": make(rng, leaves - cut)}

    return World(call=by_dict, inputs=lambda step: (make(rng_of(step), 1 + step % 5),))


def cons_sum(cell):
    return cell.head if cell.tail is None else torch.tanh(cell.head + cons_sum(cell.tail))


@program()
def linked_named_tuples():
    def inputs(step):
        cell, rng = None, rng_of(step)
        for _ in range(1 + step % 5):
            cell = Cons(tensor_of(rng, 2), cell)
        return (cell,)

    return World(call=cons_sum, inputs=inputs)


# ------------------------------------------------------------------------- depth set by the data


def halve(x):
    return halve(x / 2) if x.sum() > 1 else x * 3


@program(hits=8)
def depth_set_by_a_tensor():
    return World(call=halve, inputs=lambda step: (torch.full((2,), 2.0 ** (step % 5)),))


@program(hits=8)
def depth_set_by_a_tensor_with_gradients():
    weight = nn.Parameter(torch.tensor([1.5, -0.5]))
    return World(
        call=lambda x: halve(x * weight),
        inputs=lambda step: (torch.full((2,), 2.0 ** (step % 4)),),
        state={"weight": weight},
        backward=True,
    )


def times(x, n):
    return x if n == 0 else torch.tanh(times(x, n - 1)) + n


@program(hits=6)
def depth_set_by_a_number():
    return World(call=times, inputs=lambda step: (torch.ones(2), step % 5))


def even(x, n):
    return x if n == 0 else odd(torch.sin(x), n - 1)


def odd(x, n):
    return -x if n == 0 else even(torch.cos(x), n - 1)


@program(hits=5)
def two_functions_that_call_each_other():
    return World(call=even, inputs=lambda step: (torch.ones(2), step % 6))


def ackermann_like(x, depth):
    if depth == 0:
        return x + 1
    return ackermann_like(ackermann_like(x, depth - 1), depth - 1) * 0.5


@program(hits=5)
def a_call_inside_the_arguments_of_a_call():
    return World(call=ackermann_like, inputs=lambda step: (torch.ones(2), step % 4))


# -------------------------------------------------------------------- what changes between calls


def module_change(act):
    """A world of the encoder whose outside does `act(model)` before the fourth call."""
    model = Encoder()
    return World(call=model, inputs=word_trees, change=lambda: act(model), state={"model": model})


@program(hits=15)
def weights_change():
    return module_change(lambda m: m.cell.left.weight.data.add_(1))


@program(hits=15)
def a_parameter_is_replaced():
    return module_change(lambda m: setattr(m.cell.left, "weight", nn.Parameter(torch.ones(4, 4))))


@program(hits=10)
def a_number_of_the_module_changes():
    return module_change(lambda m: setattr(m, "scale", 2.0))


@program(hits=10)
def a_part_is_replaced():
    return module_change(lambda m: setattr(m, "cell", nn.Bilinear(4, 4, 4)))


@program(hits=5)
def a_hook_is_registered():
    return module_change(lambda m: m.cell.register_forward_hook(lambda *a: a[2] + 1))


@program(hits=5)
def a_hook_on_the_module_that_recurses():
    return module_change(lambda m: m.register_forward_hook(lambda *a: a[2] * 2))


@program(hits=15)
def gradients_are_switched_off():
    model = Encoder()
    return World(
        call=model,
        inputs=word_trees,
        around=lambda step: torch.set_grad_enabled(step % 3 != 2),
    )


@program(hits=15)
def a_weight_is_frozen():
    return module_change(lambda m: m.words.weight.requires_grad_(False))


@program(hits=15)
def double_precision():
    return module_change(lambda m: m.double())


def global_rule(x):
    return torch.tanh(x)


def with_global(tree):
    if tree.is_leaf:
        return torch.tensor([1.0, tree.word])
    return global_rule(with_global(tree.left) + with_global(tree.right))


@program(hits=8)
def a_global_function_changes():
    def act():
        with_global.__globals__["global_rule"] = lambda x: x * 2

    return World(call=with_global, inputs=word_trees, change=act)


# ----------------------------------------------------------------------- effects and odd answers


def storing(model, tree):
    if tree.is_leaf:
        tree.state = model.words(torch.tensor([tree.word]))
    else:
        tree.state = model.cell(storing(model, tree.left), storing(model, tree.right))
    return tree.state


@program()
def states_are_kept_on_the_tree():
    model = Encoder()
    return World(call=lambda tree: storing(model, tree), inputs=word_trees)


@program()
def the_tree_is_marked_before_the_calls():
    def inputs(step):
        (tree,) = word_trees(step)
        return (tree, [])

    return World(call=marking, inputs=inputs)


def marking(tree, seen):
    seen.append(len(seen))
    if tree.is_leaf:
        return torch.full((2,), float(len(seen)))
    return marking(tree.left, seen) + 2 * marking(tree.right, seen)


@program()
def text_is_printed_in_each_call():
    def shout(tree):
        return shouting(tree)

    return World(call=shout, inputs=word_trees)


def shouting(tree):
    print("leaf" if tree.is_leaf else "node")
    if tree.is_leaf:
        return torch.tensor([1.0, tree.word])
    return torch.tanh(shouting(tree.left) + shouting(tree.right))


@program()
def dropout_in_each_call():
    class Dropped(Encoder):
        def forward(self, tree):
            return nn.functional.dropout(super().forward(tree), 0.5, self.training)

    return World(call=Dropped(), inputs=word_trees, change=None)


class Recursing(nn.Module):
    """The recursion is inherited, the subclass adds to it."""

    def __init__(self):
        super().__init__()
        self.inner = Encoder()

    def forward(self, tree):
        if tree.is_leaf:
            return self.inner(tree)
        return torch.tanh(self(tree.left)) + self(tree.right)


class RecursingMore(Recursing):
    def forward(self, tree):
        return super().forward(tree) * 2


@program(hits=5)
def through_super():
    return World(call=RecursingMore(), inputs=word_trees, backward=True)


def counted(tree):
    if tree.is_leaf:
        return torch.tensor([1.0, tree.word]), 1
    (left, m), (right, n) = counted(tree.left), counted(tree.right)
    return left + right * n, m + n


@program()
def a_number_comes_back_with_the_tensor():
    return World(call=counted, inputs=word_trees)


def unchanged(tree, x):
    if tree.is_leaf:
        return x
    return unchanged(tree.right, unchanged(tree.left, x))


@program(hits=5)
def the_argument_comes_back():
    return World(
        call=lambda tree, x: (unchanged(tree, x), x),
        inputs=lambda step: (*word_trees(step), torch.ones(2)),
    )


def compared(tree, x):
    if tree.is_leaf:
        return x if tree.word % 2 else x * 2
    left, right = compared(tree.left, x), compared(tree.right, x)
    return left + right if left is right else left - right


@program()
def answers_are_told_apart():
    return World(call=compared, inputs=lambda step: (*word_trees(step), torch.ones(2)))


def in_place(tree):
    if tree.is_leaf:
        return torch.tensor([1.0, tree.word])
    total = in_place(tree.left)
    total += in_place(tree.right)
    return total


@program()
def an_answer_is_changed_in_place():
    return World(call=in_place, inputs=word_trees)


def in_place_of_a_part(node):
    total = node.value
    for child in node.children:
        total = total.add_(in_place_of_a_part(child))
    return total


@program()
def a_tensor_of_the_tree_is_changed_in_place():
    return World(call=in_place_of_a_part, inputs=node_trees)


MEMO: dict[int, torch.Tensor] = {}


def remembered(n):
    if n not in MEMO:
        MEMO[n] = torch.ones(2) if n < 2 else remembered(n - 1) + remembered(n - 2)
    return MEMO[n]


@program()
def a_memo_of_ones_own():
    return World(
        call=lambda n: remembered(n) * 2,
        inputs=lambda step: (step % 7,),
        state={"memo": MEMO},
        change=MEMO.clear,
    )


@functools.lru_cache(maxsize=None)
def cached(n):
    return torch.ones(2) if n < 2 else cached(n - 1) + cached(n - 2)


@program()
def lru_cache_over_a_recursion():
    return World(call=lambda n: cached(n) * 2, inputs=lambda step: (step % 7,))


# ------------------------------------------------------------------------------------ exceptions


class Broken(Exception):
    pass


def fragile(tree):
    if tree.is_leaf:
        if tree.word > 15:
            raise Broken(f"word {tree.word}")
        return torch.tensor([1.0, tree.word])
    return torch.tanh(fragile(tree.left) + fragile(tree.right))


@program()
def an_exception_through_all_levels():
    return World(call=fragile, inputs=word_trees)


def patient(tree):
    if tree.is_leaf:
        return fragile(tree)
    try:
        return patient(tree.left) + patient(tree.right)
    except Broken:
        return torch.zeros(2)


@program()
def an_exception_caught_half_way():
    return World(call=patient, inputs=word_trees)


def wrong_shape(tree):
    if tree.is_leaf:
        return torch.ones(2 + tree.word // 10)
    return wrong_shape(tree.left) * wrong_shape(tree.right)


@program()
def an_operation_raises_deep_inside():
    return World(call=wrong_shape, inputs=word_trees)


@program()
def deeper_than_python_goes():
    return World(call=endless, inputs=lambda step: (torch.ones(1) + step,))


def endless(x):
    return endless(x + 1)


# ------------------------------------------------------------------------- generators, speculation


def leaves_of(tree):
    if tree.is_leaf:
        yield tree.word
    else:
        yield from leaves_of(tree.left)
        yield from leaves_of(tree.right)


@program()
def a_generator_that_recurses():
    return World(
        call=lambda tree: torch.stack([torch.full((2,), float(w)) for w in leaves_of(tree)]).sum(0),
        inputs=word_trees,
    )


@program(hits=5)
def a_speculated_function_inside():
    model = Encoder()
    joined = janus_lite.speculate(lambda left, right: torch.tanh(left - right))

    class Joining(nn.Module):
        def forward(self, tree):
            if tree.is_leaf:
                return model.words(torch.tensor([tree.word]))
            return joined(self(tree.left), self(tree.right))

    return World(call=Joining(), inputs=word_trees)


@program()
def a_local_function_that_recurses():
    model = Encoder()

    def outer(tree):
        def walk(part):
            if part.is_leaf:
                return model.words(torch.tensor([part.word]))
            return model.cell(walk(part.left), walk(part.right))

        return walk(tree)

    return World(call=outer, inputs=word_trees)


def with_keywords(tree, *, scale=1.0, bias=None):
    if tree.is_leaf:
        value = torch.tensor([1.0, tree.word]) * scale
        return value if bias is None else value + bias
    left = with_keywords(tree.left, scale=scale, bias=torch.ones(2))
    return left + with_keywords(bias=bias, tree=tree.right)


@program(hits=5)
def keywords_and_defaults():
    return World(call=lambda tree: with_keywords(tree, scale=2.0), inputs=word_trees)


def no_grad_left(model, tree):
    if tree.is_leaf:
        return model.words(torch.tensor([tree.word]))
    with torch.no_grad():
        left = no_grad_left(model, tree.left)
    return model.cell(left, no_grad_left(model, tree.right))


@program(hits=8)
def gradients_off_for_one_part():
    model = Encoder()
    return World(
        call=lambda tree: no_grad_left(model, tree),
        inputs=word_trees,
        state={"model": model},
        backward=True,
    )


@program(hits=5)
def a_tree_that_shares_its_parts():
    def inputs(step):
        (tree,) = word_trees(step)
        return (Tree(None, tree, tree),)

    return World(call=Encoder(), inputs=inputs)


# ------------------------------------------------------------- what the caller learns of an answer


def kept_or_copied(tree, x):
    if tree.is_leaf:
        return x if tree.word % 3 else x.clone()
    left = kept_or_copied(tree.left, x)
    return left if tree.word is None else x


@program(hits=5)
def the_argument_or_a_copy_comes_back():
    """The output shows whether both tensors are one."""
    return World(
        call=lambda tree, x: (kept_or_copied(tree, x), x),
        inputs=lambda step: (*word_trees(step), torch.ones(2)),
    )


def of_any_size(tree):
    if tree.is_leaf:
        return torch.ones(2, dtype=torch.float64 if tree.word % 3 else torch.float32)
    left, right = of_any_size(tree.left), of_any_size(tree.right)
    scale = 2 if left.dtype == torch.float64 else 3
    return torch.cat([left * scale, right])


@program()
def answers_of_many_shapes_and_dtypes():
    return World(call=of_any_size, inputs=word_trees)


def asks_for_gradients(tree, x):
    if tree.is_leaf:
        return x * 2 if torch.is_grad_enabled() else x * 3
    with torch.no_grad():
        left = asks_for_gradients(tree.left, x)
    return left + asks_for_gradients(tree.right, x)


@program(hits=5)
def a_callee_asks_for_the_grad_mode():
    return World(call=asks_for_gradients, inputs=lambda step: (*word_trees(step), torch.ones(2)))


class Level:
    """State that the caller sets for its callees."""

    def __init__(self):
        self.depth = 0


def below_a_level(tree, level):
    if tree.is_leaf:
        return torch.tensor([1.0, level.depth])
    level.depth += 1
    total = below_a_level(tree.left, level) + below_a_level(tree.right, level)
    level.depth -= 1
    return total


@program()
def a_store_that_the_callee_reads():
    level = Level()
    return World(
        call=lambda tree: below_a_level(tree, level), inputs=word_trees, state={"level": level}
    )


def fixed_level(tree, level):
    if tree.is_leaf:
        return torch.tensor([1.0, level.depth])
    return fixed_level(tree.left, level) + fixed_level(tree.right, level)


@program()
def a_store_of_the_caller_alone():
    """The callee is a region; only its caller stores, before the call."""
    level = Level()

    def outer(tree, depth):
        before = fixed_level(tree, level)
        level.depth = depth
        return before - fixed_level(tree, level) * 2

    return World(
        call=outer,
        inputs=lambda step: (*word_trees(step), step % 3),
        state={"level": level},
    )
