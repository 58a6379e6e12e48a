"""Backend names -> functions that compile a graph.

`eager` (and `auto` for now) emits straight-line Python. `nimble` is the other package of this
distribution, found by its name when it is asked for, installed or not. Any other name is one of
`torch.compile`'s backends, or a callable `backend(gm, example_inputs) -> callable`: it gets the
graph as a `torch.fx.GraphModule`.
"""

from __future__ import annotations

import operator
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx

from janus_lite.errors import BackendError
from janus_lite.program.effects import is_assertion
from janus_lite.program.generalize import Program
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Operation, OperationKind, Ref
from janus_lite.runtime.commit import foreign_outputs

Backend = Callable[[fx.GraphModule, Sequence[torch.Tensor]], Callable[..., Any]]
NATIVE = frozenset({"auto", "eager"})
_SIBLINGS = {"nimble": "nimble_lite.dynamo:backend"}


def lookup(backend: str | Backend) -> Backend | None:
    """Return the compile function of a backend, `None` for the built-in one.

    Raises:
        BackendError: no such backend; the message lists the known names.
    """
    if callable(backend):
        return backend
    if backend in NATIVE:
        return None
    try:
        place = _SIBLINGS.get(backend)
        found: Any = pkgutil.resolve_name(place) if place else torch._dynamo.lookup_backend(backend)
    except Exception as error:
        known = sorted({*NATIVE, *_SIBLINGS, *torch.compiler.list_backends()})
        raise BackendError(f"unknown backend {backend!r}; expected one of {known}") from error
    return cast("Backend", found)


def compile_graph(
    backend: Backend, program: Program, examples: Sequence[torch.Tensor]
) -> Callable[..., Sequence[object]]:
    """Hand the program's graph to a foreign backend.

    Args:
        backend: the compile function.
        program: must have no assertions, nor effects between changes of outside tensors: a foreign
            graph cannot leave in the middle.
        examples: the recorded inputs.

    Returns:
        A callable from the inputs to the values of `foreign_outputs(program)` that are not inputs.

    Raises:
        BackendError: the program tests host values inside the graph, or mixes it with effects.
        Exception: whatever the backend raises.
    """
    if any(is_assertion(o) for o in program.operations):
        raise BackendError("the program decides on tensor values; only 'eager' can run that")
    if any(o.moves or o.kind is OperationKind.ACTION for o in program.operations):
        found = "the program draws from Python or NumPy, or trains; only 'eager' can do that"
        raise BackendError(found)
    if program.numbers or any(o.kind is OperationKind.NUMBER for o in program.operations):
        raise BackendError("a Python number varies; only 'eager' takes it as an input")
    if program.effects and program.writes_outside:
        found = "the program changes outside objects and tensors; only 'eager' keeps their order"
        raise BackendError(found)
    module = to_graph_module(program)
    compiled = backend(module, list(examples))

    def run(*inputs: torch.Tensor) -> Sequence[object]:
        outputs: Sequence[object] = compiled(*inputs)
        return outputs

    return run


def to_graph_module(program: Program) -> fx.GraphModule:
    """Return the program's graph: one placeholder per input, one node per operation."""
    graph = fx.Graph()
    values: dict[Ref, fx.Node] = {}
    for item in program.inputs:
        values[item.ref] = graph.placeholder(f"v{item.ref.index}")
    inputs = set(values)
    for operation in program.operations:
        _add(graph, values, operation)
    outputs = tuple(values[r] for r in foreign_outputs(program) if r not in inputs)
    graph.output(outputs)
    graph.lint()
    return fx.GraphModule(torch.nn.Module(), graph)


def _add(graph: fx.Graph, values: dict[Ref, fx.Node], operation: Operation) -> None:
    args = tuple(_operand(a, values) for a in operation.args)
    kwargs = {k: _operand(v, values) for k, v in operation.kwargs.items()}
    if getattr(operation.target, "__name__", "") == "__get__":
        node = graph.call_function(getattr, (args[0], name_of(operation.target)))
    else:
        node = graph.call_function(operation.target, args, kwargs)
    if operation.site is not None:
        site = operation.site
        node.meta["stack_trace"] = f'File "{site.file}", line {site.line}, in {site.function}'
    _bind(graph, values, operation.output, node)


def _bind(graph: fx.Graph, values: dict[Ref, fx.Node], output: object, node: fx.Node) -> None:
    if isinstance(output, Ref):
        values[output] = node
    elif isinstance(output, tuple):
        for index, part in enumerate(output):
            if part is not None:
                _bind(graph, values, part, graph.call_function(operator.getitem, (node, index)))


def _operand(value: object, values: dict[Ref, fx.Node]) -> Any:
    if isinstance(value, Ref):
        return values[value]
    if isinstance(value, list | tuple):
        return type(value)(_operand(v, values) for v in value)
    if isinstance(value, dict):
        return {k: _operand(v, values) for k, v in value.items()}
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return slice(*(_operand(p, values) for p in parts))
    return value
