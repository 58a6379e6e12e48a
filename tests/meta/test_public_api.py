"""The public face of each package: few names, all of them meant, all of them explained."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pytest

from tests.meta.repository import PACKAGES, ROOT

MOST_NAMES = 12


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def public_names(package: ModuleType) -> set[str]:
    """What `dir` shows a user: not private, and not a sub-module that happens to be loaded."""
    return {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and not (inspect.ismodule(value) and name not in package.__all__)
        and name != "annotations"
    }


def test_all_names_exactly_the_public_names(package: ModuleType) -> None:
    assert sorted(package.__all__) == list(package.__all__), "__all__ is sorted"
    assert set(package.__all__) == public_names(package)


def test_there_are_at_most_a_dozen_names(package: ModuleType) -> None:
    assert len(package.__all__) <= MOST_NAMES


def test_every_public_name_has_a_docstring(package: ModuleType) -> None:
    bare = [
        name
        for name in package.__all__
        if (callable(value := getattr(package, name)) or inspect.ismodule(value))
        and not inspect.getdoc(value)
    ]

    assert not bare


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_may_read_the_package(name: str) -> None:
    assert (ROOT / name / "py.typed").is_file()
