"""What holds for every test: fixed seeds, one torch thread, nothing left behind."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from janus_lite import config

SEED = 20190226


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """Process-wide state that a test, and the library under test, must leave as it was."""

    grad: bool
    inference: bool
    autocast_cpu: bool
    deterministic: bool
    default_dtype: torch.dtype
    default_device: torch.device
    threads: int
    function_modes: int
    dispatch_modes: int
    profile_hook: object
    trace_hook: object
    monitoring_tools: tuple[str | None, ...]
    python_threads: frozenset[str]


def ambient() -> Ambient:
    """Read the state; cheap enough for every test."""
    return Ambient(
        grad=torch.is_grad_enabled(),
        inference=torch.is_inference_mode_enabled(),
        autocast_cpu=torch.is_autocast_enabled("cpu"),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        default_dtype=torch.get_default_dtype(),
        default_device=torch.get_default_device(),
        threads=torch.get_num_threads(),
        function_modes=torch._C._len_torch_function_stack(),
        dispatch_modes=torch._C._len_torch_dispatch_stack(),
        profile_hook=sys.getprofile(),
        trace_hook=sys.gettrace(),
        monitoring_tools=_monitoring_tools(),
        # Libraries keep daemon threads for their own pools; one that is not would hold up the exit.
        python_threads=frozenset(t.name for t in threading.enumerate() if not t.daemon),
    )


def _monitoring_tools() -> tuple[str | None, ...]:
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    return tuple(monitoring.get_tool(tool) for tool in range(6)) if monitoring else ()


@pytest.fixture(autouse=True)
def reproducible_and_clean() -> Iterator[None]:
    """Start every test from the same state; hold it to leaving that state behind."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    before = ambient()
    with config.patch(profit=False):  # what a test expects must not depend on a clock
        yield
    assert ambient() == before, "the test left process-wide state changed"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Know the setting of pytest-timeout also where it is missing: the GPU tests do without."""
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "seconds per test; has no effect without pytest-timeout")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot or should not run here, visibly."""
    if not torch.cuda.is_available():
        no_device = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(no_device)
    if not config.option.markexpr:
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many GPU tests did not run: a silent skip reads like a pass."""
    skipped = terminalreporter.stats.get("skipped", [])
    waiting = sum("gpu" in report.keywords for report in skipped)
    if waiting:
        terminalreporter.write_line(f"gpu: {waiting} skipped")
