"""Log topics: `JANUS_LITE_LOGS="+cache,guards"` shows what happens, without any code.

A topic is the last part of a logger's name below `janus_lite`. A plain topic shows life events
(INFO), a `+` before it details as well (DEBUG). Nothing is configured while the variable is empty.
"""

from __future__ import annotations

import logging

TOPICS = ("function", "record", "runtime")


def show(topics: str) -> None:
    """Send the named topics to standard error.

    Args:
        topics: comma-separated names out of `TOPICS`, or `all`; `+` before a name adds details.

    Raises:
        ValueError: an unknown topic; the message lists the known ones.
    """
    root = logging.getLogger("janus_lite")
    for entry in filter(None, map(str.strip, topics.split(","))):
        name, level = entry.lstrip("+"), logging.DEBUG if entry.startswith("+") else logging.INFO
        if name != "all" and name not in TOPICS:
            raise ValueError(f"unknown log topic {name!r}; expected 'all' or one of {TOPICS}")
        (root if name == "all" else root.getChild(name)).setLevel(level)
    if topics and not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        root.addHandler(handler)
