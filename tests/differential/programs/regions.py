"""Control flow that hangs on data: each program once with every branch and loop in the graph."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import random

import torch
from tests.differential.kit import World, program
from torch import nn


def pair(step):
    """Two vectors of three numbers, others in each call."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(3, generator=generator), torch.randn(3, generator=generator)


def flips(hits, inputs=pair, **world):
    """Register `function(x, w)`; of 40 calls, 40 - `hits` may be recordings."""

    def register(function):
        build = program(hits=hits)(lambda: World(call=function, inputs=inputs, **world))
        build.__name__ = function.__name__
        return build

    return register


class State:
    """An object of the outside."""

    def __init__(self):
        self.h = torch.zeros(3)
        self.n = 0
        self.log = []
        self.table = {}


def stateful(hits):
    """Register `function(state, x, w)`, whose state is compared after each call."""

    def register(function):
        def build():
            state = State()
            return World(call=lambda x, w: function(state, x, w), inputs=pair, state={"s": state})

        build = program(hits=hits)(build)
        build.__name__ = function.__name__
        return build

    return register


# ------------------------------------------------------------------------------------ branches


@flips(30)
def return_past_the_end_of_the_if_around(x, w):
    part = x if x[0] > 0.5 else None
    y = x
    if part is None:
        y = y - w
    if x[1] > 0:
        if x[2] > 0:
            return y
        y = y * 2
    return y + 3


@flips(38)
def one_branch(x, w):
    if x[0] > 0:
        x = x + w
    else:
        x = x - w
    return x * 2


@flips(33)
def three_branches_in_a_row(x, w):
    h = x
    if h.sum() > 0:
        h = h + w
    if h[0] > 0:
        h = h * 2
    elif h[1] > 0:
        h = h - 1
    else:
        h = h / 3
    y = h.sum() if h.mean() > 0.1 else h.prod()
    return h, y


@flips(36)
def early_returns(x, w):
    if x[0] > 0:
        if x[1] > 0:
            return x
        w = w * 2
    else:
        w = w + 1
    return x + w


def chosen(h, w):
    if h[0] > 0:
        return h + w
    return h - w


@flips(37)
def callee_with_two_returns(x, w):
    h = chosen(x, w)
    h = chosen(h, x)
    return chosen(h, h)


@flips(36)
def a_name_bound_on_one_way(x, w):
    h = None
    if x[0] > 0:
        h = w
    if h is None:
        return x
    return x + h


@flips(32)
def conditional_expressions(x, w):
    y = x if x[0] > 0 and w[0] > 0 else w
    z = (x * 2) if (y.sum() > 0 or w[1] > 0) else w
    return y + z


@flips(32)
def names_swapped(x, w):
    a, b = x, w
    if x[0] > 0:
        a, b = b, a
    if x[1] > 0:
        a, b = b, a + b
    if x[2] > 0:
        a = b
    return a - b


@flips(30)
def same_tensor_or_not(x, w):
    y = x
    if w[0] > 0:
        y = x + 0
    z = w
    if w[1] > 0:
        z = w * 1
    return y + z, y is x, z is w


@flips(36)
def changed_in_place(x, w):
    if x[0] > 0:
        x.add_(1)
    else:
        x.mul_(2)
    if w[0] > 0:
        w += x
    return x * w


@flips(34)
def view_or_copy_changed_in_place(x, w):
    y = x if w[0] > 0 else x.clone()
    y.add_(1)
    if y.sum() > 1:
        y.mul_(2)
    return x + w


@flips(35)
def random_on_some_ways(x, w):
    if x[0] > 0:
        x = torch.dropout(x, 0.5, True)
    if w[0] > 0:
        x = x + torch.rand(3)
    return x


@flips(28)
def lists_of_different_length(x, w):
    outs = []
    if x[0] > 0:
        outs.append(x)
    if x[1] > 0:
        outs.append(w)
    if x[2] > 0:
        outs.append(x + w)
    return outs, len(outs)


@flips(36)
def list_nobody_looks_at(x, w):
    outs = [w]
    if x[0] > 0:
        outs.append(x)
    if x[1] > 0:
        outs.append(x * 2)
    return torch.stack(outs).sum(0)


class Box:
    pass


@flips(28)
def own_object_changed_by_a_closure(x, w):
    box = Box()
    box.h, box.n = x, 0

    def update(v):
        if v[0] > 0:
            box.h = box.h + v
        else:
            box.n += 1

    update(x)
    update(w)
    z = 1.0 if x[1] > 0 else 1.0
    return box.h * z, box.n


@flips(28)
def callers_list_changed_by_a_callee(x, w):
    seen = []

    def note(v):
        if v.sum() > 0:
            seen.append(1)
        return v * 2

    y = note(x)
    y = note(y + w)
    if y[0] > 0:
        y = y - len(seen)
    return y + len(seen)


@flips(34)
def grad_mode_on_one_way(x, w):
    w = w.clone().requires_grad_() if False else w * torch.ones(3, requires_grad=True)
    if x[0] > 0:
        with torch.no_grad():
            y = w * 2
    else:
        y = w * 3
    return y * x


@flips(36)
def number_from_a_tensor(x, w):
    n = x.sum().item()
    if n > 1:
        n = n - 1
    if n > 0:
        return w * n
    return w + n


@flips(30)
def raise_on_one_way(x, w):
    if x.sum() > 4:
        raise ValueError("too large")
    return x + w


# --------------------------------------------------------------------------------------- loops


@flips(38)
def newton(x, w):
    x = x.abs() + 0.1
    y = x
    while (y * y - x).abs().max() > 1e-4:
        y = (y + x / y) / 2
    return y


@flips(37)
def counted(x, w):
    n = 0
    x = x.abs() + 1e-3
    while x.sum() < 100:
        x = x * 1.5 + w.abs()
        n += 1
    return x, n


@flips(37)
def break_and_else(x, w):
    total = 0.0
    for i in range(50):
        x = x + w * i
        if x.abs().sum() > 20:
            break
        total = total + x.mean()
    else:
        total = total * 2
    return x, total


@flips(37)
def fibonacci(x, w):
    a, b = x, w
    k = 0
    while b.abs().sum() < 50 and k < 30:
        a, b = b, a + b
        k = k + 1
    return a, b, k


@flips(35)
def if_in_while_in_for(x, w):
    s = x
    for i in range(3):
        j = 0
        while s.abs().sum() < 10 * (i + 1) and j < 20:
            s = s * 1.3 + w if s[0] > 0 else s * 1.2 - w
            j += 1
        s = s / 2
    return s


@flips(37)
def two_ways_out(x, w):
    k = 0
    while True:
        x = x * 1.1 + w
        k += 1
        if x.abs().max() > 10:
            return x, k
        if k >= 40:
            break
    return x - 1


@flips(37)
def flag_from_data(x, w):
    done = False
    k = 0
    while not done:
        x = x * 1.5 + 0.1
        done = bool(x.abs().sum() > 30)
        k += 1
    return x, k


@flips(33)
def none_before_the_first_round(x, w):
    h = None
    i = 0
    while x[0].abs() * (i + 1) < 3:
        h = w if h is None else h * x + w
        i += 1
        if i > 15:
            break
    return h, i


@flips(33)
def continue_skips(x, w):
    n = 0
    for i in range(12):
        x = x * 0.9 + w
        if x[0] > 0:
            continue
        n += 1
        if x.abs().sum() > 30:
            break
    return x, n


@flips(37, lambda step: (*pair(step), random.Random(step).randint(0, 12)))
def trips_by_argument(x, w, n):
    for i in range(n):
        x = x * 0.9 + w * i
    return x


@flips(36)
def list_in_a_loop(x, w):
    outs = []
    while x.abs().sum() < 20:
        x = x * 1.3 + w
        outs.append(x * 2)
    outs.append(w)
    return torch.stack(outs), outs


@flips(34)
def numbers_in_a_list(x, w):
    tokens = []
    h = x
    for _ in range(30):
        h = torch.tanh(h + w)
        token = int(h.abs().sum() * 10)
        tokens.append(token)
        if token % 4 == 0:
            break
    return tokens, h


@flips(24)
def list_looked_at_in_a_loop(x, w):
    outs = []
    n = 0
    while x.abs().sum() < 20:
        x = x * 1.3 + w
        outs.append(x)
        if len(outs) > 3:
            n = n + 1
    return outs, n


@flips(36)
def two_names_for_a_list(x, w):
    a = []
    b = a
    while x.abs().sum() < 20:
        x = x * 1.3 + w
        a.append(x)
        b.append(w)
    return a, b, a is b


@flips(35)
def lists_in_two_loops(x, w):
    rows = []
    for i in range(3):
        row = []
        y = x + i
        while y.abs().sum() < 15:
            y = y * 1.5 + w
            row.append(y)
        row.append(w)
        rows.append(torch.stack(row).sum(0))
    return torch.stack(rows)


@flips(30)
def own_dict_counts_rounds(x, w):
    seen = {"n": 0}
    while x.abs().sum() < 20 and seen["n"] < 6:
        x = x * 1.3 + w
        seen["n"] += 1
    return x * seen["n"]


@flips(30)
def iterator_of_its_own(x, w):
    steps = iter([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    while x.abs().sum() < 20:
        step = next(steps, None)
        if step is None:
            break
        x = x * step + w
    return x


@program(hits=34)
def gradients_through_a_loop():
    weight = nn.Parameter(torch.full((3,), 1.1))

    def call(x, w):
        while x.abs().sum() < 20:
            x = x * weight + w.abs()
        return x * 2

    return World(call=call, inputs=pair, state={"weight": weight}, backward=True)


@program(hits=30)
def module_in_a_loop():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)

    def call(x, w):
        for _ in range(20):
            x = torch.tanh(layer(x)) + w
            if x.abs().sum() > 3:
                break
        return x

    return World(call=call, inputs=pair, state={"layer": layer}, backward=True)


# --------------------------------------------------------------------------------------- effects


@stateful(36)
def attribute_on_both_ways(s, x, w):
    s.h = s.h * 0.5 + x if x[0] > 0 else s.h * 0.5 - w
    y = s.h * 2
    if w[1] > 0:
        y = y + 1
    return y


@stateful(30)
def lists_and_text_on_some_ways(s, x, w):
    if x[0] > 0:
        s.log.append(x)
    if x[1] > 0:
        s.log.append(w)
    if x[2] > 0:
        print(f"third: {x[2]:.3f}")
    return x + w


@stateful(36)
def attribute_in_a_loop(s, x, w):
    k = 0
    while x.abs().sum() < 30 and k < 40:
        x = x * 1.4 + w
        s.h = s.h * 0.9 + x
        k += 1
    return x + s.h


@stateful(36)
def text_in_a_loop(s, x, w):
    while x.abs().sum() < 10:
        x = x * 1.4 + w.sign()
        print(f"{x.sum():.3f}")
        s.log.append(x)
    return x


@stateful(30)
def item_on_both_ways(s, x, w):
    s.n += 1
    if x[0] > 0:
        s.table["k"] = x
    else:
        s.table["k"] = w
    if s.n % 7 == 0:
        s.table["last"] = s.table["k"]
    return s.table["k"] * s.n


@stateful(34)
def attribute_on_one_way(s, x, w):
    if x[0] > 0:
        s.h = x
    if x[1] > 0:
        s.h = s.h + w
    return s.h * 2


@stateful(18)
def error_after_effects(s, x, w):
    if x[0] > 0:
        s.h = x * 2
        print("stored")
    s.log.append(w)
    if w[0] > 0.5:
        raise ValueError("late")
    x.add_(1)
    return s.h + x


# --------------------------------------------------------------------- leaving several loops at once


def search(x, w):
    k = 0
    while True:
        x = x * 1.1 + w
        k += 1
        if x.abs().max() > 5:
            return x, k
        if k > 8:
            return w, k


@flips(33)
def callee_that_returns_out_of_its_loop(x, w):
    y, k = search(x, w)
    if y[0] > 0:
        y = y * 2
    return y, k


@flips(30)
def loop_around_a_callee_that_returns_out_of_its_loop(x, w):
    total = x
    for i in range(3):
        y, k = search(x + i, w)
        total = total + y
        if total.sum() > 30:
            break
        x = x * 0.5 + k
    return total


@flips(30)
def changed_in_place_after_a_loop(x, w):
    y = x.clone()
    while y.abs().sum() < 10:
        y = y * 1.5 + w.sign()
    y -= 0.125
    if y[0] > 0:
        y -= w
    return y
