"""How torch's own functions are treated by a recording: one row per exception to the rule.

The rule: a function that reports to the function mode is an operation. The exceptions are metadata
(implied by the guards on the inputs), state of a tensor that the guards do not cover (compared
again), ambient setters, and functions whose result leaves the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache


class Treatment(Enum):
    """What a recording does with a torch function."""

    __hash__ = object.__hash__  # `Enum.__hash__` is Python code

    OPERATION = auto()
    METADATA = auto()
    CHECKED = auto()
    GRADIENT = auto()
    AMBIENT = auto()
    DENY = auto()


class NumberUse(Enum):
    """What an operation makes of the numbers among its arguments."""

    __hash__ = object.__hash__  # `Enum.__hash__` is Python code

    VALUE = auto()  # whatever number it gets, the sizes of its result are the same
    SIZE = auto()  # they may decide the sizes of its result, but not its rank
    FIXED = auto()  # anything else, or not known


_METADATA_NAMES = """
shape size dim ndim dtype device stride numel nelement element_size itemsize layout is_cuda is_cpu
is_mps is_xpu is_meta is_sparse is_sparse_csr is_quantized is_mkldnn is_nested is_vulkan is_ipu
is_maia is_mtia is_xla is_hpu requires_grad is_floating_point is_complex is_contiguous is_conj
is_neg is_inference is_signed __len__ get_device ndimension nbytes is_same_size dense_dim sparse_dim
names result_type can_cast promote_types is_distributed _is_zerotensor has_names
""".split()
_CHECKED_NAMES = """
is_leaf storage_offset _version is_pinned is_shared output_nr retains_grad is_set_to
""".split()
_DENIED_NAMES = """
numpy __array__ __dlpack__ __dlpack_device__ data_ptr untyped_storage storage _typed_storage
__repr__ __format__ __str__ __reduce_ex__ __reduce__ __deepcopy__ __setstate__ __array_wrap__
register_hook register_post_accumulate_grad_hook grad_fn _grad _base _backward_hooks volatile
share_memory_ pin_memory __dir__ set_ __cuda_array_interface__ __torch_dispatch__ resize_ apply_
map_ map2_ _make_subclass _make_wrapper_subclass __iter__ __contains__ is_alias_of backward
__bool__internal module_load requires_grad_ retain_grad
detach_ rename_
""".split()
_AMBIENT_FUNCTIONS: frozenset[str] = frozenset({"_set_grad_enabled"})
# What only looks at a tensor in another way, when it need not copy; sizes come from its arguments.
VIEWS: frozenset[str] = frozenset(
    """
    view reshape transpose permute t T mT swapaxes swapdims movedim moveaxis unsqueeze squeeze
    expand expand_as view_as reshape_as flatten unflatten broadcast_to
    """.split()
)
# These make a new tensor, or look at one, and how their arguments lie says how the result does.
PLACED: frozenset[str] = VIEWS | frozenset(
    """
    select narrow chunk split unbind squeeze diagonal __getitem__ detach clone zeros ones full empty
    new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like
    """.split()
)
# Whatever number they get, the sizes of their result are the same.
_ELEMENTWISE: frozenset[str] = frozenset(
    """
    add sub subtract rsub mul multiply div divide true_divide floor_divide remainder fmod pow
    float_power lerp addcmul addcdiv clamp clip clamp_min clamp_max eq ne lt le gt ge not_equal less
    less_equal greater greater_equal fill masked_fill where leaky_relu elu celu softplus threshold
    hardtanh tensor as_tensor scalar_tensor select select_scatter full_like __getitem__ __setitem__
    __add__ __sub__ __mul__ __truediv__ __div__ __floordiv__ __mod__ __pow__ __radd__ __rsub__
    __rmul__ __rtruediv__ __rfloordiv__ __rmod__ __rpow__ __rdiv__ __iadd__ __isub__ __imul__
    __itruediv__ __idiv__ __ifloordiv__ __imod__ __ipow__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__
    """.split()
)
# Sizes among their arguments decide sizes of the result; rank and dtype stay.
_SIZED: frozenset[str] = frozenset(
    """
    view reshape expand broadcast_to repeat tile unflatten zeros ones empty full rand randn randint
    randperm arange linspace logspace eye new_zeros new_ones new_empty new_full narrow narrow_copy
    split split_with_sizes tensor_split pad _pad constant_pad_nd topk tril triu diagonal roll unfold
    repeat_interleave one_hot tril_indices triu_indices avg_pool1d avg_pool2d
    adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d
    upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa affine_grid_generator
    slice_scatter index_fill bincount
    """.split()
)
# They give back their argument or a copy, as dtype, device and mode decide.
_CONVERSIONS: frozenset[str] = frozenset(
    """
    to type type_as float half bfloat16 double long int short char byte bool cpu cuda dropout
    alpha_dropout feature_dropout feature_alpha_dropout detach positive
    """.split()
)
# They look at their argument where it lies well, and copy it elsewhere.
_MAYBE_VIEWS: frozenset[str] = frozenset(
    "reshape reshape_as flatten ravel contiguous unflatten to sum_to_size einsum tensordot".split()
)
# What asks for sizes, or for what follows from them.
SIZE_READERS: frozenset[str] = frozenset(
    "shape size numel nelement nbytes stride is_contiguous __len__ is_same_size".split()
)
UNBINDERS: frozenset[str] = frozenset({"unbind", "__iter__"})
NORMS_WITH_STATISTICS: frozenset[str] = frozenset(
    {"aten::native_batch_norm", "aten::cudnn_batch_norm", "aten::miopen_batch_norm"}
)


@lru_cache(maxsize=4096)
def treatment(target: Callable[..., object]) -> Treatment:
    """Return how a torch function is treated."""
    name = name_of(target)
    if is_setter(target):
        # `t.data = x`, `t.requires_grad = True` and the like change an object, not bytes.
        return Treatment.DENY
    if name in _METADATA_NAMES:
        return Treatment.METADATA
    if name in _CHECKED_NAMES:
        return Treatment.CHECKED
    if name == "grad":
        return Treatment.GRADIENT
    if name in _DENIED_NAMES:
        return Treatment.DENY
    if name in _AMBIENT_FUNCTIONS:
        return Treatment.AMBIENT
    return Treatment.OPERATION


@lru_cache(maxsize=4096)
def number_use(target: Callable[..., object]) -> NumberUse:
    """What the operation makes of a number; it is the same for any one of the same class."""
    if treatment(target) is not Treatment.OPERATION:
        return NumberUse.FIXED
    name = name_of(target)
    if not (name.startswith("__") and name.endswith("__")):
        name = name.removeprefix("_foreach_").removesuffix("_")
    if name in _ELEMENTWISE:
        return NumberUse.VALUE
    return NumberUse.SIZE if name in _SIZED else NumberUse.FIXED


def may_copy(target: Callable[..., object], keywords: frozenset[str]) -> bool:
    """Whether an operation that gives back its own argument may make a copy for other sizes."""
    return name_of(target) not in _CONVERSIONS or "memory_format" in keywords


def may_view(target: Callable[..., object]) -> bool:
    """Whether sizes may decide if the operation gives a view of its argument or a copy."""
    return name_of(target) in _MAYBE_VIEWS


@lru_cache(maxsize=4096)
def drops_dims(target: Callable[..., object]) -> bool:
    """Whether sizes may decide the rank of the result."""
    name = name_of(target)
    return name in ("cov", "corrcoef") or ("squeeze" in name and "unsqueeze" not in name)


def name_of(target: Callable[..., object]) -> str:
    """The plain name of a function; for a property's getter the property's name."""
    name: str = getattr(target, "__name__", "") or type(target).__name__
    if name in {"__get__", "__set__", "__delete__"}:
        owner = getattr(target, "__self__", None)
        getter = getattr(owner, "fget", None)
        return str(getattr(owner, "__name__", None) or getattr(getter, "__name__", name))
    return name


def is_setter(target: Callable[..., object]) -> bool:
    """Whether the function is a property's setter or deleter."""
    return getattr(target, "__name__", "") in {"__set__", "__delete__"}
