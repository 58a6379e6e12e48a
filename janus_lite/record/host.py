"""Host calls: print, log records, warnings. Recorded for real, repeated by each replay's commit.

What they show is made into text at the commit, from the replayed tensors, and goes where the
program's output, loggers and filters are at that moment. Their place in the program is part of what
a log record and a warning show, so it is noted while the user's frames are there.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record import stack
from janus_lite.record.effects import HostCall
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import is_a
from janus_lite.record.outputs import OutputPlanner
from janus_lite.record.scalars import is_symbolic, plain, rebuilt
from janus_lite.record.session import Session
from janus_lite.record.text import Text

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
Rule = Callable[[Session, Any, Arguments, Keywords], bool]
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_LOGGERS = (logging.Logger, logging.RootLogger)


def is_deferred(function: Any) -> bool:
    """Whether a call of `function` is held back by replays and may get a `Text`."""
    plain = function.__func__ if type(function) is MethodType else function
    return type(plain) in (FunctionType, type(print)) and plain in _RULES


def call(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    """Make and record a host call.

    Returns:
        Whether it was made; not when the recording has to look into the function itself.
    """
    return _RULES[function](session, function, args, kwargs)


def plain_arguments(
    session: Session | None, function: Any, args: Arguments, kwargs: Keywords
) -> tuple[Arguments, Keywords]:
    """Arguments for a function that takes no `Text`: there the text leaves the graph.

    Numbers in it are taken for constants from now on; of tensors no guard can say the same.
    """
    texts = [value for value in (*args, *kwargs.values()) if type(value) is Text]
    if not texts:
        return args, kwargs
    if session is not None:
        for number in (number for text in texts for number in text.numbers):
            session.numbers.fix(number)
        if any(text.has_tensors for text in texts):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            session.stop(Code.TENSOR_ESCAPE, f"hands the text of a tensor to `{name}`")
    return tuple(map(Text.unwrap, args)), {k: Text.unwrap(v) for k, v in kwargs.items()}


# ------------------------------------------------------------------------------------- rules


def _print(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    shown = tuple(_as_text(session, a) for a in args)
    _make(session, function, shown, kwargs, partial(print, *_real(shown), **_real(kwargs)), "print")
    return True


def _warn(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    given = dict(zip(("message", "category", "stacklevel"), args, strict=False)) | kwargs
    message, category = given.pop("message", None), given.pop("category", None)
    level = given.pop("stacklevel", 1)
    problem = None
    if given or len(args) > 3 or not is_a(message, str | Text):
        problem = "arguments that have no rule"
    elif category is not None and not _is_c_class(session, category):
        problem = "a category whose code is the program's own"
    real = partial(stack.as_seen_by_user(function), *_real(args), **_real(kwargs))
    place = stack.place(level)
    deferred = partial(stack.warn_at, place)
    _make(session, deferred, (message, category), {}, real, "warnings.warn", problem)
    return True


def _log_method(level: int | None) -> Rule:
    """A method of a logger; without `level` it is the first argument after the logger."""

    def run(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
        logger, *rest = args
        real = partial(stack.as_seen_by_user(function), *_real(args), **_real(kwargs))
        return _log(session, function, logger, level, rest, kwargs, real)

    return run


def _log_function(level: int | None) -> Rule:
    """A function of `logging`: logs to the root logger, after setting it up when nobody has."""

    def run(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
        if not logging.root.handlers:
            return False
        real = partial(stack.as_seen_by_user(function), *_real(args), **_real(kwargs))
        return _log(session, function, None, level, [*args], kwargs, real)

    return run


def _log(
    session: Session,
    function: Any,
    logger: logging.Logger | None,
    level: int | None,
    rest: list[Any],
    kwargs: Keywords,
    real: Callable[[], object],
) -> bool:
    """Log to `logger`, `None` for the root. Below its level nothing happens; a guard says so."""
    found = rest.pop(0) if level is None and rest else level
    target = logging.root if logger is None else logger
    if type(target) not in _LOGGERS or not isinstance(found, int) or not rest:
        return False
    with session.own_work():
        is_enabled = target.isEnabledFor(found)
    if not is_enabled:
        return False
    extra = dict(kwargs)
    problem = None
    if extra.pop("exc_info", None) or extra.pop("stack_info", False):
        problem = "a traceback"
    place = stack.place(extra.pop("stacklevel", 1), stack.is_logging)
    deferred = partial(stack.log_at, place, found)
    name = f"logging.{function.__name__}"
    _make(session, deferred, (logger, *rest), extra, real, name, problem)
    return True


def _assert(_session: Session, _function: Any, args: Arguments, _kwargs: Keywords) -> bool:
    """`torch._assert` of what holds does nothing, and does not look at its message."""
    return bool(args) and args[0] is True


_RULES: dict[Any, Rule] = {
    torch._assert: _assert,
    print: _print,
    warnings.warn: _warn,
    logging.Logger.log: _log_method(None),
    logging.log: _log_function(None),
}
for _name, _level in _LEVELS.items():
    _RULES[getattr(logging.Logger, _name)] = _log_method(_level)
    _RULES[getattr(logging, _name)] = _log_function(_level)


# ----------------------------------------------------------------------------------- recording


def _make(
    session: Session,
    function: Callable[..., Any],
    args: Arguments,
    kwargs: Keywords,
    real: Callable[[], object],
    name: str,
    problem: str | None = None,
) -> None:
    """Note the call as an effect, or stop the trace; then make it."""
    problem = problem or _problem(session, (*args, *kwargs.values()))
    planner = OutputPlanner(session, is_trial=True)
    with session.own_work():
        plans = tuple(map(planner.plan, args))
        named = {key: planner.plan(value) for key, value in kwargs.items()}
    problem = problem or planner.failure
    if problem is not None:
        session.stop(Code.HOST_EFFECT, f"calls `{name}` with {problem}")
    else:
        position = len(session.tape.operations)
        since = min([position, *(t.since for t in (*args, *kwargs.values()) if is_a(t, Text))])
        call = HostCall(function, plans, named, name, session.site(), position, since)
        session.writes.add(call)
    with session.aside():
        real()


def _problem(session: Session, values: Arguments) -> str | None:
    """What stands in the way of making the call later."""
    if session.opaque:
        return "an autograd.Function around it"
    if session.tape.try_depth:
        return "a `try` or `with` around it, which would see its error"
    for value in values:
        if not _is_shown_by_library(session, value):
            return f"a {type(value).__qualname__}, whose text is made by code of its own"
    return None


def _is_shown_by_library(session: Session, value: Any) -> bool:
    """Whether making the text of `value` runs no code of the program."""
    if is_symbolic(value) or is_a(value, Text | torch.Tensor | torch.Size | FunctionType):
        return True
    if type(value) in _LOGGERS:
        return True
    if is_a(value, type):
        methods = [session.heap.class_attribute(type(value), n)[1] for n in ("__str__", "__repr__")]
        return not any(is_a(method, FunctionType) for method in methods)
    return session.heap.snapshot(value) or type(value).__module__ == "_io"


def _as_text(session: Session, value: Any) -> Any:
    """The text of an object whose class makes it in Python; anything else as it is."""
    if type(value) in SCALARS or is_symbolic(value):
        return value
    if is_a(value, Text | torch.Tensor | FunctionType):
        return value
    for name in ("__str__", "__repr__"):
        _, method = session.heap.class_attribute(type(value), name)
        if is_a(method, FunctionType):
            return session.call(method, (value,), {})
        if method is not object.__str__:
            break
    return value


def _is_c_class(session: Session, category: Any) -> bool:
    if not is_a(category, type):
        return False
    methods = (session.heap.class_attribute(category, n)[1] for n in ("__init__", "__new__"))
    return not any(is_a(method, FunctionType | staticmethod) for method in methods)


def _real(values: Any) -> Any:
    """Arguments as this run passes them: texts as strings, varying numbers as numbers."""
    if is_a(values, dict):
        return {key: rebuilt(Text.unwrap(value), plain) for key, value in values.items()}
    return tuple(rebuilt(Text.unwrap(value), plain) for value in values)
