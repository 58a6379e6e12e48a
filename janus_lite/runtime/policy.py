"""When to record, and when to stop trying.

A recording costs a few imperative calls, so it must be earned. A function starts with a credit of
`patience` recordings; each recording takes one, one that fails `FAILURE_COST`; each
`HITS_PER_RECORDING` hits give one back, never above `patience`. Without credit a miss runs
imperatively, with the reason that stood in the way.
"""

from __future__ import annotations

from janus_lite.errors import Code, Reason

HITS_PER_RECORDING = 4
# A recording that could not be converted costs as much time and promises less.
FAILURE_COST = 4


class Policy:
    """Decides for one function whether the next miss is recorded.

    Args:
        warmup: which call is the first to be recorded; 1 is the first.
        patience: the credit to start with, and the most that can be saved.

    Attributes:
        verdict: why misses are not recorded now, `None` while there is credit.
    """

    def __init__(self, warmup: int, patience: int) -> None:
        self._warmup = warmup
        self._patience = patience
        self.forget()

    def forget(self) -> None:
        """Start anew, as after `reset()`."""
        self._misses = 0
        self._credit = float(self._patience)
        self._hits_seen = 0
        self.verdict: Reason | None = None

    def wants_recording(self, hits: int, last_reason: Reason | None) -> bool:
        """Whether to record this call, which no cached graph fits.

        Args:
            hits: hits of the function so far.
            last_reason: why the last recording was not converted, when it was not.
        """
        self._misses += 1
        if self._misses < self._warmup:
            return False
        earned = max(0, hits - self._hits_seen) / HITS_PER_RECORDING
        self._hits_seen = hits
        self._credit = min(self._patience, self._credit + earned)
        if self._credit < 1:
            found = f"{self._patience} recordings gave graphs that are hardly ever used again"
            self.verdict = last_reason or Reason(Code.MEGAMORPHIC, found)
            return False
        self._credit -= 1
        self.verdict = None
        return True

    def note_failure(self) -> None:
        """The recording just made could not be converted."""
        self._credit -= FAILURE_COST - 1


class RegionCredit:
    """How many replays may still be called off because a function region lacked a graph.

    Each takes one; each `HITS_PER_CALL_OFF` hits give one back, never above `MOST_CALL_OFFS`.
    """

    HITS_PER_CALL_OFF = 5
    MOST_CALL_OFFS = 12

    def __init__(self) -> None:
        self._credit = float(self.MOST_CALL_OFFS)
        self._hits_seen = 0

    def take(self, hits: int) -> bool:
        """Count one replay that was called off; whether more may follow."""
        earned = max(0, hits - self._hits_seen) / self.HITS_PER_CALL_OFF
        self._hits_seen = hits
        self._credit = min(self.MOST_CALL_OFFS, self._credit + earned) - 1
        return self._credit >= 0
