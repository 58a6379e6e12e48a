"""Stores into classes, Python modules and functions; what a module's plain attributes leave alone."""
# mypy: disable-error-code="override"
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import itertools
import types

import torch
from tests.differential.kit import World, program
from torch import nn

ONE = torch.ones(3)


class Shown:
    """Shows attributes of an object that a snapshot takes for code."""

    def __init__(self, owner, *names):
        self.owner, self.names = owner, names

    @property
    def __dict__(self):
        return {n: vars(self.owner).get(n, "absent") for n in self.names}


# ------------------------------------------------------------------------------------ classes


@program(hits=4)
def class_counter_through_self():
    class Layer(nn.Linear):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            return super().forward(x) * self.calls

    return World(call=Layer(3, 3), state={"layer": Shown(Layer, "calls")})


@program(hits=4)
def class_counter_of_a_base():
    class Base:
        calls = 0

    class Derived(Base):
        def __call__(self, x):
            Base.calls += 1
            return x * Derived.calls

    return World(call=Derived(), state={"b": Shown(Base, "calls"), "d": Shown(Derived, "calls")})


@program(hits=2)
def class_attribute_shadowed_by_a_subclass():
    class Base:
        scale = 2

    class Derived(Base):
        def __call__(self, x):
            y = x * self.scale
            Derived.scale = self.scale + 1
            return y * self.scale + Base.scale

    shown = {"b": Shown(Base, "scale"), "d": Shown(Derived, "scale")}
    return World(call=Derived(), state=shown)


@program(hits=4)
def class_method_counts():
    class Registry:
        total = 0.5

        @classmethod
        def add(cls, by):
            cls.total += by

    def call(x):
        Registry.add(0.25)
        return x * Registry.total

    return World(call=call, state={"registry": Shown(Registry, "total")})


@program(hits=5)
def class_keeps_a_tensor():
    class Cache:
        last = None

    def call(x):
        y = x * 2
        Cache.last = y
        return y + 1

    return World(call=call, state={"cache": Shown(Cache, "last")})


@program(hits=4)
def class_keeps_text():
    class Cache:
        mode = "first"

    def call(x):
        y = x * 2 if Cache.mode == "first" else x * 3
        Cache.mode = "later"
        return y

    return World(call=call, state={"cache": Shown(Cache, "mode")})


@program(hits=5)
def class_attribute_deleted_and_set_again():
    class Cache:
        level = 3

    def call(x):
        y = x * Cache.level
        del Cache.level
        y = y + hasattr(Cache, "level")
        Cache.level = 3
        return y * Cache.level

    return World(call=call, state={"cache": Shown(Cache, "level")})


@program(hits=2)
def class_attribute_deleted_for_good():
    class Base:
        level = 3

    class Derived(Base):
        pass

    def call(x):
        if "level" in vars(holder):
            del Derived.level
            del holder.level
        return x * Derived.level

    class Holder:
        pass

    holder = Holder()
    Derived.level = 5
    holder.level = 1
    return World(call=call, state={"d": Shown(Derived, "level"), "h": holder})


@program(hits=4)
def class_attribute_changed_outside_too():
    class Counter:
        calls = 0

    def call(x):
        Counter.calls += 1
        return x * Counter.calls

    def change():
        Counter.calls = 40

    return World(call=call, change=change, state={"c": Shown(Counter, "calls")})


@program(hits=2)
def class_store_above_a_decision():
    class Counter:
        calls = 0

    def call(x):
        Counter.calls += 1
        if x.sum() > 0:
            Counter.calls += 10
        return x * Counter.calls

    return World(call=call, state={"c": Shown(Counter, "calls")})


@program(hits=0)
def class_store_before_an_error():
    class Counter:
        calls = 0

    def call(x):
        Counter.calls += 1
        if Counter.calls % 2:
            raise ValueError(Counter.calls)
        Counter.calls += 1
        return x.view(7)

    return World(call=call, state={"c": Shown(Counter, "calls")})


@program(hits=4)
def method_exchanged_inside():
    def double(self, x):
        return x * 2

    def triple(self, x):
        return x * 3

    class Switch:
        run = double

    switch = Switch()

    def call(x):
        y = switch.run(x)
        Switch.run = triple
        return y + switch.run(x)

    return World(call=call, state={"switch": Shown(Switch, "run")})


@program(code="JL0301")
def class_with_a_metaclass_that_counts():
    class Meta(type):
        def __setattr__(cls, name, value):
            super().__setattr__(name, value * 2)

    class Counter(metaclass=Meta):
        calls = 0

    def call(x):
        Counter.calls = 1
        return x * Counter.calls

    return World(call=call, state={"c": Shown(Counter, "calls")})


@program(code="JL0301")
def special_method_exchanged_inside():
    class Sized:
        def __len__(self):
            return 2

    def three(self):
        return 3

    sized = Sized()

    def call(x):
        y = x * len(sized)
        Sized.__len__ = three
        return y + len(sized)

    return World(call=call)


# ------------------------------------------------------------------- Python modules, functions

settings = types.ModuleType("settings")
vars(settings).update(level=1, last=None)


@program(hits=4)
def module_attribute_counts():
    def call(x):
        settings.level += 1
        return x * settings.level

    return World(call=call, state={"settings": Shown(settings, "level")})


@program(hits=4)
def module_attribute_keeps_a_tensor():
    def call(x):
        if settings.last is not None:
            x = x + settings.last
        settings.last = x.mean()
        return x * settings.last

    return World(call=call, state={"settings": Shown(settings, "last")})


@program(hits=4)
def python_module_attribute_deleted():
    def call(x):
        y = x * settings.level
        del settings.level
        return y + hasattr(settings, "level")

    def between(_):
        settings.level = 2

    return World(call=call, between=between, state={"settings": Shown(settings, "level")})


@program(hits=4)
def global_of_this_module_through_the_module():
    this = types.SimpleNamespace(step=0)

    def call(x):
        this.step += 1
        setattr(settings, "level", this.step)
        return x * settings.level + this.step

    return World(call=call, state={"settings": Shown(settings, "level"), "this": this})


@program(hits=3)
def function_remembers():
    def call(x):
        helper(x)
        return x * helper.calls

    def helper(x):
        helper.calls = getattr(helper, "calls", 0) + 1
        helper.last = x * 2

    return World(call=call, state={"helper": Shown(helper, "calls", "last")})


@program(code="JL0301")
def default_values_of_a_function_exchanged():
    def helper(x, by=2):
        return x * by

    def call(x):
        y = helper(x)
        helper.__defaults__ = (3,)
        return y + helper(x)

    return World(call=call)


# ------------------------------------------------------------- plain attributes of an nn.Module


@program(hits=3)
def attribute_stored_and_members_listed():
    class Net(nn.Sequential):
        def forward(self, x):
            self.steps = getattr(self, "steps", 0) + 1
            y = self[1](self[0](x))
            for layer in self:
                y = layer(y)
            return y * self.steps + len(self)

    return World(call=Net(nn.Linear(3, 3), nn.ReLU()))


@program(hits=5)
def hidden_state_stored_and_parameters_counted():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, x):
            self.hidden = 3
            self.seen = self.seen + x.sum(0)
            for layer in self.layers:
                x = layer(x)
            return x * len(list(self.parameters()))

    return World(call=Net())


@program(hits=2)
def name_of_an_attribute_becomes_a_buffer():
    class Net(nn.Sequential):
        def forward(self, x):
            self.scale = 2
            return self[0](x) * self.scale

    net = Net(nn.Linear(3, 3))

    def change():
        del net.scale
        net.register_buffer("scale", torch.ones(3))

    return World(call=net, change=change)


@program(hits=2)
def name_of_an_attribute_becomes_a_member():
    class Net(nn.Sequential):
        def forward(self, x):
            self.extra = None
            return self[0](x) * len(self)

    net = Net(nn.Linear(3, 3))

    def change():
        del net.extra
        net.extra = nn.ReLU()

    return World(call=net, change=change)


# ------------------------------------------------------------------------------------- sets


@program(hits=4)
def last_element_of_a_set_popped():
    names = set()

    def call(x):
        y = x * len(names)
        name = names.pop()
        names.add("next")
        return y, name

    return World(call=call, between=lambda _: names.add("a") or names.discard("next"))


# --------------------------------------------------------------------------------- iterators


@program(hits=5)
def batches_from_an_iterator():
    batches = [torch.full((3,), float(i)) for i in range(9)]
    stream = iter(batches)

    def call(x):
        return x * next(stream)

    return World(call=call, state={"left": Left(stream)})


class Left:
    """How much is left of an iterator, and what comes next."""

    def __init__(self, iterator):
        self.iterator = iterator

    @property
    def __dict__(self):
        text = repr(self.iterator)
        return {"text": text if text.startswith("count") else str(self.iterator.__reduce__()[1:])}


@program(hits=4)
def steps_counted_by_itertools():
    steps, halves = itertools.count(3), itertools.count(0.5, 0.25)

    def call(x):
        return x * next(steps) + next(halves) * next(halves)

    return World(call=call, state={"steps": Left(steps), "halves": Left(halves)})


@program(hits=4)
def numbers_of_a_range():
    class Trainer:
        def __init__(self):
            self.left = iter(range(2, 40, 3))

        def __call__(self, x):
            first, second = next(self.left), next(self.left)
            return x * first + second

    trainer = Trainer()
    return World(call=trainer, state={"left": Left(trainer.left)})


@program(hits=3)
def pairs_from_an_iterator():
    stream = iter([(torch.full((3,), float(i)), i) for i in range(9)])

    def call(x):
        y, number = next(stream)
        return x * y + number

    return World(call=call, state={"left": Left(stream)})


@program(hits=3)
def iterator_exchanged_outside():
    class Epoch:
        stream = None

    epoch = Epoch()
    epoch.stream = iter([torch.ones(3), torch.zeros(3)])

    def between(step):
        if step % 2 == 0:
            epoch.stream = iter([torch.ones(3) * step, torch.zeros(3)])

    def call(x):
        return x + next(epoch.stream)

    return World(call=call, between=between)


@program(hits=4)
def elements_taken_before_a_decision():
    stream = iter([torch.full((3,), float(i)) for i in range(30)])

    def call(x):
        y = x * next(stream)
        if y.sum() > 0:
            return y + next(stream)
        return y

    return World(call=call, state={"left": Left(stream)})


@program(hits=3)
def some_elements_taken_by_a_loop():
    stream = itertools.count(1)

    def call(x):
        for number in stream:
            x = x * number
            if number % 3 == 0:
                break
        return x

    return World(call=call, state={"left": Left(stream)})


@program(code="JL0303")
def iterator_that_ends():
    stream = iter([])

    def call(x):
        return x * next(stream, 2)

    return World(call=call)


@program(code="JL0301")
def list_changed_before_its_iterator_is_asked():
    numbers = [torch.ones(3), torch.ones(3) * 2]

    def call(x, stream):
        numbers[0] = x
        return x * next(stream)

    return World(call=call, inputs=lambda step: (torch.ones(3) * step, iter(numbers)))


@program(hits=1)
def iterator_of_a_list_that_is_changed_elsewhere():
    numbers, others = [torch.ones(3), torch.ones(3) * 2], [torch.ones(3) * 3, torch.ones(3)]

    def call(x, stream):
        numbers[0] = x
        return x * next(stream)

    def inputs(step):
        return torch.ones(3) * (step + 2), iter(numbers if step % 4 == 3 else others)

    return World(call=call, inputs=inputs, state={"numbers": numbers, "others": others})


@program(hits=1)
def two_iterators_become_one():
    numbers = [torch.full((3,), float(i)) for i in range(20)]

    def call(x, first, second):
        return x * next(first) + next(second)

    def inputs(step):
        first, second = iter(numbers), iter(numbers)
        return torch.ones(3), first, (first if step % 3 == 2 else second)

    return World(call=call, inputs=inputs)


@program(code="JL0303")
def generator_of_the_outside():
    stream = (torch.ones(3) * i for i in range(9))

    def call(x):
        return x * next(stream)

    return World(call=call)
