"""Figures as people read them. Everything is stored in seconds and bytes."""

from __future__ import annotations

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def seconds(value: float | None) -> str:
    """Return seconds with three significant digits and a fitting unit; `-` for none."""
    if value is None:
        return "-"
    for scale, unit in _TIMES:
        if abs(value) >= scale or unit == "ns":
            return f"{_three_digits(value / scale)} {unit}"
    raise AssertionError("unreachable: the last unit takes every value")


def nbytes(value: int | None) -> str:
    """Return bytes with a fitting binary unit; `-` for none."""
    if value is None:
        return "-"
    for scale, unit in _SIZES:
        if value >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{value} B"


def _three_digits(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
