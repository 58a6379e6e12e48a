"""One frozen `Config`; the only file of the package that reads the environment.

Precedence: argument of `speculate` > `config.patch(...)` > environment > default.
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
        disable: run every speculated function imperatively (`JANUS_LITE_DISABLE=1`).
        audit: watch for Python frames that ran uninstrumented while recording
            (`JANUS_LITE_AUDIT=0` turns the net off).
        logs: log topics such as `"+function,record"`, read once at import (`JANUS_LITE_LOGS`).
        dump: folder that receives the generated source of each conversion (`JANUS_LITE_DUMP`).
        profit: drop graphs that are no quicker than the function itself
            (`JANUS_LITE_PROFIT=0` keeps them).
        patience: recordings without a single hit after which a function stays imperative.
        regions: whether graphs may have branches and loops: `"auto"`, where runs differed; `"off"`;
            `"always"`, every loop from the first recording on (for tests).
    """

    disable: bool = False
    audit: bool = True
    logs: str = ""
    dump: str = ""
    profit: bool = True
    patience: int = 16
    regions: str = "auto"


def _from_environment() -> Config:
    read = os.environ.get
    return Config(
        disable=read("JANUS_LITE_DISABLE", "0") not in {"", "0"},
        audit=read("JANUS_LITE_AUDIT", "1") not in {"", "0"},
        logs=read("JANUS_LITE_LOGS", ""),
        dump=read("JANUS_LITE_DUMP", ""),
        regions=read("JANUS_LITE_REGIONS", "auto"),
        profit=read("JANUS_LITE_PROFIT", "1") not in {"", "0"},
    )


_current = _from_environment()
is_disabled = _current.disable  # what the hot path looks at


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
    known = {field.name for field in fields(Config)}
    if unknown := set(changes) - known:
        raise TypeError(f"unknown knob {sorted(unknown)}; expected one of {sorted(known)}")
    before = _current
    _set(replace(before, **changes))  # type: ignore[arg-type]  # names are checked above
    try:
        yield _current
    finally:
        _set(before)


def _set(new: Config) -> None:
    global _current, is_disabled
    _current, is_disabled = new, new.disable
