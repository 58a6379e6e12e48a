"""A row is right first and fast second; a variant that cannot run says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.architectures.base import Call, normal, seeded
from benchmarks.baselines import VARIANTS, Target, Variant, variants_for
from benchmarks.cases import Case, Program, loss_of
from benchmarks.measure import Measured, Setting, measure
from benchmarks.results import Judgement
from benchmarks.timing import PairPlan

PLAN = PairPlan(budget_s=0.0, block_s=0.0, min_pairs=3, max_pairs=3, warmup_pairs=0)
SETTING = Setting(device="cpu", is_quick=True, plan=PLAN)


def build() -> Program:
    with seeded(0):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    return Program(model, lambda seed: Call((normal(seed, 3, 4),), {}))


CASE = Case(name="small", build=build, is_quick=True, is_compiled_in_quick=True)
STEP = replace(CASE, name="small_step", is_training=True)


def variant(
    prepare: Callable[[Target, Call], Target], *, name: str = "other", has_exact_bits: bool = True
) -> Variant:
    return replace(VARIANTS["eager"], name=name, prepare=prepare, has_exact_bits=has_exact_bits)


def run(case: Case, subject: Variant, setting: Setting = SETTING) -> Measured:
    return measure("bench_x::bench", "micro", case, subject, setting)


def plus(amount: float) -> Callable[[Target, Call], Target]:
    return lambda target, _call: lambda x: target(x) + amount


@pytest.mark.parametrize("case", [CASE, STEP], ids=["forward", "training step"])
def test_an_exact_variant_has_all_figures(case: Case) -> None:
    measured = run(case, variant(lambda target, _call: target))

    row = measured.row
    assert row.accuracy == "bitwise"
    assert row.samples == len(measured.samples) == len(measured.eager_samples) == 3
    assert None not in (row.median_s, row.speedup, row.conversion_s, row.peak_bytes)
    assert row.peak_bytes == row.eager_peak_bytes


def test_eager_is_the_baseline_without_a_speed_up() -> None:
    measured = run(CASE, VARIANTS["eager"])

    assert measured.row.judgement is Judgement.BASELINE
    assert measured.row.speedup is None
    assert measured.samples


def test_a_wrong_output_has_no_time() -> None:
    measured = run(CASE, variant(plus(1.0)))

    assert measured.row.accuracy == "wrong"
    assert measured.row.median_s is None
    assert measured.samples == ()


def test_close_breaks_a_promise_of_bits_and_is_a_starred_row_without_one() -> None:
    promised = run(CASE, variant(plus(1e-7)))
    unpromised = run(CASE, variant(plus(1e-7), has_exact_bits=False))

    assert promised.row.accuracy == "wrong"
    assert unpromised.row.accuracy == "close"
    assert not unpromised.row.is_like_for_like


def test_stale_outputs_are_caught_on_fresh_inputs() -> None:
    def freeze(target: Target, _call: Call) -> Target:
        first: list[Any] = []

        def frozen(x: Tensor) -> Any:
            if not first:
                first.append(target(x))
            return first[0]

        return frozen

    assert run(CASE, variant(freeze)).row.accuracy == "wrong"


def test_a_lost_update_of_a_buffer_is_wrong() -> None:
    def without_statistics(target: Target, _call: Call) -> Target:
        assert isinstance(target, nn.Sequential)
        for layer in target:
            if isinstance(layer, nn.BatchNorm1d):
                layer.momentum = 0.0
        return target

    assert run(STEP, variant(without_statistics)).row.accuracy == "wrong"


def test_an_exact_variant_that_raises_is_wrong_and_another_has_failed() -> None:
    def refuse(_target: Target, _call: Call) -> Target:
        raise NotImplementedError("planted\nsecond line")

    promised = run(CASE, variant(refuse)).row
    unpromised = run(CASE, variant(refuse, has_exact_bits=False)).row

    assert promised.judgement is Judgement.WRONG
    assert unpromised.judgement is Judgement.NOT_RUN
    assert unpromised.accuracy == "failed: NotImplementedError: planted"


def test_a_variant_that_is_not_at_hand_says_why() -> None:
    missing = replace(VARIANTS["eager"], name="x", missing=lambda _device: "no such compiler")

    measured = run(CASE, missing)

    assert measured.row.accuracy == "no such compiler"
    assert measured.row.judgement is Judgement.NOT_RUN


def test_a_quick_run_leaves_slow_compilers_out_and_says_so() -> None:
    slow = variant(lambda target, _call: target, name="compile")
    case = replace(CASE, is_compiled_in_quick=False)

    assert run(case, slow).row.accuracy == "left out by --quick"
    assert run(case, slow, replace(SETTING, is_quick=False)).row.accuracy == "bitwise"


def test_dropout_is_not_compared_with_a_variant_that_draws_other_numbers() -> None:
    random = replace(STEP, is_random=True)
    other = replace(variant(lambda target, _call: target), has_random_numbers=False)

    assert run(random, other).row.accuracy.startswith("draws other random numbers")
    assert run(random, variant(lambda target, _call: target)).row.accuracy == "bitwise"


def test_without_a_compiler_torch_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)

    assert VARIANTS["compile"].missing("cpu") == "no C++ compiler on PATH"


@pytest.mark.parametrize(
    ("device", "family", "names"),
    [
        ("cpu", "janus", ["eager", "janus", "compile"]),
        ("cuda", "janus", ["eager", "janus", "compile_graphs", "graphed"]),
        ("cuda:1", "janus", ["eager", "janus", "compile_graphs", "graphed"]),
        ("cpu", "nimble", ["eager", "compile", "nimble_serial"]),
        (
            "cuda",
            "nimble",
            ["eager", "compile_graphs", "graphed", "nimble_one", "nimble_max", "nimble_auto"],
        ),
    ],
)
def test_each_device_and_family_has_its_own_baselines(
    device: str, family: str, names: list[str]
) -> None:
    assert [each.name for each in variants_for(device, family)] == names


def test_the_loss_depends_on_the_first_floating_tensor() -> None:
    values = torch.tensor([3.0, 4.0])

    assert loss_of({"ids": torch.tensor([7]), "logits": values}).item() == 12.5
    assert loss_of((values, torch.zeros(2))).item() == 12.5


def test_a_normalised_output_has_gradients_that_are_not_rounding() -> None:
    values = torch.randn(4, 16, requires_grad=True)

    loss_of(nn.functional.layer_norm(values, (16,))).backward()

    assert values.grad is not None
    assert values.grad.abs().max() > 1e-3
