"""Python as it is written: each program equals eager, with its graph or its coded reason."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="annotation-unchecked, redundant-cast"

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import ctypes
import dataclasses
import enum
import functools
import gc
import itertools
import json
import logging
import math
import operator
import random
import re
import statistics
import sys
import threading
import time
import typing
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from tests.differential.kit import World, fresh_tensor, program
from torch import nn

COUNT = 0
LOG = logging.getLogger("user")


def scale(x, by=2.0):
    return x * by


# ------------------------------------------------------------------------- kinds of callables


@program(hits=5)
def plain_function():
    return World(call=scale)


@program(hits=5)
def a_lambda():
    return World(call=lambda x: x * 2)


@program(hits=5)
def two_lambdas_on_one_line():
    first, second = (lambda x: x * 2), (lambda x: x * 3)
    return World(call=lambda x: first(x) + second(x))


@program(hits=5)
def partial_of_a_function():
    return World(call=functools.partial(scale, by=3.0))


@program(hits=5)
def partial_of_a_partial():
    return World(call=functools.partial(functools.partial(scale, by=3.0), by=4.0))


@program(hits=5)
def partial_method():
    class Scaler:
        def scale(self, x, by):
            return x * by

        triple = functools.partialmethod(scale, by=3.0)

    return World(call=Scaler().triple)


@program(hits=5)
def builtin_torch_function():
    return World(call=torch.relu)


@program(hits=5)
def functional_of_torch():
    return World(call=F.gelu)


@program(hits=5)
def class_as_function():
    return World(call=torch.nn.Identity().forward)


@program(hits=5)
def static_and_class_methods():
    class Tools:
        factor = 3.0

        @staticmethod
        def double(x):
            return x * 2

        @classmethod
        def scaled(cls, x):
            return x * cls.factor

    return World(call=lambda x: Tools.double(Tools().scaled(x)))


@program(hits=5)
def bound_method_of_a_subclass():
    class Base:
        def run(self, x):
            return x + 1

    class Child(Base):
        def run(self, x):
            return super().run(x) * 2

    return World(call=Child().run)


@program(hits=5)
def super_with_arguments():
    class Base:
        def run(self, x):
            return x + 1

    class Child(Base):
        def run(self, x):
            return super().run(x) * 2

    return World(call=Child().run)


@program(hits=5)
def diamond_inheritance():
    class Top:
        def run(self, x):
            return x

    class Left(Top):
        def run(self, x):
            return super().run(x) + 1

    class Right(Top):
        def run(self, x):
            return super().run(x) * 2

    class Bottom(Left, Right):
        def run(self, x):
            return super().run(x) - 3

    return World(call=Bottom().run)


@program(hits=5)
def decorator_with_wraps():
    def logged(function):
        @functools.wraps(function)
        def run(*args, **kwargs):
            return function(*args, **kwargs) + 1

        return run

    return World(call=logged(scale))


@program(hits=5)
def decorator_class():
    class Twice:
        def __init__(self, function):
            self.function = function

        def __call__(self, x):
            return self.function(self.function(x))

    return World(call=Twice(scale))


@program()
def decorator_with_state():
    class Counting:
        def __init__(self, function):
            self.function, self.calls = function, 0

        def __call__(self, x):
            self.calls += 1
            return self.function(x)

    counting = Counting(scale)
    return World(call=counting, state={"counting": counting})


@program(hits=5)
def no_grad_decorator():
    @torch.no_grad()
    def call(x):
        return x * 2

    return World(call=call, inputs=lambda s: (fresh_tensor(s)[0].requires_grad_(),))


@program(code="JL0101")
def function_without_source():
    space = {}
    exec("def call(x):\n    return x * 2", space)
    return World(call=space["call"])


@program(code="JL0101")
def callee_without_source():
    space = {}
    exec("def inner(x):\n    return x * 2", space)
    inner = space["inner"]
    return World(call=lambda x: inner(x) + 1)


@program(code="JL0102")
def exec_inside():
    def call(x):
        space = {"x": x}
        exec("y = x * 2", space)
        return space["y"]

    return World(call=call)


@program(code="JL0102")
def eval_inside():
    def call(x):
        return eval("x * 2")

    return World(call=call)


@program(code="JL0101")
def compiled_lambda_by_eval():
    doubled = eval("lambda x: x * 2")
    return World(call=lambda x: doubled(x))


@program(code="JL0103")
def coroutine():
    async def double(x):
        return x * 2

    return World(call=lambda x: asyncio.run(double(x)))


@program(code="JL0103")
def coroutine_driven_by_hand():
    async def double(x):
        return x * 2

    def call(x):
        coro = double(x)
        try:
            coro.send(None)
        except StopIteration as stop:
            return stop.value

    return World(call=call)


@program(code="JL0201")
def thread_started():
    def call(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(x * 2))
        thread.start()
        thread.join()
        return found[0]

    return World(call=call)


@program(code="JL0201")
def thread_pool():
    from concurrent.futures import ThreadPoolExecutor

    def call(x):
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda n: x * n, [1, 2]))

    return World(call=call)


# ---------------------------------------------------------------------------------- generators


@program(hits=5)
def generator_function_inside():
    def numbers(n):
        for i in range(n):
            yield i

    def call(x):
        for number in numbers(3):
            x = x + number
        return x

    return World(call=call)


@program(hits=5)
def generator_expression():
    return World(call=lambda x: sum(x * n for n in range(3)))


@program(code="JL0303")
def generator_held_over_calls():
    def numbers():
        n = 0
        while True:
            n += 1
            yield n

    stream = numbers()
    return World(call=lambda x: x * next(stream))


@program(hits=5)
def generator_that_escapes():
    def call(x):
        return (x * n for n in range(2))

    return World(call=lambda x: list(call(x)))


@program(hits=5)
def generator_returned():
    class Consumer:
        def __call__(self, x):
            return (t for t in [x, x])

    consumer = Consumer()

    def call(x):
        return [t * 2 for t in consumer(x)]

    return World(call=call)


@program(hits=5)
def generator_with_send():
    def accumulate():
        total = 0.0
        while True:
            total = total + (yield total)

    def call(x):
        stream = accumulate()
        next(stream)
        stream.send(x)
        return stream.send(x * 2)

    return World(call=call)


@program(hits=5)
def yield_from():
    def inner(x):
        yield x
        yield x * 2

    def outer(x):
        yield from inner(x)
        yield x * 3

    return World(call=lambda x: list(outer(x)))


@program(hits=5)
def generator_with_finally():
    def stream(x, seen):
        try:
            yield x * 2
        finally:
            seen.append("closed")

    def call(x):
        seen = []
        for value in stream(x, seen):
            break
        return value, len(seen)

    return World(call=call)


@program(hits=4)
def outside_iterator():
    stream = iter(range(100))
    return World(call=lambda x: x * next(stream))


@program(code="JL0303")
def outside_zip():
    pairs = zip([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6])

    def call(x):
        for first, second in pairs:
            return x * first * second
        return x

    return World(call=call)


@program(hits=5)
def itertools_inside():
    def call(x):
        for a, b in itertools.product([1, 2], repeat=2):
            x = x + a * b
        for a, b in itertools.pairwise([1, 2, 3]):
            x = x * b - a
        return x + sum(itertools.accumulate([1, 2])) + next(itertools.count(5))

    return World(call=call)


@program(hits=4)
def infinite_count_outside():
    counter = itertools.count()
    return World(call=lambda x: x + next(counter))


# ------------------------------------------------------------------------------------ writes


@program()
def global_counter():
    def call(x):
        global COUNT
        COUNT += 1
        return x * COUNT

    return World(call=call)


@program(hits=4)
def nonlocal_counter():
    count = 0

    def call(x):
        nonlocal count
        count += 1
        return x * count

    return World(call=call)


@program(hits=5)
def nonlocal_inside_the_run():
    def call(x):
        total = 0.0

        def add(value):
            nonlocal total
            total = total + value

        add(x)
        add(x * 2)
        return total

    return World(call=call)


@program()
def attribute_counter():
    class Counter:
        n = 0

        def __call__(self, x):
            self.n += 1
            return x * self.n

    counter = Counter()
    return World(call=counter, state={"counter": counter})


@program(hits=4)
def attribute_cache():
    class Cached:
        def __init__(self):
            self.mask = None

        def __call__(self, x):
            if self.mask is None or self.mask.shape != x.shape:
                self.mask = torch.ones_like(x) * 2
            return x * self.mask

    cached = Cached()
    return World(call=cached, state={"cached": cached})


@program(hits=5)
def attribute_remembers_the_last_output():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = None
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            self.last = self.linear(x)
            return self.last * 2

    model = Last()
    return World(call=model, state={"model": model}, backward=True)


@program(hits=4)
def hidden_state_on_the_module():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = torch.zeros(4, 3)
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            self.hidden = torch.tanh(self.linear(x) + self.hidden.detach())
            return self.hidden

    model = Cell()
    return World(call=model, state={"model": model}, backward=True)


@program(hits=5)
def buffer_counter():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x * self.count

    model = Counting()
    return World(call=model, state={"model": model})


@program(hits=5)
def list_appended():
    seen = []

    def call(x):
        seen.append(x.shape[0])
        return x * 2

    return World(call=call, state={"seen": seen})


@program(hits=5)
def tensor_appended():
    seen = []

    def call(x):
        y = x * 2
        seen.append(y)
        return y

    return World(call=call, state={"seen": seen})


@program(code="JL0301")
def list_appended_and_read():
    seen = []

    def call(x):
        seen.append(1)
        return x * len(seen)

    return World(call=call, state={"seen": seen})


@program(hits=5)
def dict_key_written():
    table = {}

    def call(x):
        table["last"] = x * 2
        return table["last"] + 1

    return World(call=call, state={"table": table})


@program()
def dict_grows():
    table = {}

    def call(x, step):
        table[step] = step * 2
        return x * table[step]

    return World(call=call, state={"table": table}, inputs=lambda s: (*fresh_tensor(s), s))


@program(hits=4)
def dict_setdefault():
    table = {}

    def call(x):
        return x * table.setdefault("by", 2.0)

    return World(call=call, state={"table": table})


@program(hits=4)
def dict_popped():
    table = {"by": 2.0}

    def call(x):
        return x * table.pop("by", 3.0)

    return World(call=call, state={"table": table})


@program()
def set_added():
    seen = set()

    def call(x, step):
        seen.add(step)
        return x * 2

    return World(call=call, state={"seen": seen}, inputs=lambda s: (*fresh_tensor(s), s))


@program()
def list_popped():
    work = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    def call(x):
        return x * work.pop()

    return World(call=call, state={"work": work})


@program()
def list_extended_by_itself():
    values = [1.0]

    def call(x):
        values.extend(values[:1])
        return x * 2

    return World(call=call, state={"values": values})


@program(hits=4)
def list_item_swapped():
    values = [1.0, 2.0]

    def call(x):
        values[0], values[1] = values[1], values[0]
        return x * values[0]

    return World(call=call, state={"values": values})


@program()
def list_item_incremented():
    values = [1.0, 2.0]

    def call(x):
        values[0] += 1
        return x * values[0]

    return World(call=call, state={"values": values})


@program(hits=5)
def list_plus_equals():
    values = [1.0]

    def call(x):
        nonlocal_values = values
        nonlocal_values += [2.0]
        return x * 2

    return World(call=call, state={"values": values})


@program(hits=5)
def deque_history():
    history = collections.deque(maxlen=2)

    def call(x):
        history.append(x.sum())
        return x * 2

    return World(call=call, state={"history": history})


@program(code="JL0301")
def ordered_dict_written():
    table = collections.OrderedDict()

    def call(x):
        table["a"] = 1
        table.move_to_end("a")
        return x

    return World(call=call, state={"table": table})


@program(code="JL0203")
def counter_updated():
    counter = collections.Counter()

    def call(x):
        counter["calls"] += 1
        return x * counter["calls"]

    return World(call=call, state={"counter": counter})


@program(hits=4)
def default_dict_filled():
    table = collections.defaultdict(list)

    def call(x):
        table["x"].append(1)
        return x * 2

    return World(call=call, state={"table": table})


@program(hits=4)
def class_attribute_written():
    class Shared:
        n = 0

        def __call__(self, x):
            Shared.n += 1
            return x * Shared.n

    shared = Shared()
    return World(call=shared, state={"shared": shared})


@program(hits=4)
def attribute_of_a_function():
    def call(x):
        call.n += 1
        return x * call.n

    call.n = 0
    return World(call=call)


@program(hits=5)
def attribute_deleted():
    class Holder:
        pass

    holder = Holder()

    def call(x):
        holder.temporary = 2.0
        y = x * holder.temporary
        del holder.temporary
        return y

    return World(call=call, state={"holder": holder})


@program(hits=5)
def setattr_by_name():
    class Holder:
        pass

    holder = Holder()

    def call(x):
        for name in ("a", "b"):
            setattr(holder, name, x.shape[0])
        return x * holder.a

    return World(call=call, state={"holder": holder})


@program(hits=5)
def property_setter():
    class Holder:
        def __init__(self):
            self._n = 0

        @property
        def n(self):
            return self._n

        @n.setter
        def n(self, value):
            self._n = value + 1

    holder = Holder()

    def call(x):
        holder.n = 5
        return x * holder.n

    return World(call=call, state={"holder": holder})


@program()
def slots_written():
    class Slotted:
        __slots__ = ("n",)

    holder = Slotted()
    holder.n = 0

    def call(x):
        holder.n = holder.n + 1
        return x * holder.n

    return World(call=call, state={"holder": holder})


@program(code="JL0301")
def descriptor_set():
    class Field:
        def __set_name__(self, owner, name):
            self.name = "_" + name

        def __get__(self, instance, owner):
            return instance.__dict__[self.name]

        def __set__(self, instance, value):
            instance.__dict__[self.name] = value * 2

    class Holder:
        n = Field()

    holder = Holder()
    holder.n = 1

    def call(x):
        holder.n = 3
        return x * holder.n

    return World(call=call, state={"holder": holder})


@program(hits=5)
def two_stores_one_place():
    class Holder:
        pass

    holder = Holder()
    holder.value = None

    def call(x):
        holder.value = x + 1
        y = holder.value * 2
        holder.value = y
        return holder.value

    return World(call=call, state={"holder": holder})


@program(hits=5)
def store_then_read_through_another_name():
    class Holder:
        pass

    holder = Holder()
    holder.n = 1
    alias = [holder]

    def call(x):
        holder.n = 7
        return x * alias[0].n

    return World(call=call, state={"holder": holder})


@program(hits=5)
def store_then_read_through_dict():
    class Holder:
        pass

    holder = Holder()
    holder.n = 1

    def call(x):
        holder.n = 7
        return x * vars(holder)["n"] * holder.__dict__.get("n")

    return World(call=call, state={"holder": holder})


@program(hits=5)
def store_through_dict_then_read():
    class Holder:
        pass

    holder = Holder()
    holder.n = 1

    def call(x):
        holder.__dict__["n"] = 7
        return x * holder.n

    return World(call=call, state={"holder": holder})


@program(hits=5)
def swap_of_attributes():
    class Holder:
        pass

    holder = Holder()
    holder.a, holder.b = torch.zeros(3), torch.ones(3)

    def call(x):
        holder.a, holder.b = holder.b, holder.a + x.sum(0)
        return x + holder.a

    return World(call=call, state={"holder": holder})


@program(hits=5)
def store_of_an_input():
    class Holder:
        kept = None

    holder = Holder()

    def call(x):
        holder.kept = x
        return x * 2

    return World(call=call, state={"holder": holder})


@program(hits=5)
def store_of_a_view_of_an_input():
    class Holder:
        kept = None

    holder = Holder()

    def call(x):
        holder.kept = x[0]
        return x * 2

    return World(call=call, state={"holder": holder})


@program(hits=5)
def store_of_a_fresh_container_shared_with_the_output():
    class Holder:
        kept = None

    holder = Holder()

    def call(x):
        holder.kept = [x * 2]
        return holder.kept

    return World(call=call, state={"holder": holder})


@program(hits=3)
def store_between_two_operations_of_which_one_raises():
    class Holder:
        n = 0

    holder = Holder()

    def call(x, index):
        holder.n = 5
        return x[index]

    def inputs(step):
        return (*fresh_tensor(step), 0 if step < 4 else 99)

    return World(call=call, inputs=inputs, state={"holder": holder})


@program()
def store_before_an_error_in_the_data():
    class Holder:
        n = 0

    holder = Holder()

    def call(x, index):
        holder.n = holder.n + 1
        return F.embedding(index, x)

    def inputs(step):
        return (*fresh_tensor(step), torch.tensor([1 if step < 4 else 99]))

    return World(call=call, inputs=inputs, state={"holder": holder})


@program(hits=3)
def in_place_then_error_in_the_data():
    buffer = torch.zeros(3)

    def call(x, index):
        buffer.add_(1)
        return F.embedding(index, x) + buffer

    def inputs(step):
        return (*fresh_tensor(step), torch.tensor([1 if step < 4 else 99]))

    return World(call=call, inputs=inputs, state={"buffer": buffer})


@program(hits=3)
def draw_then_error_in_the_data():
    def call(x, index):
        noise = torch.rand(3)
        return F.embedding(index, x) + noise

    def inputs(step):
        return (*fresh_tensor(step), torch.tensor([1 if step < 4 else 99]))

    return World(call=call, inputs=inputs)


@program(hits=3)
def error_in_the_data():
    def call(x, index):
        return F.embedding(index, x)

    def inputs(step):
        return (*fresh_tensor(step), torch.tensor([1 if step < 4 else 99]))

    return World(call=call, inputs=inputs)


@program(hits=3)
def error_in_the_data_caught_inside():
    def call(x, index):
        try:
            return F.embedding(index, x)
        except IndexError:
            return x

    def inputs(step):
        return (*fresh_tensor(step), torch.tensor([1 if step < 4 else 99]))

    return World(call=call, inputs=inputs)


# ----------------------------------------------------------------------------- host effects


@program(hits=5)
def print_text():
    def call(x):
        print("called", x.shape)
        return x * 2

    return World(call=call)


@program(hits=5)
def print_tensor():
    def call(x):
        print(x.sum())
        return x * 2

    return World(call=call)


@program(code="JL0201")
def write_to_stdout():
    def call(x):
        sys.stdout.write("called\n")
        return x * 2

    return World(call=call)


@program(hits=5)
def logging_info():
    def call(x):
        LOG.warning("shape %s", tuple(x.shape))
        return x * 2

    return World(call=call)


@program(hits=5)
def logging_below_the_level():
    def call(x):
        LOG.debug("shape %s", tuple(x.shape))
        return x * 2

    return World(call=call)


@program(hits=5)
def warning_issued():
    def call(x):
        warnings.warn("careful", stacklevel=2)
        return x * 2

    return World(call=call)


@program(code="JL0302")
def file_read():
    def call(x):
        with open(__file__) as file:
            return x * len(file.readline())

    return World(call=call)


@program(code="JL0201")
def clock():
    def call(x):
        started = time.perf_counter()
        return x * 2 if time.perf_counter() >= started else x

    return World(call=call)


@program(hits=5)
def python_random():
    return World(call=lambda x: x * random.random())


@program(hits=5)
def random_choice():
    return World(call=lambda x: x * random.choice([1, 2, 3]))


@program(hits=5)
def numpy_random():
    return World(call=lambda x: x * float(np.random.rand()))


@program(hits=5)
def torch_random():
    return World(call=lambda x: x + torch.rand(3) + torch.randn_like(x) + torch.randint(0, 5, (3,)))


@program(hits=5)
def dropout():
    return World(call=lambda x: F.dropout(x, 0.5))


@program()
def seeded_inside():
    def call(x):
        torch.manual_seed(3)
        return x + torch.rand(3)

    return World(call=call)


@program(code="JL0403")
def numpy_on_a_tensor():
    return World(call=lambda x: torch.from_numpy(np.tanh(x.numpy())))


@program(code="JL0201")
def numpy_function_of_a_tensor():
    return World(call=lambda x: np.add(x, 1))


@program()
def item():
    return World(call=lambda x: x * x.sum().item())


@program(hits=5)
def item_that_repeats():
    return World(
        call=lambda x, n: x[: n.item()], inputs=lambda s: (*fresh_tensor(s), torch.tensor(2))
    )


@program(hits=5)
def tolist():
    return World(
        call=lambda x, n: x * sum(n.tolist()),
        inputs=lambda s: (*fresh_tensor(s), torch.tensor([1, 2])),
    )


@program(hits=5)
def float_of_a_tensor():
    return World(
        call=lambda x, n: x * float(n), inputs=lambda s: (*fresh_tensor(s), torch.tensor(2.0))
    )


@program(code="JL0203")
def format_of_a_tensor():
    def call(x):
        text = f"{x.sum():.2f}"
        return x * len(text)

    return World(call=call, inputs=lambda s: (torch.ones(3),))


@program(code="JL0403")
def text_of_a_tensor():
    return World(call=lambda x: x * len(str(x)), inputs=lambda s: (torch.ones(3),))


@program(code="JL0201")
def ctypes_callback():
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    callback = kind(lambda n: n + 1)
    return World(call=lambda x: x * callback(1))


@program(hits=5)
def regular_expression():
    pattern = re.compile(r"(\d+)")
    return World(call=lambda x: x * int(pattern.search("a12").group(1)))


@program(code="JL0201")
def json_inside():
    return World(call=lambda x: x * json.loads("[2]")[0])


@program(code="JL0203")
def statistics_inside():
    return World(call=lambda x: x * statistics.mean([1, 2, 3]))


@program(hits=5)
def math_functions():
    return World(call=lambda x: x * math.sqrt(math.prod(x.shape)) + math.pi)


@program(code="JL0201")
def garbage_collected():
    def call(x):
        gc.collect(0)
        return x * 2

    return World(call=call)


@program(code="JL0201")
def frame_inspected():
    def call(x):
        return x * len(sys._getframe().f_code.co_name)

    return World(call=call)


@program(code="JL0102")
def locals_used():
    def call(x):
        by = 2.0
        return x * locals()["by"]

    return World(call=call)


@program(code="JL0102")
def class_defined_inside():
    def call(x):
        class Local:
            by = 2.0

        return x * Local.by

    return World(call=call)


@program(hits=5)
def import_inside():
    def call(x):
        import math as m

        from torch.nn import functional

        return functional.relu(x) * m.pi

    return World(call=call)


@program(code="JL0202")
def address_of_an_object():
    return World(call=lambda x: x * (id(x) == id(x)))


@program(hits=5)
def sorted_with_key():
    return World(call=lambda x: x * sorted([3, 1, 2], key=lambda n: -n)[0])


@program(hits=5)
def reduce_over_tensors():
    return World(call=lambda x: functools.reduce(lambda a, b: a + b, [x, x * 2, x * 3]))


@program(hits=5)
def map_and_filter():
    return World(call=lambda x: sum(map(lambda n: x * n, filter(lambda n: n > 1, [1, 2, 3]))))


@program(code="JL0201")
def operator_functions():
    return World(call=lambda x: operator.add(operator.mul(x, 2), 1))


@program(code="JL0403")
def deepcopy_of_a_tensor():
    return World(call=lambda x: copy.deepcopy(x) * 2)


@program(code="JL0201")
def deepcopy_of_a_module():
    model = nn.Linear(3, 3)
    return World(call=lambda x: copy.deepcopy(model)(x))


# ----------------------------------------------------------------------------------- syntax


@program(hits=5)
def walrus():
    def call(x):
        if (n := x.shape[0]) > 2:
            return x * n
        return x

    return World(call=call)


@program(hits=5)
def walrus_in_a_comprehension():
    return World(call=lambda x: [y for n in (1, 2, 3) if (y := x * n) is not None])


@program(hits=1)
def match_on_values():
    def call(x, mode):
        match mode:
            case "double":
                return x * 2
            case ["scale", by]:
                return x * by
            case {"shift": by, **rest}:
                return x + by
            case int() | float():
                return x - mode
            case _:
                return x

    modes = ["double", ["scale", 3.0], {"shift": 1.0}, 5, None, "double"]
    return World(call=call, inputs=lambda s: (*fresh_tensor(s), modes[s]))


@program(hits=4)
def match_on_the_parts_of_a_class():
    Point = collections.namedtuple("Point", "x y")

    def call(x, point):
        match point:
            case Point(0, y):
                return x * y
        return x

    return World(call=call, inputs=lambda s: (*fresh_tensor(s), Point(s % 2, 3)))


@program(code="JL0102")
def match_on_the_parts_of_a_range():
    def call(x):
        match range(3):
            case [_, one, *_]:
                return x * one
        return x

    return World(call=call)


@program(hits=5)
def star_arguments():
    def total(first, *rest, by=1.0, **more):
        for other in rest:
            first = first + other
        return first * by + sum(more.values())

    return World(call=lambda x: total(x, *[x, x], by=2.0, a=1, b=2))


@program(hits=5)
def positional_only():
    def inner(x, /, by, *, shift):
        return x * by + shift

    return World(call=lambda x: inner(x, 2, shift=1))


@program(hits=5)
def star_unpacking():
    def call(x):
        first, *middle, last = x
        return first + last + sum(middle)

    return World(call=call)


@program()
def nested_unpacking():
    def call(x, pair):
        (a, (b, c)), d = pair
        return x * a + b * c - d

    return World(call=call, inputs=lambda s: (*fresh_tensor(s), ((1, (2, 3)), s)))


@program(hits=5)
def chained_assignment_and_swap():
    def call(x):
        a = b = x
        a, b = b + 1, a * 2
        return a - b

    return World(call=call)


@program(hits=5)
def while_else_and_break():
    def call(x):
        n = 0
        while n < 5:
            n += 1
            if n == 3:
                break
        else:
            n = 100
        for _ in range(2):
            continue
        else:
            n += 1
        return x * n

    return World(call=call)


@program(hits=5)
def ternaries_and_chains():
    return World(call=lambda x: x * (1 if 0 < x.shape[0] <= 4 else 2) if x.ndim == 2 else x)


@program(hits=5)
def short_circuit_values():
    def call(x, options):
        by = options.get("by") or 3.0
        return x * by and x + by

    return World(call=lambda x: x * ({}.get("by") or 3.0) + (0 or [] or 2))


@program(hits=5)
def assert_statement():
    def call(x):
        assert x.ndim == 2, "rank"
        return x * 2

    return World(call=call)


@program(hits=5)
def del_of_names():
    def call(x):
        y = x * 2
        del x
        return y

    return World(call=call)


@program(hits=5)
def nested_functions_and_closures():
    def call(x):
        by = 2.0

        def outer(y):
            def inner(z):
                return z * by + y

            return inner

        return outer(x)(x)

    return World(call=call)


@program(hits=5)
def default_argument_evaluated_inside():
    def call(x):
        def inner(y, by=x.shape[0]):
            return y * by

        return inner(x)

    return World(call=call)


@program(hits=5)
def recursion_on_ints():
    def power(x, n):
        return x if n == 0 else power(x * 2, n - 1)

    return World(call=lambda x: power(x, 4))


@program()
def recursion_on_a_tree():
    def fold(x, tree):
        return x * tree if isinstance(tree, int) else sum(fold(x, t) for t in tree)

    return World(call=fold, inputs=lambda s: (*fresh_tensor(s), [1, [2, [3, 4]], s]))


@program(hits=5)
def mutual_recursion():
    def even(x, n):
        return x if n == 0 else odd(x + 1, n - 1)

    def odd(x, n):
        return even(x * 2, n - 1)

    return World(call=lambda x: even(x, 4))


@program(hits=5)
def f_strings():
    def call(x, name):
        text = f"{name!r:>8}|{len(name):03d}|{1.5:.{2}f}"
        return x * len(text)

    return World(call=call, inputs=lambda s: (*fresh_tensor(s), "abc"))


@program(hits=5)
def comprehensions():
    def call(x):
        table = {n: x * n for n in range(3)}
        unique = {n % 2 for n in range(4)}
        grid = [a * b for a in range(3) for b in range(a) if a != b]
        return sum(table.values()) * len(unique) + sum(grid)

    return World(call=call)


@program(hits=5)
def slices_and_ellipsis():
    return World(call=lambda x: x[..., None][1:3, ::2, 0] + x[1:3, [0, 2]])


@program(hits=2)
def boolean_mask():
    return World(call=lambda x: x[x > 0].sum())


@program(hits=5)
def item_assignment():
    def call(x):
        y = x.clone()
        y[0, 1:] = 5
        y[y < 0] = 0
        return y

    return World(call=call)


@program(hits=5)
def in_place_on_the_argument():
    def call(x):
        x.mul_(2).add_(1)
        x += 1
        x[0] = 0
        return x

    return World(call=call)


@program(hits=5)
def output_is_the_input():
    return World(call=lambda x: x)


@program(hits=5)
def output_shares_the_input():
    return World(call=lambda x: (x, [x, x.view(-1)], {"a": x[0]}))


@program(hits=5)
def output_is_a_parameter():
    model = nn.Linear(3, 3)
    return World(call=lambda x: (model.weight, model.weight.t(), x), state={"model": model})


@program(hits=5)
def output_of_many_kinds():
    Point = collections.namedtuple("Point", "a b")

    @dataclasses.dataclass
    class Pair:
        first: object
        second: object

    def call(x):
        y = x * 2
        return (
            Point(y, 1),
            Pair(y, None),
            {"k": (y, "text", 2.5)},
            [y, y],
            collections.OrderedDict(a=y),
        )

    return World(call=call)


@program(hits=5)
def output_is_none():
    def call(x):
        x * 2

    return World(call=call)


@program(hits=5)
def output_contains_itself():
    def call(x):
        values = [x * 2]
        values.append(values)
        return values[0]

    return World(call=call)


@program(hits=5)
def output_is_a_function():
    def call(x):
        return lambda: x * 2

    return World(call=lambda x: call(x)())


# ------------------------------------------------------------------------------- exceptions


@program()
def exception_raised():
    def call(x):
        raise ValueError("always")

    return World(call=call)


@program()
def exception_on_some_inputs():
    def call(x, n):
        if n > 3:
            raise ValueError(f"too large: {n}")
        return x * 2

    return World(call=call, inputs=lambda s: (*fresh_tensor(s), s))


@program(hits=4)
def exception_by_the_data():
    def call(x):
        if x.sum() > 100:
            raise ValueError("too large")
        return x * 2

    return World(call=call, inputs=lambda s: (torch.ones(3) * (100 if s == 4 else 1),))


@program(code="JL0201")
def exception_caught():
    def call(x):
        try:
            raise KeyError("a")
        except (KeyError, ValueError) as error:
            return x * len(str(error))
        finally:
            x = None

    return World(call=call)


@program(code="JL0405")
def exception_of_torch_caught():
    def call(x):
        try:
            return x @ x
        except RuntimeError:
            return x * 2

    return World(call=call)


@program(hits=5)
def exception_of_a_lookup_caught():
    table = {}

    def call(x):
        try:
            return x * table["by"]
        except KeyError:
            return x * 2

    return World(call=call)


@program(hits=5)
def exception_of_an_attribute_caught():
    class Thing:
        pass

    thing = Thing()

    def call(x):
        try:
            return x * thing.by
        except AttributeError:
            return x * 2

    return World(call=call)


@program(hits=5)
def try_else_finally():
    def call(x):
        steps = []
        try:
            y = x * 2
        except ValueError:
            y = x
        else:
            steps.append(1)
        finally:
            steps.append(2)
        return y * len(steps)

    return World(call=call)


@program(code="JL0102")
def exception_group():
    def call(x):
        try:
            raise ExceptionGroup("many", [ValueError("a"), KeyError("b")])
        except* ValueError:
            x = x * 2
        except* KeyError:
            x = x * 3
        return x

    return World(call=call)


@program(code="JL0201")
def raise_from():
    def call(x):
        try:
            try:
                raise KeyError("a")
            except KeyError as error:
                raise ValueError("b") from error
        except ValueError as error:
            return x * len(str(error.__cause__))

    return World(call=call)


@program(code="JL0203")
def exception_class_of_the_user():
    class Stop(Exception):
        def __init__(self, value):
            super().__init__(value)
            self.value = value

    def call(x):
        try:
            raise Stop(3)
        except Stop as stop:
            return x * stop.value

    return World(call=call)


@program(hits=5)
def stop_iteration_by_hand():
    def call(x):
        stream = iter([1, 2])
        while True:
            try:
                x = x * next(stream)
            except StopIteration:
                return x

    return World(call=call)


@program(hits=5)
def suppress():
    def call(x):
        with contextlib.suppress(ZeroDivisionError):
            x = x * (1 / 0)
        return x * 2

    return World(call=call)


# -------------------------------------------------------------------------- context managers


@program(hits=5)
def context_manager_class():
    class Scaled:
        def __init__(self, by):
            self.by = by

        def __enter__(self):
            return self.by

        def __exit__(self, *exception):
            return False

    def call(x):
        with Scaled(3.0) as by, Scaled(2.0):
            return x * by

    return World(call=call)


@program(hits=5)
def context_manager_function():
    @contextlib.contextmanager
    def scaled(by):
        yield by * 2

    def call(x):
        with scaled(3.0) as by:
            return x * by

    return World(call=call)


@program(hits=5)
def context_manager_with_outside_state():
    depth = [0]

    @contextlib.contextmanager
    def deeper():
        depth[0] += 1
        try:
            yield depth[0]
        finally:
            depth[0] -= 1

    def call(x):
        with deeper() as n:
            return x * n

    return World(call=call, state={"depth": depth})


@program(code="JL0201")
def exit_stack():
    def call(x):
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.nullcontext())
            return x * 2

    return World(call=call)


@program(hits=5)
def no_grad_inside():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        with torch.no_grad():
            y = x * weight
        with torch.enable_grad():
            z = x * weight
        return y, z

    return World(call=call, state={"weight": weight}, backward=True)


@program(hits=5)
def autocast_inside():
    model = nn.Linear(3, 3)

    def call(x):
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
            with torch.autocast("cpu", enabled=False):
                z = model(x)
        return y, z

    return World(call=call, state={"model": model}, backward=True)


@program(code="JL0201")
def inference_mode_inside():
    def call(x):
        with torch.inference_mode():
            return x * 2

    return World(call=call)


@program(hits=5)
def grad_mode_left_changed():
    def call(x):
        torch.set_grad_enabled(False)
        y = x * 2
        torch.set_grad_enabled(True)
        return y

    return World(call=call, inputs=lambda s: (fresh_tensor(s)[0].requires_grad_(),))


@program(hits=5)
def lock_held():
    lock = threading.Lock()

    def call(x):
        with lock:
            return x * 2

    return World(call=call)


# ------------------------------------------------------------------------------ object model


@program(hits=5)
def getattr_fallback():
    class Lazy:
        def __getattr__(self, name):
            if name == "by":
                return 3.0
            raise AttributeError(name)

    lazy = Lazy()
    return World(call=lambda x: x * lazy.by * getattr(lazy, "none", 1.0))


@program(hits=5)
def getattribute_override():
    class Watched:
        by = 3.0

        def __getattribute__(self, name):
            return object.__getattribute__(self, name)

    watched = Watched()
    return World(call=lambda x: x * watched.by)


@program(hits=5)
def setattr_override():
    class Locked:
        def __setattr__(self, name, value):
            object.__setattr__(self, name, value * 2)

    locked = Locked()

    def call(x):
        locked.n = 3
        return x * locked.n

    return World(call=call, state={"locked": locked})


@program(hits=5)
def descriptors():
    class Doubled:
        def __init__(self, name):
            self.name = name

        def __get__(self, instance, owner):
            return self if instance is None else instance.__dict__[self.name] * 2

    class Thing:
        twice = Doubled("n")

        def __init__(self):
            self.n = 3

    thing = Thing()
    return World(call=lambda x: x * thing.twice)


@program(code="JL0201")
def metaclass_call():
    class Meta(type):
        def __call__(cls, *args):
            instance = super().__call__(*args)
            instance.extra = 5.0
            return instance

    class Thing(metaclass=Meta):
        def __init__(self, n):
            self.n = n

    def call(x):
        thing = Thing(2.0)
        return x * thing.n + thing.extra

    return World(call=call)


@program(hits=5)
def new_override():
    class Single:
        instance = None

        def __new__(cls):
            if cls.instance is None:
                cls.instance = super().__new__(cls)
            return cls.instance

    Single()
    return World(call=lambda x: x * 2 if Single() is Single() else x)


@program(hits=5)
def init_subclass():
    class Base:
        def __init_subclass__(cls, by=1.0, **kwargs):
            super().__init_subclass__(**kwargs)
            cls.by = by

    class Child(Base, by=3.0):
        pass

    return World(call=lambda x: x * Child().by)


@program(code="JL0203")
def class_getitem():
    class Box:
        def __class_getitem__(cls, item):
            return item

    return World(call=lambda x: x * Box[3])


@program(hits=5)
def dataclass_made_inside():
    @dataclasses.dataclass
    class Options:
        by: float
        names: list = dataclasses.field(default_factory=list)

        def __post_init__(self):
            self.by = self.by * 2

    def call(x):
        options = Options(2.0)
        options.names.append("a")
        return x * options.by * len(options.names)

    return World(call=call)


@program(hits=5)
def frozen_dataclass():
    @dataclasses.dataclass(frozen=True)
    class Options:
        by: float = 2.0

    return World(call=lambda x: x * Options(3.0).by)


@program(hits=5)
def dataclass_replace():
    @dataclasses.dataclass
    class Options:
        by: float = 2.0

    options = Options()
    return World(call=lambda x: x * dataclasses.replace(options, by=3.0).by)


@program(code="JL0101")
def dataclass_equality():
    @dataclasses.dataclass
    class Options:
        by: float = 2.0

    options = Options()
    return World(call=lambda x: x * 2 if options == Options() else x)


@program(hits=5)
def namedtuple_made_inside():
    class Point(typing.NamedTuple):
        a: object
        b: float = 2.0

        def product(self):
            return self.a * self.b

    return World(call=lambda x: Point(x).product() + Point(x, 3.0)._replace(b=4.0).b)


@program(hits=2)
def enum_dispatch():
    class Mode(enum.Enum):
        DOUBLE = 2
        TRIPLE = 3

    class Level(enum.IntEnum):
        LOW = 1

    def call(x, mode):
        return x * mode.value * Level.LOW if mode is Mode.DOUBLE else x * Mode["TRIPLE"].value

    return World(
        call=call, inputs=lambda s: (*fresh_tensor(s), Mode.DOUBLE if s < 3 else Mode.TRIPLE)
    )


@program(hits=5)
def flag_enum():
    class Flags(enum.Flag):
        A = enum.auto()
        B = enum.auto()

    return World(call=lambda x: x * 2 if Flags.A in (Flags.A | Flags.B) else x)


@program(code="JL0203")
def rich_comparisons():
    @functools.total_ordering
    class Level:
        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            return self.n == other.n

        def __lt__(self, other):
            return self.n < other.n

        __hash__ = None

    def call(x):
        return x * 2 if Level(1) <= Level(2) and Level(2) != Level(3) else x

    return World(call=call)


@program(code="JL0203")
def sorted_user_objects():
    class Level:
        def __init__(self, n):
            self.n = n

        def __lt__(self, other):
            return self.n < other.n

    return World(call=lambda x: x * sorted([Level(2), Level(1)])[0].n)


@program(code="JL0202")
def hash_of_the_user():
    class Key:
        def __init__(self, n):
            self.n = n

        def __hash__(self):
            return hash(self.n)

        def __eq__(self, other):
            return self.n == other.n

    table = {Key(1): 2.0}
    return World(call=lambda x: x * table[Key(1)])


@program(code="JL0201")
def numeric_dunders():
    class Number:
        def __init__(self, n):
            self.n = n

        def __add__(self, other):
            return Number(self.n + other.n)

        def __neg__(self):
            return Number(-self.n)

        def __float__(self):
            return float(self.n)

        def __index__(self):
            return int(self.n)

        def __iadd__(self, other):
            self.n += other.n
            return self

    def call(x):
        number = -(Number(1) + Number(2))
        number += Number(5)
        return x * float(number) + [10, 20, 30][Number(2)]

    return World(call=call)


@program(hits=5)
def container_protocol():
    class Row:
        def __init__(self, *values):
            self.values = list(values)

        def __len__(self):
            return len(self.values)

        def __getitem__(self, index):
            return self.values[index]

        def __setitem__(self, index, value):
            self.values[index] = value

        def __contains__(self, value):
            return value in self.values

        def __iter__(self):
            return iter(self.values)

    def call(x):
        row = Row(1, 2, 3)
        row[0] = 5
        total = sum(row) + len(row) + row[-1]
        return x * total if 2 in row else x

    return World(call=call)


@program(code="JL0202")
def old_iteration_protocol():
    class Old:
        def __getitem__(self, index):
            if index > 2:
                raise IndexError
            return index

    def call(x):
        for number in Old():
            x = x + number
        return x

    return World(call=call)


@program(code="JL0201")
def callable_with_iter_sentinel():
    def call(x):
        values = [3, 2, 1, 0]
        for number in iter(values.pop, 3):
            x = x + number
        return x

    return World(call=call)


@program(code="JL0202")
def del_method():
    log = []

    class Noisy:
        def __del__(self):
            log.append("gone")

    def call(x):
        Noisy()
        return x * 2

    return World(call=call, state={"log": log})


@program(code="JL0203")
def dict_subclass():
    class Config(dict):
        def __getattr__(self, name):
            return self[name]

    config = Config(by=3.0)
    return World(call=lambda x: x * config.by + len(config))


@program(hits=5)
def list_subclass():
    class Stack(list):
        def push(self, value):
            self.append(value)

    def call(x):
        stack = Stack([1])
        stack.push(2)
        return x * sum(stack) * len(stack)

    return World(call=call)


@program(hits=5)
def string_methods():
    return World(
        call=lambda x: x * len("a,b,c".split(",")) + len("%s-%d" % ("a", 1)) + "abc".index("c")
    )


@program(hits=5)
def bytes_and_sets():
    return World(call=lambda x: x * len({1, 2} | {3}) + len(b"abc") + len(frozenset([1, 1])))


@program(hits=5)
def big_numbers_and_division():
    return World(
        call=lambda x: x * (7 // 2) + 2**10 % 7 - divmod(9, 4)[1] + round(2.567, 1) + abs(-3)
    )


@program(hits=5)
def typing_at_run_time():
    def call(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = typing.cast("torch.Tensor", x)
        return y * 2

    return World(call=call)


@program(hits=5)
def isinstance_checks():
    def call(x):
        if isinstance(x, (list, tuple)) or not isinstance(x, torch.Tensor):
            return None
        return x * (2 if issubclass(type(x), object) else 3)

    return World(call=call)


@program(hits=5)
def signature_inspected():
    import inspect

    return World(call=lambda x: x * len(inspect.signature(scale).parameters))


# -------------------------------------------------------------------------------- autograd


@program(hits=5)
def backward_inside():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        loss = (x * weight).sum()
        loss.backward()
        return loss

    return World(call=call, state={"weight": weight})


@program(hits=5)
def autograd_grad_inside():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        (grad,) = torch.autograd.grad((x * weight).pow(2).sum(), weight)
        return grad

    return World(call=call, state={"weight": weight})


@program(hits=5)
def double_backward_inside():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        (grad,) = torch.autograd.grad((x * weight).pow(3).sum(), weight, create_graph=True)
        return grad.pow(2).sum()

    return World(call=call, state={"weight": weight}, backward=True)


@program(hits=5)
def custom_autograd_function():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 2 + x * 0

    weight = torch.ones(3, requires_grad=True)
    return World(call=lambda x: Doubled.apply(x * weight), state={"weight": weight}, backward=True)


@program(code="JL0403")
def hook_registered_inside():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        y = x * weight
        y.register_hook(lambda grad: grad * 2)
        return y

    return World(call=call, state={"weight": weight}, backward=True)


@program()
def optimizer_step_inside():
    model = nn.Linear(3, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def call(x):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return World(call=call, state={"model": model, "state": optimizer.state_dict()})


@program()
def checkpointed():
    from torch.utils.checkpoint import checkpoint

    model = nn.Linear(3, 3)
    return World(
        call=lambda x: checkpoint(model, x, use_reentrant=False),
        state={"model": model},
        backward=True,
    )


@program(code="JL0203")
def functional_call():
    model = nn.Linear(3, 3)
    weights = {"weight": torch.ones(3, 3), "bias": torch.zeros(3)}
    return World(call=lambda x: torch.func.functional_call(model, weights, (x,)))


@program(code="JL0201")
def vmap():
    return World(call=lambda x: torch.vmap(lambda row: row * 2)(x))


@program(code="JL0201")
def functional_grad():
    return World(call=lambda x: torch.func.grad(lambda y: y.pow(2).sum())(x))


@program(code="JL0403")
def requires_grad_switched_inside():
    def call(x):
        x.requires_grad_(True)
        return (x * 2).sum()

    return World(call=call)


@program(hits=5)
def detach_and_clone():
    weight = torch.ones(3, requires_grad=True)
    return World(
        call=lambda x: (x * weight).detach().clone() + weight, state={"w": weight}, backward=True
    )


@program(hits=5)
def data_attribute():
    weight = torch.ones(3, requires_grad=True)
    return World(call=lambda x: x * weight.data, state={"weight": weight})


@program(hits=5)
def data_written():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        weight.data.add_(1)
        return x * weight

    return World(call=call, state={"weight": weight})


@program(code="JL0301")
def data_replaced():
    weight = torch.ones(3, requires_grad=True)

    def call(x):
        weight.data = weight.data * 2
        return x * weight

    return World(call=call, state={"weight": weight})


@program(hits=5)
def out_argument():
    buffer = torch.zeros(4, 3)

    def call(x):
        return torch.mul(x, 2, out=buffer)

    return World(call=call, state={"buffer": buffer})


@program(hits=4)
def out_argument_resized():
    buffer = torch.zeros(0)

    def call(x):
        return torch.mul(x, 2, out=buffer)

    return World(call=call, state={"buffer": buffer})


@program(code="JL0402")
def sparse_inside():
    return World(call=lambda x: torch.eye(3).to_sparse() @ x.t())


@program(hits=5)
def complex_views():
    return World(call=lambda x: torch.view_as_real(torch.fft.rfft(x).conj().resolve_conj()).sum())


@program(hits=5)
def factories():
    return World(
        call=lambda x: (
            x + torch.arange(3) + torch.tensor([1.0, 2.0, 3.0]) + torch.eye(3)[0] + x.new_ones(3)
        )
    )


@program(hits=5)
def tensor_of_tensors():
    return World(call=lambda x: torch.tensor([x[0, 0], x[1, 1]]))


@program(hits=5)
def stack_in_a_loop():
    return World(call=lambda x: torch.stack([row * i for i, row in enumerate(x)]))


@program(hits=4)
def data_dependent_while():
    def call(x):
        while x.norm() < 100:
            x = x * 2
        return x

    return World(call=call, inputs=lambda s: (torch.ones(3) * (1 + s % 2),))


@program(hits=4)
def data_dependent_if():
    return World(
        call=lambda x: x * 2 if x.sum() > 0 else x - 1,
        inputs=lambda s: (torch.ones(3) * (-1) ** s,),
    )


@program(hits=5)
def any_and_all_of_tensors():
    return World(call=lambda x: x * 2 if any(row.sum() > 1e9 for row in x) or all([1]) else x)


@program(hits=5)
def tensor_in_a_list():
    def call(x):
        y = x * 2
        return len([t for t in [x, y] if t is y])

    return World(call=call)


@program(code="JL0203")
def tensor_as_a_key():
    def call(x):
        table = {x: 1}
        return table[x] * x

    return World(call=call)


@program(code="JL0301")
def tensor_with_a_python_attribute():
    def call(x):
        y = x * 2
        y.tag = 3
        return y * y.tag

    return World(call=call)


@program(code="JL0301")
def tensor_returned_with_a_python_attribute():
    def call(x):
        y = x * 2
        y.tag = 3
        return y

    return World(call=call)


@program(code="JL0201")
def parameter_made_inside():
    return World(call=lambda x: nn.Parameter(x.clone()) * 2)


@program()
def module_made_inside():
    def call(x):
        torch.manual_seed(0)
        return nn.Linear(3, 3)(x)

    return World(call=call)


@program(hits=5)
def fresh_module_from_outside_weights():
    weight = torch.ones(3, 3)

    class Scale(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            return x @ self.weight

    return World(call=lambda x: Scale(weight)(x))


@program(code="JL0201")
def cls_dict_and_mro():
    class Base:
        by = 2.0

    class Child(Base):
        pass

    def call(x):
        return x * Base.__dict__["by"] * len(Child.__mro__) * len(Child.__name__)

    return World(call=call)


@program(hits=5)
def function_internals():
    def inner(x, by=2.0):
        return x * by

    def call(x):
        return x * inner.__defaults__[0] * inner.__code__.co_argcount * len(inner.__name__)

    return World(call=call)


@program(code="JL0202")
def cell_contents_read():
    by = 2.0

    def inner(x):
        return x * by

    return World(call=lambda x: x * inner.__closure__[0].cell_contents)
