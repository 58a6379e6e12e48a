"""Each reason code is documented and tested: three sets, kept equal."""

from __future__ import annotations

import importlib
import re

import pytest

from janus_lite.errors import HINTS, Code
from tests.meta.repository import PACKAGES, ROOT, python_files

PREFIX = {"janus_lite": "JL", "nimble_lite": "NL"}
SECTION = re.compile(r"^#+ .*?\b((?:JL|NL)\d{4})\b", re.MULTILINE)


@pytest.fixture(params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def catalogue(package: str) -> dict[str, str]:
    """Code -> the name by which tests may call it: an enum member's, or the code itself."""
    errors = importlib.import_module(f"{package}.errors")
    if hasattr(errors, "CODES"):
        return {code: code for code in errors.CODES}
    return {member.value: f"Code.{name}" for name, member in errors.Code.__members__.items()}


def source_of_all_tests() -> str:
    """All tests but those of this folder."""
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path in python_files("tests")
        if "meta" not in path.relative_to(ROOT).parts
    )


def test_codes_are_well_formed(name: str) -> None:
    assert all(re.fullmatch(rf"{PREFIX[name]}\d{{4}}", code) for code in catalogue(name))


def test_no_two_names_share_a_code() -> None:
    assert len(Code) == len(Code.__members__)


def test_every_code_has_a_section_of_its_own(name: str) -> None:
    found = SECTION.findall((ROOT / "docs" / "errors.md").read_text(encoding="utf-8"))
    sections = [code for code in found if code.startswith(PREFIX[name])]

    assert len(set(sections)) == len(sections), "a code is explained once"
    assert set(sections) == set(catalogue(name))


def test_every_code_is_asserted_by_a_test(name: str) -> None:
    text = source_of_all_tests()
    codes = catalogue(name)

    known = {code for code, called in codes.items() if re.search(rf"\b{called}\b", text)}
    spelled = set(re.findall(rf"\b{PREFIX[name]}\d{{4}}\b", text))
    assert known | spelled == set(codes)


def test_every_reason_has_a_hint_of_one_line() -> None:
    assert set(HINTS) == set(Code)
    assert all(hint and "\n" not in hint for hint in HINTS.values())
