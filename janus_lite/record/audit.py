"""The audit net: user code that ran without its twin must not go unseen.

While a run is recorded every Python frame that starts is looked at. A frame is expected when its
code is a twin, belongs to this package, or runs below a declared leaf and belongs to the standard
library or torch. Any other frame read or wrote state that no hook saw, so the trace is stopped and
the function is named. Python 3.12 and later use `sys.monitoring`; before, `sys.setprofile`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import torch

Check = Callable[[CodeType], None]
# As code objects name it: an entry of `sys.path` need not be normalised.
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_TORCH = os.path.dirname(torch.__file__) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_SITE_PACKAGES = os.sep + "site-packages" + os.sep


@lru_cache(maxsize=8192)
def is_own_file(filename: str) -> bool:
    """Whether a file belongs to this package."""
    return filename.startswith(_PACKAGE)


@lru_cache(maxsize=8192)
def is_library_file(filename: str) -> bool:
    """Whether a file belongs to torch or the standard library."""
    if filename.startswith((_TORCH, "<frozen ")):
        return True
    return filename.startswith(_STDLIB) and _SITE_PACKAGES not in filename


class Audit(contextlib.AbstractContextManager[None]):
    """Watches frames of the current thread inside a `with` block.

    Args:
        is_expected: tells for a code object whether it may run uninstrumented right now.
        report: called with the first code object that may not.
    """

    _outer: Any = None

    def __init__(
        self, is_expected: Callable[[CodeType], bool], report: Callable[[CodeType], None]
    ) -> None:
        self._is_expected = is_expected
        self._report = report

    @staticmethod
    def is_available() -> bool:
        """Whether nobody else, such as a profiler, holds what the net hangs on."""
        return _monitoring.is_available() if sys.version_info >= (3, 12) else not sys.getprofile()

    def __enter__(self) -> None:
        if sys.version_info >= (3, 12):
            self._outer = _monitoring.start(self._check)
            return

        def profile(frame: FrameType, event: str, _argument: object) -> None:
            if event == "call":
                self._check(frame.f_code)

        sys.setprofile(profile)

    def __exit__(self, *exception: object) -> None:
        if sys.version_info >= (3, 12):
            _monitoring.stop(self._outer)
        else:
            sys.setprofile(None)

    def _check(self, code: CodeType) -> None:
        if not is_own_file(code.co_filename) and not self._is_expected(code):
            self._report(code)


class _Monitoring:
    """One `sys.monitoring` tool shared by all recordings; each thread has its own check."""

    _NAME = "janus_lite"

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._users = 0
        self._tool: int | None = None

    def is_available(self) -> bool:
        """Whether a tool id is free, or taken by another recording."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]  # from 3.12 on
        return self._users > 0 or None in map(monitoring.get_tool, range(6))

    def start(self, check: Check) -> Check | None:
        """Watch the current thread with `check`; return the check before."""
        outer: Check | None = getattr(self._local, "check", None)
        self._local.check = check
        self._start()
        return outer

    def stop(self, outer: Check | None) -> None:
        """Go back to the check before."""
        self._stop()
        self._local.check = outer

    def _start(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]  # from 3.12 on
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            for tool in range(5, -1, -1):
                if monitoring.get_tool(tool) is None:
                    monitoring.use_tool_id(tool, self._NAME)
                    self._tool = tool
                    break
            event = monitoring.events.PY_START
            monitoring.register_callback(self._tool, event, self._started)
            monitoring.set_events(self._tool, event)

    def _stop(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]  # from 3.12 on
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._tool is not None:
                monitoring.set_events(self._tool, 0)
                monitoring.free_tool_id(self._tool)
                self._tool = None

    def _started(self, code: CodeType, _offset: int) -> None:
        check = getattr(self._local, "check", None)
        if check is not None:
            check(code)


_monitoring = _Monitoring()
