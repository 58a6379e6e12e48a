"""What is run: a program, its inputs, and whether a call is a forward pass or a training step.

Enters: a builder from the catalogue. Leaves: a `Runner` on one device. Invariant: two runners of
one case hold equal weights and see equal inputs and equal random numbers for equal seeds.

Example:
    >>> runner = start(case, "cpu")
    >>> runner.outcome(seed=2)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.architectures.base import Call
from benchmarks.baselines import Target, Variant


@dataclass(frozen=True, slots=True)
class Program:
    """A function or module and the maker of its inputs."""

    target: Target
    make_inputs: Callable[[int], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One program to measure.

    Attributes:
        name: stable; part of benchmark IDs.
        build: makes the program, with equal weights each time.
        is_random: a call draws random numbers, as dropout in training does.
        is_training: a call is forward and backward; else it is a forward pass without grad.
        is_quick: it is part of `--quick`.
        is_compiled_in_quick: in `--quick`, `torch.compile` is measured too; it takes so long
            that not every row can have it within the time of a quick run.
    """

    name: str
    build: Callable[[], Program]
    is_random: bool = False
    is_training: bool = False
    is_quick: bool = False
    is_compiled_in_quick: bool = False


@dataclass(slots=True)
class Runner:
    """A program on its device, under at most one variant."""

    target: Target
    module: nn.Module | None
    make_inputs: Callable[[int], Call]
    is_training: bool
    device: str

    def inputs(self, seed: int) -> Call:
        """Return the arguments of the call with number `seed`, on the device."""
        call = self.make_inputs(seed)
        moved = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(self.device), tuple(call))
        return Call(*moved)

    def thunk(self, seed: int) -> Callable[[], object]:
        """Return a callable without arguments that makes one call, again and again."""
        call = self.inputs(seed)
        if self.is_training:
            return partial(self._train, call)
        return partial(self.target, *call.args, **call.kwargs)

    def outcome(self, seed: int) -> Any:
        """Make one call under equal random numbers; return all that it changed or returned."""
        torch.manual_seed(seed)
        result = self.thunk(seed)()
        if not self.is_training or self.module is None:
            return result
        gradients = {name: p.grad for name, p in self.module.named_parameters()}
        return {
            "loss": result,
            "gradients": gradients,
            "buffers": dict(self.module.named_buffers()),
        }

    def apply(self, variant: Variant, seed: int) -> None:
        """Run under `variant` from now on."""
        self.target = variant.prepare(self.target, self.inputs(seed))

    def _train(self, call: Call) -> Tensor:
        assert self.module is not None  # only modules have training cases
        self.module.zero_grad()
        loss = loss_of(self.target(*call.args, **call.kwargs))
        loss.backward()
        return loss.detach()


def start(case: Case, device: str) -> Runner:
    """Build the program of `case` and put it on `device`."""
    program = case.build()
    module = program.target if isinstance(program.target, nn.Module) else None
    if module is not None:
        module.to(device).train(case.is_training)
    return Runner(program.target, module, program.make_inputs, case.is_training, device)


def loss_of(output: Any) -> Tensor:
    """Return a loss that depends on the whole first floating tensor of a model's output.

    Each element has a weight of its own: the plain mean square of a normalised output is constant,
    and its gradients would be rounding and nothing else.
    """
    tensors = (leaf for leaf in pytree.tree_leaves(_plain(output)) if isinstance(leaf, Tensor))
    first = next(tensor for tensor in tensors if tensor.is_floating_point())
    return (first.flatten() * _weights(first.numel(), first.device)).square().mean()


@functools.cache
def _weights(count: int, device: torch.device) -> Tensor:
    return torch.linspace(-1.0, 1.0, count, device=device)


def _plain(output: Any) -> Any:
    return list(output.values()) if isinstance(output, dict) else output
