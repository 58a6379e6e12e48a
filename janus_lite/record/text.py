"""Text made from graph values, for those calls that replays can make with other values.

An f-string that stands directly as an argument of a call is handed to the call as a `Text`: the
string of this run and the plan that makes it again. Only a host call takes it as that. Anything
else gets the string, and then the text has left the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import is_made, is_symbolic, plain
from janus_lite.record.session import Session
from janus_lite.record.source import Source
from janus_lite.record.trace import Ref

_CONVERSIONS: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """`{value!conversion:specification}` of an f-string; the graph has another value each time.

    Attributes:
        value: a tensor or number of the graph, or the source of a varying number.
        conversion: `s`, `r`, `a`, or nothing.
        specification: what follows the colon.
    """

    value: Ref | Source
    conversion: str
    specification: str


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """An f-string with tensors or varying numbers in it.

    Attributes:
        value: the string of this run.
        parts: strings and pieces.
        since: how many torch operations had run when its first piece was made.
    """

    value: str
    parts: tuple[str | Piece, ...]
    since: int

    @staticmethod
    def unwrap(value: Any) -> Any:
        """The string of a text; anything else as it is."""
        return value.value if type(value) is Text else value


def make_piece(session: Session, value: Any, conversion: str, specification: str) -> Text | None:
    """One formatted tensor or number, `None` where the graph does not have it."""
    place: Ref | Source | None = None
    if is_symbolic(value):
        place = Ref(value.source.index) if is_made(value) else session.numbers.use(value)
    elif is_a(value, torch.Tensor):
        place = session.tape.ref_of(value)
    if place is None:
        return None
    with session.aside():
        shown = format(convert(plain(value), conversion), specification)
    piece = Piece(place, conversion, specification)
    return Text(shown, (piece,), len(session.tape.operations))


def join(parts: tuple[str | Text, ...]) -> str | Text:
    """The f-string of its parts."""
    texts = [part for part in parts if isinstance(part, Text)]
    joined = "".join(map(Text.unwrap, parts))
    if not texts:
        return joined
    flat = [p for part in parts for p in (part.parts if isinstance(part, Text) else (part,))]
    return Text(joined, tuple(flat), min(text.since for text in texts))


def convert(value: Any, conversion: str) -> Any:
    """`!r` and its like."""
    return _CONVERSIONS[conversion](value) if conversion else value
