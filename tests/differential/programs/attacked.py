"""Programs written to break what is left of the guards: aliasing, identity, equality, C objects."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="annotation-unchecked"

from __future__ import annotations

import abc
import collections
import contextvars
import functools
import types

import numpy as np
import torch
from tests.differential.kit import CHANGE_AT, World, change, fresh_tensor
from torch import nn

VARIABLE = contextvars.ContextVar("variable", default=1)


class Plain:
    def __init__(self, by=2.0):
        self.by = by


class Child(Plain):
    pass


class Base(abc.ABC):  # noqa: B024  # only registered with
    pass


def later(first, second):
    """Arguments behind the tensor: `first` until the change, then `second`."""
    return lambda step: (*fresh_tensor(step), *(first if step < CHANGE_AT else second))


# ------------------------------------------------------------------------- aliasing of arguments


@change()
def two_argument_objects_become_one_behind_a_store():
    one, other = Plain(), Plain()

    def call(x, a, b):
        a.by = 5.0
        return x * b.by

    def restore(step):
        one.by = other.by = 2.0

    return World(call=call, inputs=later((one, other), (one, one)), between=restore)


@change()
def two_argument_lists_become_one_behind_a_store():
    one, other = [1.0], [1.0]

    def call(x, a, b):
        a.append(5.0)
        return x * len(b)

    def restore(step):
        one[:] = other[:] = [1.0]

    return World(call=call, inputs=later((one, other), (one, one)), between=restore)


@change()
def an_argument_object_becomes_the_global_one_behind_a_store():
    held, other = Plain(), Plain()

    def call(x, a):
        held.by = 5.0
        return x * a.by

    def restore(step):
        held.by = other.by = 2.0

    return World(call=call, inputs=later((other,), (held,)), between=restore)


@change()
def argument_object_found_in_an_outside_list():
    one, other = Plain(), Plain()
    listed = [one]
    return World(call=lambda x, a: x * 2 if a in listed else x * 3, inputs=later((other,), (one,)))


@change()
def argument_object_found_in_an_argument_list():
    one, other = Plain(), Plain()
    return World(
        call=lambda x, a, items: x * 2 if a in items else x * 3,
        inputs=later((other, [one]), (one, [one])),
    )


@change()
def argument_lists_of_objects_compared():
    one, other = Plain(), Plain()
    return World(
        call=lambda x, a, b: x * 2 if a == b else x * 3,
        inputs=later(([one], [other]), ([one], [one])),
    )


@change()
def argument_object_as_a_key():
    one, other = Plain(), Plain()
    table = {one: 2.0, other: 3.0}
    return World(call=lambda x, a: x * table[a], inputs=later((one,), (other,)))


@change()
def argument_object_looked_up_with_get():
    one, other = Plain(), Plain()
    table = {other: 3.0}
    return World(call=lambda x, a: x * table.get(a, 2.0), inputs=later((one,), (other,)))


@change()
def argument_objects_counted_in_a_set():
    one, other = Plain(), Plain()
    return World(call=lambda x, a, b: x * len({a, b}), inputs=later((one, other), (one, one)))


@change()
def argument_objects_counted_in_a_dict():
    one, other = Plain(), Plain()
    return World(
        call=lambda x, a, b: x * len(dict.fromkeys([a, b])), inputs=later((one, other), (one, one))
    )


@change()
def argument_object_counted_in_a_list():
    one, other = Plain(), Plain()
    return World(
        call=lambda x, a, b: x * (1 + [a].count(b)), inputs=later((one, other), (one, one))
    )


@change(hits=0, code="JL0203")
def argument_tensors_counted_in_a_set():
    held = torch.ones(3)
    return World(
        call=lambda x, a, b: x * len({a, b}),
        inputs=later((held, torch.ones(3)), (held, held)),
    )


@change()
def parameters_tied_later_and_counted():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def tie():
        net[1].weight = net[0].weight

    return World(call=lambda x: x * len(list(net.parameters())), change=tie)


@change()
def parameters_tied_later_and_penalised():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def tie():
        net[1].weight = net[0].weight

    return World(
        call=lambda x: net(x) + sum(p.square().sum() for p in net.parameters()), change=tie
    )


@change()
def modules_tied_later_and_counted():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def tie():
        net[1] = net[0]

    return World(call=lambda x: x * len(list(net.modules())), change=tie)


# ------------------------------------------------------------------------------- C-level objects


@change(hits=0, code="JL0202")
def truth_of_an_array():
    array = np.ones(1)
    return World(call=lambda x: x * 2 if array else x * 3, change=lambda: array.__setitem__(0, 0.0))


@change(hits=0, code="JL0202")
def comparison_of_an_array():
    array = np.ones(1)
    return World(
        call=lambda x: x * 2 if array > 0.5 else x * 3, change=lambda: array.__setitem__(0, 0.0)
    )


@change(hits=0, code="JL0202")
def truth_of_a_bytearray():
    data = bytearray(b"a")
    return World(call=lambda x: x * 2 if data else x * 3, change=lambda: data.clear())


@change(hits=0, code="JL0202")
def comparison_of_a_bytearray():
    data = bytearray(b"a")
    return World(call=lambda x: x * 2 if data == b"a" else x * 3, change=lambda: data.extend(b"b"))


@change(hits=0, code="JL0202")
def comparison_of_namespaces():
    one, other = types.SimpleNamespace(a=1), types.SimpleNamespace(a=1)
    return World(
        call=lambda x: x * 2 if one == other else x * 3, change=lambda: setattr(one, "a", 2)
    )


@change(hits=0, code="JL0202")
def percent_formatting_of_an_argument_object():
    one, other = Plain(), Plain()
    return World(
        call=lambda x, a: (x, "%s" % a == "%s" % one),  # noqa: UP031  # that is the point
        inputs=later((one,), (other,)),
    )


@change(hits=0, code="JL0202")
def item_of_an_array():
    array = np.ones(2)
    return World(call=lambda x: x * float(array[0]), change=lambda: array.__setitem__(0, 0.0))


# -------------------------------------------------------------------------- equal is not the same


@change()
def range_that_equals_another():
    return World(call=lambda x, r: x * r.stop, inputs=later((range(0, 3, 2),), (range(0, 4, 2),)))


@change()
def context_variable_one_becomes_one_point_zero():
    return World(
        call=lambda x, n: n * VARIABLE.get(),
        inputs=lambda step: (*fresh_tensor(step), torch.arange(3)),
        between=lambda step: VARIABLE.set(1 if step < CHANGE_AT else 1.0),
    )


@change()
def context_variable_becomes_negative_zero():
    return World(
        call=lambda x: 1 / (x * 0 + 1) * VARIABLE.get(),
        between=lambda step: VARIABLE.set(0.0 if step < CHANGE_AT else -0.0),
    )


@change()
def number_in_a_tuple_key():
    table = {(1, "a"): 2.0}

    def rekey():
        table.clear()
        table[1.0, "a"] = 2.0

    def call(x, n):
        for (factor, _), by in table.items():
            n = n * factor
            x = x * by
        return x, n

    return World(
        call=call, inputs=lambda step: (*fresh_tensor(step), torch.arange(3)), change=rekey
    )


@change()
def tuple_of_numbers_compared():
    pair = [(1, 2)]
    return World(
        call=lambda x: x * 2 if repr(pair[0]) == "(1, 2)" else x * 3,
        change=lambda: pair.__setitem__(0, (1.0, 2)),
    )


# --------------------------------------------------------------------------------------- classes


@change()
def subclass_test_and_register():
    class Local(Base):
        pass

    return World(
        call=lambda x: x * 2 if issubclass(Plain, Base) else x * 3,
        change=lambda: Base.register(Plain),
    )


@change()
def subclass_test_and_bases():
    class First:
        pass

    class Second:
        pass

    class Third(First):
        pass

    return World(
        call=lambda x: x * 2 if issubclass(Third, Second) else x * 3,
        change=lambda: setattr(Third, "__bases__", (Second,)),
    )


@change()
def callable_later():
    class Local:
        pass

    thing = Local()
    return World(
        call=lambda x: x * 2 if callable(thing) else x * 3,
        change=lambda: setattr(Local, "__call__", lambda self: None),
    )


@change()
def class_of_an_object_by_type():
    thing = Plain()
    return World(
        call=lambda x: x * 2 if type(thing) is Plain else x * 3,
        change=lambda: setattr(thing, "__class__", Child),
    )


# --------------------------------------------------------------------------------- tensors, torch


@change()
def length_given_by_a_tensor():
    return World(
        call=lambda x, n: x * x[:n].shape[0], inputs=later((torch.tensor(2),), (torch.tensor(3),))
    )


@change()
def range_given_by_a_tensor():
    return World(
        call=lambda x, n: x * torch.arange(n).shape[0],
        inputs=later((torch.tensor(2),), (torch.tensor(3),)),
    )


@change()
def narrowed_by_a_tensor():
    return World(
        call=lambda x, n: x * torch.zeros(n, 2).numel(),
        inputs=later((torch.tensor(2),), (torch.tensor(3),)),
    )


@change()
def repeated_by_a_tensor():
    return World(
        call=lambda x, n: x * x.repeat(n, 1).shape[0],
        inputs=later((torch.tensor(2),), (torch.tensor(3),)),
    )


@change()
def split_by_a_tensor():
    return World(
        call=lambda x, n: x * len(torch.tensor_split(x, n)),
        inputs=later((torch.tensor(2),), (torch.tensor(3),)),
    )


@change(hits=0, code="JL0403", is_visible=False)
def detached_in_place():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        y = x * weight
        y.detach_()
        return y + weight

    return World(call=call, state={"weight": weight}, backward=True)


@change()
def asserted_asynchronously():
    def call(x, fine):
        torch._assert_async(fine)
        return x * 2

    return World(call=call, inputs=later((torch.tensor(True),), (torch.tensor(False),)))


# ---------------------------------------------------------------------------------------- effects


class StateOf:
    """The state of a generator, as something to compare."""

    def __init__(self, generator):
        self._generator = generator

    @property
    def __dict__(self):
        return {"state": self._generator.get_state()}


@change(is_visible=False)
def generator_of_its_own_and_a_decision():
    generator = torch.Generator().manual_seed(1)

    def call(x, positive):
        noise = torch.rand(4, 3, generator=generator)
        return x + noise if positive.sum() > 0 else x - noise

    return World(
        call=call,
        inputs=later((torch.ones(1),), (-torch.ones(1),)),
        state={"state": StateOf(generator)},
    )


@change(is_visible=False)
def list_extended_by_a_list_that_grows_afterwards():
    log = []

    def call(x):
        more = [1.0]
        log.extend(more)
        more.append(2.0)
        return x

    return World(call=call, state={"log": log})


@change(is_visible=False)
def dict_updated_by_a_dict_that_grows_afterwards():
    table = {}

    def call(x):
        more = {"a": 1.0}
        table.update(more)
        more["b"] = 2.0
        return x

    return World(call=call, state={"table": table}, between=lambda step: table.clear())


@change()
def store_into_a_list_that_became_shorter():
    log, values = [], [1.0]

    def call(x):
        log.append(1.0)
        values[0] = 2.0
        return x

    return World(call=call, state={"log": log, "values": values}, change=values.clear)


@change()
def buffer_became_a_parameter_behind_a_store():
    net = nn.Module()
    net.register_buffer("state", torch.ones(3))
    log = []

    def call(x):
        log.append(1.0)
        net.state = x.detach()[0]
        return x

    return World(
        call=call,
        state={"log": log, "net": net},
        change=lambda: setattr(net, "state", nn.Parameter(torch.ones(3))),
    )


@change(is_visible=False)
def draw_then_store_then_error():
    log = []

    def call(x, index):
        log.append(1.0)
        noise = torch.rand(4, 3)
        return (x + noise)[:, index]

    return World(
        call=call,
        inputs=later((torch.tensor([0, 1]),), (torch.tensor([0, 5]),)),
        state={"log": log},
    )


# ------------------------------------------------------------------------------------ fingerprint


@change()
def float_in_a_closure_cell_at_a_reused_address():
    by = float("2.0")

    def call(x):
        return x * by

    def assign(value):
        nonlocal by
        by = value

    def between(step):
        if step == 2:
            assign(float("2.0"))  # equal, at another address

    def change_by():
        assign(float("5.0"))  # frees the second 2.0
        assign(float("3.0"))  # which lies where the second 2.0 was

    return World(call=call, between=between, change=change_by)


@change(hits=1)
def memo_becomes_negative_zero():
    state = [2.0]

    @functools.lru_cache
    def memo():
        return state[0]

    def forget():
        state[0] = -0.0
        memo.cache_clear()

    state[0] = 0.0
    return World(call=lambda x: x * 0 + 1 / (x * memo()), change=forget)


# -------------------------------------------------------------------------------- varying numbers


@change(hits=1)
def varying_number_in_a_set():
    return World(
        call=lambda x, n: x * len({n, 1}),
        inputs=lambda step: (*fresh_tensor(step), (2, 3, 3, 1, 1, 1)[step]),
    )


@change(hits=1)
def varying_number_as_a_key():
    return World(
        call=lambda x, n: x * len({n: 0, 1: 0}),
        inputs=lambda step: (*fresh_tensor(step), (2, 3, 3, 1, 1, 1)[step]),
    )


@change(hits=0, is_visible=False)
def varying_number_of_the_wrong_class_in_a_slice():
    return World(
        call=lambda x, n: x[: n % 4],
        inputs=lambda step: (*fresh_tensor(step), (1, 2, 3, 2.0, 3.0, 1)[step]),
    )


# ---------------------------------------------------------------------------------------- outputs


class Called:
    """Shows what a call of an output gives, which comparing the output itself does not."""

    def __init__(self, made, ask):
        self._made, self._ask = made, ask

    @property
    def __dict__(self):
        return {"answer": self._ask(self._made[-1]) if self._made else None}


def outputs_asked(make, ask):
    """A world that keeps what `make` returned last, outside the speculated function."""
    made = []

    def remember(module, args, output):
        made.append(output)

    class Maker(nn.Module):
        def forward(self, x):
            return make(x)

    net = Maker()
    net.register_forward_hook(remember)
    return World(call=net, state={"called": Called(made, ask)})


@change(hits=0, code="JL0501", is_visible=False)
def factory_made_in_the_run():
    return outputs_asked(lambda x: collections.defaultdict(lambda: x * 2), lambda out: out["a"])


@change(hits=0, code="JL0501", is_visible=False)
def method_of_a_tensor_made_in_the_run():
    return outputs_asked(lambda x: [(x + 1).sum], lambda out: out[0]())


@change(hits=0, code="JL0501", is_visible=False)
def method_of_a_list_made_in_the_run():
    return outputs_asked(lambda x: [[x].index], lambda out: out[0].__self__)
