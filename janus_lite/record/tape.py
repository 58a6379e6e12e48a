"""The tensor side of a recording: torch calls in, `Operation`s out.

A `TorchFunctionMode` sees every torch function at the level of torch's C builtins. A
`TorchDispatchMode` underneath sees every ATen operator; by its schema it tells what each recorded
call writes, whether it draws random numbers and whether data decides its shape, and it catches
operators that no recorded call explains.
"""

from __future__ import annotations

import operator
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from janus_lite.errors import Code, Site
from janus_lite.record import torch_table
from janus_lite.record.heap import SCALARS, is_scalar
from janus_lite.record.kinds import is_a
from janus_lite.record.marks import RegionLog
from janus_lite.record.placement import placement_of
from janus_lite.record.scalars import (
    MOST_NUMBERS,
    NUMBERS,
    Numbers,
    is_made,
    is_symbolic,
    plain,
    rebuilt,
)
from janus_lite.record.sizes import Sizes
from janus_lite.record.source import Made, Source
from janus_lite.record.torch_table import NumberUse, Treatment
from janus_lite.record.trace import (
    UNPLACED,
    Answer,
    Input,
    Operation,
    OperationKind,
    Placement,
    Ref,
    TensorMeta,
    refs_in,
)
from janus_lite.torch_internals import TorchDispatchMode, TorchFunctionMode, is_plain, without_modes

_NORM_TRAINING = 5  # position of `training` in the operators that update running statistics
Observer = Callable[[Operation, object], None]
_UNSEEN: Any = object()
_HOST_VALUES = (bool, int, float, complex)
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)


class Tape:
    """Operations of one recorded run.

    Args:
        stop: marks the trace as not replayable.
        site: the user's current line.
        module: path of the module that is running.
        note: notes the content of an outside container that an operation reads.
        made: the graph value of an object that is neither tensor nor number, `None` for others.
        note_gradient: notes which gradient an outside tensor has at entry.
        numbers: the numbers that vary.
        regions: what control flow is open.
        relaxed: places where another size may stand.
    """

    def __init__(
        self,
        stop: Callable[[Code, str], None],
        site: Callable[[], Site | None],
        module: Callable[[], str],
        note: Callable[[object], None],
        made: Callable[[object], Made | None],
        note_gradient: Callable[[torch.Tensor, object], None],
        numbers: Numbers,
        regions: RegionLog,
        relaxed: frozenset[str],
    ) -> None:
        self._regions = regions
        self._numbers = numbers
        self.sizes = Sizes(numbers, relaxed, self.ref_of, self.operate)
        self._stop = stop
        self._site = site
        self._module = module
        self._note = note
        self._made = made
        self._note_gradient = note_gradient
        self._live: dict[int, tuple[weakref.ref[torch.Tensor], Ref]] = {}
        self._input_sources: dict[int, Source] = {}
        self._outside_storages: dict[int, list[Ref]] = {}
        self._values = 0
        self._fresh: set[Ref] = set()  # tensors that the last call made
        self._varies = False  # the sizes of what a call gives depend on sizes that vary
        self._answered: set[Ref] = set()
        self._written: dict[Ref, None] = {}
        self._generators: dict[torch.Generator, None] = {}
        self._gradients: dict[int, torch.Tensor | None] = {}
        self._has_acted = False
        self._forget_facts()
        self.depth = 0  # > 0 while a recorded call (or a declared leaf) runs
        self.try_depth = 0
        self.is_stopped = False
        self.is_unrecorded = False  # what runs now is none of the program's operations
        self.observe: Observer | None = None
        self.inputs: list[Input] = []
        self.examples: list[torch.Tensor] = []
        self.operations: list[Operation] = []
        self.lists: dict[int, int] = {}  # which list an operand was, by the operand's id

    # ----------------------------------------------------------------- values

    def input_source(self, tensor: torch.Tensor) -> Source | None:
        """The source of an outside tensor, `None` when it was made in the run."""
        return self._input_sources.get(id(tensor))

    def add_input(self, tensor: torch.Tensor, source: Source) -> None:
        """Register an outside tensor."""
        if id(tensor) in self._live:
            if self.is_answered(tensor):
                self._stop(Code.RECURSION, f"a recursive call gave the tensor of {source}")
            return  # made in this run and read back through a fresh object
        with without_modes():
            if not is_plain(tensor):
                what = f"{source} is a {type(tensor).__name__}, {tensor.layout}"
                self._stop(Code.UNSUPPORTED_TENSOR, what)
                return
            storage = tensor.untyped_storage()._cdata
            meta = TensorMeta.of(tensor)
            ref = self._new(tensor)
            varying = self.sizes.open(ref, source, tensor)
        self._outside_storages.setdefault(storage, []).append(ref)
        self._input_sources[id(tensor)] = source
        self.inputs.append(Input(ref, source, meta, varying))
        self.examples.append(tensor)

    def release(self) -> None:
        """Forget every tensor and argument."""
        for kept in (self.inputs, self.examples, self.operations, self._gradients, self._live):
            kept.clear()
        self.sizes.release()

    def finish(self) -> None:
        """Stop when the run changed what an outside tensor looks like, or trained with hooks."""
        trains = any(o.kind is OperationKind.ACTION for o in self.operations)
        if trains and not is_free_of_hooks(self.examples):
            self._stop(Code.UNKNOWN_CALL, "trains a tensor that has a hook or a history")
        for item, tensor in zip(self.inputs, self.examples, strict=True):
            if TensorMeta.of(tensor) != item.meta:
                self._stop(Code.OUTSIDE_WRITE, f"changes the shape or type of {item.source}")

    def ref_of(self, tensor: torch.Tensor) -> Ref | None:
        """The graph value of a tensor, `None` when nobody knows it."""
        found = self._live.get(id(tensor))
        return found[1] if found is not None else None

    def tensors(self) -> dict[Ref, torch.Tensor]:
        """The graph's tensors that are still alive."""
        pairs = [(ref, weak()) for weak, ref in self._live.values()]
        return {ref: tensor for ref, tensor in pairs if tensor is not None}

    def outside_of(self, tensor: torch.Tensor) -> tuple[Ref, ...]:
        """The outside tensors whose memory a tensor shares."""
        return tuple(self._outside_storages.get(tensor.untyped_storage()._cdata, ()))

    def _new(self, tensor: torch.Tensor) -> Ref:
        ref = self._next()
        key = id(tensor)
        live = self._live

        def forget(_: object) -> None:
            live.pop(key, None)

        live[key] = (weakref.ref(tensor, forget), ref)
        return ref

    # ------------------------------------------------------------- operations

    def call(
        self,
        target: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        runs: Callable[..., object] | None = None,
    ) -> object:
        """Run a torch function and record it.

        Args:
            target: what a replay calls.
            args: its positional arguments.
            kwargs: its keyword arguments.
            runs: what this run calls in its place, when that differs.
        """
        if self.is_stopped or self.is_unrecorded:
            return (runs or target)(*args, **kwargs)
        treatment = torch_table.treatment(target)
        use = torch_table.number_use(target)
        if self._numbers and use is NumberUse.FIXED:
            args = self._numbers.fixed(args)
            kwargs = {k: self._numbers.fixed(v) for k, v in kwargs.items()}
        if self.sizes.any_vary:
            self._fix_sizes(torch_table.name_of(target), args, kwargs)
        if treatment not in (Treatment.OPERATION, Treatment.CHECKED):
            return self._without_operation(treatment, target, args, kwargs)
        self._varies = False
        encoded_args = tuple(self._encode(a, use) for a in args)
        encoded_kwargs = {k: self._encode(v, use) for k, v in kwargs.items()}
        varies = self._varies or self.sizes.are_varying((encoded_args, encoded_kwargs))
        self._varies = varies
        if self._numbers:
            args = rebuilt(args, plain)
            kwargs = {k: rebuilt(v, plain) for k, v in kwargs.items()}
        self._forget_facts()
        self.depth += 1
        self.is_unrecorded = runs is not None
        try:
            result = (runs or target)(*args, **kwargs)
        except Exception as error:
            self._stop(Code.OPERATION_RAISED, f"`{torch_table.name_of(target)}` raised {error!r}")
            raise
        finally:
            self.depth -= 1
            self.is_unrecorded = False
        if not self.is_stopped:
            self._varies = varies
            self._note_possible_alias(target, args, result)
            placement = UNPLACED if varies else placement_of(target, args, kwargs, result)
            self._append(target, treatment, encoded_args, encoded_kwargs, result, placement)
        return result

    def _without_operation(
        self,
        treatment: Treatment,
        target: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Run a torch function that is recorded in another way than as an operation, or not."""
        if treatment is Treatment.AMBIENT:
            return self.ambient(target, args)
        if treatment is Treatment.GRADIENT:
            return self._gradient(target, args[0])
        if treatment is Treatment.DENY:
            self._stop(Code.TENSOR_ESCAPE, f"`{torch_table.name_of(target)}` leaves the graph")
        return target(*args, **kwargs)

    def _fix_sizes(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Take sizes for constants where a call tells them in a way that no hook has seen to."""
        if name in torch_table.SIZE_READERS:
            self.sizes.fix(*args, *kwargs.values())
        elif name in torch_table.UNBINDERS and args:
            self.sizes.fix_dim(args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0))

    def ambient(self, target: Callable[..., object], args: tuple[object, ...]) -> object:
        """Run and record a setter of torch's ambient state."""
        result = target(*args)
        self.operations.append(
            Operation(target, args, {}, None, OperationKind.AMBIENT, site=self._site())
        )
        return result

    def _append(
        self,
        target: Callable[..., object],
        treatment: Treatment,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        result: object,
        placement: Placement,
    ) -> None:
        kind, expected, output = OperationKind.COMPUTE, None, None
        if _is_host_value(result) or treatment is Treatment.CHECKED:
            if result is not None and not _is_host_value(result):
                name = torch_table.name_of(target)
                self._stop(Code.TENSOR_ESCAPE, f"`{name}` reads a tensor's state")
                return
            kind, expected = OperationKind.ASSERT, _frozen(result)
        else:
            # An operation that hands back a tensor it was given does no work unless it writes; one
            # that gives nothing back is there for what it does.
            self._fresh.clear()
            output = self._decode(result)
            is_idle = not self._fresh and result is not None
            is_idle &= not (self._mutated or self._draws)
            if self._varies:
                expected = self._form(target, kwargs, result, output)
                kind = OperationKind.COMPUTE if expected is None else OperationKind.FORM
            elif self._dynamic:
                kind, expected = OperationKind.SHAPE, _shapes(result)
            if is_idle and kind is not OperationKind.FORM:
                return
        operation = Operation(
            target,
            args,
            kwargs,
            output,
            kind,
            expected,
            tuple(self._written),
            self._mutated,
            self._undoable,
            self._draws,
            tuple(self._generators),
            self.try_depth > 0,
            self._site(),
            self._module(),
            self._regions.decide() if kind is not OperationKind.COMPUTE else (),
            placement,
        )
        self.operations.append(operation)
        if self.observe is not None:
            self._show(operation, result)

    def _gradient(self, target: Callable[..., Any], owner: Any) -> Any:
        """Read `owner.grad`: an outside tensor, unless an action of this run has made it.

        What it looks like is known where it still is the one of entry, and where a backward pass
        makes it anew in each replay: that depends on the graph and on what was there at entry.
        """
        found = target(owner)
        with without_modes():
            is_known = self.input_source(owner) is not None and owner.is_leaf
        before = self._gradients.get(id(owner), _UNSEEN) if self._has_acted else found
        if not is_known or (found is None and before is not None) or before is _UNSEEN:
            if found is None:
                self._read_gradient(target, owner, OperationKind.ASSERT, None)
            else:
                self._stop(
                    Code.TENSOR_ESCAPE, "`grad` of a tensor that is no leaf, or met too late"
                )
        elif found is None or self.ref_of(found) is None:
            self._note_gradient(owner, before)
            if found is not before:
                is_alike = before is None or TensorMeta.of(before) == TensorMeta.of(found)
                if not is_alike:
                    self._stop(Code.TENSOR_ESCAPE, "`grad` looks otherwise than at entry")
                self._read_gradient(target, owner, OperationKind.COMPUTE, self._new(found))
        return found

    def _read_gradient(
        self, target: Callable[..., Any], owner: Any, kind: OperationKind, output: Ref | None
    ) -> None:
        self.operations.append(
            Operation(
                target,
                (self._encode(owner),),
                {},
                output,
                kind,
                is_guarded=self.try_depth > 0,
                site=self._site(),
                module=self._module(),
            )
        )

    def note_gradients(self, tensors: Iterable[torch.Tensor] = ()) -> None:
        """Before the first action: which gradients there are, at least those of `tensors`."""
        if not self._has_acted:
            with without_modes():
                leaves = [t for t in (*self.examples, *tensors) if t.is_leaf]
                self._gradients = {id(t): t.grad for t in leaves}

    def _form(
        self, target: Callable[..., object], keywords: Iterable[str], result: object, output: object
    ) -> tuple[object, ...] | None:
        """See `Operation.expected` of a `FORM`; `None` where sizes decide nothing but sizes."""
        count = len(result) if type(result) is tuple or type(result) is list else None
        rank = None
        if is_a(result, torch.Tensor) and torch_table.drops_dims(target):
            with without_modes():
                rank = result.dim()
        given: list[Ref] = []
        if not self._mutated and torch_table.may_copy(target, frozenset(keywords)):
            given = [ref for ref in refs_in(output) if ref not in self._fresh]
        self.sizes.add([ref for ref in refs_in(output) if ref not in given])
        form = (count, rank, *given)
        return form if any(part is not None for part in form) else None

    def _show(self, operation: Operation, result: object) -> None:
        """Let the observer see what an operation gave."""
        assert self.observe is not None
        self.depth += 1  # its own operations are none of the program's
        was_unrecorded, self.is_unrecorded = self.is_unrecorded, True
        try:
            self.observe(operation, result)
        except Exception as error:
            self._stop(Code.INTERNAL, f"observing: {type(error).__name__}: {error}")
        finally:
            self.depth -= 1
            self.is_unrecorded = was_unrecorded

    # ------------------------------------------------------- function regions

    def answered(self, tensor: torch.Tensor) -> Ref:
        """Register a tensor that a function region gave; its bytes may be the outside's."""
        ref = self._new(tensor)
        self._answered.add(ref)
        if is_plain(tensor):
            with without_modes():
                storage = tensor.untyped_storage()._cdata
            self._outside_storages.setdefault(storage, []).append(ref)
        else:
            what = f"a function region gave a {type(tensor).__name__}, {tensor.layout}"
            self._stop(Code.UNSUPPORTED_TENSOR, what)
        return ref

    @property
    def has_answers(self) -> bool:
        """Whether function regions have given tensors."""
        return bool(self._answered)

    def compare_by_identity(self, value: object, others: Any) -> None:
        """The program finds out whether `value` is one of `others`; C code asks that, too."""
        if not self._answered or not is_a(value, torch.Tensor) or not is_a(others, _CONTAINERS):
            return
        tensors = [t for t in (value, *others) if is_a(t, torch.Tensor)]
        if len(tensors) > 1 and any(map(self.is_answered, tensors)):
            self._stop(Code.RECURSION, "the identity of a tensor that a recursive call gave")

    def is_answered(self, tensor: torch.Tensor) -> bool:
        """Whether a function region gave the tensor: a replay knows nothing of its identity."""
        ref = self.ref_of(tensor)
        return ref is not None and ref in self._answered

    def call_region(
        self,
        region: Callable[..., object],
        operands: tuple[object, ...],
        answer: Answer,
        result: object,
    ) -> None:
        """Record the call of a function region that has just been made."""
        if self.is_stopped:
            return
        operation = Operation(
            region,
            operands,
            {},
            answer.fresh,
            OperationKind.CALL,
            answer,
            is_guarded=self.try_depth > 0,
            site=self._site(),
            module=self._module(),
        )
        self.operations.append(operation)
        if self.observe is not None:
            self._show(operation, result)

    # ---------------------------------------------------------------- numbers

    def number(self, result: Any) -> Any:
        """What the program gets for a number or a list of some that the last operation gave."""
        if self.is_stopped or not self.operations or not _has_numbers(result):
            return result
        last = self.operations[-1]
        if last.kind is not OperationKind.ASSERT or last.target is operator.pos:
            return result
        if type(result) is list:  # as long as the tensor, where that cannot vary
            is_its_own = last.target is torch.Tensor.tolist and not self.sizes.any_vary
        else:
            is_its_own = last.expected is result
        if not is_its_own:
            return result
        output, given = self._drawn(result)
        self.operations[-1] = replace(last, output=output, kind=OperationKind.NUMBER, expected=None)
        return given

    def operate(
        self,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        result: Any,
        **keywords: object,
    ) -> Made | None:
        """Record a computation with numbers; of a truth value or a fixed number an assertion."""
        is_assertion = type(result) is bool or function is operator.pos
        made = None if is_assertion else self._next()
        self.operations.append(
            Operation(
                function,
                tuple(map(self._encode, operands)),
                keywords,
                made,
                OperationKind.ASSERT if is_assertion else OperationKind.NUMBER,
                result if is_assertion else None,
                is_guarded=self.try_depth > 0,
                site=self._site(),
                module=self._module(),
                loops=self._regions.decide() if is_assertion else (),
            )
        )
        return None if made is None else Made(made.index)

    def draw(
        self,
        function: Callable[..., Any],
        generator: object,
        source: Source,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any, object]:
        """Draw from a generator of Python or NumPy, in this run and in each replay.

        Returns:
            What the program gets, and the graph value; `None` for one that has no rule.
        """
        try:
            result = function(generator, *rebuilt(args, plain), **kwargs)
        except Exception as error:
            self._stop(Code.OPERATION_RAISED, f"`{function.__name__}` raised {error!r}")
            raise
        output, given = self._drawn(result)
        self.operations.append(
            Operation(
                function,
                (self._numbers.need(source), *rebuilt(args, self._encode)),
                kwargs,
                output,
                OperationKind.NUMBER,
                moves=(source,),
                is_guarded=self.try_depth > 0,
                site=self._site(),
                module=self._module(),
            )
        )
        return given, output

    def act(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        run: Callable[[], object],
        moves: tuple[Source, ...] = (),
    ) -> object:
        """Run what changes outside objects for good; see Note [Actions].

        Args:
            function: what a replay calls.
            args: what stands for its arguments: tensors, plain values, sources.
            kwargs: likewise.
            run: makes the call in this run.
            moves: of what it changes the state, where that is all and can be put back.
        """
        if self.is_stopped:
            return run()
        encoded_args = tuple(self._encode(a) for a in args)
        encoded_kwargs = {k: self._encode(v) for k, v in kwargs.items()}
        self._forget_facts()
        self.depth += 1
        was_unrecorded, self.is_unrecorded = self.is_unrecorded, True
        if not self._gradients:
            self.note_gradients()
        self._has_acted = True
        try:
            result = run()
        except Exception as error:
            self._stop(Code.OPERATION_RAISED, f"`{function.__qualname__}` raised {error!r}")
            raise
        finally:
            self.depth -= 1
            self.is_unrecorded = was_unrecorded
        self.operations.append(
            Operation(
                function,
                encoded_args,
                encoded_kwargs,
                self._decode(result),
                OperationKind.ACTION,
                written=tuple(self._written),
                mutates=True,
                is_undoable=bool(moves),
                is_guarded=self.try_depth > 0,
                site=self._site(),
                module=self._module(),
                moves=moves,
            )
        )
        return result

    def _drawn(self, result: Any) -> tuple[Any, Any]:
        """The graph values of what a draw gave, and what the program gets for it."""
        if type(result) in NUMBERS:
            made = self._next()
            return made, self._numbers.made(Made(made.index), result)
        if type(result) is list and all(type(r) in NUMBERS for r in result):
            pairs = [self._drawn(r) for r in result]
            return tuple(ref for ref, _ in pairs), [number for _, number in pairs]
        return (self._next() if type(result) is np.ndarray else None), result

    def _next(self) -> Ref:
        ref = Ref(self._values)
        self._values += 1
        return ref

    def compare_identity(self, one: torch.Tensor, other: torch.Tensor) -> None:
        """Assert that two tensors are (or are not) one, where that may hang on a decision."""
        refs = self.ref_of(one), self.ref_of(other)
        if self._regions.decisions and None not in refs:
            self.operations.append(
                Operation(
                    operator.is_,
                    refs,
                    {},
                    None,
                    OperationKind.ASSERT,
                    one is other,
                    is_guarded=self.try_depth > 0,
                    site=self._site(),
                    module=self._module(),
                    loops=self._regions.decide(),
                )
            )

    # ---------------------------------------------------------------- encoding

    def _encode(self, value: Any, use: NumberUse = NumberUse.VALUE) -> object:
        """An operand as data; notes whether a number in it decides the sizes of the result."""
        if is_a(value, torch.Tensor):
            ref = self.ref_of(value)
            if ref is None:
                shape = tuple(value.shape)
                self._stop(Code.UNKNOWN_TENSOR, f"a tensor of shape {shape} of unknown origin")
            return ref
        if isinstance(value, Source):
            return value
        if type(value) is np.ndarray and (drawn := self._made(value)) is not None:
            return Ref(drawn.index)
        if is_scalar(value) or issubclass(type(value), np.generic):
            return value
        if is_symbolic(value):
            self._varies |= use is NumberUse.SIZE
            if use is NumberUse.FIXED:
                return self._numbers.fix(value)
            return Ref(value.source.index) if is_made(value) else self._numbers.use(value)
        if is_a(value, list | tuple | dict | slice):
            self._note(value)
        return self._encode_parts(value, use)

    def _encode_parts(self, value: Any, use: NumberUse) -> object:
        if type(value) is list:
            encoded = [self._encode(v, use) for v in value]
            self.lists[id(encoded)] = id(value)
            return encoded
        if type(value) is tuple or type(value) is torch.Size:
            return tuple(self._encode(v, use) for v in value)
        if is_a(value, slice):
            within = NumberUse.SIZE if use is NumberUse.VALUE else use
            return slice(*(self._encode(v, within) for v in (value.start, value.stop, value.step)))
        if type(value) is dict:
            return {k: self._encode(v, use) for k, v in value.items()}
        if is_a(value, type | torch.Generator):
            return value
        self._stop(Code.UNKNOWN_OBJECT, f"a {type(value).__name__} was handed to a torch function")
        return None

    def _decode(self, result: Any) -> object:
        """Give new tensors a number; return the result's structure."""
        if result is None or type(result) in SCALARS:
            return None
        if is_a(result, torch.Tensor):
            known = self.ref_of(result)
            if known is not None:
                return known
            if not is_plain(result):
                kind = type(result).__name__
                self._stop(Code.UNSUPPORTED_TENSOR, f"an operation returned a {kind}")
            self._fresh.add(ref := self._new(result))
            return ref
        if is_a(result, list | tuple):
            return tuple(self._decode(r) for r in result)
        self._stop(Code.TENSOR_ESCAPE, f"an operation returned a {type(result).__name__}")
        return None

    def _forget_facts(self) -> None:
        """Begin to gather what the operators of one call do."""
        self._mutated = self._draws = self._dynamic = False
        self._undoable = True
        self._written.clear()
        self._generators.clear()

    def _note_possible_alias(
        self, target: Callable[..., object], args: tuple[object, ...], result: object
    ) -> None:
        """With other sizes the result may lie in its argument's storage: a write is one to both."""
        if not (self._varies and torch_table.may_view(target) and args):
            return
        base = args[0]
        if is_a(base, torch.Tensor) and is_a(result, torch.Tensor):
            with without_modes():
                storages = [t.untyped_storage()._cdata for t in (base, result)]
            outside = self._outside_storages.get(storages[0], [])
            known = self._outside_storages.setdefault(storages[1], [])
            known += [ref for ref in outside if ref not in known]

    # --------------------------------------------------------------- dispatch

    def run(self, operator: Any, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Run one ATen operator and note what it writes and whether it draws."""
        if self.is_stopped:
            return operator(*args, **kwargs)
        facts = operator_facts(operator)
        self._observe(operator, facts, args, kwargs)
        if not facts.may_draw:
            return operator(*args, **kwargs)
        given = [a for a in (*args, *kwargs.values()) if is_a(a, torch.Generator)]
        self._generators.update(dict.fromkeys(given))
        self._draws |= bool(given)
        before = torch.get_rng_state()
        result = operator(*args, **kwargs)
        # Dropout with probability 0 is tagged as random and draws nothing. No more does what is
        # empty, but with other sizes it may.
        is_sure = not self._varies and not torch.cuda.is_available()
        self._draws |= not (is_sure and torch.equal(before, torch.get_rng_state()))
        return result

    def _observe(
        self, operator: Any, facts: _Facts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.depth == 0:
            self._stop(Code.MISSED_OPERATION, f"`{operator}` ran outside any recorded call")
            return
        self._dynamic |= facts.is_dynamic and _is_dynamic_call(facts, args)
        if facts.is_norm and not args[_NORM_TRAINING]:
            return
        for position in facts.written:
            target: Any = args[position] if is_a(position, int) and position < len(args) else None
            if is_a(position, str):
                target = kwargs.get(position)
            for tensor in target if is_a(target, list | tuple) else (target,):
                if is_a(tensor, torch.Tensor):
                    self._mutated = True
                    outside = self._outside_storages.get(tensor.untyped_storage()._cdata, ())
                    self._written.update(dict.fromkeys(outside))
                    # Sizes, strides, autograd's history: what no copy of bytes brings back.
                    has_history = tensor.requires_grad and torch.is_grad_enabled()
                    self._undoable &= not (outside and (has_history or facts.changes_form))


class _Facts:
    """What an operator's schema says."""

    __slots__ = ("changes_form", "is_dynamic", "is_index", "is_norm", "may_draw", "written")

    def __init__(self, written: tuple[int | str, ...], name: str, tags: set[torch.Tag]) -> None:
        self.written = written
        self.is_norm = name in torch_table.NORMS_WITH_STATISTICS
        self.is_index = name == "aten::index"
        self.may_draw = torch.Tag.nondeterministic_seeded in tags
        # A size may be given as a tensor, which is read as a number on the way.
        self.is_dynamic = not tags.isdisjoint(
            (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)
        )
        self.changes_form = torch.Tag.inplace_view in tags


def _is_dynamic_call(facts: _Facts, args: tuple[Any, ...]) -> bool:
    """Indexing has a data-dependent shape only with a mask."""
    if not facts.is_index or not is_a(args[1], list | tuple):
        return True
    masks = (torch.bool, torch.uint8)
    return any(is_a(i, torch.Tensor) and i.dtype in masks for i in args[1])


@lru_cache(maxsize=4096)
def operator_facts(operator: Any) -> _Facts:
    """Return which arguments an operator writes, whether it draws, whether data set its shape."""
    schema = operator._schema
    written: list[int | str] = []
    position = 0
    for argument in schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(argument.name if argument.kwarg_only else position)
        position += not argument.kwarg_only
    # Their schemas do not own up to updating the running statistics.
    if schema.name in torch_table.NORMS_WITH_STATISTICS:
        written += [3, 4]
    return _Facts(tuple(written), schema.name, set(operator.tags))


def _has_numbers(result: object) -> bool:
    """Whether it is a number or a list of some, which later operations may use."""
    if type(result) is list:
        return 0 < len(result) <= MOST_NUMBERS and all(type(r) in NUMBERS for r in result)
    return type(result) in NUMBERS


def _is_host_value(result: Any) -> bool:
    """Numbers, and the nested lists of numbers that `tolist` gives."""
    if type(result) is list:
        return all(map(_is_host_value, result))
    return type(result) in _HOST_VALUES


def _frozen(result: Any) -> object:
    """A copy that the program cannot change afterwards."""
    return [_frozen(r) for r in result] if is_a(result, list) else result


def _shapes(result: Any) -> tuple[object, ...]:
    if is_a(result, torch.Tensor):
        return tuple(result.shape)
    if is_a(result, list | tuple):
        return tuple(_shapes(r) for r in result)
    return ()


def is_free_of_hooks(tensors: Iterable[torch.Tensor]) -> bool:  # hot
    """Whether a backward pass that reaches the tensors runs no code of the program there.

    A tensor with a history leads on to tensors of which nobody knows.
    """
    return not any(
        t.requires_grad and (t._backward_hooks or t._post_accumulate_grad_hooks or not t.is_leaf)
        for t in tensors
    )


class FunctionMode(TorchFunctionMode):
    """Sends every torch function to the tape."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Run and record one torch function."""
        return self._tape.call(func, args, kwargs or {})


class DispatchMode(TorchDispatchMode):
    """Shows every ATen operator to the tape."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the default imports all of torch._dynamo on the first operator

    def __init__(self, tape: Tape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self._tape = tape

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Run one operator and note its effects."""
        return self._tape.run(func, args, kwargs or {})
