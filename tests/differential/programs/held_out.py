"""Programs written after the recorder was fixed on the others: what do we not know yet?"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="annotation-unchecked"

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import operator
import types
import typing

import torch
from tests.differential.kit import World, change, fresh_tensor
from torch import nn


class Box:
    def __init__(self, **items):
        self.__dict__.update(items)


@change()
def iteration_order_of_a_set():
    numbers = {0, 8}

    def call(x):
        for number in numbers:
            x = x * 2 + number
        return x

    def reorder():
        numbers.clear()
        numbers.add(8)
        numbers.add(0)

    return World(call=call, change=reorder)


@change(hits=0, code="JL0201")
def class_dict_read_directly():
    return World(
        call=lambda x: x * Box.__dict__.get("by", 2.0), change=lambda: setattr(Box, "by", 3.0)
    )


@change()
def class_name():
    box = Box()
    return World(
        call=lambda x: x * len(type(box).__name__),
        change=lambda: setattr(Box, "__name__", "LongName"),
    )


@change()
def attribute_through_class_of_instance():
    Box.by = 2.0
    box = Box()
    return World(call=lambda x: x * box.__class__.by, change=lambda: setattr(Box, "by", 3.0))


@change()
def annotations_of_a_class():
    class Options:
        a: int

    return World(
        call=lambda x: x * len(Options.__annotations__),
        change=lambda: Options.__annotations__.update(b=int),
    )


@change()
def list_on_a_metaclass():
    class Meta(type):
        values = [2.0]

    class Thing(metaclass=Meta):
        pass

    return World(call=lambda x: x * sum(Thing.values), change=lambda: Meta.values.append(3.0))


@change()
def call_of_a_metaclass_patched():
    class Meta(type):
        pass

    class Thing(metaclass=Meta):
        def __init__(self):
            self.by = 2.0

    def louder(cls):
        thing = type.__call__(cls)
        thing.by = 5.0
        return thing

    return World(call=lambda x: x * Thing().by, change=lambda: setattr(Meta, "__call__", louder))


@change()
def new_patched():
    class Thing:
        by = 2.0

    class Louder:
        by = 3.0

    return World(
        call=lambda x: x * Thing().by,
        change=lambda: setattr(Thing, "__new__", lambda cls: Louder()),
    )


@change()
def init_patched():
    class Thing:
        def __init__(self):
            self.by = 2.0

    return World(
        call=lambda x: x * Thing().by,
        change=lambda: setattr(Thing, "__init__", lambda self: setattr(self, "by", 9.0)),
    )


@change()
def dataclass_default_changed():
    @dataclasses.dataclass
    class Options:
        by: float = 2.0

    return World(
        call=lambda x: x * Options().by,
        change=lambda: setattr(Options.__init__, "__defaults__", (5.0,)),
    )


@change()
def dataclass_factory_with_state():
    values = [2.0]

    @dataclasses.dataclass
    class Options:
        by: list = dataclasses.field(default_factory=lambda: list(values))

    return World(call=lambda x: x * Options().by[0], change=lambda: values.__setitem__(0, 5.0))


@change()
def closure_of_a_partial():
    factor = 2.0

    def inner(y, x):
        return x * factor * y

    bound = functools.partial(inner, 1)

    def set_factor():
        nonlocal factor
        factor = 3.0

    return World(call=lambda x: bound(x), change=set_factor)


@change()
def list_in_a_partial():
    values = [2.0]
    bound = functools.partial(lambda values, x: x * values[0], values)
    return World(call=lambda x: bound(x), change=lambda: values.__setitem__(0, 3.0))


@change()
def bound_method_in_a_list():
    box = Box(by=2.0)
    box.scale = types.MethodType(lambda self, x: x * self.by, box)
    methods = [box.scale]
    return World(call=lambda x: methods[0](x), change=lambda: setattr(box, "by", 3.0))


@change()
def bound_builtin_method():
    values = [2.0]
    get = values.__getitem__
    return World(call=lambda x: x * get(0), change=lambda: values.__setitem__(0, 3.0))


@change()
def bound_dict_get():
    table = {"by": 2.0}
    get = table.get
    return World(call=lambda x: x * get("by"), change=lambda: table.update(by=3.0))


@change(hits=0, code="JL0201")
def method_caller():
    box = Box(by=2.0)
    return World(
        call=lambda x: x * operator.attrgetter("by")(box), change=lambda: setattr(box, "by", 3.0)
    )


@change()
def sum_over_map_of_methods():
    boxes = [Box(by=1.0), Box(by=2.0)]
    return World(
        call=lambda x: x * sum(map(lambda b: b.by, boxes)),
        change=lambda: setattr(boxes[1], "by", 9.0),
    )


@change()
def max_with_key():
    boxes = [Box(by=1.0), Box(by=2.0)]
    return World(
        call=lambda x: x * max(boxes, key=lambda b: b.by).by,
        change=lambda: setattr(boxes[0], "by", 9.0),
    )


@change()
def zip_of_outside_lists():
    one, other = [1.0], [2.0]

    def call(x):
        for a, b in zip(one, other):
            x = x * a + b
        return x

    def change_both():
        one.append(5.0)
        other.append(6.0)

    return World(call=call, change=change_both)


@change()
def enumerate_of_a_dict():
    table = {"a": 1.0}

    def call(x):
        for n, key in enumerate(table):
            x = x + n + table[key]
        return x

    return World(call=call, change=lambda: table.update(b=2.0))


@change()
def dict_of_an_outside_dict():
    table = {"a": 2.0}
    return World(call=lambda x: x * dict(table)["a"], change=lambda: table.update(a=3.0))


@change()
def dict_copied_by_method():
    table = {"a": 2.0}
    return World(call=lambda x: x * table.copy()["a"], change=lambda: table.update(a=3.0))


@change()
def list_copied_by_slice():
    values = [[2.0]]
    return World(call=lambda x: x * values[:][0][0], change=lambda: values[0].__setitem__(0, 3.0))


@change()
def list_copied_by_list():
    values = [[2.0]]
    return World(
        call=lambda x: x * list(values)[0][0], change=lambda: values[0].__setitem__(0, 3.0)
    )


@change()
def list_concatenated():
    values = [[2.0]]
    return World(
        call=lambda x: x * (values + [])[0][0], change=lambda: values[0].__setitem__(0, 3.0)
    )


@change()
def list_repeated():
    values = [[2.0]]
    return World(
        call=lambda x: x * (values * 2)[1][0], change=lambda: values[0].__setitem__(0, 3.0)
    )


@change(hits=0, code="JL0201")
def copy_of_an_object():
    box = Box(by=[2.0])
    return World(call=lambda x: x * copy.copy(box).by[0], change=lambda: box.by.__setitem__(0, 3.0))


@change()
def deepcopy_of_a_dict():
    table = {"a": [2.0]}
    return World(
        call=lambda x: x * copy.deepcopy(table)["a"][0],
        change=lambda: table["a"].__setitem__(0, 3.0),
    )


@change()
def sorted_list_of_lists():
    values = [[2.0], [1.0]]
    return World(
        call=lambda x: x * sorted(values)[0][0], change=lambda: values[1].__setitem__(0, 7.0)
    )


@change()
def min_of_lists():
    values = [[2.0], [1.0]]
    return World(call=lambda x: x * min(*values)[0], change=lambda: values[1].__setitem__(0, 7.0))


@change()
def reversed_list():
    values = [Box(by=1.0), Box(by=2.0)]

    def call(x):
        for box in reversed(values):
            x = x * 2 + box.by
        return x

    return World(call=call, change=lambda: setattr(values[0], "by", 9.0))


@change(hits=0, code="JL0202")
def counter_most_common():
    counts = collections.Counter("aab")
    return World(
        call=lambda x: x * counts.most_common(1)[0][1], change=lambda: counts.update("bbbb")
    )


@change()
def chain_of_items():
    table = {"a": {"b": Box(by=2.0)}}
    return World(
        call=lambda x: x * table["a"]["b"].by, change=lambda: table["a"].update(b=Box(by=4.0))
    )


@change()
def user_dict():
    table = collections.UserDict(a=2.0)
    return World(call=lambda x: x * table["a"], change=lambda: table.update(a=3.0))


@change()
def items_of_a_dict():
    table = {"a": Box(by=2.0)}

    def call(x):
        for _, box in table.items():
            x = x * box.by
        return x

    return World(call=call, change=lambda: setattr(table["a"], "by", 3.0))


@change()
def values_in_a_comprehension():
    table = {"a": Box(by=2.0)}
    return World(
        call=lambda x: x * sum([b.by for b in table.values()]),
        change=lambda: setattr(table["a"], "by", 3.0),
    )


@change()
def dict_comprehension_over_items():
    table = {"a": 2.0}
    return World(
        call=lambda x: x * {k: v for k, v in table.items()}["a"], change=lambda: table.update(a=3.0)
    )


@change()
def any_over_objects():
    boxes = [Box(on=False)]
    return World(
        call=lambda x: x * 2 if any(b.on for b in boxes) else x,
        change=lambda: setattr(boxes[0], "on", True),
    )


@change()
def all_of_a_list():
    flags = [True]
    return World(call=lambda x: x * 2 if all(flags) else x, change=lambda: flags.append(False))


@change()
def in_a_list_of_objects():
    one, other = Box(), Box()
    boxes = [one]
    return World(call=lambda x: x * 2 if other in boxes else x, change=lambda: boxes.append(other))


@change()
def in_a_string():
    box = Box(name="abc")
    return World(
        call=lambda x: x * 2 if "b" in box.name else x, change=lambda: setattr(box, "name", "xyz")
    )


@change()
def index_of_a_list():
    names = ["a", "b"]
    return World(call=lambda x: x * names.index("b"), change=lambda: names.insert(0, "z"))


@change()
def length_of_a_nested_list():
    box = Box(layers=[[1], [2]])
    return World(call=lambda x: x * len(box.layers[1]), change=lambda: box.layers[1].append(3))


@change()
def tuple_with_a_list_inside():
    pair = (1, [2.0])
    return World(call=lambda x: x * pair[1][0], change=lambda: pair[1].__setitem__(0, 3.0))


@change()
def frozen_dataclass_with_a_list_inside():
    @dataclasses.dataclass(frozen=True)
    class Options:
        values: list

    options = Options([2.0])
    return World(
        call=lambda x: x * options.values[0], change=lambda: options.values.__setitem__(0, 3.0)
    )


@change()
def named_tuple_with_a_list_inside():
    class Options(typing.NamedTuple):
        values: list

    options = Options([2.0])
    return World(
        call=lambda x: x * options.values[0], change=lambda: options.values.__setitem__(0, 3.0)
    )


@change()
def bool_of_a_user_list():
    class Stack(list):
        pass

    stack = Stack([1])
    return World(call=lambda x: x * 2 if stack else x, change=lambda: stack.clear())


@change(hits=0, code="JL0201")
def str_of_an_object():
    class Named:
        name = "ab"

        def __str__(self):
            return self.name

    named = Named()
    return World(call=lambda x: x * len(str(named)), change=lambda: setattr(named, "name", "abcd"))


@change()
def percent_formatting():
    box = Box(name="ab")
    return World(
        call=lambda x: x * len("%s" % box.name), change=lambda: setattr(box, "name", "abcd")
    )


@change()
def percent_formatting_of_a_list():
    values = [1]
    return World(call=lambda x: x * len("%s" % values), change=lambda: values.append(2))


@change()
def str_of_a_list():
    values = [1]
    return World(call=lambda x: x * len(str(values)), change=lambda: values.append(2))


@change(hits=0, code="JL0203")
def str_of_a_list_of_objects():
    class Named:
        name = "ab"

        def __repr__(self):
            return self.name

    values = [Named()]
    return World(
        call=lambda x: x * len(str(values)), change=lambda: setattr(values[0], "name", "abcd")
    )


@change(hits=0, code="JL0201")
def format_method():
    box = Box(name="ab")
    return World(
        call=lambda x: x * len("{0.name}".format(box)), change=lambda: setattr(box, "name", "abcd")
    )


@change()
def hash_of_a_tuple():
    box = Box(key=(1, 2))
    return World(
        call=lambda x: x * 2 if hash(box.key) == hash((1, 2)) else x,
        change=lambda: setattr(box, "key", (1, 3)),
    )


@change()
def equal_tuples():
    box = Box(key=(1, [2]))
    return World(
        call=lambda x: x * 2 if box.key == (1, [2]) else x, change=lambda: box.key[1].append(3)
    )


@change()
def dataclasses_compared():
    box = Box(shape=torch.Size([1, 2]))
    return World(
        call=lambda x: x * 2 if box.shape == (1, 2) else x,
        change=lambda: setattr(box, "shape", torch.Size([3])),
    )


@change()
def getattr_with_a_computed_name():
    box = Box(which="a", a=2.0, b=3.0)
    return World(
        call=lambda x: x * getattr(box, box.which), change=lambda: setattr(box, "which", "b")
    )


@change()
def function_chosen_from_a_dict():
    table = {"f": torch.sin}
    return World(call=lambda x: table["f"](x), change=lambda: table.update(f=torch.cos))


@change()
def function_chosen_by_getattr():
    box = Box(name="sin")
    return World(
        call=lambda x: getattr(torch, box.name)(x), change=lambda: setattr(box, "name", "cos")
    )


@change()
def torch_attribute_added():
    return World(
        call=lambda x: x * getattr(nn, "_janus_test", 2.0),
        change=lambda: setattr(nn, "_janus_test", 3.0),
    )


@change()
def module_named_parameters():
    model = nn.Linear(3, 3)
    return World(
        call=lambda x: x * sum(p.sum() for _, p in model.named_parameters()),
        change=lambda: setattr(model, "extra", nn.Parameter(torch.ones(3))),
    )


@change()
def module_children():
    model = nn.Sequential(nn.ReLU())

    def call(x):
        for child in model.children():
            x = child(x) + 1
        return x

    return World(call=call, change=lambda: model.append(nn.Sigmoid()))


@change()
def state_dict_read():
    model = nn.Linear(3, 3)

    def replace():
        model.weight = nn.Parameter(torch.zeros(3, 3))

    return World(call=lambda x: x @ model.state_dict()["weight"], change=replace)


@change()
def get_submodule_by_path():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3)))

    def replace():
        model[0][0] = nn.Linear(3, 3)

    return World(call=lambda x: model.get_submodule("0.0")(x), change=replace)


@change()
def extra_repr_never_matters_but_len_does():
    model = nn.ModuleList([nn.Linear(3, 3)])

    def call(x):
        for n in range(len(model)):
            x = model[n](x)
        return x

    return World(call=call, change=lambda: model.append(nn.Linear(3, 3)))


@change()
def slice_of_a_sequential():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def replace():
        model[0] = nn.Linear(3, 3)

    return World(call=lambda x: model[:1](x), change=replace)


@change()
def isinstance_with_a_tuple_in_a_global():
    box = Box(kinds=(int,))
    return World(
        call=lambda x: x * 2 if isinstance(1.5, box.kinds) else x,
        change=lambda: setattr(box, "kinds", (int, float)),
    )


@change()
def property_of_a_base_shadowed():
    class Base:
        @property
        def by(self):
            return 2.0

    class Child(Base):
        pass

    child = Child()
    return World(call=lambda x: x * child.by, change=lambda: setattr(Child, "by", 3.0))


@change()
def data_descriptor_added_over_an_instance_attribute():
    box = Box(by=2.0)
    return World(
        call=lambda x: x * box.by, change=lambda: setattr(Box, "by", property(lambda self: 7.0))
    )


@change()
def exception_argument():
    box = Box(by=2.0)

    def call(x):
        try:
            raise ValueError(box.by)
        except ValueError as error:
            return x * error.args[0]

    return World(call=call, change=lambda: setattr(box, "by", 3.0))


@change()
def generator_over_an_attribute():
    box = Box(values=[1.0, 2.0])

    def numbers():
        for value in box.values:
            yield value * 2

    def call(x):
        for number in numbers():
            x = x + number
        return x

    return World(call=call, change=lambda: box.values.append(5.0))


@change()
def default_argument_is_a_tensor():
    def inner(x, weight=torch.ones(3)):
        return x * weight

    return World(
        call=lambda x: inner(x), change=lambda: setattr(inner, "__defaults__", (torch.zeros(3),))
    )


@change()
def tensor_in_a_tuple_in_a_closure():
    pair = [(torch.ones(3), 1)]
    return World(
        call=lambda x: x * pair[0][0], change=lambda: pair.__setitem__(0, (torch.zeros(3), 1))
    )


@change()
def tensor_in_a_dict_of_lists():
    table = {"a": [torch.ones(3)]}
    return World(
        call=lambda x: torch.stack(table["a"]).sum(0) + x,
        change=lambda: table["a"].append(torch.ones(3)),
    )


@change()
def int_tensor_as_an_index():
    values = [1.0, 5.0]
    index = torch.tensor(0)
    return World(call=lambda x: x * values[index], change=lambda: index.fill_(1))


@change()
def shape_from_an_outside_tensor():
    box = Box(t=torch.ones(2))
    return World(call=lambda x: x * box.t.shape[0], change=lambda: setattr(box, "t", torch.ones(5)))


@change()
def dtype_from_an_attribute():
    box = Box(dtype=torch.float32)
    return World(
        call=lambda x: x.to(box.dtype), change=lambda: setattr(box, "dtype", torch.float64)
    )


@change()
def keywords_of_an_operation_in_a_dict():
    options = {"dim": 0}
    return World(call=lambda x: x.sum(**options), change=lambda: options.update(dim=1))


@change()
def shape_list_of_an_operation():
    shape = [3, 4]
    return World(call=lambda x: x.reshape(shape), change=lambda: shape.reverse())


@change()
def argument_is_a_dataclass():
    @dataclasses.dataclass
    class Batch:
        x: object
        scale: float

    scales = [2.0]
    return World(
        call=lambda batch: batch.x * batch.scale,
        inputs=lambda s: (Batch(fresh_tensor(s)[0], scales[-1]),),
        change=lambda: scales.append(3.0),
    )


@change()
def argument_is_a_nested_dict():
    extra = []

    def inputs(step):
        return ({"a": {"x": fresh_tensor(step)[0]}, **dict.fromkeys(extra, 1)},)

    return World(
        call=lambda batch: batch["a"]["x"] * len(batch),
        inputs=inputs,
        change=lambda: extra.append("more"),
    )
