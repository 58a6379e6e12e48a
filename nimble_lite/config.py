"""One frozen `Config`; the only file of the package that reads the environment.

Precedence: argument of `schedule` > `config.patch(...)` > environment > default.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Knobs of the package; each is listed in `docs/knobs.md`.

    Attributes:
        stream_cap: most streams that `streams="auto"` considers.
        memory_budget: bytes that the intermediate tensors of a schedule may take in the arena
            bound; streams are given up until they fit. 0 means no limit.
        max_graphs: captured CUDA graphs that one scheduled function keeps; the least recently used
            is given back first and captured again when it is needed.
        check_capture: after a capture, compare the order in the CUDA graph with the plan's.
        measure: with no backend named, run the candidates and keep the fastest.
        dump: folder that receives task graph, program and generated source of each schedule
            (`NIMBLE_LITE_DUMP`).
    """

    stream_cap: int = 4
    memory_budget: int = 0
    max_graphs: int = 8
    check_capture: bool = False
    measure: bool = True
    dump: str = ""


_current = Config(dump=os.environ.get("NIMBLE_LITE_DUMP", ""))


def current() -> Config:
    """Return the configuration in force."""
    return _current


@contextlib.contextmanager
def patch(**changes: bool | int | str) -> Iterator[Config]:
    """Change knobs inside a `with` block.

    Args:
        **changes: field names of `Config` and their new values.

    Raises:
        TypeError: an unknown knob; the message lists the known ones.
    """
    global _current
    known = {field.name for field in fields(Config)}
    if unknown := set(changes) - known:
        raise TypeError(f"unknown knob {sorted(unknown)}; expected one of {sorted(known)}")
    before = _current
    _current = replace(before, **changes)  # type: ignore[arg-type]  # names are checked above
    try:
        yield _current
    finally:
        _current = before
