"""The choices that a user has: eager, ours, and what else there is on this device.

Enters: a function or module. Leaves: the same, prepared by one `Variant`. Invariant: a variant
that is not at hand says why, and is never silently left out; what a variant changes, it
changes on the object that it was handed, which nobody else uses.

Example:
    >>> VARIANTS["compile"].missing("cpu")
    'no C++ compiler on PATH'
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.architectures.base import Call
from benchmarks.environment import without_places

Target = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a program.

    Attributes:
        name: short, stable; part of benchmark IDs.
        label: what tables print.
        devices: device types on which it makes sense.
        families: whose benchmarks measure it: `janus`, `nimble` or both.
        has_random_numbers: it draws eager's random numbers.
        has_exact_bits: it promises eager's very bits, so that `close` is a failure.
        missing: says why it cannot run on a device; `None` when it can.
        prepare: converts a function or module, given one example call.
        remark: what it can say of itself after having run.
        release: frees what it holds in the process.
    """

    name: str
    label: str
    devices: tuple[str, ...]
    families: tuple[str, ...]
    has_random_numbers: bool
    has_exact_bits: bool
    missing: Callable[[str], str | None]
    prepare: Callable[[Target, Call], Target]
    remark: Callable[[Target], str]
    release: Callable[[], None]


def variants_for(device: str, family: str) -> tuple[Variant, ...]:
    """Return the variants that make sense on `device`, eager first."""
    kind = device.split(":")[0]
    return tuple(
        variant
        for variant in VARIANTS.values()
        if kind in variant.devices and family in variant.families
    )


def speculative_function(target: Target) -> Any:
    """Return the object that carries `stats` and `explain()`."""
    return target.forward if isinstance(target, nn.Module) else target


def _never_missing(_device: str) -> str | None:
    return None


def _unchanged(target: Target, _call: Call) -> Target:
    return target


def _no_remark(_target: Target) -> str:
    return ""


def _nothing_to_release() -> None:
    return None


def _without_janus(_device: str) -> str | None:
    found = importlib.util.find_spec("janus_lite")
    return None if found else "janus_lite is not installed"


def _speculate(target: Target, _call: Call) -> Target:
    import janus_lite

    converted: Target = janus_lite.speculate(target)
    return converted


def _what_janus_did(target: Target) -> str:
    speculated = speculative_function(target)
    stats = speculated.stats
    told = "".join(f"; {each.code} {each.found}" for each in reasons_of(speculated))
    return without_places(f"{stats.hits} of {stats.calls} calls replayed{told}")


def converted_below(stats: Any) -> int:
    """Return how many graphs were made, those of functions below a descended one included."""
    below = getattr(stats, "children", ())
    return int(stats.converted) + sum(converted_below(child) for _, child in below)


def reasons_of(speculated: Any) -> tuple[Any, ...]:
    """Return the reasons that a speculative function gives, each code once."""
    reasons = {reason.code: reason for reason in speculated.explain().reasons}
    return tuple(reasons.values())


def _without_nimble(_device: str) -> str | None:
    found = importlib.util.find_spec("nimble_lite")
    return None if found else "nimble_lite is not installed"


def _schedule(target: Target, call: Call, **options: Any) -> Target:
    import nimble_lite

    if call.args and call.kwargs:
        raise TypeError("nimble_lite.schedule takes positional or keyword examples, not both")
    scheduled: Target = nimble_lite.schedule(target, call.kwargs or call.args, **options)
    return scheduled


def _planned(target: Target) -> str:
    summary = cast("Any", target).plan.summary()
    shown = ("tasks", "streams", "syncs")
    return ", ".join(f"{summary[name]} {name}" for name in shown if name in summary)


def _nimble(name: str, label: str, device: str, **options: Any) -> Variant:
    return Variant(
        name=name,
        label=label,
        devices=(device,),
        families=("nimble",),
        has_random_numbers=True,
        has_exact_bits=True,
        missing=_without_nimble,
        prepare=functools.partial(_schedule, **options),
        remark=_planned,
        release=_nothing_to_release,
    )


def _without_compiler(_device: str) -> str | None:
    compilers = (os.environ.get("CXX"), "g++", "clang++", "c++")
    if any(name and shutil.which(name) for name in compilers):
        return None
    return "no C++ compiler on PATH"


def _without_triton(_device: str) -> str | None:
    return None if importlib.util.find_spec("triton") else "triton is not installed"


def _compile(target: Target, _call: Call) -> Target:
    compiled: Target = torch.compile(target)
    return compiled


def _compile_graphs(target: Target, _call: Call) -> Target:
    compiled: Target = torch.compile(target, mode="reduce-overhead")
    return compiled


def _reset_dynamo() -> None:
    torch.compiler.reset()


def _graphed(target: Target, call: Call) -> Target:
    if call.kwargs or not all(isinstance(value, Tensor) for value in call.args):
        raise TypeError("make_graphed_callables takes positional tensors only")
    graphed: Target = torch.cuda.make_graphed_callables(target, call.args)
    return graphed


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant(
            name="eager",
            label="eager",
            devices=("cpu", "cuda"),
            families=("janus", "nimble"),
            has_random_numbers=True,
            has_exact_bits=True,
            missing=_never_missing,
            prepare=_unchanged,
            remark=_no_remark,
            release=_nothing_to_release,
        ),
        Variant(
            name="janus",
            label="janus_lite",
            devices=("cpu", "cuda"),
            families=("janus",),
            has_random_numbers=True,
            has_exact_bits=True,
            missing=_without_janus,
            prepare=_speculate,
            remark=_what_janus_did,
            release=_nothing_to_release,
        ),
        Variant(
            name="compile",
            label="torch.compile",
            devices=("cpu",),
            families=("janus", "nimble"),
            has_random_numbers=False,
            has_exact_bits=False,
            missing=_without_compiler,
            prepare=_compile,
            remark=_no_remark,
            release=_reset_dynamo,
        ),
        Variant(
            name="compile_graphs",
            label="torch.compile reduce-overhead",
            devices=("cuda",),
            families=("janus", "nimble"),
            has_random_numbers=False,
            has_exact_bits=False,
            missing=_without_triton,
            prepare=_compile_graphs,
            remark=_no_remark,
            release=_reset_dynamo,
        ),
        Variant(
            name="graphed",
            label="make_graphed_callables",
            devices=("cuda",),
            families=("janus", "nimble"),
            has_random_numbers=True,
            has_exact_bits=False,
            missing=_never_missing,
            prepare=_graphed,
            remark=_no_remark,
            release=_nothing_to_release,
        ),
        _nimble("nimble_serial", "nimble_lite serial", "cpu", backend="serial"),
        _nimble("nimble_one", "nimble_lite one stream", "cuda", streams=1, backend="cuda"),
        _nimble("nimble_max", "nimble_lite max streams", "cuda", streams="max", backend="cuda"),
        _nimble("nimble_auto", "nimble_lite auto", "cuda"),
    )
}
