"""Each reason code is documented and tested: three sets, kept equal."""

from __future__ import annotations

import importlib
import re
from enum import Enum

import pytest

from tests.meta.repository import PACKAGES, ROOT, python_files

PREFIX = {"janus_lite": "JL", "nimble_lite": "NL"}
SECTION = re.compile(r"^#+ .*?\b((?:JL|NL)\d{4})\b", re.MULTILINE)


@pytest.fixture(params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def catalogue(package: str) -> type[Enum]:
    """The enum of codes; imported by name, since a package may not be built yet."""
    codes = importlib.import_module(f"{package}.errors").Code
    assert issubclass(codes, Enum)
    return codes


def codes_in_tests(codes: type[Enum], prefix: str) -> set[str]:
    """Codes that a test other than this one spells out, as `Code.LEAK` or as `"JL0203"`."""
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in python_files("tests")
        if "meta" not in path.relative_to(ROOT).parts
    )
    named = {member.value for member in codes if re.search(rf"\bCode\.{member.name}\b", text)}
    return named | set(re.findall(rf"\b{prefix}\d{{4}}\b", text))


def test_codes_are_unique_and_well_formed(name: str) -> None:
    values = [member.value for member in catalogue(name).__members__.values()]

    assert len(set(values)) == len(values)
    assert all(re.fullmatch(rf"{PREFIX[name]}\d{{4}}", value) for value in values)


def test_every_code_has_a_section_of_its_own(name: str) -> None:
    found = SECTION.findall((ROOT / "docs" / "errors.md").read_text(encoding="utf-8"))
    sections = [code for code in found if code.startswith(PREFIX[name])]

    assert len(set(sections)) == len(sections), "a code is explained once"
    assert set(sections) == {member.value for member in catalogue(name)}


def test_every_code_is_asserted_by_a_test(name: str) -> None:
    codes = catalogue(name)

    assert codes_in_tests(codes, PREFIX[name]) == {member.value for member in codes}


def test_every_code_has_a_hint(name: str) -> None:
    hints = importlib.import_module(f"{name}.errors").HINTS

    assert set(hints) == set(catalogue(name))
    assert all(hint and hint[0].islower() and "\n" not in hint for hint in hints.values())
