"""Conditional nodes without a GPU: assembled PTX, real argument types, sequence of calls."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cuda.bindings import driver as real

from nimble_lite.backends.cuda.conditional import MOST_DEPTH, PTX, ConditionalNodes
from nimble_lite.errors import BackendError, CaptureError

ptxas = pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas on this machine")


class DryDriver:
    """Hands every call to the real bindings, which check the types before they find no driver."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.status = real.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
        self.failing = ""
        self._next = 100

    def __getattr__(self, name: str) -> Any:
        target = getattr(real, name)
        if not name.startswith("cu"):
            return target if name != "CUgraphNodeParams" else self._params

        def call(*args: Any) -> tuple[Any, ...]:
            plain = tuple(getattr(a, "real", a) if name == "cuGraphAddNode" else a for a in args)
            with pytest.raises(RuntimeError, match=r"libcuda|driver|dlopen|load"):
                target(*plain)
            self.calls.append(name)
            if name == self.failing:
                return (real.CUresult.CUDA_ERROR_NOT_SUPPORTED,)
            return (real.CUresult.CUDA_SUCCESS, *self._results(name))

        call.__name__ = name
        return call

    def _params(self) -> Any:
        """Real parameters, plus the body graphs that the driver would have filled in."""
        params = real.CUgraphNodeParams()
        graphs = [real.CUgraph(self._fresh()) for _ in range(8)]
        return _Params(params, graphs)

    def _results(self, name: str) -> tuple[Any, ...]:
        match name:
            case "cuStreamGetCaptureInfo":
                graph, node = real.CUgraph(self._fresh()), real.CUgraphNode(self._fresh())
                return (self.status, 7, graph, [node], None, 1)
            case "cuCtxGetCurrent":
                return (real.CUcontext(self._fresh()),)
            case "cuModuleLoadData":
                return (real.CUmodule(self._fresh()),)
            case "cuModuleGetFunction":
                return (real.CUfunction(self._fresh()),)
            case "cuStreamCreateWithPriority":
                return (real.CUstream(self._fresh()),)
            case "cuGraphConditionalHandleCreate":
                return (real.CUgraphConditionalHandle(self._fresh()),)
            case "cuGraphAddNode":
                return (real.CUgraphNode(self._fresh()),)
            case "cuStreamEndCapture":
                return (real.CUgraph(self._fresh()),)
            case _:
                return ()

    def _fresh(self) -> int:
        self._next += 1
        return self._next


class _Params:
    """Forwards to real parameters; only `phGraph_out` is answered here."""

    real: Any

    def __init__(self, params: Any, graphs: list[Any]) -> None:
        object.__setattr__(self, "real", params)
        object.__setattr__(self, "conditional", _Conditional(params.conditional, graphs))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


class _Conditional:
    _part: Any

    def __init__(self, real_part: Any, graphs: list[Any]) -> None:
        object.__setattr__(self, "_part", real_part)
        object.__setattr__(self, "phGraph_out", graphs)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._part, name, value)


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> DryDriver:
    def no_stream(stream: Any) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "stream", no_stream)
    return DryDriver()


def nodes_on(dry: DryDriver) -> ConditionalNodes:
    made = ConditionalNodes(dry, make_stream=lambda raw: SimpleNamespace(cuda_stream=raw))
    dry.calls.clear()
    return made


def flag() -> torch.Tensor:
    return torch.ones((), dtype=torch.bool)


CONDITION = ["cuStreamGetCaptureInfo", "cuGraphConditionalHandleCreate", "cuLaunchKernel"]
NODE = ["cuStreamGetCaptureInfo", "cuGraphAddNode", "cuStreamUpdateCaptureDependencies"]


@ptxas
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90", "sm_100"])
def test_the_condition_setters_assemble(architecture: str, tmp_path: Path) -> None:
    source = tmp_path / "setters.ptx"
    source.write_bytes(PTX.rstrip(b"\0"))

    result = subprocess.run(
        ["ptxas", f"-arch={architecture}", str(source), "-o", str(tmp_path / "setters.cubin")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    cubin = (tmp_path / "setters.cubin").read_bytes()
    assert all(name in cubin for name in (b"set_if", b"set_while", b"set_switch"))


def test_if_and_else_are_captured_into_one_node(dry: DryDriver) -> None:
    nodes = nodes_on(dry)
    bodies: list[str] = []

    nodes.if_(5, flag(), lambda: bodies.append("then"), lambda: bodies.append("else"))

    body = ["cuStreamBeginCaptureToGraph", "cuStreamEndCapture"]
    assert dry.calls == CONDITION + NODE + body + body
    assert bodies == ["then", "else"]


def test_a_loop_sets_its_condition_before_and_at_the_end_of_the_body(dry: DryDriver) -> None:
    nodes = nodes_on(dry)
    counter = torch.full((), 9, dtype=torch.int32)

    nodes.while_(5, flag(), counter, lambda: dry.calls.append("body"), cap=50)

    assert counter.item() == 0
    assert dry.calls == [
        *CONDITION,
        *NODE,
        "cuStreamBeginCaptureToGraph",
        "body",
        "cuLaunchKernel",
        "cuStreamEndCapture",
    ]


def test_a_switch_has_one_body_per_case(dry: DryDriver) -> None:
    nodes = nodes_on(dry)
    seen: list[int] = []

    bodies = [partial(seen.append, case) for case in range(3)]
    nodes.switch(5, torch.zeros((), dtype=torch.int32), bodies)

    assert seen == [0, 1, 2]
    assert dry.calls.count("cuStreamBeginCaptureToGraph") == 3


def test_regions_nest_on_streams_of_their_own_and_have_a_limit(dry: DryDriver) -> None:
    nodes = nodes_on(dry)

    def nest(level: int) -> None:
        if level:
            nodes.if_(5, flag(), lambda: nest(level - 1))

    nest(MOST_DEPTH)
    with pytest.raises(BackendError, match="NL0404"):
        nest(MOST_DEPTH + 1)
    assert dry.calls.count("cuStreamBeginCaptureToGraph") == dry.calls.count("cuStreamEndCapture")


def test_a_body_that_fails_ends_its_capture(dry: DryDriver) -> None:
    nodes = nodes_on(dry)

    def body() -> None:
        raise ValueError("user")

    with pytest.raises(ValueError, match="user"):
        nodes.if_(5, flag(), body)
    assert dry.calls[-1] == "cuStreamEndCapture"


def test_a_stream_that_is_not_capturing_is_refused(dry: DryDriver) -> None:
    nodes = nodes_on(dry)
    dry.status = real.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE

    with pytest.raises(BackendError, match="NL0404"):
        nodes.if_(5, flag(), lambda: None)


def test_a_driver_without_the_node_type_is_named(dry: DryDriver) -> None:
    nodes = nodes_on(dry)
    dry.failing = "cuGraphAddNode"

    with pytest.raises(CaptureError, match=r"cuGraphAddNode(?s:.*)NOT_SUPPORTED"):
        nodes.if_(5, flag(), lambda: None)


@pytest.mark.parametrize("wrong", [torch.ones(2, dtype=torch.bool), torch.ones(())])
def test_a_condition_of_the_wrong_type_is_refused(dry: DryDriver, wrong: torch.Tensor) -> None:
    with pytest.raises(BackendError, match="NL0404"):
        nodes_on(dry).if_(5, wrong, lambda: None)
