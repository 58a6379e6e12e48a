"""Every program runs twice: its heap facts checked one by one, and behind the fingerprint."""

from __future__ import annotations

import pytest

from janus_lite.runtime import emit


@pytest.fixture(params=[False, True], ids=["straight", "fingerprint"], autouse=True)
def fingerprint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small programs would never reach the fingerprint, where a stale word is a stale answer."""
    monkeypatch.setattr(emit, "FINGERPRINT_FROM", 0 if request.param else 1_000_000)
