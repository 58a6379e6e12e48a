"""Ahead-of-time scheduled, race-free, multi-stream replay of PyTorch graphs (after Nimble).

Example:
    >>> import nimble_lite
    >>> s = nimble_lite.schedule(model, (x,))
    >>> y = s(x)                     # same bits as model(x), without the Python in between
    >>> print(s.report())
"""

from nimble_lite import config as config
from nimble_lite.api import ScheduledFunction, schedule
from nimble_lite.errors import NimbleError
from nimble_lite.report import Report

__all__ = ["NimbleError", "Report", "ScheduledFunction", "config", "schedule"]
