"""What looks at the call stack must not see the recorder: each such function as the user means it.

Between two frames of the user's program stand frames of this package while a run is recorded. Here
they are skipped, so that `sys._getframe(1)` is the caller, and a warning or a log record names the
user's line.
"""

from __future__ import annotations

import logging
import os
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from janus_lite.record.audit import is_own_file
from janus_lite.record.kinds import is_a

_RECORDER = os.path.join(os.path.dirname(__file__), "recorder.py")
_LOGGER_METHODS = "debug info warning error critical exception log _log".split()
_LOGGING: frozenset[object] = frozenset(
    found
    for owner in (logging, logging.Logger)
    for name in _LOGGER_METHODS
    if (found := getattr(owner, name, None)) is not None
)


def as_seen_by_user(function: Any) -> Any:
    """Return what to call in place of `function`: itself, unless it looks at the stack."""
    if function is sys._getframe:
        return get_frame
    if function is warnings.warn:
        return warn
    plain = function.__func__ if type(function) is types.MethodType else function
    if is_a(plain, types.FunctionType) and plain in _LOGGING:
        return partial(_log, function)
    return function


def get_frame(depth: int = 0) -> FrameType:
    """`sys._getframe(depth)`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_own_file(frame.f_code.co_filename):
            if depth == 0:
                return frame
            depth -= 1
        frame = frame.f_back
    raise ValueError("call stack is not deep enough")


def warn(message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **more: Any) -> None:
    """`warnings.warn`."""
    level = _level(stacklevel, _nothing)
    warnings.warn(message, category, level, *args, **more)  # `level` is given


def _log(method: Callable[..., None], *args: Any, stacklevel: int = 1, **more: Any) -> None:
    level = _level(stacklevel, is_logging)
    method(*args, stacklevel=level, **more)


def _level(wanted: int, is_ignored: Callable[[FrameType], bool]) -> int:
    """The position, counted from our caller, of the frame that the user calls number `wanted`."""
    frame: FrameType | None = sys._getframe(1)
    position = 0
    while frame is not None and wanted > 0:
        if not is_ignored(frame):
            position += 1
            wanted -= not is_own_file(frame.f_code.co_filename)
        frame = frame.f_back
    return position


def is_logging(frame: FrameType) -> bool:
    """Whether a frame is one that log records never name."""
    return frame.f_code.co_filename == logging._srcfile


# ----------------------------------------------------------------------- places for later calls


@dataclass(frozen=True, slots=True)
class Place:
    """What a warning or log record says about where it came from.

    Attributes:
        file: of the frame it names, when that frame belongs to the recorded run.
        line: likewise.
        function: likewise.
        names: the frame's globals; `None` when it lies outside of the run.
        beyond: the number of the frame, counted from the caller of the speculated function.
    """

    file: str = ""
    line: int = 0
    function: str = ""
    names: dict[str, Any] | None = None
    beyond: int = 0


def _nothing(_frame: FrameType) -> bool:
    return False


def place(level: int, is_ignored: Callable[[FrameType], bool] = _nothing) -> Place:
    """The frame that the user calls number `level`, in a form that a replay can name."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != _RECORDER:
        if not is_own_file(frame.f_code.co_filename) and not is_ignored(frame):
            level -= 1
            if level <= 0:
                code = frame.f_code
                return Place(code.co_filename, frame.f_lineno, code.co_name, frame.f_globals)
        frame = frame.f_back
    return Place(beyond=level)


def warn_at(where: Place, message: Any, category: Any) -> None:
    """`warnings.warn` as if called from the recorded run."""
    names = where.names
    if names is None:
        warn(message, category, where.beyond)
        return
    registry = names.setdefault("__warningregistry__", {})
    module = names.get("__name__") or "<string>"
    category = UserWarning if category is None else category
    warnings.warn_explicit(message, category, where.file, where.line, module, registry)


def log_at(
    where: Place, level: int, logger: logging.Logger | None, message: Any, *args: Any, **more: Any
) -> None:
    """A logger's method as if called from the recorded run; `None` is the root logger."""
    if logger is None:
        logger = logging.root
        if not logger.handlers:
            logging.basicConfig()
    if not logger.isEnabledFor(level):
        return
    file, line, function = where.file, where.line, where.function
    if where.names is None:
        frame = _caller(where.beyond)
        file, line, function = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
    extra = more.get("extra")
    record = logger.makeRecord(
        logger.name, level, file, line, message, args, None, function, extra, None
    )
    logger.handle(record)


def _caller(number: int) -> FrameType:
    """The frame of that number outside of this package; the outermost when there are fewer."""
    frame = sys._getframe(1)
    while frame.f_back is not None and number > 0:
        frame = frame.f_back
        number -= not is_own_file(frame.f_code.co_filename) and not is_logging(frame)
    return frame
