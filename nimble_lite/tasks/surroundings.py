"""Torch's state around a recording: what tensors are asked, autocast, random generators.

Note [Plain tensors stay plain]
    Under a function mode, torch's Python wrappers believe that every tensor overrides torch
    functions. They then hand themselves to the mode, which would record slow wrappers, and
    `TransformerEncoderLayer` leaves its fast path, which changes bits. While this thread
    records, `has_torch_function` therefore tells the truth about plain tensors.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.overrides

from nimble_lite.tasks.graph import Ambient
from nimble_lite.torch_internals import NO_TORCH_FUNCTION

_WRAPPERS = (
    "torch.overrides",
    "torch.functional",
    "torch._tensor",
    "torch._lowrank",
    "torch.nn.functional",
    "torch.nn.init",
)
_QUESTIONS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")

_patch_lock = threading.RLock()


@contextmanager
def truth_about_plain_tensors() -> Iterator[None]:
    """See Note [Plain tensors stay plain]; other threads are not affected."""
    thread = threading.get_ident()
    with _patch_lock:
        kept: list[tuple[dict[str, Any], str, Any]] = []
        for module in _WRAPPERS:
            names = vars(sys.modules[module]) if module in sys.modules else {}
            for question in _QUESTIONS:
                if question in names:
                    kept.append((names, question, names[question]))
                    names[question] = _plain_answer(names[question], thread)
        try:
            yield
        finally:
            for names, question, original in kept:
                names[question] = original


def _plain_answer(original: Callable[..., bool], thread: int) -> Callable[..., bool]:
    def answer(*args: Any) -> bool:
        # Subclasses are refused when their operation reaches the mode.
        return threading.get_ident() != thread and original(*args)

    return answer


def is_plain(kind: type) -> bool:
    """Whether a tensor class overrides no torch function."""
    handler = getattr(kind, "__torch_function__", None)
    if handler is NO_TORCH_FUNCTION:
        return True
    plain = torch.Tensor.__torch_function__
    return getattr(handler, "__func__", handler) is getattr(plain, "__func__", plain)


def ambient_here() -> Ambient | None:
    """Autocast as it is now."""
    for device_type in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            return Ambient(device_type=device_type, dtype=dtype)
    return None


def random_states() -> dict[str, torch.Tensor]:
    """States of all default generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    return states


def restore_random_states(states: dict[str, torch.Tensor]) -> None:
    """Put the generators back."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
