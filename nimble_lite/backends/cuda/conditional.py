"""Conditional nodes of CUDA graphs: IF, IF/ELSE, SWITCH and WHILE, decided on the device.

In: a stream that is being captured, a predicate or an index on the device, bodies that issue
work. Out: nodes in the graph; a replay then takes branches and iterates without the host.

Needs `cuda.bindings` 13 and a driver of CUDA 12.8 or newer. Two facts shape the code:

* a body is captured on a stream of its own depth, straight into the graph that the conditional
  node owns; events must not cross between parent and body;
* an error inside a body can crash the process in the driver, so every body must have been
  captured on its own before (the caller's pre-flight), and no body may read back to the host.

The condition is set by a one-thread kernel, given as PTX: `cudaGraphSetConditional` is built into
the assembler, so neither headers nor a compiler are needed at run time.

Not run on a GPU by this project's own tests: they assemble the PTX, check every call's argument
types against the real bindings, and compare the sequence of calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from nimble_lite.errors import BackendError, CaptureError

_SETTERS = """\
.version 7.8
.target sm_75
.address_size 64
.extern .func cudaGraphSetConditional(.param .b64 handle, .param .b32 value);

// The condition is whether a byte is not zero and, for loops, whether the cap is not reached.
.visible .entry set_if(.param .u64 handle, .param .u64 predicate)
{
  .reg .pred %p1; .reg .b16 %h1; .reg .b32 %r1; .reg .b64 %d<4>;
  ld.param.u64 %d1, [handle]; ld.param.u64 %d2, [predicate];
  cvta.to.global.u64 %d3, %d2; ld.global.u8 %h1, [%d3];
  setp.ne.s16 %p1, %h1, 0; selp.u32 %r1, 1, 0, %p1;
  { .param .b64 a; .param .b32 b; st.param.b64 [a], %d1; st.param.b32 [b], %r1;
    call.uni cudaGraphSetConditional, (a, b); }
  ret;
}

.visible .entry set_while(.param .u64 handle, .param .u64 predicate,
                          .param .u64 counter, .param .u32 cap)
{
  .reg .pred %p<3>; .reg .b16 %h1; .reg .b32 %r<5>; .reg .b64 %d<6>;
  ld.param.u64 %d1, [handle]; ld.param.u64 %d2, [predicate]; ld.param.u64 %d3, [counter];
  ld.param.u32 %r1, [cap];
  cvta.to.global.u64 %d4, %d2; cvta.to.global.u64 %d5, %d3;
  ld.global.u8 %h1, [%d4]; ld.global.u32 %r2, [%d5];
  add.u32 %r3, %r2, 1; st.global.u32 [%d5], %r3;
  setp.ne.s16 %p1, %h1, 0; setp.lt.and.u32 %p2, %r2, %r1, %p1; selp.u32 %r4, 1, 0, %p2;
  { .param .b64 a; .param .b32 b; st.param.b64 [a], %d1; st.param.b32 [b], %r4;
    call.uni cudaGraphSetConditional, (a, b); }
  ret;
}

.visible .entry set_switch(.param .u64 handle, .param .u64 index)
{
  .reg .b32 %r1; .reg .b64 %d<4>;
  ld.param.u64 %d1, [handle]; ld.param.u64 %d2, [index];
  cvta.to.global.u64 %d3, %d2; ld.global.u32 %r1, [%d3];
  { .param .b64 a; .param .b32 b; st.param.b64 [a], %d1; st.param.b32 [b], %r1;
    call.uni cudaGraphSetConditional, (a, b); }
  ret;
}
"""
PTX = _SETTERS.encode() + b"\0"

DEFAULT_CAP = 1_000_000
MOST_DEPTH = 8
_NON_BLOCKING = 1
_SET_DEPENDENCIES = 1


class ConditionalNodes:
    """Adds conditional nodes to captures of one device.

    Everything that a capture forbids (loading the module, making streams) happens here, once.

    Args:
        driver: the module `cuda.bindings.driver`, or its double in the tests.
        make_stream: turns a raw stream into what `torch.cuda.stream` takes.
    """

    def __init__(
        self, driver: Any, make_stream: Callable[[int], Any] = torch.cuda.ExternalStream
    ) -> None:
        self._drv = driver
        self._context = self._call(driver.cuCtxGetCurrent)
        module = self._call(driver.cuModuleLoadData, PTX)
        self._kernels = {
            name: self._call(driver.cuModuleGetFunction, module, name.encode())
            for name in ("set_if", "set_while", "set_switch")
        }
        raw = [
            self._call(driver.cuStreamCreateWithPriority, _NON_BLOCKING, 0)
            for _ in range(MOST_DEPTH)
        ]
        self._streams = [(int(stream), make_stream(int(stream))) for stream in raw]
        self._depth = 0

    def if_(
        self,
        stream: int,
        predicate: torch.Tensor,
        then: Callable[[], None],
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """Run `then` where `predicate: bool[]` holds on the device, else `otherwise`."""
        _require_scalar(predicate, torch.bool)
        handle = self._handle(stream)
        self._set("set_if", stream, (int(handle), predicate.data_ptr()))
        bodies = (then,) if otherwise is None else (then, otherwise)
        kind = self._drv.CUgraphConditionalNodeType.CU_GRAPH_COND_TYPE_IF
        self._fill(self._node(stream, handle, kind, len(bodies)), bodies)

    def switch(
        self, stream: int, index: torch.Tensor, bodies: Sequence[Callable[[], None]]
    ) -> None:
        """Run `bodies[index]` for `index: i32[]` on the device; none when it is out of range."""
        _require_scalar(index, torch.int32)
        handle = self._handle(stream)
        self._set("set_switch", stream, (int(handle), index.data_ptr()))
        kind = self._drv.CUgraphConditionalNodeType.CU_GRAPH_COND_TYPE_SWITCH
        self._fill(self._node(stream, handle, kind, len(bodies)), bodies)

    def while_(
        self,
        stream: int,
        predicate: torch.Tensor,
        counter: torch.Tensor,
        body: Callable[[], None],
        cap: int = DEFAULT_CAP,
    ) -> None:
        """Repeat `body` while `predicate: bool[]` holds, at most `cap` times.

        Args:
            stream: raw stream under capture.
            predicate: decided before the node; `body` must write it for the next iteration.
            counter: `i32[]` that is zeroed before the node; above `cap` after it when the cap
                ended the loop, so that the host can tell.
            body: issues one iteration.
            cap: most iterations. A body that never turns the predicate off would hang the device.
        """
        _require_scalar(predicate, torch.bool)
        _require_scalar(counter, torch.int32)
        counter.zero_()
        handle = self._handle(stream)
        values = (int(handle), predicate.data_ptr(), counter.data_ptr(), cap)
        self._set("set_while", stream, values)
        kind = self._drv.CUgraphConditionalNodeType.CU_GRAPH_COND_TYPE_WHILE
        (graph,) = self._node(stream, handle, kind, 1)
        with self._into(graph) as inner:
            body()
            self._set("set_while", inner, values)

    # Driver calls ----------------------------------------------------------------------------

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        error, *results = function(*args)
        if int(error):
            raise CaptureError(
                "NL0403",
                what=f"{function.__name__} failed while a conditional node was made",
                found=str(error),
                hint="conditional nodes need a driver of CUDA 12.8 or newer",
            )
        return results[0] if len(results) == 1 else results

    def _capturing(self, stream: int) -> tuple[Any, Any, Any, int]:
        """Graph and frontier of a stream under capture."""
        status, _, graph, nodes, edges, count = self._call(self._drv.cuStreamGetCaptureInfo, stream)
        if status != self._drv.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE:
            raise BackendError(
                "NL0404",
                what="a conditional node can only be added to a stream under capture",
                found=str(status),
                hint="begin the capture before the region",
            )
        return graph, nodes, edges, count

    def _handle(self, stream: int) -> Any:
        graph = self._capturing(stream)[0]
        # No default value: it would apply once per launch, not once per visit of a nested node.
        return self._call(self._drv.cuGraphConditionalHandleCreate, graph, self._context, 0, 0)

    def _set(self, kernel: str, stream: int, values: tuple[int, ...]) -> None:
        kinds = (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
        self._call(
            self._drv.cuLaunchKernel,
            self._kernels[kernel],
            *(1, 1, 1),
            *(1, 1, 1),
            0,
            stream,
            (values, kinds[: len(values)]),
            0,
        )

    def _node(self, stream: int, handle: Any, kind: Any, size: int) -> list[Any]:
        """Add the node behind all work of the stream; return its body graphs."""
        params = self._drv.CUgraphNodeParams()
        params.type = self._drv.CUgraphNodeType.CU_GRAPH_NODE_TYPE_CONDITIONAL
        params.conditional.handle = handle
        params.conditional.type = kind
        params.conditional.size = size
        params.conditional.ctx = self._context
        graph, nodes, edges, count = self._capturing(stream)
        node = self._call(self._drv.cuGraphAddNode, graph, nodes, edges, count, params)
        self._call(
            self._drv.cuStreamUpdateCaptureDependencies,
            stream,
            [node],
            None,
            1,
            _SET_DEPENDENCIES,
        )
        # The driver cannot be asked for them later.
        return [params.conditional.phGraph_out[index] for index in range(size)]

    def _fill(self, graphs: Sequence[Any], bodies: Sequence[Callable[[], None]]) -> None:
        for graph, body in zip(graphs, bodies, strict=True):
            with self._into(graph):
                body()

    @contextmanager
    def _into(self, graph: Any) -> Iterator[int]:
        """Capture what is issued inside into a body graph, on the stream of this depth."""
        if self._depth == MOST_DEPTH:
            raise BackendError(
                "NL0404",
                what="conditional regions are nested too deeply",
                found=f"more than {MOST_DEPTH} levels",
                hint="move the inner region into a function of its own and schedule that",
            )
        raw, stream = self._streams[self._depth]
        mode = self._drv.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(self._drv.cuStreamBeginCaptureToGraph, raw, graph, None, None, 0, mode)
        self._depth += 1
        try:
            with torch.cuda.stream(stream):
                yield raw
        finally:
            self._depth -= 1
            self._call(self._drv.cuStreamEndCapture, raw)


def _require_scalar(tensor: torch.Tensor, dtype: torch.dtype) -> None:
    if tensor.numel() != 1 or tensor.dtype is not dtype:
        raise BackendError(
            "NL0404",
            what="the condition of a region has the wrong type",
            found=f"{tensor.dtype} {list(tensor.shape)}",
            expected=f"one element of {dtype}",
            hint="reduce it with any() or all(), or convert it with to()",
        )
