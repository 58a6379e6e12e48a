"""Where a figure was measured: device, versions, commit, clocks.

Enters: a device string. Leaves: a frozen `Environment` that stands in every results file. It
holds no host name and no path.

Example:
    >>> read_environment("cpu").slug
    'cpu'
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "triton", "pytest-benchmark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The circumstances of a run.

    Attributes:
        device: `cpu` or `cuda`.
        device_name: what the machine calls it.
        driver: CUDA driver and run-time versions; empty on a CPU.
        clock_mhz: clock at the start of the run; `None` where it cannot be read.
        power_limit_w: power limit of the GPU; `None` on a CPU.
        cores: logical cores that this process may use.
        threads: threads of torch inside one operation.
        load: mean number of running processes over the last minute, at the start of the run.
        python: version of Python.
        system: operating system and machine type.
        versions: versions of the libraries that decide a figure.
        commit: commit of this repository, with `+` when the tree differed from it.
    """

    device: str
    device_name: str
    driver: str
    clock_mhz: float | None
    power_limit_w: float | None
    cores: int
    threads: int
    load: float
    python: str
    system: str
    versions: dict[str, str]
    commit: str

    @property
    def slug(self) -> str:
        """A folder name for results of this device."""
        if self.device == "cpu":
            return "cpu"
        return re.sub(r"[^a-z0-9]+", "-", self.device_name.lower()).strip("-")

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dataclasses.asdict(self)


def without_places(text: str) -> str:
    """Return `text` on one line, without what differs from machine to machine."""
    text = text.replace(f"{REPOSITORY}/", "")
    text = re.sub(r"/[^\s'\"]*?/lib/python3\.\d+/(site-packages/)?", "", text)
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(text.split()))


def read_environment(device: str) -> Environment:
    """Return what can be read here without special rights."""
    is_cuda = device.startswith("cuda")
    clock, power, driver = _gpu_state() if is_cuda else (_cpu_clock(), None, "")
    return Environment(
        device="cuda" if is_cuda else "cpu",
        device_name=torch.cuda.get_device_name() if is_cuda else _cpu_name(),
        driver=driver,
        clock_mhz=clock,
        power_limit_w=power,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1.0,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions=_versions(),
        commit=read_commit(),
    )


def read_commit() -> str:
    """Return the short commit, with `+` when the tree has changes; `unknown` outside git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "unknown"
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(REPOSITORY), *arguments],  # noqa: S607 - git is looked up on purpose
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["torch"] = torch.__version__
    return found


def _cpu_field(name: str) -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _cpu_name() -> str:
    return _cpu_field("model name") or platform.processor() or platform.machine()


def _cpu_clock() -> float | None:
    field = _cpu_field("cpu MHz")
    return float(field) if field else None


def _gpu_state() -> tuple[float | None, float | None, str]:
    runtime = f"CUDA {torch.version.cuda}"
    try:
        import pynvml

        pynvml.nvmlInit()
    except (ImportError, OSError, RuntimeError):
        return None, None, runtime
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        clock = float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        power = pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000.0
        driver = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None, None, runtime
    finally:
        pynvml.nvmlShutdown()
    return clock, power, f"driver {driver}, {runtime}"
