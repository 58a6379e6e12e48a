"""Record one run of a function as a `TaskGraph`.

In: a callable or `GraphModule` and example inputs. Out: a `TaskGraph`, and nothing else: random
state, arguments, parameters and buffers are as they were before.
Invariant: what the recording cannot prove to be the same on the next call is refused with a code
or becomes a check that runs with every replay.

The run is real. A `TorchFunctionMode` sees every torch-level operation, an `EffectLog` below it
what each one reads and writes. Operations are recorded at the level of torch's C builtins, which
is where `torch.nn.functional` ends (see Example:
    >>> graph = record(torch.nn.Linear(3, 2), (torch.ones(1, 3),))
    >>> [constant.path for constant in graph.constants]
    ['weight', 'bias']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten

from nimble_lite.errors import RecordError
from nimble_lite.tasks.alias import (
    HOST_READS,
    HOST_TOKEN,
    REGION_TOKEN,
    EffectLog,
    Effects,
    StorageTable,
    bytes_of,
    hazard_edges,
)
from nimble_lite.tasks.checks import Check, SameShape, shapes_of
from nimble_lite.tasks.edges import host_edges, without_temporaries
from nimble_lite.tasks.graph import (
    Constant,
    Origin,
    Ref,
    Region,
    StorageKind,
    Task,
    TaskGraph,
    map_leaves,
    references,
)
from nimble_lite.tasks.origins import NodeTracker, Origins
from nimble_lite.tasks.owners import tensor_names
from nimble_lite.tasks.refusals import LEAVES_TORCH, Refusals
from nimble_lite.tasks.regions import Call, heard_by, make_region, run_plainly
from nimble_lite.tasks.surroundings import (
    ambient_here,
    random_states,
    restore_random_states,
    truth_about_plain_tensors,
)
from nimble_lite.tasks.values import Values
from nimble_lite.torch_internals import is_transforming

_READS_TO_PYTHON = frozenset(
    {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__"}
)
_LITERALS = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def record(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    probe: bool = False,
) -> TaskGraph:
    """Run `fn` once and return what it did as a graph of tasks.

    Args:
        fn: a module, a `GraphModule` or any callable; the same inputs must always lead to the
            same torch operations.
        args: positional example inputs.
        kwargs: keyword example inputs.
        probe: compare the bytes of all arguments around every ATen call. Slow; it finds writes
            that no schema and no table declares.

    Returns:
        The graph. Gradients are not recorded: replays run as under `torch.no_grad()`.

    Raises:
        RecordError: NL0101 to NL0107, with the user's line.
    """
    if is_transforming():
        raise RecordError(
            "NL0107",
            what="a functorch transform is active",
            hint="call schedule() outside vmap, grad and functionalize",
        )
    try:
        return _Recorder(fn, args, kwargs or {}, probe=probe).run()
    except RecordError as error:
        if error.code != "NL0105":
            raise
    # Caches are filled on a first run; what they hold is a constant on the second.
    return _Recorder(fn, args, kwargs or {}, probe=probe).run()


class _Recorder(TorchFunctionMode):
    """Everything that is known while one function runs."""

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        probe: bool,
    ) -> None:
        super().__init__()
        self._fn = fn
        self._arguments = (tuple(args), dict(kwargs))
        self._origins = Origins(fn)
        self._refuse = Refusals(self._origins)
        self._paths = tensor_names(fn)
        self._storages = StorageTable()
        self._log = EffectLog(self._storages, self._refuse.dynamic, self._keep_bytes, probe=probe)
        self._values = Values(self._storages)
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._generators: dict[int, tuple[torch.Generator, torch.Tensor]] = {}
        self._tasks: list[Task] = []
        self._reshaped: list[tuple[int, int]] = []
        self._names: dict[str, int] = {}
        self._constants: list[Constant] = []

    def run(self) -> TaskGraph:
        """Record the function and restore everything that its run wrote."""
        leaves, input_spec = tree_flatten(self._arguments)
        inputs = tuple(self._input(leaf) for leaf in leaves)
        before = random_states()
        try:
            output = self._call()
        finally:
            self._restore(before)
        flat, output_spec = tree_flatten(output)
        del output
        outputs = tuple(self._output(leaf) for leaf in flat)
        self._values.refuse_stored(flat, self._tasks)
        return self._graph(inputs, input_spec, outputs, output_spec)

    # The run and its surroundings ------------------------------------------------------------

    def _call(self) -> Any:
        fn: Callable[..., Any] = self._fn
        if isinstance(fn, GraphModule):
            fn = NodeTracker(fn, self._origins)
        args, kwargs = self._arguments
        with truth_about_plain_tensors(), torch.no_grad(), self._log, self, heard_by(self):
            output = fn(*args, **kwargs)
        if self._log.strays:
            raise RecordError(
                "NL0103",
                what="an operation ran outside every torch function that was seen",
                found=self._log.strays[0],
                hint="an autograd.Function, backward() or a C++ extension works there: "
                "schedule the functions around it",
            )
        return output

    def _keep_bytes(self, tensor: torch.Tensor) -> None:
        number = self._storages.number(tensor)
        if number not in self._kept and self._values.kind_of(number) is not StorageKind.BORN:
            # Bytes, not the tensor: a view made by the run must be free to die.
            flat = bytes_of(tensor)
            self._kept[number] = (flat, flat.clone())

    def _restore(self, states: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for flat, copy in self._kept.values():
                flat.copy_(copy)
        for generator, state in self._generators.values():
            generator.set_state(state)
        restore_random_states(states)

    # One region ------------------------------------------------------------------------------

    def region(self, call: Call) -> Any:
        """Record every arm of a region, run it, and make it one task."""
        origin = self._origins.here()
        with self._suspended():
            state = [tensor.clone() for tensor in call.carried]
            graphs = [record(fn, (*state, *call.additional)) for fn in call.functions]
            region, operands = make_region(call, graphs, origin)
            results = run_plainly(call)
            leaves, _ = tree_flatten(results)
            taken = tuple(Ref(self._value(operand)) for operand in operands)
            effects = Effects(kernels=[f"region::{call.kind.value}"])
            effects.reads |= {self._values.storage_of(ref.value) for ref in taken}
            effects.flops = max(sum(task.flops for task in graph.tasks) for graph in graphs)
            effects.tokens.add(REGION_TOKEN)
            for graph in graphs:
                effects.tokens |= {token for task in graph.tasks for token in task.tokens}
            arguments: tuple[Any, Any] = (operands, {})
            name = call.kind.value
            self._record_operation(region, name, arguments, (taken, {}), tuple(leaves), effects)
        return results

    @contextmanager
    def _suspended(self) -> Iterator[None]:
        """Hear nothing for a while; both modes are the innermost here."""
        modes: tuple[Any, Any] = (self, self._log)
        for mode in modes:
            mode.__exit__(None, None, None)
        try:
            with heard_by(None):
                yield
        finally:
            for mode in reversed(modes):
                mode.__enter__()

    # One operation ---------------------------------------------------------------------------

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch-level operation and record it."""
        kwargs = kwargs or {}
        name = _name_of(func)
        self._refuse.unsupported(name, types)
        generator = kwargs.get("generator")
        if generator is not None and id(generator) not in self._generators:
            self._generators[id(generator)] = (generator, generator.get_state())
        taken = map_leaves((args, kwargs), self._argument)
        effects = self._log.current = Effects()
        try:
            result = func(*args, **kwargs)
        finally:
            self._log.current = None
        if result is not None and not shapes_of(result):
            self._record_read(func, name, taken, result, effects)
        else:
            self._record_operation(func, name, (args, kwargs), taken, result, effects)
        return result

    def _record_read(
        self, func: Any, name: str, taken: tuple[Any, Any], result: Any, effects: Effects
    ) -> None:
        """A result without tensors: metadata, which is static, or a value, which is checked."""
        if name not in _READS_TO_PYTHON and not effects.kernels:
            return
        effects.kernels = effects.kernels or ["host_read"]
        effects.reads |= {self._values.storage_of(ref.value) for ref in references(taken)}
        effects.tokens.add(HOST_TOKEN)
        origin = self._origins.here()
        self._append(Check(func, result, origin), f"check_{name}", taken, (), effects, origin)

    def _record_operation(
        self,
        func: Callable[..., Any] | Region,
        name: str,
        arguments: tuple[Any, Any],
        taken: tuple[Any, Any],
        result: Any,
        effects: Effects,
    ) -> None:
        task = len(self._tasks)
        for tensor in self._mutable(arguments):
            old = self._values.forget_if_reshaped(tensor)
            if old is not None:
                self._reshaped.append((task, old))
        results = tuple(self._values.add_results(result, task))
        if not (results or effects.kernels or effects.tokens):
            return
        # Bytes that came from nowhere were filled by the call itself: torch.tensor, from_file.
        opaque = self._values.births_of(task) - effects.writes - effects.allocated
        effects.writes |= opaque
        if opaque and not effects.kernels:
            effects.kernels.append(f"opaque::{name}")
        origin = self._origins.here()
        if HOST_READS.intersection(effects.calls) and not isinstance(func, Region):
            func = SameShape(func, result, origin)
        self._append(func, name, taken, results, effects, origin)

    def _append(
        self,
        target: Callable[..., Any] | Region,
        name: str,
        taken: tuple[Any, Any],
        results: tuple[tuple[tuple[int | str, ...], int], ...],
        effects: Effects,
        origin: Origin,
    ) -> None:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        self._tasks.append(
            Task(
                id=len(self._tasks),
                name=f"{name}_{count}" if count else name,
                target=target,
                args=taken[0],
                kwargs=taken[1],
                results=results,
                kernels=tuple(effects.kernels),
                reads=frozenset(effects.reads),
                writes=frozenset(effects.writes),
                births=frozenset(self._values.births_of(len(self._tasks))),
                tokens=frozenset(effects.tokens),
                flops=effects.flops,
                is_sync=bool(HOST_READS.intersection(effects.calls)) or isinstance(target, Check),
                ambient=ambient_here(),
                origin=origin,
            )
        )

    def _mutable(self, arguments: tuple[Any, Any]) -> list[torch.Tensor]:
        args, kwargs = arguments
        candidates = [*args[:1], kwargs.get("out")]
        return [tensor for tensor in candidates if isinstance(tensor, torch.Tensor)]

    # Values ----------------------------------------------------------------------------------

    def _input(self, leaf: object) -> Ref | object:
        if isinstance(leaf, torch.Tensor):
            self._refuse.subclass(type(leaf))
            return Ref(self._values.add_outside(leaf, StorageKind.INPUT))
        return leaf

    def _argument(self, leaf: Any) -> Any:
        return Ref(self._value(leaf)) if isinstance(leaf, torch.Tensor) else leaf

    def _value(self, tensor: torch.Tensor) -> int:
        known = self._values.find(tensor)
        if known is not None:
            return known
        if self._values.is_inside(tensor):
            raise self._refuse.error(
                "NL0103",
                what="a tensor was made outside every torch function that was seen",
                found=f"a tensor of shape {tuple(tensor.shape)}",
                hint="an autograd.Function or a C++ extension made it",
            )
        value = self._values.add_outside(tensor, StorageKind.CONSTANT)
        path = self._paths.get(id(tensor), "")
        self._constants.append(Constant(value=value, tensor=tensor, path=path))
        return value

    def _output(self, leaf: object) -> Ref | object:
        if isinstance(leaf, torch.Tensor):
            return Ref(self._value(leaf))
        if isinstance(leaf, _LITERALS):
            return leaf
        raise RecordError(
            "NL0104",
            what="an output is an object that cannot be rebuilt for each call",
            found=f"{type(leaf).__module__}.{type(leaf).__qualname__}",
            expected="tensors, numbers and strings in tuples, lists, dicts or registered pytrees",
            hint="return the tensors that it holds, or switch it off (use_cache=False)",
        )

    # The result ------------------------------------------------------------------------------

    def _graph(
        self,
        inputs: tuple[Ref | object, ...],
        input_spec: TreeSpec,
        outputs: tuple[Ref | object, ...],
        output_spec: TreeSpec,
    ) -> TaskGraph:
        tasks = without_temporaries(self._tasks, {meta.storage for meta in self._values.metas})
        kernels = [task for task in tasks if not task.is_zero]
        hazards = hazard_edges([(task.reads, task.writes, task.tokens) for task in kernels])
        return TaskGraph(
            tasks=tuple(tasks),
            values=tuple(self._values.metas),
            storages=self._values.storages({r.value for r in outputs if isinstance(r, Ref)}),
            inputs=inputs,
            input_spec=input_spec,
            constants=tuple(self._constants),
            outputs=outputs,
            output_spec=output_spec,
            kernel_tasks=tuple(task.id for task in kernels),
            hazards=hazards,
            host=host_edges(tasks, kernels, hazards, self._reshaped),
            device=self._values.main_device(),
        )


def _name_of(func: Any) -> str:
    """Short name: `add` for `Tensor.__add__`, `get_data` for a property."""
    name = str(getattr(func, "__name__", func))
    owner = getattr(func, "__self__", None)
    if name in {"__get__", "__set__"} and owner is not None:
        return f"{name.strip('_')}_{getattr(owner, '__name__', 'property')}"
    if name in _READS_TO_PYTHON or name in LEAVES_TORCH:
        return name
    return name.removeprefix("__").removesuffix("__").split(".", maxsplit=1)[0]
