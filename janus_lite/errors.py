"""Error family and the catalogue of reason codes.

Every time janus_lite does *not* speculate there is a `Reason`: a stable code, a site in the user's
program, what was found and what to do about it. The same object is logged, shown by `explain()`
and, under `strict=True`, raised as a `ConversionError`. `docs/errors.md` has one section per code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    """What stopped a conversion; the value is the stable public code."""

    NO_SOURCE = "JL0101"
    SYNTAX = "JL0102"
    COROUTINE = "JL0103"
    UNKNOWN_CALL = "JL0201"
    UNKNOWN_OBJECT = "JL0202"
    LEAK = "JL0203"
    RECURSION = "JL0204"
    OUTSIDE_WRITE = "JL0301"
    HOST_EFFECT = "JL0302"
    OUTSIDE_ITERATOR = "JL0303"
    UNKNOWN_TENSOR = "JL0401"
    UNSUPPORTED_TENSOR = "JL0402"
    TENSOR_ESCAPE = "JL0403"
    MISSED_OPERATION = "JL0404"
    OPERATION_RAISED = "JL0405"
    LATE_ASSERTION = "JL0407"
    VALUE_VARIES = "JL0408"
    UNEQUAL = "JL0409"
    ESCAPING_OUTPUT = "JL0501"
    AMBIENT_STATE = "JL0601"
    MEGAMORPHIC = "JL0602"
    BACKEND = "JL0604"
    UNPROFITABLE = "JL0605"
    INTERNAL = "JL0901"


HINTS: dict[Code, str] = {
    Code.NO_SOURCE: "define the function in a file, or call it outside the speculated function",
    Code.SYNTAX: "move the construct into a function that is called outside the speculated one",
    Code.COROUTINE: "speculate on the synchronous function that the coroutine calls",
    Code.UNKNOWN_CALL: "call it outside the speculated function, or pass its result in",
    Code.UNKNOWN_OBJECT: "pass plain tensors, numbers, containers or modules",
    Code.LEAK: "call the function from Python code rather than through a C callback",
    Code.RECURSION: "pass parts of the arguments, return new tensors, store after the call",
    Code.OUTSIDE_WRITE: "return the new value instead of storing it, or store it in the caller",
    Code.HOST_EFFECT: "do it in the caller, with plain values and outside of `try`",
    Code.OUTSIDE_ITERATOR: "create the iterator inside the function, or pass a list",
    Code.UNKNOWN_TENSOR: "create the tensor with torch functions, or pass it as an argument",
    Code.UNSUPPORTED_TENSOR: "use plain dense tensors, or speculate on the part that does",
    Code.TENSOR_ESCAPE: "keep the value a tensor, or convert it in the caller",
    Code.MISSED_OPERATION: "please report it with the operation's name",
    Code.OPERATION_RAISED: "test for the condition instead of catching the exception",
    Code.LATE_ASSERTION: "test the tensor's value before printing and changing",
    Code.VALUE_VARIES: "keep the decision in tensor code, such as torch.where",
    Code.UNEQUAL: "please report it; the call was answered imperatively, the graph is gone",
    Code.ESCAPING_OUTPUT: "return tensors, numbers, containers or plain objects",
    Code.AMBIENT_STATE: "call the function outside that mode",
    Code.MEGAMORPHIC: "make what varies a tensor, or raise max_graphs",
    Code.UNPROFITABLE: "nothing to do: the function is quick enough as it is",
    Code.BACKEND: "use backend='eager', or fix the backend's own error",
    Code.INTERNAL: "please report it; the call itself ran imperatively and is right",
}


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the user's program: file, line, function."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" in {self.function}" if self.function else "")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call was not converted: code, what was found, where, and the remedy."""

    code: Code
    found: str
    site: Site | None = None

    @property
    def hint(self) -> str:
        """One line: what the user can change."""
        return HINTS[self.code]

    def __str__(self) -> str:
        where = f"{self.site}: " if self.site else ""
        return f"{self.code.value} {where}{self.found} (hint: {self.hint})"


class JanusError(RuntimeError):
    """Base of every error that janus_lite raises itself."""


class ConversionError(JanusError):
    """Raised under `strict=True` when a function cannot be converted.

    Attributes:
        reason: the coded reason.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class MissError(JanusError):
    """Raised under the stance `fail_on_miss` when no cached graph fits the call."""


class BackendError(JanusError):
    """An unknown backend name, or one that cannot be imported."""


class InternalError(JanusError):
    """A bug of janus_lite; please report it with the text."""
