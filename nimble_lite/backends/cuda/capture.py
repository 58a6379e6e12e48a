"""The cuda backend: capture a schedule into one graph, replay it with static inputs.

In: a `Schedule` and a `Driver`. Out: an `Executable`.

Life: operations that a capture cannot hold are refused by name before anything runs. The first
run makes static inputs, warms up twice on the very streams of the capture (handles, workspaces,
autotuning), then captures. What warm-up writes (buffers, random state) is put back. Later runs
copy the inputs in, replay, and hand the outputs out.

Outputs are safe by default: every call gets its own. With `outputs="reuse"` the caller gets the
graph's own memory, and a tensor of an earlier replay raises when its data is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nimble_lite import config
from nimble_lite.backends.cuda.cache import GraphCache
from nimble_lite.backends.cuda.driver import Captured, Driver, Values
from nimble_lite.backends.cuda.emit import run_program, verify_checks
from nimble_lite.backends.cuda.regions import refuse_uncapturable_region
from nimble_lite.backends.cuda.topology import Tails, require_planned_order
from nimble_lite.backends.recorder import tensor_on
from nimble_lite.errors import BackendError, CaptureError, NimbleError
from nimble_lite.measure import undisturbed
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import output_values
from nimble_lite.tasks.alias import bytes_of
from nimble_lite.tasks.checks import Check
from nimble_lite.tasks.graph import Ref, Region, StorageKind, TaskGraph
from nimble_lite.torch_internals import storage_at

WARM_UPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Static:
    """An input buffer of the graph, and the bytes that a call copies into it."""

    tensor: torch.Tensor
    first_byte: int
    nbytes: int
    is_written: bool


class CudaExecutable:
    """Replays a schedule as one captured graph.

    Args:
        schedule: what to capture.
        driver: the device, or its double.
        reuse_outputs: hand out the graph's own memory.
        graphs: shares the driver's pool with other executables; a cache of its own if left out.

    Raises:
        BackendError: NL0402 when an operation cannot be captured.
    """

    has_frozen_kernels = True

    def __init__(
        self,
        schedule: Schedule,
        driver: Driver,
        *,
        reuse_outputs: bool = False,
        graphs: GraphCache | None = None,
    ) -> None:
        refuse_uncapturable(schedule.graph)
        self._schedule = schedule
        self._driver = driver
        self._reuse = reuse_outputs
        self._constants = {c.value: c.tensor for c in schedule.graph.constants}
        self.pinned = frozenset(self._constants)
        self._statics: dict[int, _Static] = {}
        self._captured: Captured | None = None
        self._graphs = GraphCache(1) if graphs is None else graphs

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Copy in, replay, hand out; calls from several threads take turns."""
        with self._graphs.mutex, self._driver.turn():
            captured = self._captured or self._capture(inputs)
            self._graphs.use(self)
            for static, given in zip(self._statics.values(), inputs, strict=True):
                _copy_in(static, given)
            captured.replay()
            verify_checks(self._schedule.graph, captured.outputs)
            for static, given in zip(self._statics.values(), inputs, strict=True):
                if static.is_written:
                    given.copy_(static.tensor)
            return self._hand_out(captured.outputs, inputs)

    def rebind(self, constants: Mapping[int, torch.Tensor]) -> None:
        """Use other tensors for some constants; addresses are in the graph: capture anew."""
        self._constants.update(constants)
        self._give_up()

    def close(self) -> None:
        """Give graph, static inputs and memory back."""
        self._give_up()
        self._constants = {}

    def release(self) -> None:
        """Give graph, static inputs and memory back; the next run captures again."""
        self._statics = {}
        if self._captured is not None:
            self._captured.release()
            self._captured = None

    def _give_up(self) -> None:
        with self._graphs.mutex:
            self._graphs.leave(self)
            self.release()

    # Capture ---------------------------------------------------------------------------------

    def _capture(self, inputs: Sequence[torch.Tensor]) -> Captured:
        graph = self._schedule.graph
        self._graphs.make_room()
        self._statics = static_inputs(graph, inputs)
        outside = {value: static.tensor for value, static in self._statics.items()}
        outside |= self._constants

        tails: dict[int, frozenset[int]] = {}
        is_checked = config.current().check_capture

        def body() -> Values:
            return run_program(self._schedule, self._driver, outside)

        def watched_body() -> Values:
            def launched(task: int) -> None:
                tails[task] = self._driver.tail()

            return run_program(self._schedule, self._driver, outside, launched=launched)

        buffers = [static.tensor for static in self._statics.values()]
        with undisturbed(graph, buffers):
            for _ in range(WARM_UPS):
                with self._driver.running():
                    body()
            self._driver.synchronize()
            try:
                issued = watched_body if is_checked else body
                captured = self._driver.capture(issued, list(outside.values()))
            except NimbleError:
                raise
            except RuntimeError as error:
                raise CaptureError(
                    "NL0403",
                    what="capturing the schedule failed",
                    found=str(error).splitlines()[0],
                    hint="torch is usable; the function itself still runs",
                ) from error
        self._captured = captured
        if is_checked:
            self._require_planned_order(tails)
        return captured

    def _require_planned_order(self, tails: Tails) -> None:
        if self._captured is not None:
            try:
                require_planned_order(self._schedule, tails, self._captured.edges)
            except NimbleError:
                self.release()
                raise

    # Outputs ---------------------------------------------------------------------------------

    def _hand_out(self, outputs: Values, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        graph = self._schedule.graph
        given = dict(zip(self._statics, inputs, strict=True)) | self._constants
        owner = {graph.values[value].storage: (value, tensor) for value, tensor in given.items()}
        copies: dict[int, torch.Tensor] = {}
        found: list[torch.Tensor] = []
        for value in output_values(graph):
            meta = graph.values[value]
            if value in given:
                found.append(given[value])
            elif graph.storages[meta.storage].kind is not StorageKind.BORN:
                # A view of an argument: of the caller's tensor, not of our copy of it.
                source, tensor = owner[meta.storage]
                shift = int(tensor.storage_offset()) - graph.values[source].offset
                nbytes = shift * meta.dtype.itemsize
                found.append(tensor_on(tensor.untyped_storage(), meta, nbytes))
            elif self._reuse:
                found.append(self._borrowed(outputs[value]))
            else:
                if meta.storage not in copies:
                    copies[meta.storage] = bytes_of(outputs[value]).clone()
                found.append(tensor_on(copies[meta.storage].untyped_storage(), meta, 0))
        return found

    def _borrowed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The graph's bytes under a storage object of this replay, which can be expired alone."""
        alias = storage_at(tensor.untyped_storage())
        borrowed = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        borrowed.set_(alias, tensor.storage_offset(), tensor.shape, tensor.stride())
        self._graphs.lend(borrowed)
        return borrowed


def refuse_uncapturable(graph: TaskGraph) -> None:
    """Raise NL0402 for the first operation that needs a host value to be launched.

    Inside a region it is NL0404, also for random numbers.
    A value that only Python read is compared after the replay instead.
    """
    for task in graph.tasks:
        if isinstance(task.target, Region):
            refuse_uncapturable_region(task, task.target)
        if task.is_sync and not isinstance(task.target, Check):
            raise BackendError(
                "NL0402",
                what=f"{task.name} at {task.origin} cannot be captured into a CUDA graph",
                found="an operation that brings a value to the host",
                expected="operations that only launch work",
                hint="compute the decision on the device (torch.where), or speculate with "
                "janus_lite, which turns such branches into conditional nodes",
            )


def static_inputs(graph: TaskGraph, inputs: Sequence[torch.Tensor]) -> dict[int, _Static]:
    """Make one buffer per input storage, and each input's tensor on it."""
    values = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
    written = {number for task in graph.tasks for number in task.writes}
    buffers: dict[int, torch.Tensor] = {}
    statics: dict[int, _Static] = {}
    for value, given in zip(values, inputs, strict=True):
        meta = graph.values[value]
        if meta.storage not in buffers:
            nbytes = graph.storages[meta.storage].nbytes
            buffers[meta.storage] = torch.zeros(nbytes, dtype=torch.uint8, device=given.device)
        span = sum((n - 1) * s for n, s in zip(meta.shape, meta.stride, strict=True)) + 1
        is_empty = 0 in meta.shape
        static = _Static(
            tensor=tensor_on(buffers[meta.storage].untyped_storage(), meta, 0),
            first_byte=meta.offset * meta.dtype.itemsize,
            nbytes=0 if is_empty else span * meta.dtype.itemsize,
            is_written=meta.storage in written,
        )
        _copy_in(static, given)
        statics[value] = static
    return statics


def _copy_in(static: _Static, given: torch.Tensor) -> None:  # hot
    """Copy the bytes that the input spans; nothing when the caller passes the buffer itself."""
    if given.data_ptr() == static.tensor.data_ptr():
        return
    begin = given.storage_offset() * given.dtype.itemsize
    source = bytes_of(given)[begin : begin + static.nbytes]
    target = bytes_of(static.tensor)[static.first_byte : static.first_byte + static.nbytes]
    target.copy_(source, non_blocking=True)
