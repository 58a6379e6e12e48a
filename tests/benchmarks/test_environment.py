"""A results file says where it was measured, and nothing about whose machine it was."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.environment import read_environment

pytestmark = pytest.mark.tiny


def test_it_names_versions_threads_and_commit() -> None:
    environment = read_environment("cpu")

    assert environment.versions["torch"] == torch.__version__
    assert environment.threads == torch.get_num_threads()
    assert re.fullmatch(r"[0-9a-f]{12}\+?|unknown", environment.commit)


def test_it_names_neither_host_nor_path() -> None:
    text = json.dumps(read_environment("cpu").as_dict())

    assert platform.node() not in text
    assert str(Path.cwd()) not in text


def test_results_of_a_gpu_have_a_folder_of_their_own() -> None:
    environment = read_environment("cpu")

    assert environment.slug == "cpu"
    gpu = replace(environment, device="cuda", device_name="NVIDIA H100 80GB HBM3")
    assert gpu.slug == "nvidia-h100-80gb-hbm3"
