"""Numbers that differ in every call: each program takes two recordings, or says why it takes more."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
import operator

import torch
import torch.nn.functional as F
from tests.differential.kit import World, fresh_tensor, program
from torch import nn

STEP = 0
RATE = 0.5


class State:
    """What changes between two calls."""

    def __init__(self):
        self.n = 0
        self.rate = 0.5
        self.log = []
        self.table = {}
        self.pair = (0, 0.5)


class Slotted:
    __slots__ = ("n",)


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Record:
    step: int
    rate: float = 0.1


def counting(function, **changes):
    """A world in which `state.n` counts the calls from outside."""
    state = State()

    def between(step):
        state.n = step
        state.rate = 0.5 * 0.9**step

    return World(call=lambda x: function(state, x), state={"state": state}, between=between)


def varies(hits=18):
    """Register `function(state, x)`; 18 hits of 20 calls are two recordings."""

    def register(function):
        build = program(hits=hits)(lambda: counting(function))
        build.__name__ = function.__name__
        return build

    return register


# ------------------------------------------------------------------------- state of one's own


@program(hits=18)
def module_counter():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            self.calls += 1
            return self.linear(x) * self.calls

    return World(call=Counter())


@program(hits=18)
def counter_of_an_object():
    state = State()

    def call(x):
        state.n += 1
        return x + state.n, state.n

    return World(call=call, state={"state": state})


@program(hits=18)
def counter_read_back_after_the_store():
    state = State()

    def call(x):
        state.n += 1
        state.n += 1
        return x * state.n

    return World(call=call, state={"state": state})


@program(hits=18)
def item_of_a_dict():
    table = {"n": 0, "other": 1.0}

    def call(x):
        table["n"] += 1
        return x * table["n"] + table["other"]

    return World(call=call, state={"table": table})


@program(hits=18)
def element_of_a_list():
    cells = [0, 2.0]

    def call(x):
        cells[0] += 1
        return x * cells[0] + cells[1]

    return World(call=call, state={"cells": cells})


@program(hits=18)
def list_append():
    state = State()

    def call(x):
        state.n += 1
        state.log.append(state.n)
        state.log.append((state.n, x.sum()))
        return x

    return World(call=call, state={"state": state})


@program(hits=18)
def dict_key():
    state = State()

    def call(x):
        state.n += 1
        state.table[state.n] = x.sum()
        return x

    return World(call=call, state={"state": state})


@program(hits=18)
def float_schedule():
    state = State()

    def call(x):
        state.rate *= 0.9
        return x - state.rate * x

    return World(call=call, state={"state": state})


@program(hits=18)
def running_mean():
    state = State()

    def call(x):
        state.n += 1
        state.rate += (1.0 - state.rate) / state.n
        return x * state.rate

    return World(call=call, state={"state": state})


@program(hits=17)  # first another tuple, then other numbers in it
def state_in_a_tuple():
    state = State()

    def call(x):
        n, rate = state.pair
        state.pair = (n + 1, rate * 0.5)
        return x * n + rate

    return World(call=call, state={"state": state})


@program(hits=18)
def number_stored_in_two_places():
    state = State()

    def call(x):
        state.n = state.rate = state.n + 1
        return x * state.rate

    return World(call=call, state={"state": state})


# ------------------------------------------------------------------------------- from outside


@program(hits=18)
def argument():
    return World(
        call=lambda x, rate: x * rate + 1, inputs=lambda step: (torch.ones(3), 0.5 * 0.9**step)
    )


@program(hits=18)
def keyword():
    return World(
        call=lambda x, *, n=1: x * n,
        inputs=lambda step: (torch.ones(3), {"**": {"n": step + 2}}),
    )


@program(hits=18)
def global_number():
    def between(step):
        globals()["STEP"] = step

    return World(call=lambda x: x * STEP, between=between)


@program(hits=18)
def slot():
    thing = Slotted()

    def between(step):
        thing.n = step + 3

    return World(call=lambda x: x * thing.n, between=between)


@varies()
def two_numbers_that_are_the_same_object(state, x):
    state.table["copy"] = state.n
    return x * state.n + state.table["copy"]


# ------------------------------------------------------------------------------- computations


@varies()
def arithmetic(state, x):
    n, rate = state.n, state.rate
    return x * (n + 1) + (n - 2) * 3 + n / 7 + n // 3 + n % 5 + -n + +n + rate**2 + 1.5 * n


@varies()
def bits(state, x):
    n = state.n
    return x * (n << 2) + (n >> 1) + (n | 8) + (n & 3) + (n ^ 1) + ~n


@varies()
def reflected(state, x):
    return (10 - state.n) * x + 2 ** (state.n % 3) - (1.0 - x) / (state.n + 1)


@varies()
def pure_functions(state, x):
    n, rate = state.n, state.rate
    return x * max(n, 5) + min(n, 3) + abs(n - 7) + round(rate, 2) + int(n / 2) + float(n)


@varies()
def cosine_schedule(state, x):
    rate = 0.5 * (1 + math.cos(math.pi * state.n / 20)) + math.sqrt(state.n)
    return x * rate


@varies(hits=17)
def power_that_changes_class(state, x):
    return x.long() * 2 ** (10 - state.n)  # an int until the tenth call, then a float


@varies()
def large_integers(state, x):
    state.table["large"] = (state.n + 1) << 70
    return x


@varies()
def sum_in_a_loop(state, x):
    total = state.n
    for i in range(3):
        total += i * state.rate
    return x * total


@varies()
def arguments_of_functions(state, x):
    def inner(a, *rest, b=0, **more):
        return a + b + sum_of(*rest) + more["c"]

    def sum_of(p, q):
        return p * q

    return x * inner(state.n, state.rate, 2, b=state.n, c=1)


# ----------------------------------------------------------------------------------- branches


@varies(hits=17)
def warm_up(state, x):
    return x * 2 if state.n < 10 else x * 3


@varies(hits=17)
def every_fourth(state, x):
    if state.n % 4 == 0:
        x = x + 1
    return x * state.n


@varies(hits=17)
def truth(state, x):
    return x + 1 if not state.n else x * state.n


@varies(hits=17)
def and_or(state, x):
    return x * (state.n or 7) + (state.n and 2)


@varies(hits=17)
def chained(state, x):
    return x * 2 if 3 < state.n <= 30 else x


@varies()
def comparison_with_nothing(state, x):
    return x if state.n is None else x * state.n


@varies()
def asserts(state, x):
    assert state.n < 100, "too many"
    return x * state.n


@varies(hits=17)
def division_by_zero_is_caught(state, x):
    try:
        return x * (1 / (state.n - 7))
    except ZeroDivisionError:
        return x


@varies(hits=16)
def division_by_zero(state, x):
    return x * (1 / (state.n - 7))


# -------------------------------------------------------------------------------- tensor calls


@varies()
def scalar_operands(state, x):
    rate = state.rate
    y = torch.clamp(x, max=rate) + torch.addcmul(x, x, x, value=rate) + torch.add(x, x, alpha=rate)
    return F.leaky_relu(y, rate) + torch.where(x > rate, x, rate) + x.lerp(y, rate)


@varies()
def written_in_place(state, x):
    y = x.clone()
    y *= state.rate
    y.add_(x, alpha=state.n)
    y[0] = state.n
    return y.fill_(state.rate) + y


@varies()
def integer_tensor(state, x):
    return torch.arange(4) * state.n + state.n // 2


@varies()
def index(state, x):
    return x[state.n % 4] + x[0, state.n % 3] + x.select(0, state.n % 4)


@varies()
def foreach(state, x):
    return torch._foreach_mul([x, x + 1], state.rate)


@varies(hits=10)
def slice_of_varying_length(state, x):
    return x[: state.n % 4 + 1]


@varies(hits=10)
def sizes(state, x):
    return x.expand(state.n % 3 + 1, 4, 3), torch.zeros(state.n % 3 + 1), x.size(state.n % 2)


@varies(hits=10)
def factories(state, x):
    return torch.tensor(state.n % 3), torch.full((2,), state.n % 3), torch.tensor([state.n % 3, 1])


# ------------------------------------------------- readers that only take a number as it stands


@varies(hits=10)
def text(state, x):
    n = state.n % 3
    state.table["text"] = f"{n}", str(n), repr(n), "%d" % n, f"{n:03d}", "{}".format(n)
    return x * n


@varies(hits=10)
def fresh_containers(state, x):
    n = state.n % 3
    return x * len({n, 1, 2}), {n: 1, 1: 5}, [n, [n]], sorted([2, n, 1]), sum([n, 1])


@varies(hits=10)
def ranges(state, x):
    for i in range(state.n % 3):
        x = x + i
    return x, list(enumerate("ab", state.n % 3))


@varies(hits=10)
def membership(state, x):
    n = state.n % 3
    return (
        (x if n in (1, 2) else x * 2),
        {0: "a", 1: "b"}.get(n),
        [5, 6, 7][n],
        (1, 2, 3).index(n + 1),
    )


@varies(hits=10)
def methods(state, x):
    n = state.n % 3
    return x * n.bit_length() + n.real, (n + 0.5).is_integer(), divmod(n, 2), hash(n), pow(n, 2, 3)


@varies(hits=10)
def classes(state, x):
    n = state.n % 3
    return x, type(n) is int, isinstance(n, int), isinstance(n, float), type(n + 0.5), n.__class__


@varies(hits=10)
def getters_of_shapes(state, x):
    return x.shape[state.n % 2], x.stride()[state.n % 2], x.size()[state.n % 2]


# ------------------------------------------------------------------------------------- escapes


@varies()
def returned(state, x):
    n = state.n
    return x, n, (n, (n + 1, x)), [n, [n]], {"n": n}, -n


@varies()
def objects(state, x):
    state.table["record"] = Record(state.n, state.rate)
    return x * state.table["record"].rate


@varies(hits=0)
def named_tuple(state, x):
    return Point(x, state.n % 3), Point(state.n % 3, x)


@varies(hits=0)
def closure_that_escapes(state, x):
    n = state.n + 1
    state.table["later"] = lambda: n
    return x * state.table["later"]()


@varies()
def generator(state, x):
    def numbers():
        yield state.n
        yield state.n + 1

    return x * sum(n for n in numbers()) if False else x * next(numbers())


@varies(hits=10)
def exception(state, x):
    try:
        raise ValueError(state.n % 3)
    except ValueError as error:
        return x * error.args[0]


@varies(hits=14)
def not_a_number_and_signed_zero(state, x):
    rate = (math.nan, -0.0, 0.0, math.inf, 1e308)[0] if state.n == 2 else state.rate
    state.rate = -state.rate * 0.0 if state.n > 4 else rate
    return x * state.rate


# ------------------------------------------------------------------ numbers that tensors give


def giving(function):
    """A world in which `function(state, x)` gets other data in every call."""
    state = State()
    return World(call=lambda x: function(state, x), state={"state": state})


def gives(hits=18):
    """Register `function(state, x)`; 18 hits of 20 calls are two recordings."""

    def register(function):
        build = program(hits=hits)(lambda: giving(function))
        build.__name__ = function.__name__
        return build

    return register


@gives()
def running_loss(state, x):
    loss = (x * x).mean()
    state.rate += loss.item()
    state.n += 1
    return loss, state.rate / state.n


@gives(hits=17)  # one recording per place, the third finds the rest
def several_places(state, x):
    a = x.sum().item()
    b = x.max().item()
    c = float(x.min())
    return x * (a + b * c) / (1 + abs(a)), a, [b, (c, a - b)]


@gives()
def scaled_by_its_norm(state, x):
    norm = x.norm().item()
    return x / (norm + 1e-6) if norm > 1e-12 else x


@gives(hits=16)
def branch_on_a_number(state, x):
    total = x.sum().item()
    if total > 0:
        return x * total
    return x - total


@gives(hits=0)
def integer_as_a_size(state, x):
    count = int((x > 0).sum())
    return x.flatten()[:count] * count


@gives()
def integer_as_an_index(state, x):
    best = int(x.sum(1).argmax())
    return x[best] * 2, best


@gives()
def logged_numbers(state, x):
    loss = (x * x).sum().item()
    state.log.append(loss)
    state.log.append((state.n, loss * 2))
    state.table["last"] = loss
    print("loss", loss)
    return x


@gives(hits=0)
def number_as_a_key(state, x):
    state.table[round(x.sum().item(), 3)] = x.sum()
    return x


@gives(hits=0)
def pure_functions_of_a_number(state, x):
    total = x.sum().item()
    return x * max(total, 0.5) + min(total, 1.0) + round(total, 2) + math.exp(-abs(total))


@gives()
def division_in_the_graph(state, x):
    count = (x > 100).sum().item() + 1
    return x.sum() / count + 1 / count


@gives(hits=1)
def division_by_zero_in_the_graph(state, x):
    count = (x > 1.5).sum().item()
    state.n += 1
    return x * (1 / count)


@gives(hits=0)
def number_inside_a_leaf(state, x):
    return x * sum([x.sum().item(), 1.0]) + sorted([x.max().item(), 0.0])[0]


@gives(hits=0)
def tensor_as_an_index_of_a_list(state, x):
    return [1.0, 2.0, 3.0][x.sum(1).argmax() % 3] * x


@gives()
def clipped_in_place(state, x):
    norm = x.norm().item()
    y = x.clone()
    y.mul_(1.0 / (norm + 1.0))
    return y


@gives(hits=10)
def truth_of_a_number(state, x):
    return x if (x > 0.9).any().item() else x * 2


@gives()
def number_and_counter(state, x):
    state.n += 1
    momentum = x.mean().item() / state.n
    state.rate = 0.9 * state.rate + momentum
    return x * state.rate


@gives()
def sizes_after_a_decision(state, x):
    if (x > -100).all():
        x = x + x.size(0)
    total = x.sum().item()
    return x * x.size(-1) * x.dim() + x.numel() + total * len(x)


# ------------------------------------------------------------------- numbers that C code looks at


@varies(hits=0)
def looked_up_in_tuples(state, x):
    return x * (1, state.n, 3, 7).index(7), (1, state.n, 3).count(3), 3 in (state.n, 4)


@varies(hits=0)
def looked_up_in_lists(state, x):
    return x * [state.n, 5].index(5), [state.n, 5].count(5), 3 in [state.n, 4]


@varies(hits=0)
def looked_up_in_a_deque(state, x):
    return x, 3 in collections.deque([state.n, 4]), collections.deque([4, state.n, 3]).index(3)


@varies(hits=0)
def summed_by_a_generator(state, x):
    return x * sum(i + state.n for i in range(2)), any(state.n - 5 for _ in range(2))


@varies(hits=0)
def chosen_by_a_generator(state, x):
    return max(i * (state.n - 3) for i in range(2)), min(state.n - i for i in range(3)), x


@varies(hits=0)
def sorted_by_a_key(state, x):
    first = sorted([1, 2, 3], key=lambda i: abs(state.n - 5) * -i)[0]
    return x * first, max([1, 2, 3], key=lambda i: (state.n - 4) * i)


@varies(hits=0)
def filtered(state, x):
    return x * len(list(filter(lambda i: state.n - i, [1, 2, 3])))


@varies(hits=0)
def sorted_in_place(state, x):
    numbers = [state.n, 5]
    numbers.sort()
    return x * numbers[0], numbers


@varies(hits=0)
def removed_from_a_list(state, x):
    numbers = [4, state.n, 5]
    numbers.remove(5)
    return x, numbers


@varies(hits=0)
def summed_by_a_view(state, x):
    return x * sum({"a": state.n}.values()), sorted({"a": state.n, "b": 3}.values())


@varies(hits=0)
def held_by_a_set(state, x):
    return {state.n, 3}, x


@varies()
def handed_on_by_c_code(state, x):
    pairs = list(zip([state.n, 1], (2, state.n), strict=True))
    return (
        x * pairs[0][0],
        pairs,
        tuple(reversed((state.n, 1))),
        list(map(lambda i: i + 1, [state.n])),
    )


# ------------------------------------------- C code that computes with what an iterator gives it


@varies(hits=0)
def summed_by_c_code(state, x):
    return x * sum(v for v in (state.n, 1)), math.fsum(v for v in (state.n, 2))


@varies(hits=0)
def compared_by_c_code(state, x):
    values = (state.n, 3, 2)
    largest, ordered = max(v for v in values), sorted(v for v in values)
    return x * largest, ordered, any(v == 3 for v in values), all(v for v in values)


@varies(hits=0)
def folded_by_c_code(state, x):
    total = functools.reduce(operator.add, (v for v in (state.n, 2)))
    return (
        x * total,
        list(map(abs, (v for v in (state.n, -2)))),
        list(itertools.accumulate(v for v in (state.n, 2))),
    )


@varies(hits=0)
def grouped_by_c_code(state, x):
    groups = [key for key, _ in itertools.groupby((state.n, 3))]
    return x, groups, list(filter(None, (v for v in (state.n - 3, 3))))


@varies(hits=0)
def searched_by_c_code(state, x):
    values = [3, state.n]
    return x * (5 in values), values.count(3), (state.n, 4).index(4), sorted(values)


@varies(hits=0)
def sorted_in_place_by_c_code(state, x):
    values = [3, state.n]
    values.sort()
    return x * values[0], values


@varies(hits=0)
def numbers_of_an_object_that_iterates(state, x):
    return x * sum(Pairs(state))


class Pairs:
    def __init__(self, state):
        self.state = state

    def __iter__(self):
        yield self.state.n
        yield self.state.n * 2


@varies(hits=0)
def keys_compared_by_c_code(state, x):
    values = [2, 5, 9]
    values.sort(key=lambda v: (v - state.n) ** 2)
    nearest = min([2, 5, 9], key=lambda v: abs(v - state.n))
    return x * nearest, values, list(filter(lambda v: v - state.n, [1, 2, 3]))


@program(hits=0)
def element_of_a_tuple_taken_by_its_method():
    return World(
        call=lambda x, pair: x * pair.__getitem__(0) + pair.count(2),
        inputs=lambda step: (torch.ones(3), (step % 3, 2)),
    )


@program(hits=0)
def text_of_a_class_of_its_own():
    class Tag(str):
        __slots__ = ()

    return World(
        call=lambda x, tag: x * len(tag.upper()) + tag.count("a"),
        inputs=lambda step: (torch.ones(3), Tag("a" * (step % 4))),
    )


# ------------------------------------------------------------- variables of enclosing functions


def closing(hits, number=lambda step: 1.0 + step):
    """Register a maker of a function whose free variable `rate` differs in every call."""

    def register(make):
        def build():
            function = make()
            cell = function.__closure__[function.__code__.co_freevars.index("rate")]

            def between(step):
                cell.cell_contents = number(step)

            return World(call=function, between=between)

        build.__name__ = make.__name__
        return program(hits=hits)(build)

    return register


@closing(hits=18)
def number_of_a_closure():
    rate = 0.0
    return lambda x: x * rate


@closing(hits=18)
def number_of_a_closure_read_by_a_nested_function():
    rate = 0.0

    def function(x):
        def inner(y):
            return y * rate

        return inner(x) + rate

    return function


@closing(hits=18, number=lambda step: 2.0 + step * 2)
def number_of_a_closure_that_a_callee_changes():
    rate = 0.0

    def bump():
        nonlocal rate
        rate += 1

    def function(x):
        before = x * rate
        bump()
        return before + rate

    return function


@closing(hits=0)
def number_of_a_closure_read_by_a_generator():
    rate = 0.0
    return lambda x: x * sum(rate for _ in range(3))


@closing(hits=10, number=lambda step: None if step % 3 == 2 else 1.0 + step)
def number_of_a_closure_that_becomes_none():
    rate = 0.0
    return lambda x: x if rate is None else x * rate


@program(hits=0)
def two_closures_of_one_function_with_equal_numbers():
    def scaled(rate):
        return lambda x: x * rate

    first, second = scaled(1.0), scaled(1.0)

    def between(step):
        first.__closure__[0].cell_contents = 1.0 + step
        second.__closure__[0].cell_contents = 1.0 + step + (step >= 5)

    return World(call=lambda x: first(x) - second(x) * 2, between=between)


# ------------------------------------------------------------------- lists of numbers of tensors


@program(hits=19)
def numbers_of_a_tensor_weigh_its_rows():
    def weighed(x):
        weights = x.mean(1).tolist()
        return sum(w * row for w, row in zip(weights, x, strict=True))

    return World(call=weighed)


@program(hits=19)
def numbers_of_a_tensor_that_leave():
    def told(x):
        numbers = x[0].tolist()
        numbers.append(numbers[0] + 1)
        first, *rest = numbers
        return x * first, rest, numbers

    return World(call=told)


@program(hits=19)
def whole_numbers_of_a_tensor():
    def picked(x):
        return [x.flatten()[index] for index in x.argmax(1).tolist()]

    return World(call=picked)


@program(hits=0)
def nested_numbers_of_a_tensor():
    return World(call=lambda x: x * x.tolist()[0][0])


@program(hits=19)
def truth_values_of_a_tensor():
    return World(call=lambda x: x if any((x > 1e9)[0].tolist()) else -x)


@program(hits=19)
def no_numbers_of_a_tensor():
    return World(call=lambda x: (x * 2, x[0, :0].tolist()))


@program(hits=0)
def more_numbers_than_a_graph_takes():
    return World(call=lambda x: x * x.repeat(40, 1).flatten().tolist()[-1])


# ------------------------------------------------------------------------------------- patterns


class Box:
    def __init__(self, size, content=None):
        self.size, self.content = size, content


def all_kinds_of_patterns(values):
    def call(x, value):
        match value:
            case None | True:
                return x
            case float(rate) if rate > 1:
                x = x * rate
            case float() as rate:
                x = x + rate
            case Box(size=1 | 2 as size, content=inner):
                x = x * size, inner
            case Box(other=_):
                x = x / 2
            case [first, [second, *middle], *_, last] if last is not None:
                x = x * first + second, middle, last
            case {"rate": rate, "x": [a, b], **rest}:
                x = x * rate + a - b, rest
            case str() | {}:
                pass
            case other:
                x = x, other
        return x

    return World(call=call, inputs=lambda s: (*fresh_tensor(s), values[s % len(values)]))


@program(hits=12)
def patterns_that_fit():
    values = [None, 2.0, 0.5, Box(2, "in"), [2, (3, 4, 5), 6, 7], {"rate": 2, "x": (1, 2), "y": 3}]
    return all_kinds_of_patterns(values)


@program(hits=12)
def patterns_that_fit_in_part():
    values = [[2, (3,), None], {"rate": 2, "x": (1,)}, "text", (), Box(3), [1, 2, 3], {"rate": 1}]
    return all_kinds_of_patterns(values)


@program(hits=12)
def patterns_on_data():
    def call(x):
        match int(x.sum() > 0) + int(x.max() > 1):
            case 0:
                return x
            case 1 if x.min() < -1:
                x = x * 2
            case count:
                x = x + count
        return x - 1

    return World(call=call)
