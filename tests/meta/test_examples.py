"""The examples run, as a user runs them, and each of them compares with eager."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

from tests.meta.repository import ROOT, parse

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 60


def name(path: Path) -> str:
    return path.stem


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_runs_and_prints(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")

    assert capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_is_short_and_compares_with_eager(path: Path) -> None:
    asserted = [node.test for node in ast.walk(parse(path)) if isinstance(node, ast.Assert)]

    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert any("torch.equal(" in ast.unparse(test) for test in asserted)


def test_there_are_examples() -> None:
    assert EXAMPLES
