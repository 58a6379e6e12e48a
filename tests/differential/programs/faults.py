"""Programs with a place to fail after every step: an error of the data, or another decision.

Each call gets a `fuse`: an error is raised at the one position where it holds a number that is no
index, and a decision falls the other way where `flags` are negative.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import logging
import random
import warnings

import numpy as np
import torch
from tests.differential.kit import World, fresh_tensor, program
from torch import nn

LOG = logging.getLogger("user")
ONE = torch.ones(1)
PLACES = 8
CLEAN = 3


class Notes:
    """Something outside that calls write to."""

    def __init__(self, **values):
        self.__dict__.update(values)


def burn(fuse, place):
    """An operation that raises when the data say so."""
    return ONE.index_select(0, fuse[place : place + 1])


def inputs(step):
    """Nothing for the first calls; then a failure at each place in turn, a clean call between."""
    fuse = torch.zeros(PLACES, dtype=torch.int64)
    flags = torch.ones(PLACES)
    number = step - CLEAN
    if number >= 0 and number % 2 == 0:
        place = number // 2
        (fuse if place < PLACES else flags)[place % PLACES] = 7 if place < PLACES else -1
    return fresh_tensor(step)[0], fuse, flags


CALLS = CLEAN + 4 * PLACES


def burning(build):
    """Register a program whose calls fail in turn."""

    def built():
        world = build()
        world.inputs = inputs
        return world

    return program(hits=8)(built)


@burning
def stores():
    notes = Notes(first=None, second=None, many=[], table={})

    def call(x, fuse, flags):
        burn(fuse, 0)
        notes.first = x * 2
        burn(fuse, 1)
        notes.many.append(x.sum())
        burn(fuse, 2)
        notes.table["x"] = x.mean()
        burn(fuse, 3)
        notes.second = [x, notes.first]
        burn(fuse, 4)
        return notes.second

    return World(call=call, state={"notes": notes})


@burning
def text():
    def call(x, fuse, flags):
        print("0", x.sum())
        burn(fuse, 0)
        LOG.warning("1 %s", x.mean())
        burn(fuse, 1)
        warnings.warn(f"2 {x.max()}", stacklevel=1)
        burn(fuse, 2)
        print("3")
        return x * 2

    return World(call=call)


@burning
def draws_of_the_host():
    rng, notes = np.random.default_rng(3), Notes(last=None, state=None)

    def call(x, fuse, flags):
        y = x * random.random()
        burn(fuse, 0)
        notes.last = rng.normal()
        burn(fuse, 1)
        y = y + np.random.rand()
        if flags[0] < 0:
            y = y - 1
        burn(fuse, 2)
        Notes.count = random.randint(0, 9)
        y = y + torch.from_numpy(rng.random(3))
        burn(fuse, 3)
        print("drew", notes.last, y.sum())
        return y, random.random()

    def after(_):
        notes.state = str(rng.bit_generator.state)

    return World(call=call, between=after, state={"notes": notes})


@burning
def writes_and_stores():
    total, notes = torch.zeros(4, 3), Notes(last=None, count=[])

    def call(x, fuse, flags):
        total.add_(x)
        burn(fuse, 0)
        notes.last = total * 2
        burn(fuse, 1)
        total.view(-1)[2:5].mul_(3)
        burn(fuse, 2)
        print("total", total.sum())
        burn(fuse, 3)
        notes.count.append(total.mean())
        burn(fuse, 4)
        total[0] = x[1]
        return total + 1

    return World(call=call, state={"total": total, "notes": notes})


@burning
def draws():
    notes = Notes(noise=None)

    def call(x, fuse, flags):
        noise = torch.randn(3)
        burn(fuse, 0)
        notes.noise = noise
        burn(fuse, 1)
        y = torch.dropout(x, 0.5, True)
        burn(fuse, 2)
        print(y.sum())
        return y + noise + torch.rand(3)

    return World(call=call, state={"notes": notes})


@burning
def decisions_between_everything():
    total, notes = torch.zeros(4, 3), Notes(last=None, seen=[])

    def call(x, fuse, flags):
        total.add_(x)
        if flags[0] > 0:
            notes.last = total * 1
        burn(fuse, 0)
        noise = torch.rand(3)
        if flags[1] > 0:
            total.mul_(0.5)
        burn(fuse, 1)
        notes.seen.append(noise)
        if flags[2] > 0:
            total.sub_(noise)
        burn(fuse, 2)
        notes.last = total + noise
        print("after the last decision", notes.last.sum())
        burn(fuse, 3)
        total.add_(1)
        return total + noise

    return World(call=call, state={"total": total, "notes": notes})


@burning
def errors_that_the_program_handles():
    total, notes = torch.zeros(4, 3), Notes(failed=None, done=None)

    def call(x, fuse, flags):
        total.add_(x)
        try:
            burn(fuse, 0)
            notes.done = x
            burn(fuse, 1)
        except IndexError as error:
            notes.failed = str(error)
            total.zero_()
        finally:
            notes.done = total * 2
        burn(fuse, 2)
        return total + 1

    return World(call=call, state={"total": total, "notes": notes})


@burning
def finally_without_handler():
    total, notes = torch.zeros(4, 3), Notes(open=None, closed=None)

    def call(x, fuse, flags):
        notes.open = x * 1
        try:
            total.add_(x)
            burn(fuse, 0)
            total.mul_(2)
            burn(fuse, 1)
        finally:
            notes.closed = total * 1
        return total

    return World(call=call, state={"total": total, "notes": notes})


class Manager:
    def __init__(self, notes):
        self.notes = notes

    def __enter__(self):
        self.notes.entered = "yes"

    def __exit__(self, kind, error, trace):
        self.notes.left = "yes"


@burning
def managers_of_the_program():
    notes = Notes(entered=None, left=None)

    def call(x, fuse, flags):
        notes.entered = notes.left = None
        with Manager(notes):
            y = x * 2
            burn(fuse, 0)
        burn(fuse, 1)
        return y

    return World(call=call, state={"notes": notes})


@burning
def grad_modes():
    notes = Notes(last=None)

    def call(x, fuse, flags):
        with torch.no_grad():
            notes.last = x * weight
            burn(fuse, 0)
            print("inside", torch.is_grad_enabled())
        burn(fuse, 1)
        return x * weight if flags[0] > 0 else x - weight

    weight = nn.Parameter(torch.ones(3))
    return World(call=call, state={"notes": notes, "weight": weight}, backward=True)


class Training(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.linear = nn.Linear(3, 3)
        self.history = []

    def forward(self, x, fuse, flags):
        y = self.norm(x)
        burn(fuse, 0)
        self.history.append(y.mean().detach())
        y = torch.dropout(self.linear(y), 0.3, self.training)
        burn(fuse, 1)
        self.norm.running_mean.data.mul_(0.9)
        if flags[0] > 0:
            y = y * 2
        burn(fuse, 2)
        self.last = y.detach()
        burn(fuse, 3)
        self.norm(y)
        return y


@burning
def training():
    return World(call=Training(), backward=True)


@burning
def object_that_grows_after_it_was_stored():
    notes = Notes(table=None)

    def call(x, fuse, flags):
        notes.table = table = {"a": x * 2}
        burn(fuse, 0)
        table["b"] = x + 1
        burn(fuse, 1)
        table["c"] = 3
        burn(fuse, 2)
        return x

    return World(call=call, state={"notes": notes})


@burning
def deletes_and_pops():
    notes = Notes(values=[], table={})

    def call(x, fuse, flags):
        burn(fuse, 0)
        value = notes.values.pop()
        burn(fuse, 1)
        del notes.table["x"]
        burn(fuse, 2)
        notes.table.setdefault("y", x)
        del notes.extra
        burn(fuse, 3)
        return x * value

    def between(step):
        notes.values[:] = [ONE, ONE * step]
        notes.table.clear()
        notes.table["x"] = ONE
        notes.extra = ONE

    return World(call=call, between=between, state={"notes": notes})
