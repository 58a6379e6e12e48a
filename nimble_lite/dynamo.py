"""`torch.compile(model, backend="nimble")`: Dynamo finds the graph, we schedule it.

In: the `GraphModule` of one Dynamo graph. Out: a callable. Dynamo guards what the graph was made
for; a new shape comes back here as a new graph. Where gradients are wanted, AOTAutograd splits
forward and backward, and both are scheduled: that is how a model trains through this backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from nimble_lite.api import ScheduledFunction, schedule


def backend(module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """Backend for `torch.compile`; registered as `nimble`.

    Args:
        module: one graph of Dynamo.
        example_inputs: its inputs, possibly without data.

    Returns:
        A callable that schedules the graph with the first real inputs and replays it then.
    """
    needs_grad = torch.is_grad_enabled() and any(
        isinstance(leaf, torch.Tensor) and leaf.requires_grad
        for leaf in (*example_inputs, *module.parameters())
    )
    if not needs_grad:
        return _Lazy(module)
    from torch._dynamo.backends.common import aot_autograd

    split: Callable[..., Any] = aot_autograd(fw_compiler=_boxed, bw_compiler=_boxed)
    compiled: Callable[..., Any] = split(module, example_inputs)
    return compiled


class _Lazy:
    """Schedules with the first real inputs: Dynamo's examples carry no data."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._scheduled: ScheduledFunction | None = None

    def __call__(self, *args: Any) -> Any:
        if self._scheduled is None:
            self._scheduled = schedule(self._module, args)
        with torch.no_grad():
            return self._scheduled(*args)


def _boxed(module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:  # noqa: ARG001 - the protocol of torch
    """Take the arguments as a list and empty it, so that they can die during the run."""
    lazy = _Lazy(module)

    def run(arguments: list[Any]) -> Any:
        taken = tuple(arguments)
        arguments.clear()
        return lazy(*taken)

    run._boxed_call = True  # type: ignore[attr-defined]  # how AOTAutograd tells such functions
    return run
