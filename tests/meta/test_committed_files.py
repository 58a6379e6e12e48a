"""What is committed works on any machine, and no suppression goes unexplained."""

from __future__ import annotations

import re

import pytest

from tests.meta.repository import ROOT, committed_files, python_files

pytestmark = pytest.mark.tiny

# A person's or a machine's own folders, spelled so that this file does not match itself; examples
# that belong to nobody (`me`, `user`) are fine.
MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:w[o]rk|r[o]ot|h[o]me(?!/(?:me|user)/)|U[s]ers|f[a]rm)/")
SUPPRESSION = re.compile(r"#\s*(?:noqa|type: ignore)\b(?P<rest>.*)$")
EXPLAINED = re.compile(r"^(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w, -]+\])\s*(?:-|#)\s*\w+")
LARGEST_BYTES = 1_000_000


def test_no_file_names_a_path_of_one_machine() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in committed_files()
        if b"\0" not in (data := path.read_bytes())
        for number, line in enumerate(data.decode("utf-8").splitlines(), start=1)
        if (match := MACHINE_PATH.search(line))
    ]

    assert not hits


def test_no_file_is_large() -> None:
    assert not [p for p in committed_files() if p.stat().st_size > LARGEST_BYTES]


def test_every_suppression_names_its_rule_and_its_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files("janus_lite", "nimble_lite", "benchmarks", "tests", "examples")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := SUPPRESSION.search(line)) and not EXPLAINED.match(match["rest"])
    ]

    assert not bare, "name the rule and, after a second `#` or a dash, the reason"
