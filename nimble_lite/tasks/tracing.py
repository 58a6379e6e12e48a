"""Record one run of a function as a `TaskGraph`.

In: a callable or `GraphModule` and example inputs. Out: a `TaskGraph`, and nothing else: random
state, arguments, parameters and buffers are as they were before.
Invariant: what the recording cannot prove to be the same on the next call is refused with a code
or becomes a check that runs with every replay.

The run is real. A `TorchFunctionMode` sees every torch-level operation, an `EffectLog` below it
what each one reads and writes. Operations are recorded at the level of torch's C builtins, which
is where `torch.nn.functional` ends (see Note [Plain tensors stay plain]).

Note [Plain tensors stay plain]
    Under a function mode, torch's Python wrappers believe that every tensor overrides torch
    functions. They then hand themselves to the mode, which would record slow wrappers, and
    `TransformerEncoderLayer` leaves its fast path, which changes bits. While this thread
    records, `has_torch_function` therefore tells the truth about plain tensors.

Example:
    >>> graph = record(torch.nn.Linear(3, 2), (torch.ones(1, 3),))
    >>> [constant.path for constant in graph.constants]
    ['weight', 'bias']
"""

from __future__ import annotations

import gc
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.overrides
from torch.fx import GraphModule, Interpreter, Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten

from nimble_lite.errors import RecordError, StaleValueError
from nimble_lite.tasks.alias import (
    DATA_DEPENDENT,
    HOST_READS,
    HOST_TOKEN,
    STORAGE_CHANGING,
    EffectLog,
    Effects,
    StorageTable,
    bytes_of,
    hazard_edges,
)
from nimble_lite.tasks.graph import (
    Ambient,
    Constant,
    Origin,
    Ref,
    Storage,
    StorageKind,
    Task,
    TaskGraph,
    TensorMeta,
    map_leaves,
    references,
)
from nimble_lite.tasks.owners import module_names, tensor_names

_READS_TO_PYTHON = frozenset(
    {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__"}
)
_LEAVES_TORCH = frozenset(
    {"numpy", "__array__", "__dlpack__", "untyped_storage", "storage", "data_ptr"}
)
_HARMLESS_SETTERS = frozenset({"requires_grad"})
_LITERALS = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_WRAPPERS = (
    "torch.overrides",
    "torch.functional",
    "torch._tensor",
    "torch._lowrank",
    "torch.nn.functional",
    "torch.nn.init",
)
_QUESTIONS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
_TORCH_ROOT = str(Path(torch.__file__).parent)
_OWN_ROOT = str(Path(__file__).parent.parent)
_STACK_LINE = re.compile(r'File "(.+?)", line (\d+)')

_patch_lock = threading.RLock()


class Check:
    """A value that Python read while recording, compared again with every replay.

    Args:
        read: the function that brings the value to the host.
        recorded: what it returned.
        origin: the user's line.
    """

    def __init__(self, read: Callable[..., Any], recorded: Any, origin: Origin) -> None:
        self.read = read
        self.recorded = recorded
        self.origin = origin

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Raise unless the value is the recorded one."""
        found = self.read(*args, **kwargs)
        # repr tells -0.0 from 0.0 and finds NaN equal to itself, which == does not.
        if repr(found) != repr(self.recorded):
            raise StaleValueError(
                "NL0206",
                what=f"a value that Python read at {self.origin} is different now",
                found=repr(found),
                expected=f"{self.recorded!r}, as when the function was scheduled",
                hint="call the function itself for such inputs; janus_lite keeps both paths",
            )


class SameShape:
    """An operation that takes a host value: its results must keep their recorded shapes."""

    def __init__(self, target: Callable[..., Any], recorded: Any, origin: Origin) -> None:
        self.target = target
        self.recorded = _shapes(recorded)
        self.origin = origin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the operation and compare."""
        result = self.target(*args, **kwargs)
        found = _shapes(result)
        if found != self.recorded:
            raise StaleValueError(
                "NL0206",
                what=f"the operation at {self.origin} returned another shape",
                found=str(found),
                expected=f"{self.recorded}, as when the function was scheduled",
                hint="call the function itself for such inputs",
            )
        return result


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
    if torch._C._functorch.peek_interpreter_stack() is not None:
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
        self._modules = module_names(fn)
        self._paths = tensor_names(fn)
        self._storages = StorageTable()
        self._log = EffectLog(self._storages, self._refuse_dynamic, self._keep_bytes, probe=probe)
        self._values = _Values(self._storages)
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._generators: dict[int, tuple[torch.Generator, torch.Tensor]] = {}
        self._tasks: list[Task] = []
        self._reshaped: list[tuple[int, int]] = []
        self._names: dict[str, int] = {}
        self._constants: list[Constant] = []
        self._node: Node | None = None

    def run(self) -> TaskGraph:
        """Record the function and restore everything that its run wrote."""
        leaves, input_spec = tree_flatten(self._arguments)
        inputs = tuple(self._input(leaf) for leaf in leaves)
        random_states = _random_states()
        try:
            output = self._call()
        finally:
            self._restore(random_states)
        flat, output_spec = tree_flatten(output)
        del output
        outputs = tuple(self._output(leaf) for leaf in flat)
        self._values.refuse_stored(flat, self._tasks)
        return self._graph(inputs, input_spec, outputs, output_spec)

    # The run and its surroundings ------------------------------------------------------------

    def _call(self) -> Any:
        fn: Callable[..., Any] = self._fn
        if isinstance(fn, GraphModule):
            fn = _NodeTracker(fn, self)
        args, kwargs = self._arguments
        with _truth_about_plain_tensors(), torch.no_grad(), self._log, self:
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

    def enter_node(self, node: Node) -> None:
        """Note which node of a `GraphModule` runs, for the origins."""
        self._node = node

    def _keep_bytes(self, tensor: torch.Tensor) -> None:
        number = self._storages.number(tensor)
        if number not in self._kept and self._values.kind_of(number) is not StorageKind.BORN:
            # Bytes, not the tensor: a view made by the run must be free to die.
            flat = bytes_of(tensor)
            self._kept[number] = (flat, flat.clone())

    def _restore(self, random_states: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for flat, copy in self._kept.values():
                flat.copy_(copy)
        for generator, state in self._generators.values():
            generator.set_state(state)
        _restore_random_states(random_states)

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
        self._refuse_unsupported(name, types)
        generator = kwargs.get("generator")
        if generator is not None and id(generator) not in self._generators:
            self._generators[id(generator)] = (generator, generator.get_state())
        taken = map_leaves((args, kwargs), self._argument)
        effects = self._log.current = Effects()
        try:
            result = func(*args, **kwargs)
        finally:
            self._log.current = None
        if result is not None and not _shapes(result):
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
        origin = self._origin()
        self._append(Check(func, result, origin), f"check_{name}", taken, (), effects, origin)

    def _record_operation(
        self,
        func: Any,
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
        origin = self._origin()
        if HOST_READS.intersection(effects.calls):
            func = SameShape(func, result, origin)
        self._append(func, name, taken, results, effects, origin)

    def _append(
        self,
        target: Callable[..., Any],
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
                ambient=_ambient(),
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
            self._refuse_subclass(type(leaf))
            return Ref(self._values.add_outside(leaf, StorageKind.INPUT))
        return leaf

    def _argument(self, leaf: Any) -> Any:
        return Ref(self._value(leaf)) if isinstance(leaf, torch.Tensor) else leaf

    def _value(self, tensor: torch.Tensor) -> int:
        known = self._values.find(tensor)
        if known is not None:
            return known
        if self._values.is_inside(tensor):
            raise self._refusal(
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

    # Refusals --------------------------------------------------------------------------------

    def _refuse_unsupported(self, name: str, types: Sequence[type]) -> None:
        if name in _LEAVES_TORCH:
            raise self._refusal(
                "NL0102",
                what="a tensor left torch while the function was recorded",
                found=f"Tensor.{name}()",
                hint="what is computed outside torch cannot be replayed: use torch operations",
            )
        if name.startswith("set_") and name.removeprefix("set_") not in _HARMLESS_SETTERS:
            raise self._refusal(
                "NL0106",
                what="a tensor was given other bytes in place",
                found=f"Tensor.{name.removeprefix('set_')} = ...",
                hint="assign to a new name, or copy with copy_()",
            )
        if torch.is_grad_enabled():
            raise self._refusal(
                "NL0103",
                what="the function switches gradients on",
                found=f"{name} with grad mode enabled",
                hint="the autograd engine works outside torch functions: schedule what lies "
                "around it, or train through torch.compile(backend='nimble')",
            )
        for kind in types:
            self._refuse_subclass(kind)

    def _refuse_subclass(self, kind: type) -> None:
        if not _is_plain(kind):
            raise self._refusal(
                "NL0107",
                what="a tensor subclass overrides torch functions",
                found=f"{kind.__module__}.{kind.__qualname__}",
                hint="schedule the function on plain tensors",
            )

    def _refuse_dynamic(self, call: str) -> None:
        if call in DATA_DEPENDENT:
            raise self._refusal(
                "NL0101",
                what="the shape of a result depends on values",
                found=call,
                hint="use torch.where or a mask of fixed size, or speculate with janus_lite",
            )
        if call in STORAGE_CHANGING:
            raise self._refusal(
                "NL0106",
                what="a tensor was given other bytes in place",
                found=call,
                hint="make a new tensor instead",
            )

    def _refusal(self, code: str, *, what: str, found: str, hint: str) -> RecordError:
        return RecordError(code, what=f"{what}, at {self._origin()}", found=found, hint=hint)

    # Origins and the result ------------------------------------------------------------------

    def _origin(self) -> Origin:
        if self._node is not None:
            return _node_origin(self._node)
        module, file, line = "", "", 0
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not (module and file):
            name = frame.f_code.co_filename
            if not module:
                module = self._modules.get(id(frame.f_locals.get("self")), "")
            if not file and not name.startswith((_TORCH_ROOT, _OWN_ROOT)):
                file, line = name, frame.f_lineno
            frame = frame.f_back
        return Origin(module=module, file=file or "<unknown>", line=line)

    def _graph(
        self,
        inputs: tuple[Ref | object, ...],
        input_spec: TreeSpec,
        outputs: tuple[Ref | object, ...],
        output_spec: TreeSpec,
    ) -> TaskGraph:
        tasks = _without_temporaries(self._tasks, {meta.storage for meta in self._values.metas})
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
            host=_host_edges(tasks, kernels, hazards, self._reshaped),
            device=self._values.main_device(),
        )


class _Values:
    """Numbers tensors as values; holds none of them alive."""

    def __init__(self, storages: StorageTable) -> None:
        self.metas: list[TensorMeta] = []
        self._table = storages
        self._numbers: dict[int, int] = {}
        self._references: dict[int, weakref.ref[torch.Tensor]] = {}
        self._kinds: dict[int, StorageKind] = {}
        self._births: dict[int, int] = {}
        self._births_by_task: dict[int, set[int]] = {}
        self._maker: dict[int, int] = {}

    def find(self, tensor: torch.Tensor) -> int | None:
        """Return the value number of this very object."""
        return self._numbers.get(id(tensor))

    def kind_of(self, storage: int) -> StorageKind:
        """Return who owns a storage; what nobody brought from outside was born inside."""
        return self._kinds.get(storage, StorageKind.BORN)

    def is_inside(self, tensor: torch.Tensor) -> bool:
        """Tell whether the bytes belong to an argument or were made by the run."""
        if not self._table.is_known(tensor):
            return False
        return self.kind_of(self._table.number(tensor)) is not StorageKind.CONSTANT

    def storage_of(self, value: int) -> int:
        """Return the storage below a value."""
        return self.metas[value].storage

    def births_of(self, task: int) -> set[int]:
        """Return the storages that a task made and a value looks at."""
        return self._births_by_task.get(task, set())

    def add_outside(self, tensor: torch.Tensor, kind: StorageKind) -> int:
        """Number an argument or a constant; the same object twice is one value."""
        known = self.find(tensor)
        if known is not None:
            return known
        self._kinds.setdefault(self._table.number(tensor), kind)
        return self._add(tensor)

    def add_results(
        self, result: Any, task: int, path: tuple[int | str, ...] = ()
    ) -> Iterator[tuple[tuple[int | str, ...], int]]:
        """Number the tensors of a result that were not seen before, with their paths."""
        if isinstance(result, torch.Tensor):
            if self.find(result) is None:
                storage = self._table.number(result)
                if storage not in self._kinds and storage not in self._births:
                    self._births[storage] = task
                    self._births_by_task.setdefault(task, set()).add(storage)
                value = self._add(result)
                self._maker[value] = task
                yield path, value
        elif isinstance(result, tuple | list):
            for index, part in enumerate(result):
                yield from self.add_results(part, task, (*path, index))
        elif isinstance(result, dict):
            for key, part in result.items():
                yield from self.add_results(part, task, (*path, key))

    def forget_if_reshaped(self, tensor: torch.Tensor) -> int | None:
        """Let go of an object whose metadata changed in place; its next sight is a new value."""
        value = self.find(tensor)
        if value is None or self.metas[value] == self._meta(tensor):
            return None
        del self._numbers[id(tensor)]
        return value

    def _add(self, tensor: torch.Tensor) -> int:
        value = len(self.metas)
        key = id(tensor)
        self.metas.append(self._meta(tensor))
        self._numbers[key] = value
        self._references[value] = weakref.ref(tensor, lambda _: self._drop(key, value))
        return value

    def _drop(self, key: int, value: int) -> None:
        # The address may belong to a new tensor by now.
        if self._numbers.get(key) == value:
            del self._numbers[key]

    def _meta(self, tensor: torch.Tensor) -> TensorMeta:
        if tensor.layout is not torch.strided:
            raise RecordError(
                "NL0107",
                what="a tensor has no plain storage",
                found=str(tensor.layout),
                expected="torch.strided",
                hint="schedule the function on dense tensors",
            )
        return TensorMeta(
            dtype=tensor.dtype,
            shape=tuple(tensor.shape),
            stride=tuple(tensor.stride()),
            offset=int(tensor.storage_offset()),
            device=tensor.device,
            requires_grad=tensor.requires_grad,
            storage=self._table.number(tensor),
        )

    def refuse_stored(self, outputs: Sequence[Any], tasks: Sequence[Task]) -> None:
        """Refuse tensors of the run that live on although they are not returned."""
        returned: set[int] = set()
        for output in outputs:
            while isinstance(output, torch.Tensor):
                returned.add(id(output))
                output = output._base  # a view keeps its base alive
        for is_last_look in (False, True):
            stored = [
                value
                for value, reference in self._references.items()
                if value in self._maker
                and (tensor := reference()) is not None
                and id(tensor) not in returned
            ]
            if not stored:
                return
            del tensor
            if not is_last_look:
                gc.collect()
        origin = tasks[self._maker[stored[0]]].origin
        raise RecordError(
            "NL0105",
            what=f"a tensor made at {origin} was stored outside the function",
            found=str(self.metas[stored[0]]),
            expected="results that are returned, or written into tensors that exist",
            hint="return it, or copy it into a buffer with copy_()",
        )

    def storages(self, outputs: set[int]) -> tuple[Storage, ...]:
        """Return all storages; those below an output are marked."""
        returned = {self.storage_of(value) for value in outputs}
        return tuple(
            Storage(
                kind=self.kind_of(number),
                nbytes=nbytes,
                birth=self._births.get(number),
                is_output=number in returned,
            )
            for number, nbytes in enumerate(self._table.nbytes)
        )

    def main_device(self) -> torch.device:
        """The first device that is not the CPU, else the CPU."""
        devices = [meta.device for meta in self.metas if meta.device.type != "cpu"]
        return devices[0] if devices else torch.device("cpu")


class _NodeTracker(Interpreter):
    """Runs a `GraphModule` and tells the recorder which node is running."""

    def __init__(self, module: GraphModule, recorder: _Recorder) -> None:
        super().__init__(module)
        self._recorder = recorder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Bind the arguments to the placeholders and run."""
        placeholders = [str(n.target) for n in self.graph.nodes if n.op == "placeholder"]
        return self.run(*args, *(kwargs[name] for name in placeholders[len(args) :] if kwargs))

    def run_node(self, n: Node) -> Any:
        """Run one node."""
        self._recorder.enter_node(n)
        return super().run_node(n)


def _without_temporaries(tasks: Sequence[Task], named: set[int]) -> list[Task]:
    """Forget storages that live and die inside one task: no value looks at them."""
    users: dict[int, int] = {}
    for task in tasks:
        for storage in task.touches:
            users[storage] = users.get(storage, 0) + 1
    kept = named | {storage for storage, count in users.items() if count > 1}
    return [replace(task, reads=task.reads & kept, writes=task.writes & kept) for task in tasks]


def _host_edges(
    tasks: Sequence[Task],
    kernels: Sequence[Task],
    hazards: Sequence[Sequence[int]],
    reshaped: Sequence[tuple[int, int]],
) -> tuple[tuple[int, ...], ...]:
    """Hazards, argument edges, and all users of an object before it changes shape in place."""
    edges: list[set[int]] = [set() for _ in tasks]
    for kernel, sources in zip(kernels, hazards, strict=True):
        edges[kernel.id].update(kernels[source].id for source in sources)
    maker = {value: task.id for task in tasks for _, value in task.results}
    users: dict[int, list[int]] = {}
    for task in tasks:
        for ref in references((task.args, task.kwargs)):
            users.setdefault(ref.value, []).append(task.id)
            if ref.value in maker:
                edges[task.id].add(maker[ref.value])
    for mutator, value in reshaped:
        edges[mutator].update(user for user in users.get(value, ()) if user < mutator)
    return tuple(tuple(sorted(sources)) for sources in edges)


@contextmanager
def _truth_about_plain_tensors() -> Iterator[None]:
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


def _is_plain(kind: type) -> bool:
    handler = getattr(kind, "__torch_function__", None)
    if handler is torch._C._disabled_torch_function_impl:
        return True
    plain = torch.Tensor.__torch_function__
    return getattr(handler, "__func__", handler) is getattr(plain, "__func__", plain)


def _name_of(func: Any) -> str:
    """Short name: `add` for `Tensor.__add__`, `get_data` for a property."""
    name = str(getattr(func, "__name__", func))
    owner = getattr(func, "__self__", None)
    if name in {"__get__", "__set__"} and owner is not None:
        return f"{name.strip('_')}_{getattr(owner, '__name__', 'property')}"
    if name in _READS_TO_PYTHON or name in _LEAVES_TORCH:
        return name
    return name.removeprefix("__").removesuffix("__").split(".", maxsplit=1)[0]


def _shapes(result: Any) -> tuple[tuple[int, ...], ...]:
    """Shapes of the tensors in a result, without looking into foreign objects."""
    if isinstance(result, torch.Tensor):
        return (tuple(result.shape),)
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return tuple(shape for part in result for shape in _shapes(part))
    return ()


def _ambient() -> Ambient | None:
    for device_type in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            return Ambient(device_type=device_type, dtype=dtype)
    return None


def _node_origin(node: Node) -> Origin:
    lines = _STACK_LINE.findall(node.meta.get("stack_trace") or "")
    file, line = lines[-1] if lines else (f"<graph node {node.name}>", 0)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = str(stack[-1][0]) if stack else ""
    return Origin(module=module, file=file, line=int(line))


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    return states


def _restore_random_states(states: dict[str, torch.Tensor]) -> None:
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
