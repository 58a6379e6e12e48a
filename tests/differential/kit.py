"""What a program of the differential suite is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

CALLS = 6
CHANGE_AT = 3


def fresh_tensor(step: int) -> tuple[Any, ...]:
    """One `f32[4, 3]`, another one for each call."""
    return (torch.randn(4, 3, generator=torch.Generator().manual_seed(step)),)


@dataclass(kw_only=True)
class World:
    """One copy of a program: what is called, with what, and what may change in between.

    Attributes:
        call: the function or module to be speculated on.
        inputs: arguments of each call; a last dict with the key `"**"` holds keyword arguments.
        state: objects whose content is compared after each call.
        change: what the outside does just before call number `CHANGE_AT`.
        between: what the outside does before every call.
        around: context in which a call runs.
        backward: run `backward()` on the sum of the outputs, outside the call.
    """

    call: Any
    inputs: Callable[[int], tuple[Any, ...]] = fresh_tensor
    state: dict[str, Any] = field(default_factory=dict)
    change: Callable[[], object] | None = None
    between: Callable[[int], object] | None = None
    around: Callable[[int], contextlib.AbstractContextManager[Any]] | None = None
    backward: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a program is expected to show, besides being equal.

    Attributes:
        hits: replays at the least.
        code: the coded reason why it stays imperative; `None` when it is replayed.
        is_visible: the change makes the plain program answer differently, which is checked.
    """

    hits: int = 0
    code: str | None = None
    is_visible: bool = True


Build = Callable[[], World]


def program(
    *, hits: int = 0, code: str | None = None, is_visible: bool = True
) -> Callable[[Build], Build]:
    """Register a builder of worlds under what is expected of it."""

    def register(build: Build) -> Build:
        build.expectation = Expectation(hits=hits, code=code, is_visible=is_visible)  # type: ignore[attr-defined] # a function takes any attribute
        return build

    return register


def change(
    *, hits: int = 2, code: str | None = None, is_visible: bool = True
) -> Callable[[Build], Build]:
    """Register a program that the outside changes after `hits` replays at the least."""
    return program(hits=hits, code=code, is_visible=is_visible)
