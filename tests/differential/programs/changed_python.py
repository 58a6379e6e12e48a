"""Outside changes of plain Python state: attributes, containers, classes, functions, globals."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="annotation-unchecked, redundant-cast"

from __future__ import annotations

import abc
import collections
import contextvars
import dataclasses
import enum
import functools
import math
import os
import threading
import types
import weakref

import numpy as np
import torch
from tests.differential.kit import World, change, fresh_tensor

FACTOR = 2.0
TABLE = {"scale": 2.0, "shift": {"by": [1.0, 2.0]}}
VARIABLE = contextvars.ContextVar("variable", default=2.0)
LOCAL = threading.local()
LOCAL.factor = 2.0


class Plain:
    """An object as users make them."""

    kind = "plain"
    weights = [1.0, 2.0]

    def __init__(self, factor=2.0):
        self.factor = factor

    def apply(self, x):
        return x * self.factor

    @property
    def twice(self):
        return self.factor * 2


def helper(x, by=2.0, *, shift=1.0):
    return x * by + shift


@change()
def instance_attribute():
    thing = Plain()
    return World(call=lambda x: x * thing.factor, change=lambda: setattr(thing, "factor", 3.0))


@change()
def instance_attribute_by_dict():
    thing = Plain()
    return World(call=lambda x: x * thing.factor, change=lambda: thing.__dict__.update(factor=3.0))


@change()
def instance_dict_replaced():
    thing = Plain()
    return World(
        call=lambda x: x * thing.factor,
        change=lambda: setattr(thing, "__dict__", {"factor": 3.0}),
    )


@change()
def attribute_that_shadows_the_class():
    thing = Plain()

    def call(x):
        return x * len(thing.kind)

    return World(call=call, change=lambda: setattr(thing, "kind", "x"))


@change()
def class_attribute():
    thing = Plain()

    def call(x):
        return x * len(thing.kind)

    return World(call=call, change=lambda: setattr(Plain, "kind", "x"))


@change()
def class_list_appended():
    thing = Plain()

    def call(x):
        return x * sum(thing.weights)

    return World(call=call, change=lambda: Plain.weights.append(5.0))


@change()
def attribute_on_a_subclass_shadows_its_base():
    class Derived(Plain):
        pass

    thing = Derived()
    return World(
        call=lambda x: x * len(thing.kind), change=lambda: setattr(Derived, "kind", "derived")
    )


@change()
def method_patched_on_the_class():
    thing = Plain()
    return World(
        call=lambda x: thing.apply(x),
        change=lambda: setattr(Plain, "apply", lambda self, x: x - self.factor),
    )


@change()
def method_patched_on_the_instance():
    thing = Plain()
    return World(
        call=lambda x: thing.apply(x), change=lambda: setattr(thing, "apply", lambda x: x - 1)
    )


@change()
def method_of_a_base_patched():
    class Derived(Plain):
        def apply(self, x):
            return super().apply(x) + 1

    thing = Derived()
    return World(
        call=lambda x: thing.apply(x),
        change=lambda: setattr(Plain, "apply", lambda self, x: x - self.factor),
    )


@change()
def property_replaced():
    thing = Plain()
    return World(
        call=lambda x: x * thing.twice,
        change=lambda: setattr(Plain, "twice", property(lambda self: 7.0)),
    )


@change()
def class_assigned():
    class Other(Plain):
        def apply(self, x):
            return x + 100

    thing = Plain()
    return World(call=lambda x: thing.apply(x), change=lambda: setattr(thing, "__class__", Other))


@change()
def bases_assigned():
    class First:
        def apply(self, x):
            return x * 2

    class Second:
        def apply(self, x):
            return x * 3

    class Child(First):
        pass

    thing = Child()
    return World(
        call=lambda x: thing.apply(x), change=lambda: setattr(Child, "__bases__", (Second,))
    )


@change()
def code_assigned():
    def other(x, by=2.0, *, shift=1.0):
        return x - by

    return World(
        call=lambda x: helper(x), change=lambda: setattr(helper, "__code__", other.__code__)
    )


@change()
def code_of_a_bound_method_assigned():
    thing = Plain()

    def other(self, x):
        return x + 5

    return World(
        call=lambda x: thing.apply(x),
        change=lambda: setattr(thing.apply.__func__, "__code__", other.__code__),
    )


@change()
def code_of_the_function_itself_assigned():
    def call(x):
        return x * 2

    def other(x):
        return x * 3

    return World(call=call, change=lambda: setattr(call, "__code__", other.__code__))


@change()
def defaults_assigned():
    return World(call=lambda x: helper(x), change=lambda: setattr(helper, "__defaults__", (7.0,)))


@change()
def defaults_of_the_function_itself_assigned():
    def call(x, by=2.0):
        return x * by

    return World(call=call, change=lambda: setattr(call, "__defaults__", (3.0,)))


@change()
def keyword_defaults_assigned():
    return World(
        call=lambda x: helper(x), change=lambda: setattr(helper, "__kwdefaults__", {"shift": 9.0})
    )


@change()
def keyword_defaults_changed_in_place():
    return World(call=lambda x: helper(x), change=lambda: helper.__kwdefaults__.update(shift=9.0))


@change()
def mutable_default_changed():
    def inner(x, weights=[1.0, 2.0]):
        return x * weights[0] + weights[1]

    return World(call=lambda x: inner(x), change=lambda: inner.__defaults__[0].__setitem__(0, 5.0))


@change()
def function_attribute():
    def inner(x):
        return x * inner.scale

    inner.scale = 2.0
    return World(call=lambda x: inner(x), change=lambda: setattr(inner, "scale", 3.0))


@change()
def global_number():
    return World(call=lambda x: x * FACTOR, change=lambda: globals().update(FACTOR=3.0))


@change()
def global_function_rebound():
    return World(call=lambda x: helper(x), change=lambda: globals().update(helper=lambda x: x - 1))


@change()
def builtin_shadowed_by_a_global():
    return World(call=lambda x: x * len("ab"), change=lambda: globals().update(len=lambda text: 7))


@change()
def global_deleted():
    return World(call=lambda x: x * FACTOR, change=lambda: globals().pop("FACTOR"))


@change()
def nested_global_container():
    return World(
        call=lambda x: x + TABLE["shift"]["by"][1],
        change=lambda: TABLE["shift"]["by"].__setitem__(1, 9.0),
    )


@change()
def closure_cell():
    factor = 2.0

    def set_factor():
        nonlocal factor
        factor = 3.0

    return World(call=lambda x: x * factor, change=set_factor)


@change()
def closure_cell_by_cell_contents():
    factor = 2.0

    def call(x):
        return x * factor

    return World(call=call, change=lambda: setattr(call.__closure__[0], "cell_contents", 5.0))


@change()
def closure_cell_emptied():
    factor = 2.0

    def empty():
        nonlocal factor
        del factor

    return World(call=lambda x: x * factor, change=empty)


@change()
def closure_of_a_closure():
    factor = 2.0

    def inner(x):
        return x * factor

    def set_factor():
        nonlocal factor
        factor = 3.0

    return World(call=lambda x: inner(x) + 1, change=set_factor)


@change()
def key_that_was_absent():
    table = {"a": 1.0}
    return World(call=lambda x: x * table.get("b", 2.0), change=lambda: table.update(b=3.0))


@change()
def key_that_was_absent_in_the_instance_dict():
    thing = Plain()
    return World(
        call=lambda x: x * thing.__dict__.get("extra", 2.0),
        change=lambda: setattr(thing, "extra", 3.0),
    )


@change()
def attribute_that_was_absent():
    thing = Plain()

    def call(x):
        return x * getattr(thing, "extra", 2.0)

    return World(call=call, change=lambda: setattr(thing, "extra", 3.0))


@change()
def attribute_that_hasattr_missed():
    thing = Plain()

    def call(x):
        return x * 3 if hasattr(thing, "extra") else x * 2

    return World(call=call, change=lambda: setattr(Plain, "extra", None))


@change()
def attribute_deleted():
    thing = Plain()
    thing.kind = "instance"
    return World(call=lambda x: x * len(thing.kind), change=lambda: delattr(thing, "kind"))


@change()
def key_in_a_dict():
    table = {"a": 1.0}

    def call(x):
        return x * 2 if "b" in table else x * 3

    return World(call=call, change=lambda: table.update(b=1))


@change()
def dict_value():
    table = {"a": 2.0}
    return World(call=lambda x: x * table["a"], change=lambda: table.update(a=3.0))


@change()
def dict_order():
    table = {"a": 2.0, "b": 3.0}

    def call(x):
        for value in table.values():
            x = x * 2 - value
        return x

    def reorder():
        table["a"] = table.pop("a")

    return World(call=call, change=reorder)


@change()
def keys_of_a_dict():
    table = {"a": 2.0}

    def call(x):
        for key in table:
            x = x + len(key)
        return x

    return World(call=call, change=lambda: table.update(bbb=1.0))


@change()
def ordered_dict_moved_to_end():
    table = collections.OrderedDict(a=2.0, b=3.0)

    def call(x):
        for value in table.values():
            x = x * 2 - value
        return x

    return World(call=call, change=lambda: table.move_to_end("a"))


@change()
def list_element():
    values = [1.0, 2.0]
    return World(call=lambda x: x * values[1], change=lambda: values.__setitem__(1, 5.0))


@change()
def list_element_from_the_end():
    values = [1.0, 2.0]
    return World(call=lambda x: x * values[-1], change=lambda: values.append(5.0))


@change()
def list_appended():
    values = [1.0, 2.0]
    return World(call=lambda x: x * sum(values), change=lambda: values.append(5.0))


@change()
def list_length():
    values = [1.0, 2.0]
    return World(call=lambda x: x * len(values), change=lambda: values.clear())


@change()
def list_that_becomes_empty():
    values = [1.0]

    def call(x):
        return x * 2 if values else x * 3

    return World(call=call, change=lambda: values.clear())


@change()
def list_of_lists():
    values = [[1.0], [2.0]]

    def call(x):
        return x * sum(v[0] for v in values)

    return World(call=call, change=lambda: values[1].__setitem__(0, 9.0))


@change()
def identity_of_list_elements():
    one, other = Plain(), Plain()
    values = [one, one]

    def call(x):
        return x * 2 if values[0] is values[1] else x * 3

    return World(call=call, change=lambda: values.__setitem__(1, other))


@change()
def list_sorted_in_place():
    values = [2.0, 1.0]

    def call(x):
        for value in values:
            x = x * 2 + value
        return x

    return World(call=call, change=lambda: values.sort())


@change()
def list_slice():
    values = [1.0, 2.0, 3.0]
    return World(call=lambda x: x * sum(values[1:]), change=lambda: values.__setitem__(2, 7.0))


@change()
def deque_content():
    values = collections.deque([1.0, 2.0])

    def call(x):
        for value in values:
            x = x * 2 + value
        return x

    return World(call=call, change=lambda: values.rotate(1))


@change()
def set_content():
    names = {"a"}

    def call(x):
        return x * 2 if "b" in names else x * 3

    return World(call=call, change=lambda: names.add("b"))


@change()
def tuple_replaced():
    thing = Plain((1.0, 2.0))
    return World(
        call=lambda x: x * thing.factor[0], change=lambda: setattr(thing, "factor", (5.0, 2.0))
    )


@change()
def namedtuple_replaced():
    Point = collections.namedtuple("Point", "a b")
    thing = Plain(Point(1.0, 2.0))
    return World(
        call=lambda x: x * thing.factor.b, change=lambda: setattr(thing, "factor", Point(1.0, 5.0))
    )


@change()
def dataclass_field():
    @dataclasses.dataclass
    class Options:
        scale: float = 2.0

    options = Options()
    return World(call=lambda x: x * options.scale, change=lambda: setattr(options, "scale", 3.0))


@change()
def slot():
    class Slotted:
        __slots__ = ("factor",)

    thing = Slotted()
    thing.factor = 2.0
    return World(call=lambda x: x * thing.factor, change=lambda: setattr(thing, "factor", 3.0))


@change(hits=0, code="JL0202")
def slot_filled_late():
    class Slotted:
        __slots__ = ("factor",)

    thing = Slotted()

    def call(x):
        return x * getattr(thing, "factor", 2.0)

    return World(call=call, change=lambda: setattr(thing, "factor", 3.0))


@change()
def true_becomes_one():
    thing = Plain(True)

    def call(x):
        return x * 2 if thing.factor is True else x * 3

    return World(call=call, change=lambda: setattr(thing, "factor", 1))


@change()
def one_becomes_one_point_zero():
    thing = Plain(1)

    def call(x):
        return x.to(torch.int64) * thing.factor

    return World(call=call, change=lambda: setattr(thing, "factor", 1.0))


@change()
def zero_becomes_negative_zero():
    thing = Plain(0.0)
    return World(
        call=lambda x: torch.full((2,), thing.factor), change=lambda: setattr(thing, "factor", -0.0)
    )


@change()
def zero_becomes_negative_zero_in_a_tuple():
    thing = Plain((0.0, 1))
    return World(
        call=lambda x: torch.full((2,), thing.factor[0]),
        change=lambda: setattr(thing, "factor", (-0.0, 1)),
    )


@change(hits=0, code="JL0202")
def zero_becomes_negative_zero_in_a_set():
    values = {0.0}

    def call(x):
        return torch.full((2,), max(values))

    def swap():
        values.clear()
        values.add(-0.0)

    return World(call=call, change=swap)


@change()
def number_becomes_nan():
    thing = Plain(1.0)
    return World(
        call=lambda x: torch.full((2,), thing.factor),
        change=lambda: setattr(thing, "factor", math.nan),
    )


@change()
def nan_becomes_number():
    thing = Plain(math.nan)
    return World(
        call=lambda x: torch.full((2,), thing.factor),
        change=lambda: setattr(thing, "factor", 1.0),
    )


@change()
def complex_sign_of_zero():
    thing = Plain(complex(1.0, 0.0))
    return World(
        call=lambda x: torch.full((2,), thing.factor),
        change=lambda: setattr(thing, "factor", complex(1.0, -0.0)),
    )


@change()
def numpy_scalar():
    thing = Plain(np.float64(2.0))
    return World(
        call=lambda x: x * thing.factor, change=lambda: setattr(thing, "factor", np.float64(3.0))
    )


@change()
def key_true_becomes_one():
    table = {1: 2.0}

    def call(x):
        for key in table:
            x = x * 2 if key is True else x * 3
        return x

    def swap():
        table.clear()
        table[True] = 2.0

    return World(call=call, change=swap)


@change()
def abc_register():
    class Scaled(abc.ABC):
        pass

    thing = Plain()

    def call(x):
        return x * 2 if isinstance(thing, Scaled) else x * 3

    return World(call=call, change=lambda: Scaled.register(Plain))


@change(hits=0, code="JL0203")
def instancecheck_with_state():
    class Meta(type):
        answer = True

        def __instancecheck__(cls, other):
            return Meta.answer

    class Checked(metaclass=Meta):
        pass

    thing = Plain()

    def call(x):
        return x * 2 if isinstance(thing, Checked) else x * 3

    return World(call=call, change=lambda: setattr(Meta, "answer", False))


@change()
def environment_variable():
    os.environ.pop("JANUS_TEST_VARIABLE", None)

    def call(x):
        return x * 2 if os.environ.get("JANUS_TEST_VARIABLE") else x * 3

    return World(call=call, change=lambda: os.environ.update(JANUS_TEST_VARIABLE="1"))


@change()
def module_attribute():
    module = types.ModuleType("settings")
    module.factor = 2.0
    return World(call=lambda x: x * module.factor, change=lambda: setattr(module, "factor", 3.0))


@change()
def context_variable():
    return World(call=lambda x: x * VARIABLE.get(), change=lambda: VARIABLE.set(3.0))


@change(hits=0, code="JL0202")
def thread_local():
    return World(call=lambda x: x * LOCAL.factor, change=lambda: setattr(LOCAL, "factor", 3.0))


@change()
def weak_reference_dies():
    held = [Plain()]
    reference = weakref.ref(held[0])

    def call(x):
        return x * 2 if reference() is None else x * 3

    return World(call=call, change=lambda: held.clear())


@change(hits=1, code="JL0203", is_visible=False)
def memo_cleared():
    calls = []

    @functools.lru_cache
    def memo(n):
        calls.append(n)
        return float(n)

    return World(
        call=lambda x: x * memo(3), change=lambda: memo.cache_clear(), state={"calls": calls}
    )


@change()
def partial_keywords():
    bound = functools.partial(helper, by=2.0)
    return World(call=lambda x: bound(x), change=lambda: bound.keywords.update(by=5.0))


@change()
def partial_itself():
    bound = functools.partial(helper, by=2.0)
    return World(call=bound, change=lambda: bound.keywords.update(by=5.0))


@change()
def descriptor_state():
    class Scaled:
        factor = 2.0

        def __get__(self, owner, cls):
            return self.factor

    class Holder:
        scale = Scaled()

    holder = Holder()
    return World(
        call=lambda x: x * holder.scale,
        change=lambda: setattr(vars(Holder)["scale"], "factor", 3.0),
    )


@change()
def getattr_method_with_state():
    class Proxy:
        def __init__(self):
            self.table = {"scale": 2.0}

        def __getattr__(self, name):
            return self.table[name]

    proxy = Proxy()
    return World(call=lambda x: x * proxy.scale, change=lambda: proxy.table.update(scale=3.0))


@change()
def getattr_method_overtaken():
    class Proxy:
        def __getattr__(self, name):
            return 2.0

    proxy = Proxy()
    return World(call=lambda x: x * proxy.scale, change=lambda: setattr(proxy, "scale", 3.0))


@change()
def getattribute_with_state():
    class Proxy:
        table = {"scale": 2.0}

        def __getattribute__(self, name):
            return type(self).table[name]

    proxy = Proxy()
    return World(call=lambda x: x * proxy.scale, change=lambda: Proxy.table.update(scale=3.0))


@change()
def bool_with_state():
    class Switch:
        on = True

        def __bool__(self):
            return self.on

    switch = Switch()

    def call(x):
        return x * 2 if switch else x * 3

    return World(call=call, change=lambda: setattr(switch, "on", False))


@change()
def len_with_state():
    class Sized:
        size = 2

        def __len__(self):
            return self.size

    sized = Sized()
    return World(call=lambda x: x * len(sized), change=lambda: setattr(sized, "size", 0))


@change()
def iter_with_state():
    class Range:
        stop = 2

        def __iter__(self):
            return iter(range(self.stop))

    numbers = Range()

    def call(x):
        for number in numbers:
            x = x + number + 1
        return x

    return World(call=call, change=lambda: setattr(numbers, "stop", 4))


@change()
def contains_with_state():
    class Bag:
        names = ["a"]

        def __contains__(self, name):
            return name in self.names

    bag = Bag()

    def call(x):
        return x * 2 if "b" in bag else x * 3

    return World(call=call, change=lambda: bag.names.append("b"))


@change()
def getitem_with_state():
    class Row:
        def __init__(self):
            self.values = [1.0, 2.0]

        def __getitem__(self, index):
            return self.values[index]

    row = Row()
    return World(call=lambda x: x * row[1], change=lambda: row.values.__setitem__(1, 9.0))


@change()
def equality_with_state():
    class Label:
        def __init__(self, text):
            self.text = text

        def __eq__(self, other):
            return self.text == other.text

        __hash__ = None

    one, other = Label("a"), Label("a")

    def call(x):
        return x * 2 if one == other else x * 3

    return World(call=call, change=lambda: setattr(other, "text", "b"))


@change()
def arithmetic_with_state():
    class Money:
        rate = 2.0

        def __rmul__(self, other):
            return other * self.rate

    money = Money()
    return World(call=lambda x: 3.0 * money * x, change=lambda: setattr(Money, "rate", 3.0))


@change()
def call_with_state():
    class Scale:
        by = 2.0

        def __call__(self, x):
            return x * self.by

    scale = Scale()
    return World(call=lambda x: scale(x), change=lambda: setattr(scale, "by", 3.0))


@change()
def call_method_patched_on_the_class():
    class Scale:
        def __call__(self, x):
            return x * 2

    scale = Scale()
    return World(
        call=lambda x: scale(x), change=lambda: setattr(Scale, "__call__", lambda self, x: x * 3)
    )


@change()
def callable_object_itself():
    class Scale:
        by = 2.0

        def __call__(self, x):
            return x * self.by

    scale = Scale()
    return World(call=scale, change=lambda: setattr(scale, "by", 3.0))


@change()
def bound_method_itself():
    thing = Plain()
    return World(call=thing.apply, change=lambda: setattr(thing, "factor", 3.0))


@change()
def static_method_replaced():
    class Tools:
        @staticmethod
        def scale(x):
            return x * 2

    def other(x):
        return x * 3

    tools = Tools()
    return World(
        call=lambda x: tools.scale(x),
        change=lambda: setattr(Tools, "scale", staticmethod(other)),
    )


@change()
def class_method_reads_its_class():
    class Tools:
        factor = 2.0

        @classmethod
        def scale(cls, x):
            return x * cls.factor

    return World(call=lambda x: Tools.scale(x), change=lambda: setattr(Tools, "factor", 3.0))


@change()
def metaclass_attribute():
    class Meta(type):
        factor = 2.0

    class Thing(metaclass=Meta):
        pass

    return World(call=lambda x: x * Thing.factor, change=lambda: setattr(Meta, "factor", 3.0))


@change()
def enum_member_attribute():
    class Color(enum.Enum):
        RED = 1

    Color.RED.weight = 2.0
    return World(
        call=lambda x: x * Color.RED.weight, change=lambda: setattr(Color.RED, "weight", 3.0)
    )


@change()
def simple_namespace():
    options = types.SimpleNamespace(scale=2.0)
    return World(call=lambda x: x * options.scale, change=lambda: setattr(options, "scale", 3.0))


@change(hits=0, code="JL0303")
def mapping_proxy():
    table = {"a": 2.0}
    view = types.MappingProxyType(table)
    return World(call=lambda x: x * view["a"], change=lambda: table.update(a=3.0))


@change()
def chain_map():
    first, second = {}, {"a": 2.0}
    chain = collections.ChainMap(first, second)
    return World(call=lambda x: x * chain["a"], change=lambda: first.update(a=3.0))


@change(hits=0, code="JL0201")
def attribute_getter_of_operator():
    import operator

    thing = Plain()
    get = operator.attrgetter("factor")
    return World(call=lambda x: x * get(thing), change=lambda: setattr(thing, "factor", 3.0))


@change(hits=0, code="JL0201")
def item_getter_of_operator():
    import operator

    table = {"a": 2.0}
    get = operator.itemgetter("a")
    return World(call=lambda x: x * get(table), change=lambda: table.update(a=3.0))


@change()
def dict_spread():
    options = {"by": 2.0}
    return World(call=lambda x: helper(x, **options), change=lambda: options.update(shift=5.0))


@change()
def list_spread():
    rest = [2.0]
    return World(call=lambda x: helper(x, *rest), change=lambda: rest.__setitem__(0, 5.0))


@change()
def dict_merged():
    options = {"by": 2.0}

    def call(x):
        return helper(x, **{**options, "shift": 3.0})

    return World(call=call, change=lambda: options.update(by=5.0))


@change()
def dict_united():
    options = {"by": 2.0}

    def call(x):
        return helper(x, **(options | {"shift": 3.0}))

    return World(call=call, change=lambda: options.update(by=5.0))


@change()
def unpacked_list():
    pair = [1.0, 2.0]

    def call(x):
        first, second = pair
        return x * first + second

    return World(call=call, change=lambda: pair.__setitem__(1, 9.0))


@change()
def vars_of_an_object():
    thing = Plain()
    return World(
        call=lambda x: x * vars(thing)["factor"], change=lambda: setattr(thing, "factor", 3.0)
    )


@change()
def globals_dict():
    return World(
        call=lambda x: x * globals()["FACTOR"], change=lambda: globals().update(FACTOR=3.0)
    )


@change()
def sum_of_dict_values():
    table = {"a": 2.0}
    return World(call=lambda x: x * sum(table.values()), change=lambda: table.update(b=3.0))


@change()
def sorted_of_a_dict():
    table = {"b": 2.0}
    return World(call=lambda x: x * len(sorted(table)[0]), change=lambda: table.update(aaa=3.0))


@change()
def comparison_of_lists():
    one, other = [1, 2], [1, 2]

    def call(x):
        return x * 2 if one == other else x * 3

    return World(call=call, change=lambda: other.append(3))


@change()
def string_join():
    words = ["a", "b"]
    return World(call=lambda x: x * len("-".join(words)), change=lambda: words.append("ccc"))


@change()
def string_format():
    thing = Plain("ab")
    return World(
        call=lambda x: x * len(f"{thing.factor!r:>5}"),
        change=lambda: setattr(thing, "factor", "abcdefgh"),
    )


@change()
def argument_object():
    thing = Plain()

    def call(x, thing):
        return x * thing.factor

    def inputs(step):
        return (*fresh_tensor(step), thing)

    return World(call=call, inputs=inputs, change=lambda: setattr(thing, "factor", 3.0))


@change()
def argument_of_another_class():
    class Other(Plain):
        def apply(self, x):
            return x + 100

    things = [Plain()]

    def call(x, thing):
        return thing.apply(x)

    def inputs(step):
        return (*fresh_tensor(step), things[-1])

    return World(call=call, inputs=inputs, change=lambda: things.append(Other()))


@change()
def argument_none_instead_of_tensor():
    masks = [torch.ones(3)]

    def call(x, mask):
        return x if mask is None else x * mask

    return World(
        call=call,
        inputs=lambda step: (*fresh_tensor(step), masks[-1]),
        change=lambda: masks.append(None),
    )


@change()
def arguments_become_one_object():
    things = [Plain(), Plain()]

    def call(x, one, other):
        return x * 2 if one is other else x * 3

    return World(
        call=call,
        inputs=lambda step: (*fresh_tensor(step), *things),
        change=lambda: things.__setitem__(1, things[0]),
    )


@change()
def keyword_appears():
    kwargs = {}

    def call(x, by=2.0):
        return x * by

    return World(
        call=call,
        inputs=lambda step: (*fresh_tensor(step), {"**": dict(kwargs)}),
        change=lambda: kwargs.update(by=3.0),
    )


@change()
def argument_list_grows():
    tensors = [torch.ones(3)]

    def call(x, others):
        for other in others:
            x = x + other
        return x

    return World(
        call=call,
        inputs=lambda step: (*fresh_tensor(step), list(tensors)),
        change=lambda: tensors.append(torch.ones(3)),
    )


@change()
def argument_dict_order():
    order = ["a", "b"]

    def call(x, table):
        for value in table.values():
            x = x * 2 + value
        return x

    def inputs(step):
        values = {"a": 1.0, "b": 2.0}
        return (*fresh_tensor(step), {name: values[name] for name in order})

    return World(call=call, inputs=inputs, change=lambda: order.reverse())


@change()
def argument_string():
    modes = ["double"]

    def call(x, mode):
        return x * 2 if mode == "double" else x * 3

    return World(
        call=call,
        inputs=lambda step: (*fresh_tensor(step), modes[-1]),
        change=lambda: modes.append("triple"),
    )


@change()
def argument_int_becomes_bool():
    values = [1]

    def call(x, flag):
        return x * 2 if flag is True else x * 3

    return World(
        call=call,
        inputs=lambda step: (*fresh_tensor(step), values[-1]),
        change=lambda: values.append(True),
    )


@change(hits=0, code="JL0201")
def metaclass_getattr():
    class Meta(type):
        table = {"scale": 2.0}

        def __getattr__(cls, name):
            return cls.table[name]

    class Thing(metaclass=Meta):
        pass

    return World(call=lambda x: x * Thing.scale, change=lambda: Meta.table.update(scale=3.0))


@change(hits=0, code="JL0201")
def int_subclass():
    class Level(int):
        bonus = 1

        def __mul__(self, other):
            return other * (int(self) + self.bonus)

    level = Level(2)
    return World(call=lambda x: level * x, change=lambda: setattr(Level, "bonus", 5))


@change(hits=0, code="JL0203")
def missing_of_a_dict_subclass():
    class Defaults(dict):
        fallback = 2.0

        def __missing__(self, key):
            return self.fallback

    table = Defaults()
    return World(call=lambda x: x * table["a"], change=lambda: setattr(table, "fallback", 3.0))


@change(hits=0, code="JL0203")
def key_added_to_a_dict_subclass_with_missing():
    class Defaults(dict):
        def __missing__(self, key):
            return 2.0

    table = Defaults()
    return World(call=lambda x: x * table["a"], change=lambda: table.update(a=3.0))


@change()
def defaultdict_factory():
    table = collections.defaultdict(lambda: 2.0, a=2.0)
    return World(call=lambda x: x * table["a"], change=lambda: table.update(a=3.0))


@change(hits=1)
def cached_property_reset():
    class Lazy:
        base = 2.0

        @functools.cached_property
        def scale(self):
            return self.base + 1

    lazy = Lazy()

    def reset():
        lazy.base = 7.0
        del lazy.scale

    return World(call=lambda x: x * lazy.scale, change=reset)


@change(hits=0, code="JL0202")
def singledispatch_registered_late():
    @functools.singledispatch
    def scale(thing, x):
        return x * 2

    thing = Plain()
    return World(
        call=lambda x: scale(thing, x),
        change=lambda: scale.register(Plain, lambda thing, x: x * 3),
    )


@change()
def generator_over_outside_list():
    values = [1.0, 2.0]

    def call(x):
        return x * sum(v * 2 for v in values)

    return World(call=call, change=lambda: values.append(5.0))


@change()
def truth_of_a_chained_comparison():
    thing = Plain(2.0)

    def call(x):
        return x * 2 if 0 < thing.factor < 5 else x * 3

    return World(call=call, change=lambda: setattr(thing, "factor", 9.0))


@change()
def private_name():
    class Hidden:
        def __init__(self):
            self.__factor = 2.0

        def apply(self, x):
            return x * self.__factor

    thing = Hidden()
    return World(
        call=lambda x: thing.apply(x), change=lambda: setattr(thing, "_Hidden__factor", 3.0)
    )


@change(hits=1)
def key_written_by_the_call_itself_is_removed():
    table = {}

    def call(x):
        count = len(table)
        table["last"] = 1.0
        return x * count

    return World(
        call=call,
        state={"table": table},
        between=lambda step: step in (1, 4) and table.clear(),
        change=lambda: table.update(other=1.0),
    )


@change()
def own_write_and_a_write_from_outside():
    table = {"own": 0.0, "factor": 2.0}

    def call(x):
        table["own"] = 1.0
        return x * table["factor"]

    return World(call=call, state={"table": table}, change=lambda: table.update(factor=5.0))


@change(hits=0)
def attribute_written_by_the_call_itself_is_new():
    thing = Plain(2.0)

    def call(x):
        count = len(vars(thing))
        thing.last = 1.0
        return x * count

    return World(call=call, state={"thing": thing}, change=lambda: vars(thing).pop("last"))


@change()
def member_of_an_enum_that_is_text():
    class Layout(str, enum.Enum):
        FLAT = "flat"
        GRID = "grid"

    thing = Plain(2.0)
    thing.layout = Layout.FLAT

    def call(x):
        return x * 2 if thing.layout != Layout.GRID and thing.layout == "flat" else x * 3

    return World(call=call, change=lambda: setattr(thing, "layout", Layout.GRID))
