"""What looks at the call stack must not see the recorder: each such function as the user means it.

Between two frames of the user's program stand frames of this package while a run is recorded. Here
they are skipped, so that `sys._getframe(1)` is the caller, and a warning or a log record names the
user's line.
"""

from __future__ import annotations

import logging
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from janus_lite.record.audit import is_own_file
from janus_lite.record.kinds import is_a

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
    level = _level(stacklevel, lambda _frame: False)
    warnings.warn(message, category, level, *args, **more)  # `level` is given


def _log(method: Callable[..., None], *args: Any, stacklevel: int = 1, **more: Any) -> None:
    level = _level(stacklevel, lambda frame: frame.f_code.co_filename == logging._srcfile)
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
