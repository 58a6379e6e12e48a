"""The hot path: check a call against what was scheduled, run it, put the results together.

In: a `TaskGraph`, an `Executable`, the user's callable. Out: `Replay`, which is called like the
function. Invariant: a call that does not fit raises before anything is written, or the schedule
is made anew; it never runs with what it was not made for, and nothing is broadcast or converted.

What is compared: the inputs (`inputs`), the ambient state of torch, and the modules
(`module_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._pytree import SUPPORTED_NODES, TreeSpec, tree_flatten, tree_unflatten

from nimble_lite.backends.protocol import Executable
from nimble_lite.errors import InputMismatchError
from nimble_lite.inputs import InputCheck
from nimble_lite.module_state import ModuleState
from nimble_lite.tasks.graph import Ref, TaskGraph
from nimble_lite.torch_internals import kernel_choice_names, kernel_choices


class Replay:
    """Runs an executable for calls that fit its graph.

    Args:
        fn: the user's callable, for the state of its modules.
        graph: what was recorded.
        executable: what runs it.
    """

    def __init__(self, fn: Callable[..., Any], graph: TaskGraph, executable: Executable) -> None:
        self.graph = graph
        self.executable = executable
        self._names = _flat_names(graph.input_spec, len(graph.inputs))
        self._arity = len(graph.inputs) - len(self._names or ())
        self._inputs = InputCheck(graph)
        self._state = ModuleState(fn, graph, executable.pinned)
        self._ambient = _ambient()
        self._choices = kernel_choices() if executable.has_frozen_kernels else None
        self._assemble = _assembler(graph)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # hot
        """Check, run, return."""
        leaves = self._leaves(args, kwargs)
        tensors = self._inputs.check(leaves)
        if _ambient() != self._ambient:
            raise self._ambient_mismatch()
        if self._choices is not None and kernel_choices() != self._choices:
            raise self._choice_mismatch(self._choices)
        changed = self._state.rebound()
        if changed:
            self.executable.rebind(changed)
        if torch.is_grad_enabled():
            self._inputs.refuse_grad(tensors)
            with torch.no_grad():
                return self._assemble(self.executable.run(tensors))
        return self._assemble(self.executable.run(tensors))

    def _leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:  # hot
        names = self._names
        if names is not None and len(args) == self._arity and len(kwargs) == len(names):
            if not names:
                return args
            if all(name in kwargs for name in names):
                return (*args, *(kwargs[name] for name in names))
        leaves, spec = tree_flatten((args, kwargs))
        if spec != self.graph.input_spec:
            raise InputMismatchError(
                "NL0201",
                what="the arguments have another structure than the example",
                found=str(spec),
                expected=str(self.graph.input_spec),
                hint="schedule the function for such arguments too",
            )
        return leaves

    def _choice_mismatch(self, recorded: tuple[object, ...]) -> InputMismatchError:
        pairs = zip(kernel_choice_names(), kernel_choices(), recorded, strict=False)
        changed = [(name, now, then) for name, now, then in pairs if now != then]
        return InputMismatchError(
            "NL0203",
            what="torch would choose other kernels now than the captured graph has",
            found=", ".join(f"{name}={now}" for name, now, _ in changed),
            expected=", ".join(f"{name}={then}" for name, _, then in changed),
            hint="call it under the same settings, or schedule it again",
        )

    def _ambient_mismatch(self) -> InputMismatchError:
        return InputMismatchError(
            "NL0203",
            what="torch's ambient state differs from when the function was scheduled",
            found=f"autocast {_ambient()}",
            expected=f"autocast {self._ambient}",
            hint="call it under the same autocast, or schedule it again",
        )


def _ambient() -> tuple[Any, ...]:  # hot
    if not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda"):
        return ()
    return tuple(
        (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        for kind in ("cpu", "cuda")
    )


def _flat_names(spec: TreeSpec, count: int) -> tuple[str, ...] | None:
    """Keyword names when every argument is a leaf, else None."""
    args, kwargs = tree_unflatten(range(count), spec)
    if all(isinstance(argument, int) for argument in (*args, *kwargs.values())):
        return tuple(kwargs)
    return None


def _assembler(graph: TaskGraph) -> Callable[[Sequence[torch.Tensor]], Any]:
    """How to turn flat tensors into what the function returns; one tensor and tuples are direct."""
    leaves = graph.outputs
    is_all_tensors = all(isinstance(leaf, Ref) for leaf in leaves)
    shape = tree_unflatten(range(len(leaves)), graph.output_spec)
    if isinstance(shape, int) and is_all_tensors:
        return lambda found: found[0]
    if type(shape) is tuple and is_all_tensors and all(isinstance(part, int) for part in shape):
        return tuple
    build = _builder(graph.output_spec, iter(leaves))
    return lambda found: build(iter(found))


def _builder(spec: TreeSpec, leaves: Iterator[Any]) -> Callable[[Iterator[torch.Tensor]], Any]:
    """`tree_unflatten` for one structure, with all look-ups done beforehand."""
    if spec.is_leaf():
        leaf = next(leaves)
        return next if isinstance(leaf, Ref) else lambda _: leaf
    parts = [_builder(child, leaves) for child in spec.children()]
    unflatten, context = SUPPORTED_NODES[spec.type].unflatten_fn, spec.context
    return lambda found: unflatten([part(found) for part in parts], context)
