"""What several test files of nimble_lite need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nimble_lite import api
from nimble_lite.api import Backend
from nimble_lite.backends.cuda.fake import FakeDriver


@pytest.fixture(params=["serial", "recorder", "threads", "cuda"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Each backend; `cuda` is the real emission and replay code over the fake driver."""
    drivers: list[FakeDriver] = []

    def fake(device: torch.device, streams: int) -> FakeDriver:
        drivers.append(FakeDriver(streams))
        return drivers[-1]

    monkeypatch.setattr(api, "make_driver", fake)
    name: Backend = request.param
    yield name
    assert [race for driver in drivers for race in driver.races] == []
