"""The table of leaves: what janus_lite knows of code that it does not instrument.

Deny by default: a C callable that stands in no row stops the conversion with its name. A row says

* `PURE`: the result depends on the plain content of the arguments alone; outside containers handed
  to it become assumptions, outside objects are refused;
* `INSPECT`: like `PURE`, but objects are only looked at by class or identity;
* `GETTER`: reads ambient state; the guard calls it again with the same arguments and compares;
* `MEMO`: an `lru_cache`: called again by the guard, as eager would have called it;
* `AMBIENT`: changes torch's state for the operations after it; recorded in order;
* `NOTHING`: has no effect that a program can see.
"""

from __future__ import annotations

import abc
import builtins
import collections
import dataclasses
import functools
import itertools
import logging
import math
import operator
import random
import re
import types
import typing
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum, auto
from types import MappingProxyType

import numpy as np
import torch


class Contract(Enum):
    """How a leaf behaves; see the module docstring."""

    __hash__ = object.__hash__  # `Enum.__hash__` is Python code

    PURE = auto()
    INSPECT = auto()
    GETTER = auto()
    NOTHING = auto()
    AMBIENT = auto()


_PURE_BUILTINS = """
abs all any ascii bin bool bytes chr complex dict divmod enumerate float format frozenset hex int
len list max min oct ord pow range reversed round set slice sorted str sum tuple zip filter map
bytearray
""".split()
_INSPECT_BUILTINS = "isinstance issubclass callable type object".split()
_PURE_FUNCTIONS: tuple[object, ...] = (
    *(getattr(builtins, name) for name in _PURE_BUILTINS),
    *(f for f in vars(math).values() if callable(f)),
    *(c for c in vars(itertools).values() if isinstance(c, type)),
    OrderedDict,
    defaultdict,
    deque,
    collections.Counter,
    functools.reduce,
    torch.Size,
    torch.device,
    torch.finfo,
    torch.iinfo,
    operator.index,
    *(getattr(np, n) for n in "lcm gcd prod ceil floor sqrt log log2 exp abs".split()),
    # exceptions are values until they are raised
    *(e for e in vars(builtins).values() if isinstance(e, type) and issubclass(e, BaseException)),
)
_INSPECT_FUNCTIONS: tuple[object, ...] = (
    *(getattr(builtins, name) for name in _INSPECT_BUILTINS),
    object.__new__,
    object.__init__,
    object.__init_subclass__,
    functools.partial,
    staticmethod,
    classmethod,
    property,
    weakref.ref,
    MappingProxyType,
)


def _getters() -> tuple[object, ...]:
    names = """
    is_grad_enabled is_inference_mode_enabled is_autocast_enabled get_autocast_dtype
    is_autocast_cache_enabled get_default_dtype is_anomaly_enabled get_num_threads
    are_deterministic_algorithms_enabled is_deterministic_algorithms_warn_only_enabled
    is_autocast_cpu_enabled get_autocast_cpu_dtype get_autocast_gpu_dtype
    is_anomaly_check_nan_enabled
    """.split()
    private = """
    _get_tracing_state _is_tracing _get_cudnn_enabled _get_mkldnn_enabled _get_flash_sdp_enabled
    _get_mem_efficient_sdp_enabled _get_math_sdp_enabled _get_cudnn_sdp_enabled _get_cudnn_benchmark
    _get_cudnn_deterministic _get_deterministic_algorithms _are_functorch_transforms_active
    _is_torch_function_enabled _get_nested_int _functorch.peek_interpreter_stack _has_cuda
    _cuda_getDeviceCount _is_any_autocast_enabled _get_cublas_allow_tf32 _get_cudnn_allow_tf32
    _get_float32_matmul_precision
    _get_fp32_precision_getter _is_autocast_available _get_privateuse1_backend_name
    _is_torch_function_all_disabled is_autocast_cpu_enabled _get_accelerator _get_default_device
    _get_mkldnn_deterministic _get_onednn_allow_tf32 _get_linalg_preferred_backend
    _get_blas_preferred_backend _is_mkldnn_bf16_gemm_supported _cuda_isCurrentStreamCapturing
    _jit_is_scripting _get_graph_executor_optimize _get_overlap_state _functorch.maybe_current_level
    """.split()
    found = [getattr(torch, name, None) for name in names]
    for name in private:
        target: object = torch._C
        for part in name.split("."):
            target = getattr(target, part, None)
        found.append(target)
    found += [abc.get_cache_token, logging.Logger.isEnabledFor]
    found.append(torch.backends.mha.get_fastpath_enabled)
    return tuple(f for f in found if f is not None)


_AMBIENT_FUNCTIONS: tuple[object, ...] = (
    torch._C._set_grad_enabled,
    torch.set_autocast_enabled,
    torch.set_autocast_dtype,
    torch.set_autocast_cache_enabled,
    torch.autocast_increment_nesting,
    torch.autocast_decrement_nesting,
    torch.clear_autocast_cache,
)


def _nothings() -> tuple[object, ...]:
    names = "_log_api_usage_once _log_api_usage_metadata"
    found = [getattr(torch._C, n) for n in names.split() if hasattr(torch._C, n)]
    # Gives its argument back while no `torch.func` transform runs, and none does.
    unwrap = getattr(getattr(torch._C, "_functorch", None), "unwrap_if_dead", None)
    return (*found, unwrap) if unwrap is not None else tuple(found)


@functools.cache
def table() -> dict[object, Contract]:
    """Return the table, keyed by the callable itself."""
    rows: dict[object, Contract] = dict.fromkeys(_PURE_FUNCTIONS, Contract.PURE)
    rows.update(dict.fromkeys(_INSPECT_FUNCTIONS, Contract.INSPECT))
    rows.update(dict.fromkeys(_getters(), Contract.GETTER))
    rows.update(dict.fromkeys(_nothings(), Contract.NOTHING))
    rows.update(dict.fromkeys(_AMBIENT_FUNCTIONS, Contract.AMBIENT))
    return rows


# ------------------------------------------------------------------ methods of built-in types

READS: dict[type, frozenset[str]] = {
    list: frozenset(
        "copy count index __len__ __contains__ __iter__ __reversed__ __getitem__ __eq__".split()
    ),
    tuple: frozenset(
        "count index __len__ __contains__ __iter__ __getitem__ __eq__ __new__".split()
    ),
    dict: frozenset(
        "copy get items keys values "
        "__len__ __contains__ __iter__ __getitem__ __eq__ __reversed__".split()
    ),
    set: frozenset(
        "copy difference intersection isdisjoint issubset issuperset symmetric_difference union "
        "__len__ __contains__ __iter__".split()
    ),
    frozenset: frozenset(
        "copy difference intersection isdisjoint issubset issuperset symmetric_difference union "
        "__len__ __contains__ __iter__".split()
    ),
    deque: frozenset("copy count index __len__ __contains__ __iter__ __getitem__".split()),
}
# Anything else on these types writes; on an object made in the run that is nobody's business.
VALUE_TYPES: tuple[type, ...] = (
    str, bytes, int, float, bool, complex, range, slice, torch.Size, torch.dtype, torch.device,
    torch.finfo, torch.iinfo, type(None), types.CodeType, re.Pattern, re.Match,
    types.UnionType, types.GenericAlias,
)  # fmt: skip
# Their draws have rules, see `record.draws`.
RANDOM_GENERATORS: tuple[type, ...] = (
    random.Random,
    np.random.RandomState,
    np.random.Generator,
)
DENIED_METHODS = frozenset({"__reduce__", "__reduce_ex__", "__sizeof__"})

# Iterators and views. Made in the run, stepping them changes nothing outside; one that lives
# outside moves on, or shows another container, and no guard can tell.
ITERATORS: tuple[type, ...] = (
    zip, map, filter, enumerate, reversed, types.GeneratorType,
    type(reversed([])), type(reversed({})), type(iter([])), type(iter(())), type(iter({})),
    type(iter({}.values())), type(iter({}.items())), type(iter(range(0))), type(iter("")),
    type(iter(set())), type({}.keys()), type({}.values()), type({}.items()),
    type(iter(OrderedDict())), type(OrderedDict().values()), type(OrderedDict().items()),
    type(OrderedDict().keys()),
    *(c for c in vars(itertools).values() if isinstance(c, type)),
    MappingProxyType,
)  # fmt: skip
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
# Pure leaves that hand on what an iterator gives as it is; all others compute with it.
PASS_ALONG: frozenset[object] = frozenset(
    {list, tuple, deque, enumerate, zip, reversed, itertools.chain, itertools.islice}
    | {itertools.cycle, itertools.repeat, itertools.zip_longest, itertools.product}
)
RUN_LOCAL_TYPES: tuple[type, ...] = (*ITERATORS, super, property, staticmethod, classmethod)


# Pure leaves by which positional arguments they step through: the first, the one behind a function,
# or all of them.
_STEPPING_FIRST: frozenset[object] = frozenset(
    {list, tuple, set, frozenset, deque, enumerate, all, any, sorted, sum, math.fsum, math.prod}
    | {getattr(itertools, n) for n in "accumulate combinations cycle groupby islice".split()}
    | {itertools.combinations_with_replacement, itertools.pairwise, itertools.permutations}
)
_STEPPING_LATER: frozenset[object] = frozenset(
    {map, filter, functools.reduce, itertools.starmap, itertools.takewhile, itertools.dropwhile}
    | {itertools.filterfalse}
)
_STEPPING_ALL: frozenset[object] = frozenset(
    {zip, itertools.chain, itertools.zip_longest, itertools.product, itertools.compress}
)
_STEPPING_METHODS = frozenset({"join", "fromkeys", "from_iterable"})
_KEYED: frozenset[object] = frozenset({max, min, sorted})
# Leaves that look at an iterator itself, never at what it gives.
_SHOWING: frozenset[object] = frozenset({str, repr, ascii, format, hash, bool})


def calls_back(function: Callable[..., object], place: int | str) -> bool:
    """Whether a leaf calls the function that it gets at a position, or as a keyword."""
    if function in _KEYED or function.__name__ == "sort":
        return place == "key"
    is_substitution = function.__name__ in ("sub", "subn")  # of a pattern
    is_library = getattr(function, "__module__", "") == "itertools"
    return is_substitution or is_library or function in _STEPPING_LATER


def is_showing(function: Callable[..., object]) -> bool:
    """Whether a pure leaf looks at an iterator itself."""
    return function in _SHOWING or function.__name__ in ("format", "format_map")


def is_stepping(function: Callable[..., object], place: int | str, count: int) -> bool:
    """Whether a pure leaf steps through one of its `count` positional arguments."""
    if function in (max, min):
        return place == 0 and count == 1
    is_method = issubclass(type(function), types.BuiltinFunctionType)
    if function in _STEPPING_FIRST or (is_method and function.__name__ in _STEPPING_METHODS):
        return place == 0
    if function in _STEPPING_LATER:
        return place == 1 or (function is map and place != 0)
    return type(place) is int and function in _STEPPING_ALL


# ------------------------------------------------------------------------ Python functions


@functools.cache
def python_leaves() -> dict[Callable[..., object], Contract]:
    """Python functions that are leaves although they have source."""
    rows: dict[Callable[..., object], Contract] = {
        dataclasses.fields: Contract.INSPECT,
        dataclasses.is_dataclass: Contract.INSPECT,
        typing.cast: Contract.INSPECT,
        logging.Logger.isEnabledFor: Contract.GETTER,
        torch.broadcast_shapes: Contract.PURE,
        torch.overrides.is_tensor_like: Contract.INSPECT,
    }
    not_everywhere = (
        (torch.nn.functional, "_verify_batch_size", Contract.PURE),
        # It looks at the dispatch modes, which a replay finds switched off.
        (torch.nn.modules.activation, "_is_make_fx_tracing", Contract.INSPECT),
        (torch.compiler, "is_compiling", Contract.GETTER),
    )
    for module, name, contract in not_everywhere:
        if (function := getattr(module, name, None)) is not None:
            rows[function] = contract
    return rows


HOST_EFFECTS: frozenset[object] = frozenset({builtins.input, builtins.open, logging.Logger._log})
