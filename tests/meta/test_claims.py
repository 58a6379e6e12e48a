"""Each claim of a source document is answered by something that exists, or is openly planned."""

from __future__ import annotations

import ast
import tomllib
from typing import Any

import pytest

from benchmarks.catalogue import CALLS, MODELS, TRAINING_STEPS
from tests.meta.repository import ROOT, parse

pytestmark = pytest.mark.tiny

SEEDS = ROOT / "seeds"
CLAIMS: list[dict[str, Any]] = tomllib.loads((SEEDS / "claims.toml").read_text(encoding="utf-8"))[
    "claim"
]


def claim_id(claim: dict[str, Any]) -> str:
    return str(claim["id"])


def benchmark_cases() -> set[str]:
    """Names of the programs that the benchmarks measure."""
    return {case.name for case in (*CALLS, *MODELS, *TRAINING_STEPS)}


def test_claims_have_unique_ids() -> None:
    ids = [claim["id"] for claim in CLAIMS]

    assert len(set(ids)) == len(ids)


def test_every_document_has_a_digest_and_a_claim() -> None:
    digests = {path.stem for path in SEEDS.glob("0*.md")}

    assert {claim["document"] for claim in CLAIMS} == digests


@pytest.mark.parametrize("claim", CLAIMS, ids=claim_id)
def test_a_claim_is_answered_or_planned(claim: dict[str, Any]) -> None:
    common = {"id", "document", "claim", "owed", "status"}
    # A planned claim names its issue once there is one.
    allowed = {"answered": [common | {"answer"}], "planned": [common, common | {"issue"}]}

    assert set(claim) in allowed[claim["status"]]


@pytest.mark.parametrize(
    "claim", [claim for claim in CLAIMS if claim["status"] == "answered"], ids=claim_id
)
def test_what_answers_a_claim_exists(claim: dict[str, Any]) -> None:
    file, _, node = claim["answer"].partition("::")
    name, _, case = node.rstrip("]").partition("[")

    functions = {n.name for n in ast.walk(parse(ROOT / file)) if isinstance(n, ast.FunctionDef)}
    assert name in functions
    assert not case or case in benchmark_cases()
