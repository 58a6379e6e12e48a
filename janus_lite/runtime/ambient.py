"""Torch's ambient state around a replay: modes, grad mode, autocast, the random generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from janus_lite.torch_internals import dispatch_mode_depth, function_mode_depth, is_tracing


def modes_are_off() -> bool:  # hot
    """Whether no torch function mode, dispatch mode or tracer of anybody is active."""
    return not (function_mode_depth() or dispatch_mode_depth() or is_tracing())


@dataclass(frozen=True, slots=True)
class AmbientState:
    """Grad mode and autocast as they were before a replay."""

    grad: bool
    cache: bool
    nesting: int
    autocast: tuple[tuple[str, bool, torch.dtype], ...]


def _autocast_devices() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def _nesting() -> int:
    """How many `autocast` blocks are open."""
    level: int = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return level - 1


def save() -> AmbientState:
    """Return the state that a program may change."""
    devices = _autocast_devices()
    return AmbientState(
        torch.is_grad_enabled(),
        torch.is_autocast_cache_enabled(),
        _nesting(),
        tuple((d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices),
    )


def restore(state: AmbientState) -> None:
    """Put the state back, also after an operation raised in the middle."""
    torch._C._set_grad_enabled(state.grad)
    torch.set_autocast_cache_enabled(state.cache)
    while _nesting() > state.nesting:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()  # as leaving the last block does: weights may change now
    for device, is_enabled, dtype in state.autocast:
        torch.set_autocast_enabled(device, is_enabled)
        torch.set_autocast_dtype(device, dtype)


@dataclass(frozen=True, slots=True)
class RandomState:
    """The default generators' states: the CPU's (5 kB) and, where CUDA runs, each device's."""

    cpu: torch.Tensor
    cuda: tuple[torch.Tensor, ...]


def random_state() -> RandomState:
    """Return copies of the states."""
    on_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return RandomState(
        torch.get_rng_state(), tuple(torch.cuda.get_rng_state_all()) if on_cuda else ()
    )


def set_random_state(state: RandomState) -> None:
    """Undo the draws since `random_state`."""
    torch.set_rng_state(state.cpu)
    if state.cuda:
        torch.cuda.set_rng_state_all(state.cuda)
