"""Every program runs twice.

Once with its heap facts checked one by one and straight graphs only, once behind the fingerprint
and with every loop and branch in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from janus_lite import config
from janus_lite.runtime import emit


@pytest.fixture(params=[False, True], ids=["straight", "regions"], autouse=True)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Small programs would never reach the fingerprint, where a stale word is a stale answer."""
    monkeypatch.setattr(emit, "FINGERPRINT_FROM", 0 if request.param else 1_000_000)
    with config.patch(regions="always" if request.param else "off"):
        yield request.param
