"""Knobs are read in `config.py` alone, are few, and stand in `docs/knobs.md` as they are."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from tests.meta.repository import PACKAGES, ROOT, module_name, parse, python_files

MOST_KNOBS = 12
# | `disable` | `JANUS_LITE_DISABLE` | `False` | what it does |
ROW = re.compile(r"^\| `(\w+)` \| (?:`(\w+)`|-) \| `(.*?)` \| .+ \|$", re.MULTILINE)


@pytest.fixture(params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def section(package: str) -> str:
    """The part of the page under the heading `## package`."""
    page = (ROOT / "docs" / "knobs.md").read_text(encoding="utf-8")
    return page.partition(f"## {package}\n")[2].partition("\n## ")[0]


def environment_names(path: Path) -> set[str]:
    """Names of environment variables that a file spells out."""
    prefixes = tuple(f"{package.upper()}_" for package in PACKAGES)
    return {
        node.value
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(prefixes)
        and node.value.replace("_", "").isalpha()
    }


def test_the_page_lists_every_knob_with_its_variable_and_default(name: str) -> None:
    config = importlib.import_module(f"{name}.config").Config
    rows = {knob: (variable, default) for knob, variable, default in ROW.findall(section(name))}

    assert {knob: default for knob, (_, default) in rows.items()} == {
        field.name: repr(field.default) for field in dataclasses.fields(config)
    }
    variables = {variable for variable, _ in rows.values() if variable}
    assert variables == environment_names(ROOT / name / "config.py")


def test_there_are_at_most_a_dozen_knobs(name: str) -> None:
    config = importlib.import_module(f"{name}.config").Config

    assert len(dataclasses.fields(config)) <= MOST_KNOBS


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=module_name)
def test_only_config_reads_the_environment(path: Path) -> None:
    if path.name == "config.py" and path.parent.name in PACKAGES:
        return
    reads = [
        node.lineno
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]

    assert not reads
    assert not environment_names(path)
