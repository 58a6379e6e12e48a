"""A results file says where it was measured, and nothing about whose machine it was."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.environment import REPOSITORY, read_environment, without_places

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


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("in /home/me/env/lib/python3.11/site-packages/timm/a.py:3", "in timm/a.py:3"),
        ("in /usr/lib/python3.12/logging/__init__.py:9", "in logging/__init__.py:9"),
        (f"in {REPOSITORY}/benchmarks/cases.py:7", "in benchmarks/cases.py:7"),
        ("<weakref at 0x7f07dd45eca0; to 'Parameter' at 0x7f07dd45c0f0>",
         "<weakref; to 'Parameter'>"),
        ("two\n  lines", "two lines"),
    ],
)  # fmt: skip
def test_places_are_taken_out_of_texts(text: str, kept: str) -> None:
    assert without_places(text) == kept
