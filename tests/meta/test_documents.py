"""What the documents say can be done: snippets run, links and commands exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.meta.repository import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#\s]+)")
FILE = re.compile(r"`((?:janus_lite|nimble_lite|benchmarks|tests|docs|seeds|examples)/[\w/.-]+)`")
TARGET = re.compile(r"\bmake ([a-z]+)\b")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def padded(document: str) -> str:
    """The snippets of a document at their own line numbers, so a traceback points into it."""
    lines = [""] * document.count("\n")
    for match in FENCE.finditer(document):
        kind, code = match.group(1), match.group(2).splitlines()
        if kind == "python":
            start = document[: match.start(2)].count("\n")
            lines[start : start + len(code)] = code
    return "\n".join(lines) + "\n"


with_snippets = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


@pytest.fixture
def run_snippets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], ModuleType]:
    """Run a document's snippets in order, as one module.

    From a real file, not by `exec` of a string: speculation needs the source of what it converts.
    """

    def run(document: Path) -> ModuleType:
        name = f"snippets_of_{document.stem}".replace("-", "_")
        file = tmp_path / f"{name}.py"
        file.write_text(padded(document.read_text(encoding="utf-8")), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return run


@pytest.mark.slow
@pytest.mark.parametrize("document", with_snippets, ids=relative)
def test_every_snippet_runs(document: Path, run_snippets: Callable[[Path], ModuleType]) -> None:
    run_snippets(document)


def test_the_readme_shows_the_graph_that_is_generated(
    run_snippets: Callable[[Path], ModuleType],
) -> None:
    readme = ROOT / "README.md"
    blocks = FENCE.findall(readme.read_text(encoding="utf-8"))
    shown = next(code for kind, code in blocks if not kind and "return " in code)

    generated = run_snippets(readme).attend.code()

    lines = [line.strip() for line in generated.splitlines()]
    body = [line for line in lines if not line.startswith(("#", "del "))]
    assert shown.strip() in "\n".join(body)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")

    assert not [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    assert not [file for file in FILE.findall(text) if not (ROOT / file).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_make_command_exists(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    code = re.findall(r"`[^`]+`|```.*?```", document.read_text(encoding="utf-8"), re.DOTALL)

    assert set(TARGET.findall("\n".join(code))) <= targets


def test_the_test_command_is_the_same_for_people_and_for_ci() -> None:
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"make .*\btest\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
