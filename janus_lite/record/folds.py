"""Builtins that compute with numbers of the graph: their result is a number of the graph too."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from janus_lite.record import containers
from janus_lite.record.contracts import Contract
from janus_lite.record.kinds import is_a
from janus_lite.record.leaves import UNKNOWN, Arguments, Leaf, call_leaf, is_stepped
from janus_lite.record.scalars import FUNCTIONS, is_number, is_symbolic, plain
from janus_lite.record.session import Session


def compute(session: Session, function: Any, args: Arguments) -> Any:
    """A number made of a tensor, or of numbers some of which vary; `UNKNOWN` for anything else."""
    if (function is int or function is float) and len(args) == 1 and is_a(args[0], torch.Tensor):
        method = torch.Tensor.__int__ if function is int else torch.Tensor.__float__
        return session.call(method, args, {})
    if not session.numbers:
        return UNKNOWN
    if any(map(is_symbolic, args)) and function in FUNCTIONS and all(map(is_number, args)):
        return session.numbers.compute(FUNCTIONS[function], function, *args)
    if len(args) == 1 and function in _FOLDS:
        return _fold(session, function, args[0])
    return UNKNOWN


def _fold(session: Session, function: Any, values: Any) -> Any:
    """`sum(values)` and the like, step by step where sizes vary; `UNKNOWN` elsewhere."""
    is_iterator = is_stepped(session, values)
    if is_iterator:
        with Leaf(session):
            values = list(values)
    if are_varying_sizes(session, values):
        return _FOLDS[function](session, values)
    return call_leaf(session, function, Contract.PURE, (values,), {}) if is_iterator else UNKNOWN


def are_varying_sizes(session: Session, value: Any) -> bool:
    """Whether a value is a sequence of integers that the run made, some of which vary."""
    if not containers.is_made_sequence(session, value):
        return False
    return any(map(is_symbolic, value)) and all(type(plain(n)) is int for n in value)


def product(session: Session, sizes: Any) -> Any:
    """Multiply sizes that may vary."""
    return functools.reduce(functools.partial(session.numbers.compute, "*", operator.mul), sizes, 1)


def _sum(session: Session, sizes: Any) -> Any:
    return functools.reduce(functools.partial(session.numbers.compute, "+", operator.add), sizes, 0)


def _choice(function: Any) -> Callable[[Session, Any], Any]:
    def choose(session: Session, sizes: Any) -> Any:
        if len(sizes) == 1:
            return sizes[0]
        return session.numbers.compute(function.__name__, function, *sizes)

    return choose


# What they give for integers is computed step by step, so that it varies with them.
_FOLDS: dict[Any, Callable[[Session, Any], Any]] = {
    math.prod: product,
    sum: _sum,
    min: _choice(min),
    max: _choice(max),
}
