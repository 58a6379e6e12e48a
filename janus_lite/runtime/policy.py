"""When to record, and when to stop trying.

A recording costs a few imperative calls. A function whose recordings are never hit would pay that
for ever, so after `patience` recordings without a hit it stays imperative, with the reason that
stood in the way. A hit gives new patience.
"""

from __future__ import annotations

from janus_lite.errors import Code, Reason


class Policy:
    """Decides for one function whether the next miss is recorded.

    Args:
        warmup: imperative calls before the first recording is converted, at least 1: the
            recorded call itself.
        patience: recordings without a hit after which the function is left alone.
    """

    def __init__(self, warmup: int, patience: int) -> None:
        self._warmup = warmup
        self._patience = patience
        self._calls = 0
        self._fruitless = 0
        self._hits_seen = 0
        self.verdict: Reason | None = None

    def wants_recording(self, hits: int, last_reason: Reason | None) -> bool:
        """Whether to record this call, which no cached graph fits.

        Args:
            hits: hits of the function so far.
            last_reason: why the last recording was not converted.
        """
        self._calls += 1
        if self.verdict is not None or self._calls < self._warmup:
            return False
        if hits > self._hits_seen:
            self._hits_seen, self._fruitless = hits, 0
        if self._fruitless >= self._patience:
            self.verdict = last_reason or Reason(
                Code.MEGAMORPHIC, f"{self._fruitless} graphs in a row were never used again"
            )
            return False
        self._fruitless += 1
        return True

    def forget(self) -> None:
        """Start anew, as after `reset()`."""
        self.__init__(self._warmup, self._patience)  # type: ignore[misc]


