"""Functions that cannot be converted themselves, above functions and modules that can."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import contextlib
import copy
import functools
import io
import pickle
import threading
import time
import types
import warnings

import torch
from tests.differential.kit import World, program
from torch import nn

CALLS = 16
CHANGE = 9  # by then the function has descended and its callees have been replayed
ESCAPES = "JL0403"


class Block(nn.Module):
    """Two layers with parts of their own."""

    def __init__(self, size=3):
        super().__init__()
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, size)
        self.scale = 1.0
        self.calls = 0

    def forward(self, x, bias=None):
        y = torch.relu(self.second(torch.relu(self.first(x)))) * self.scale
        return y if bias is None else y + bias


def leave(x):
    """What no graph can hold: the mean as NumPy sees it."""
    return float(x.detach().numpy().mean())


class Outer(nn.Module):
    """Calls two blocks and leaves the graph in between."""

    def __init__(self):
        super().__init__()
        self.one, self.two = Block(), Block()

    def forward(self, x):
        y = self.one(x)
        return self.two(y) + float(y.detach().numpy().mean())


def outer_world(act=None, **more):
    model = Outer()

    def between(step):
        if step == CHANGE and act is not None:
            act(model)

    return World(call=model, between=between, state={"model": model}, **more)


@program(code=ESCAPES, hits=8)
def numpy_between_two_modules():
    return outer_world(backward=True)


@program(code=ESCAPES, hits=6)
def weights_change():
    return outer_world(lambda m: m.one.first.weight.data.mul_(2))


@program(code=ESCAPES, hits=4)
def a_number_of_a_child_changes():
    return outer_world(lambda m: setattr(m.two, "scale", 3.0))


@program(code=ESCAPES, hits=4)
def a_child_is_replaced():
    return outer_world(lambda m: setattr(m, "one", Block()))


@program(code=ESCAPES, hits=4)
def a_hook_is_registered_on_a_child():
    return outer_world(lambda m: m.one.register_forward_hook(lambda *a: a[2] * 2))


@program(code=ESCAPES, hits=4)
def a_pre_hook_is_registered_on_a_child():
    return outer_world(lambda m: m.two.register_forward_pre_hook(lambda _, a: (a[0] + 1,)))


@program(code=ESCAPES, hits=4)
def a_backward_hook_is_registered_on_a_child():
    def act(model):
        model.two.register_full_backward_hook(lambda _m, gi, _go: tuple(g * 2 for g in gi))

    return outer_world(act, backward=True)


@program(code=ESCAPES, hits=4)
def a_hook_on_every_module():
    @contextlib.contextmanager
    def around(step):
        hook = nn.modules.module.register_module_forward_hook if step == 12 else None
        handle = hook(lambda *a: a[2] + 1) if hook else None
        yield
        if handle is not None:
            handle.remove()

    return outer_world(around=around)


@program(code=ESCAPES, hits=4)
def the_forward_of_a_child_is_patched():
    return outer_world(lambda m: setattr(m.one, "forward", lambda x: x * 3))


@program(code=ESCAPES, hits=4)
def the_class_of_a_child_is_patched():
    def act(_model):
        Block.forward = lambda self, x, bias=None: x - 1

    return outer_world(act)


@program(code=ESCAPES, hits=4)
def the_function_itself_is_patched():
    def act(_model):
        Outer.forward = lambda self, x: self.one(x) * 2

    return outer_world(act)


@program(code=ESCAPES, hits=4)
def training_is_switched():
    class Dropping(Outer):
        def __init__(self):
            super().__init__()
            self.one = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))

    model = Dropping()
    return World(call=model, between=lambda step: model.train(step % 4 < 2), state={"m": model})


@program(code=ESCAPES, hits=4)
def a_counter_in_a_child():
    class Counting(Block):
        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    class Above(Outer):
        def __init__(self):
            super().__init__()
            self.one = Counting()

    model = Above()
    return World(call=model, state={"model": model})


class Middle(nn.Module):
    """Cannot be converted either, but its parts can."""

    def __init__(self):
        super().__init__()
        self.inner = Block()

    def forward(self, x):
        return self.inner(x) * (1 + abs(leave(x)))


@program(code=ESCAPES, hits=4)
def two_levels_down():
    class Above(nn.Module):
        def __init__(self):
            super().__init__()
            self.middle, self.two = Middle(), Block()

        def forward(self, x):
            return self.two(self.middle(x)) + leave(x)

    return World(call=Above(), backward=True)


def scale(block, x, *, by=2):
    return torch.tanh(block(x)) * by


@program(code=ESCAPES, hits=4)
def a_function_below_a_function():
    block = Block()
    return World(call=lambda x: scale(block, x, by=3) + leave(x), state={"block": block})


@program(code=ESCAPES, hits=4)
def arguments_of_every_kind():
    block = Block()

    def outer(x):
        more = {"by": 2}
        return scale(*[block], x, **more) + block(bias=leave(x), x=x)

    return World(call=outer)


@program(code=ESCAPES, hits=8)
def a_loop_over_modules():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))

        def forward(self, x):
            for block in self.blocks:
                x = block(x) + leave(x)
            return x

    return World(call=Stack(), backward=True)


@program(code=ESCAPES, hits=8)
def calls_in_a_comprehension():
    blocks = [Block() for _ in range(3)]

    def outer(x):
        level = leave(x)
        return sum([block(x) for block in blocks]) * level

    return World(call=outer)


@program(code=ESCAPES)
def calls_in_a_generator_expression():
    blocks = [Block() for _ in range(3)]
    return World(call=lambda x: sum(b(x) for b in blocks) * leave(x))


@program(code=ESCAPES, hits=4)
def a_method_of_a_plain_object():
    class Trainer:
        def __init__(self):
            self.block = Block()

        def step(self, x):
            return self.loss(x) + leave(x)

        def loss(self, x):
            return self.block(x).pow(2).mean()

    return World(call=Trainer().step)


class Helpers:
    @staticmethod
    def double(block, x):
        return block(x) * 2

    @classmethod
    def triple(cls, block, x):
        return block(x) * 3


@program(code=ESCAPES, hits=4)
def static_and_class_methods():
    block = Block()
    return World(
        call=lambda x: Helpers.double(block, x) + Helpers.triple(block, x) + leave(x),
    )


@torch.no_grad()
def frozen(block, x):
    return block(x) + torch.ones_like(x)


@program(code=ESCAPES, hits=2)
def a_decorated_function():
    block = Block()
    return World(call=lambda x: frozen(block, x) * leave(x) + block(x), backward=True)


@program(code=ESCAPES, hits=2)
def a_partial_function():
    block = Block()
    joined = functools.partial(scale, block, by=4)
    return World(call=lambda x: joined(x) + block(x) * leave(x))


class Fails(Exception):
    pass


def may_fail(block, x):
    y = block(x)
    if x.sum() > 2:
        raise Fails("too large")
    return y


@program()
def a_child_raises():
    block = Block()
    return World(call=lambda x: may_fail(block, x) + leave(x))


@program()
def a_child_raises_and_the_function_catches():
    block, seen = Block(), []

    def outer(x):
        try:
            y = may_fail(block, x)
        except Fails as error:
            seen.append(str(error))
            y = x
        finally:
            seen.append(leave(x))
        return y

    return World(call=outer, state={"seen": seen})


@program(code="JL0102", hits=4)
def locals_are_looked_at():
    block = Block()

    def outer(x):
        y = block(x)
        return y * len(locals())

    return World(call=outer)


@program(code="JL0102", hits=4)
def a_loop_variable_is_an_attribute():
    block, place = Block(), types.SimpleNamespace(at=0)

    def outer(x):
        for place.at in range(2):
            x = block(x) + place.at
        return x

    return World(call=outer)


@program(code="JL0102", hits=4)
def a_class_is_defined_inside():
    block = Block()

    def outer(x):
        class Holder:
            value = block(x)

        return Holder.value + block(x)

    return World(call=outer)


@program(hits=0)
def a_clock_is_read():
    block = Block()

    def outer(x):
        started = time.perf_counter()
        y = block(x)
        return y if time.perf_counter() >= started else x

    return World(call=outer)


@program(hits=0)
def a_thread_calls_a_child():
    block = Block()

    def outer(x):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(block(x)))
        thread.start()
        thread.join()
        return answers[0] + block(x)

    return World(call=outer)


@program(hits=0)
def the_model_is_copied_and_pickled():
    model = Outer()

    def outer(x):
        other = copy.deepcopy(model)
        again = pickle.loads(pickle.dumps(model.state_dict()))
        other.load_state_dict(again)
        return model(x) + other(x)

    return World(call=outer, state={"model": model})


@program(hits=0)
def the_model_is_saved():
    model = Outer()

    def outer(x):
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        return model.one(x) + file.tell()

    return World(call=outer, state={"model": model})


@program(code=ESCAPES, hits=4)
def super_and_name_mangling():
    class Above(Outer):
        def __hidden(self, x):
            return self.two(x) * 2

        def forward(self, x):
            return super().forward(x) + self.__hidden(x)

    return World(call=Above(), backward=True)


@program(code=ESCAPES, hits=4)
def a_closure_that_is_assigned():
    block, count = Block(), 0

    def outer(x):
        nonlocal count
        count += 1
        return block(x) * count + leave(x)

    return World(call=outer)


@program(code=ESCAPES, hits=4)
def functions_made_inside():
    block = Block()

    def outer(x):
        def twice(y):
            return block(y) * 2

        return twice(x) + (lambda y: block(y) + leave(y))(x) + block(x)

    return World(call=outer)


def warns(block, x):
    warnings.warn("from below", stacklevel=1)
    return block(x)


@program(code=ESCAPES)
def a_child_warns():
    block = Block()
    return World(call=lambda x: warns(block, x) + leave(x))


def prints(block, x):
    print("rows", x.shape[0])
    return block(x)


@program(code=ESCAPES, hits=4)
def a_child_prints():
    block = Block()

    def outer(x):
        print("before")
        y = prints(block, x)
        print("after", leave(x))
        return y

    return World(call=outer)


@program(code=ESCAPES, hits=2)
def shapes_that_vary():
    def inputs(step):
        generator = torch.Generator().manual_seed(step)
        return (torch.randn(1 + step % 3, 3, generator=generator),)

    return World(call=Outer(), inputs=inputs)


@program(code=ESCAPES, hits=4)
def an_in_place_change_between_children():
    block = Block()

    def outer(x):
        y = block(x.clone())
        y += leave(x)
        return block(y)

    return World(call=outer, backward=True)


@program(code=ESCAPES, hits=4)
def gradients_change_between_calls():
    return outer_world(around=lambda step: torch.set_grad_enabled(step % 2 == 0))


@program(code=ESCAPES)
def a_generator_function_below():
    block = Block()

    def parts(x):
        yield block(x)
        yield block(x * 2)

    def outer(x):
        return sum(parts(x)) + leave(x)

    return World(call=outer)


@program(hits=0)
def a_function_that_never_repeats():
    block = Block()

    def outer(x, name):
        return block(x) * len(name)

    return World(call=outer, inputs=lambda step: (torch.ones(2, 3) + step, "x" * step))
