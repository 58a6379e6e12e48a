"""Random draws of Python and NumPy: operations of the graph that move an outside generator on.

A replay draws again, in program order, from the generator that stands there. Numbers that come out
vary; arrays may only go on into tensors. What is picked from a sequence of other things than
numbers is a decision about the index. Whatever else a draw gives stops the trace.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from janus_lite.errors import Code
from janus_lite.record.contracts import RANDOM_GENERATORS
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import MOST_NUMBERS, NUMBERS, is_symbolic, plain
from janus_lite.record.session import Session
from janus_lite.record.trace import Ref

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
Rule = Callable[[Session, Any, Arguments], Any]
# Each number is a value of the graph; a longer list is none of a model's business.
_OF_PYTHON = """
random uniform triangular randint randrange getrandbits gauss normalvariate lognormvariate
expovariate vonmisesvariate gammavariate betavariate paretovariate weibullvariate binomialvariate
seed
""".split()
_OF_NUMPY = """
rand randn random random_sample randint random_integers uniform normal standard_normal beta binomial
chisquare dirichlet exponential f gamma geometric gumbel hypergeometric integers laplace logistic
lognormal logseries multinomial multivariate_normal negative_binomial noncentral_chisquare
noncentral_f pareto permutation poisson power rayleigh standard_cauchy standard_exponential
standard_gamma standard_t triangular vonmises wald weibull zipf choice seed
""".split()
# A generator of the program may be of a subclass with code of its own: that is another thing.
_NAMES: dict[type, frozenset[str]] = {
    random.Random: frozenset(_OF_PYTHON),
    np.random.RandomState: frozenset(_OF_NUMPY),
    np.random.Generator: frozenset(_OF_NUMPY) - {"seed"},
}


def is_generator(value: object) -> bool:
    """Whether `value` is a random generator of Python or NumPy whose draws are understood."""
    return type(value) in RANDOM_GENERATORS


def has_rule(
    session: Session, method: Any, generator: Any, args: Arguments, kwargs: Keywords
) -> bool:
    """Whether a call of a generator's method is understood.

    Args:
        session: the recording.
        method: what the class has under the name: it takes the generator first.
        generator: what it draws from.
        args: further arguments.
        kwargs: keyword arguments.
    """
    if session.opaque or session.heap.source_of(generator) is None:
        return False
    name = method.__name__
    if type(generator) is random.Random and name in _PICKS:
        return not kwargs and _PICKS[name][0](session, args)
    return name in _NAMES[type(generator)] and _are_settled(session, (args, kwargs))


def call(session: Session, method: Any, generator: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Call a generator's method for which there is a rule."""
    name = method.__name__
    if type(generator) is random.Random and name in _PICKS:
        return _PICKS[name][1](session, generator, args)
    args = session.numbers.fixed(args)
    kwargs = {key: session.numbers.fixed(value) for key, value in kwargs.items()}
    return _draw(session, method, generator, args, kwargs)


def _are_settled(session: Session, value: Any) -> bool:
    """Whether guards say of every argument what it is: plain values and tuples or lists of them."""
    if type(value) in SCALARS or is_symbolic(value) or is_a(value, np.dtype | type):
        return True
    if is_a(value, dict | list | tuple) and session.heap.snapshot(value):
        elements = dict.values(value) if is_a(value, dict) else value
        return all(_are_settled(session, element) for element in elements)
    return False


def _draw(
    session: Session,
    function: Callable[..., Any],
    generator: Any,
    args: Arguments,
    kwargs: Keywords,
) -> Any:
    """`function(generator, ...)`, now and in each replay."""
    source = session.heap.source_of(generator)
    assert source is not None
    with session.own_work():
        result, made = session.tape.draw(function, generator, source, args, kwargs)
    if type(result) is np.ndarray and is_a(made, Ref):
        session.heap.made(result, made)
    elif made is None and result is not None:
        kind = type(result).__qualname__
        session.stop(Code.UNKNOWN_CALL, f"draws a {kind} with `{function.__name__}`")
    return result


# -------------------------------------------------------------------------- Python's sequences


def _can_choose(_session: Session, args: Arguments) -> bool:
    return len(args) == 1 and is_a(args[0], list | tuple | range | str) and len(args[0]) > 0


def _choose(session: Session, generator: Any, args: Arguments) -> Any:
    """`choice(sequence)`."""
    (sequence,) = args
    if (numbers := _numbers(session, sequence)) is not None:
        return _draw(session, random.Random.choice, generator, (numbers,), {})
    session.call(len, (sequence,), {})
    drawn = _draw(session, random.Random.choice, generator, (range(len(sequence)),), {})
    index = session.numbers.fix(drawn)
    return sequence[index] if is_a(sequence, str) else session.heap.element(sequence, index)


def _can_shuffle(session: Session, args: Arguments) -> bool:
    return len(args) == 1 and type(args[0]) is list and _numbers(session, args[0]) is not None


def _shuffle(session: Session, generator: Any, args: Arguments) -> None:
    """`shuffle(list)`."""
    numbers = _numbers(session, args[0])
    session.store_item(_draw(session, _shuffled, generator, (numbers,), {}), args[0], slice(None))


def _can_sample(session: Session, args: Arguments) -> bool:
    is_plain = len(args) == 2 and type(args[1]) is int and args[1] <= MOST_NUMBERS
    return is_plain and _numbers(session, args[0]) is not None


def _sample(session: Session, generator: Any, args: Arguments) -> Any:
    """`sample(population, k)`."""
    numbers = _numbers(session, args[0])
    return _draw(session, random.Random.sample, generator, (numbers, args[1]), {})


def _numbers(session: Session, sequence: Any) -> Sequence[Any] | None:
    """The numbers of one class that a sequence holds, `None` when it holds anything else."""
    if type(sequence) is range:
        return sequence
    if type(sequence) not in (list, tuple) or len(sequence) > MOST_NUMBERS:
        return None
    kinds = {type(plain(number)) for number in sequence}
    if len(kinds) != 1 or not kinds < set(NUMBERS):
        return None
    return tuple(session.heap.element(sequence, index) for index in range(len(sequence)))


def _shuffled(generator: random.Random, numbers: Sequence[Any]) -> list[Any]:
    values = list(numbers)
    generator.shuffle(values)
    return values


_PICKS: dict[str, tuple[Callable[[Session, Arguments], bool], Rule]] = {
    "choice": (_can_choose, _choose),
    "shuffle": (_can_shuffle, _shuffle),
    "sample": (_can_sample, _sample),
}
