"""Everything that `nimble_lite` raises: one family, one table of codes.

A message has four parts: what happened and where in the user's code, what was found, what was
expected, what to do. `InternalError` is the only one that is our fault.

Example:
    >>> error = InputMismatchError("NL0201", what="input 0", found="f32[2]", expected="f32[4]",
    ...                            hint="call schedule() with an example of this shape")
    >>> print(error)
    NL0201 input 0
      found:    f32[2]
      expected: f32[4]
      hint:     call schedule() with an example of this shape
"""

from __future__ import annotations

CODES: dict[str, str] = {
    "NL0101": "the graph depends on the values of its data: a result's shape would vary",
    "NL0102": "a tensor left torch (NumPy, DLPack, a raw pointer) while the function was recorded",
    "NL0103": "an ATen operation ran outside every recorded torch function",
    "NL0104": "an output is an object that cannot be rebuilt for each call",
    "NL0105": "a tensor made by the run was stored outside it",
    "NL0106": "a tensor's storage was exchanged or resized in place",
    "NL0107": "a functorch transform, a tensor subclass or a nested mode was active",
    "NL0201": "an input differs from the example that was scheduled",
    "NL0202": "inputs share memory in another way than the example inputs did",
    "NL0203": "torch's ambient state differs from when the function was scheduled",
    "NL0204": "an input requires grad and grad mode is on",
    "NL0206": "a value that Python read while recording is different now",
    "NL0207": "an output of an earlier replay was used after it was overwritten",
    "NL0208": "a loop was not done after the most iterations it may take",
    "NL0301": "a schedule has a race, or breaks a rule of streams and events",
    "NL0302": "an option has no such value",
    "NL0303": "no schedule fits the memory budget",
    "NL0401": "the backend is not available on this machine",
    "NL0402": "an operation cannot be captured into a CUDA graph",
    "NL0403": "capturing the CUDA graph failed",
    "NL0404": "a conditional region cannot become a conditional node",
    "NL0405": "a captured graph orders operations in another way than the plan",
    "NL0407": "the schedule was closed",
}
"""Every code with the sentence that explains it; `docs/errors.md` has a page for each."""


class NimbleError(RuntimeError):
    """Base of all errors that a user of `nimble_lite` can meet.

    Attributes:
        code: stable code, a key of `CODES`.
    """

    def __init__(
        self, code: str, *, what: str, found: str = "", expected: str = "", hint: str = ""
    ) -> None:
        """Build the four-part message; empty parts are left out."""
        self.code = code
        parts = (("found:", found), ("expected:", expected), ("hint:", hint))
        lines = [f"  {label:<9} {text}" for label, text in parts if text]
        super().__init__("\n".join([f"{code} {what}", *lines]))


class RecordError(NimbleError):
    """The function cannot become a static graph."""


class InputMismatchError(NimbleError):
    """A call does not fit the schedule: inputs, ambient state or the module differ."""


class StaleValueError(NimbleError):
    """A value that the schedule took for constant has changed."""


class ScheduleError(NimbleError):
    """A schedule is wrong or cannot be made as asked."""


class BackendError(NimbleError):
    """A backend is absent or cannot run this schedule."""


class CaptureError(BackendError):
    """A CUDA graph could not be captured; torch stays usable."""


class InternalError(Exception):
    """An invariant of `nimble_lite` is broken. This is a bug of ours: please report it."""
