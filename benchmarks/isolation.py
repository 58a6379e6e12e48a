"""Run a function in a child process, so that a crash or a hang is an answer and not an end.

Enters: a picklable function and items. Leaves: one `Answer` per item. Invariant: every `ask`
returns within its time limit plus the time to start a child; after a crash or a time-out the
next item gets a fresh child.

Example:
    >>> with IsolatedWorker(examine) as worker:
    ...     worker.ask("timm/resnet", timeout_s=60)
    Answer(value=..., failure='')
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Self

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the child returned, or why there is nothing: it raised, crashed or timed out."""

    value: Any = None
    failure: str = ""


class IsolatedWorker:
    """One child process at a time that computes `function(item)`."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, item: Any, *, timeout_s: float) -> Answer:
        """Return `function(item)`, computed in the child within `timeout_s` seconds."""
        connection = self._connection or self._start()
        try:
            connection.send(item)
            if not connection.poll(timeout_s):
                self._stop()
                return Answer(failure=f"timed out after {timeout_s:.0f} s")
            answer: Answer = connection.recv()
            return answer
        except (EOFError, OSError):
            return Answer(failure=f"crashed: {self._stop()}")

    def _start(self) -> Connection:
        ours, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_serve, args=(self._function, theirs), name="isolated", daemon=True
        )
        self._process.start()
        theirs.close()
        self._connection = ours
        return ours

    def _stop(self) -> str:
        """End the child; return how it had ended when it did so by itself."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return ""
        process.join(timeout=1.0)
        if process.is_alive():
            process.kill()
            process.join()
        return _exit_text(process.exitcode)


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _serve(function: Callable[[Any], Any], connection: Connection) -> None:
    # The parent prints; a child that shared its terminal would break the progress display.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(_answer(function, item))


def _answer(function: Callable[[Any], Any], item: Any) -> Answer:
    try:
        return Answer(value=function(item))
    except Exception as error:
        return Answer(failure=f"raised {type(error).__name__}: {error}")
