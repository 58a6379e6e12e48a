"""Twins: every function of torch's own neural-network library has one, and it does what it does."""

from __future__ import annotations

import inspect
import linecache
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from janus_lite.errors import Code
from janus_lite.record.hooks import TWINS
from janus_lite.record.instrument import NotInstrumentable
from janus_lite.record.instrument.locate import locate

# Python that looks at its caller's frame, makes a class, or exists for scripting only.
WITHOUT_TWIN = 6


def functions_of(module: types.ModuleType) -> Iterator[types.FunctionType]:
    for value in vars(module).values():
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            yield value


def methods_of_modules() -> Iterator[types.FunctionType]:
    for cls in vars(nn).values():
        if isinstance(cls, type) and issubclass(cls, nn.Module):
            for value in vars(cls).values():
                if isinstance(value, types.FunctionType):
                    yield value


FUNCTIONS = {f.__code__: f for f in [*functions_of(F), *methods_of_modules()]}.values()


def twin_of(function: Any) -> Any:
    return TWINS.twin_of(function.__code__).bind(function)


def test_torchs_own_functions_have_twins() -> None:
    refused = []
    for function in FUNCTIONS:
        try:
            twin = TWINS.twin_of(function.__code__)
        except NotInstrumentable as refusal:
            refused.append((function.__qualname__, refusal.code, refusal.found))
            continue
        assert twin.code.co_name == function.__code__.co_name
        assert twin.code.co_filename == function.__code__.co_filename
        assert twin.code.co_firstlineno == function.__code__.co_firstlineno
        assert twin.code.co_freevars == function.__code__.co_freevars
        bound = twin.bind(function)
        assert (
            inspect.signature(bound).parameters.keys()
            == inspect.signature(function).parameters.keys()
        )

    assert len(FUNCTIONS) > 500
    assert len(refused) <= WITHOUT_TWIN, refused
    assert {code for _, code, _ in refused} <= {Code.SYNTAX, Code.NO_SOURCE}


X = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
CALLS: dict[str, tuple[Any, ...]] = {
    "relu": (X,),
    "gelu": (X,),
    "silu": (X,),
    "elu": (X,),
    "hardswish": (X,),
    "softmax": (X, -1),
    "log_softmax": (X, -1),
    "layer_norm": (X, (8,)),
    "group_norm": (X, 2),
    "normalize": (X,),
    "mse_loss": (X, X + 1),
    "l1_loss": (X, X + 1),
    "smooth_l1_loss": (X, X + 1),
    "cross_entropy": (X[0], torch.tensor([1, 2, 3, 0])),
    "nll_loss": (X[0], torch.tensor([1, 2, 3, 0])),
    "cosine_similarity": (X, X + 1),
    "interpolate": (X, 16),
    "pad": (X, (1, 1)),
    "one_hot": (torch.tensor([0, 2]), 3),
    "embedding": (torch.tensor([0, 1]), X[0]),
    "max_pool1d": (X, 2),
    "avg_pool1d": (X, 2),
    "adaptive_avg_pool1d": (X, 2),
    "conv1d": (X, torch.ones(3, 4, 2)),
    "linear": (X, torch.ones(5, 8)),
    "scaled_dot_product_attention": (X, X, X),
    "unfold": (torch.ones(1, 2, 4, 4), 2),
    "triplet_margin_loss": (X, X + 1, X - 1),
    "pixel_shuffle": (torch.ones(1, 4, 2, 2), 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_twin_outside_of_a_recording_does_what_the_original_does(name: str) -> None:
    function = getattr(F, name)
    if not isinstance(function, types.FunctionType):
        assert isinstance(function, types.BuiltinFunctionType), "C code needs no twin"
        return
    twin = TWINS.twin_of(function.__code__).bind(function)

    assert torch.equal(twin(*CALLS[name]), function(*CALLS[name]))


def unchanged(*_: str) -> Callable[[Any], Any]:
    return lambda function: function


def test_a_twin_raises_from_the_users_line() -> None:
    @unchanged()
    @unchanged(
        "on more lines",
    )
    def fails(x: int) -> float:
        y = x - 1
        return 1 / y

    twin = twin_of(fails)
    with pytest.raises(ZeroDivisionError) as original:
        fails(1)
    with pytest.raises(ZeroDivisionError) as instrumented:
        twin(1)

    lines = [entry.lineno for entry in original.traceback if entry.frame.code.name == "fails"]
    found = [entry.lineno for entry in instrumented.traceback if entry.frame.code.name == "fails"]
    assert found == lines


def write(path: Path, text: str) -> Any:
    path.write_text(text, encoding="utf-8")
    linecache.checkcache(str(path))
    space: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), space)
    return space


def test_an_edited_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    call = write(path, "def call(x):\n    return x * 2\n")["call"]
    path.write_text("def call(x):\n    return x * 3\n", encoding="utf-8")
    linecache.checkcache(str(path))

    with pytest.raises(NotInstrumentable) as refused:
        locate(call.__code__)

    assert refused.value.code is Code.NO_SOURCE


@pytest.mark.parametrize(
    "edit",
    ["return x * 1", "return x * 2.0", "return x + 2", "return y * 2", "return x.T * 2", "pass"],
)
def test_any_edit_is_noticed(tmp_path: Path, edit: str) -> None:
    path = tmp_path / "edited.py"
    call = write(path, "def call(x, y=1):\n    return x * 2\n")["call"]
    path.write_text(f"def call(x, y=1):\n    {edit}\n", encoding="utf-8")
    linecache.checkcache(str(path))

    with pytest.raises(NotInstrumentable):
        locate(call.__code__)


def test_a_comment_is_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "commented.py"
    call = write(path, "def call(x):\n    return x * 2\n")["call"]
    path.write_text("def call(x):\n    return x * 2  # twice\n", encoding="utf-8")
    linecache.checkcache(str(path))

    assert locate(call.__code__).name == "call"  # type: ignore[union-attr] # not a lambda


def test_lambdas_of_one_line_are_told_apart() -> None:
    first, second = (lambda x: x + 1), (lambda x: x + 2)

    twins = [twin_of(first), twin_of(second)]

    assert [twin(0) for twin in twins] == [1, 2]


def test_a_coroutine_and_missing_source_have_their_codes() -> None:
    async def later() -> None: ...

    space: dict[str, Any] = {}
    exec("def call(): pass", space)

    for function, code in ((later, Code.COROUTINE), (space["call"], Code.NO_SOURCE)):
        with pytest.raises(NotInstrumentable) as refused:
            TWINS.twin_of(function.__code__)
        assert refused.value.code is code
