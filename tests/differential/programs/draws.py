"""Random draws of Python and NumPy: drawn again by each replay, put back by one that is called off."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import random
import types

import numpy as np
import torch
from tests.differential.kit import World, program
from torch import nn


class Source:
    """A generator of the program's own, and its state for the comparison."""

    def __init__(self, generator):
        self.generator = generator

    @property
    def __dict__(self):
        state = (
            getattr(self.generator, "getstate", None) or self.generator.bit_generator.__getstate__
        )
        return {"state": str(state())}


@program(hits=5)
def python_floats():
    def call(x):
        y = x * random.random() + random.uniform(-1, 1)
        return y + random.gauss(0, 1), random.random()

    return World(call=call)


@program(hits=5)
def python_integers():
    def call(x):
        dim = random.randint(0, 3)
        return x * random.randrange(10) + x[dim], dim

    return World(call=call)


@program(hits=2)
def layer_dropped_at_random():
    layer = nn.Linear(3, 3)

    def call(x):
        if random.random() < 0.5:
            return x
        return layer(x)

    return World(call=call)


@program(hits=2)
def layer_chosen_at_random():
    layers = [nn.ReLU(), nn.Tanh()]

    def call(x):
        return random.choice(layers)(x) * random.choice([2.0, 3.0, 4.0])

    return World(call=call)


@program(hits=3)
def learning_rates_shuffled():
    rates = [0.1, 0.2, 0.3]

    def call(x):
        order = list(range(3))
        random.shuffle(order)
        y = x * rates[0]
        for index in order:
            y = y * 2 + x[index]
        random.shuffle(rates)
        return y

    return World(call=call, state={"rates": rates})


@program(hits=5)
def rows_sampled():
    def call(x):
        first, second = random.sample(range(4), 2)
        third, fourth = random.sample([0, 1, 2], 2)
        return x[first] + x[second] * 2, x[third] - x[fourth]

    return World(call=call)


@program(hits=4)
def draws_stored_and_shown():
    log = types.SimpleNamespace(last=None, total=0.0)
    seen = []

    def call(x):
        log.last = random.random()
        log.total += log.last
        seen.append(random.randint(1, 6))
        print(f"drew {log.last:.4f}")
        return x * log.last

    return World(call=call, state={"log": log, "seen": seen})


@program(hits=5)
def numpy_floats():
    def call(x):
        y = x * np.random.rand() + np.random.uniform(-1, 1)
        return y * np.random.randn(), np.random.normal(1.0, 2.0)

    return World(call=call)


@program(hits=5)
def numpy_arrays():
    def call(x):
        noise = torch.from_numpy(np.random.randn(4, 3))
        mask = torch.tensor(np.random.randint(0, 2, (4, 3)))
        return x + noise.float() * mask, torch.as_tensor(np.random.permutation(4))

    return World(call=call)


@program(hits=5)
def array_returned_and_stored():
    log = types.SimpleNamespace(noise=None)

    def call(x):
        log.noise = np.random.rand(3)
        return x * 2, np.random.rand(2), {"noise": log.noise}

    return World(call=call, state={"log": log})


@program(hits=5)
def generators_of_the_program():
    class Augment:
        def __init__(self):
            self.rng = random.Random(3)
            self.np_rng = np.random.default_rng(4)
            self.old_rng = np.random.RandomState(5)

        def __call__(self, x):
            y = x * self.rng.random() + self.np_rng.normal()
            return y + self.old_rng.uniform(), torch.from_numpy(self.np_rng.random(3))

    augment = Augment()
    sources = [Source(g) for g in (augment.rng, augment.np_rng, augment.old_rng)]
    return World(call=augment, state={"sources": sources})


@program(hits=4)
def generator_as_an_argument():
    rngs = [random.Random(1), random.Random(2)]

    def call(x, rng):
        return x * rng.random()

    def inputs(step):
        return torch.ones(3) * step, rngs[step % 2]

    return World(call=call, inputs=inputs, state={"sources": list(map(Source, rngs))})


@program(hits=2)
def draw_above_a_decision():
    rng = np.random.default_rng(7)

    def call(x):
        y = x * random.random() + rng.normal() + np.random.rand()
        z = torch.rand(3)
        if y.sum() > 0:
            return y + z * random.random()
        return y - z

    return World(call=call, state={"source": Source(rng)})


@program(hits=0)
def draw_above_an_error():
    def call(x):
        y = x * random.random() + np.random.rand()
        return y.view(int(random.random() < 2) * 7)

    return World(call=call)


@program(hits=4)
def draw_inside_try():
    done = []

    def call(x):
        try:
            return x * random.random()
        finally:
            done.append(1)

    return World(call=call, state={"done": done})


@program(hits=4)
def seeded_inside():
    def call(x):
        random.seed(3)
        return x * random.random() + random.random()

    return World(call=call)


@program(hits=5)
def mixup():
    def call(x):
        lam = np.random.beta(0.2, 0.2)
        index = torch.randperm(x.size(0))
        return lam * x + (1 - lam) * x[index], max(lam, 1 - lam)

    return World(call=call)


@program(hits=5)
def drawn_number_becomes_a_tensor():
    def call(x):
        return x + torch.tensor(random.random())

    return World(call=call)


# ---------------------------------------------------------------------- what keeps its code


@program(code="JL0202")
def array_used_as_numbers():
    def call(x):
        noise = np.random.rand(4)
        return x * float(noise[0]) + noise.sum()

    return World(call=call)


@program(code="JL0202")
def array_looked_at():
    def call(x):
        noise = np.random.rand(4)
        if isinstance(noise, np.ndarray) and noise.shape == (4,):
            return x * 2
        return x

    return World(call=call)


@program(code="JL0202")
def array_computed_with():
    def call(x):
        return x + torch.from_numpy(np.random.rand(3) * 2)

    return World(call=call)


@program(code="JL0201")
def scalar_of_numpy():
    rng = np.random.default_rng(0)

    def call(x):
        return x * int(rng.integers(5))

    return World(call=call)


@program(code="JL0201")
def blocks_shuffled():
    blocks = [nn.ReLU(), nn.Tanh()]

    def call(x):
        random.shuffle(blocks)
        for block in blocks:
            x = block(x)
        return x

    return World(call=call)


@program(hits=5)
def generator_with_code_of_its_own():
    class Fixed(random.Random):
        def random(self):
            return 0.5

        def getrandbits(self, k):
            return 0

    rng = Fixed()

    def call(x):
        return x * rng.triangular() * (rng.getrandbits(3) + 1) * rng.random()

    return World(call=call)


@program(hits=0)
def draw_that_raises():
    def call(x):
        try:
            return x * random.randint(5, 1)
        except ValueError:
            return x * random.random()

    return World(call=call)
