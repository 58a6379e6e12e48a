"""A child that raises, crashes or hangs is an answer, and the next item is computed."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest

from benchmarks.isolation import Answer, IsolatedWorker

pytestmark = pytest.mark.slow


def test_values_and_exceptions_come_back() -> None:
    with IsolatedWorker(math.sqrt) as worker:
        assert worker.ask(4, timeout_s=60) == Answer(value=2.0)
        assert worker.ask(-1, timeout_s=60).failure.startswith("raised ValueError")
        assert worker.ask(9, timeout_s=60) == Answer(value=3.0)


def test_an_exit_is_named_and_the_next_item_gets_a_fresh_child() -> None:
    with IsolatedWorker(os._exit) as worker:
        assert worker.ask(3, timeout_s=60) == Answer(failure="crashed: exit code 3")
        assert worker.ask(4, timeout_s=60) == Answer(failure="crashed: exit code 4")


def test_a_signal_is_named() -> None:
    with IsolatedWorker(signal.raise_signal) as worker:
        answer = worker.ask(signal.SIGKILL, timeout_s=60)

    assert answer == Answer(failure="crashed: SIGKILL")


def test_a_hang_ends_at_the_time_limit() -> None:
    with IsolatedWorker(time.sleep) as worker:
        worker.ask(0, timeout_s=60)
        assert worker.ask(600, timeout_s=0.2) == Answer(failure="timed out after 0 s")
