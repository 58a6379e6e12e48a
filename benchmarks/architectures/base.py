"""What an architecture of the coverage list is: a name, a kind, and how to build it.

Enters: nothing but seeds. Leaves: a model in eval mode with seeded random weights, and a
maker of inputs. Invariant: `build()` and `make_inputs(seed)` are pure functions of the seed
and leave torch's global random state as they found it, so that a model built twice is equal
bit for bit, and so that inputs which a model mutates (caches) can be made again.

Example:
    >>> model, make_inputs = BY_NAME["transformers/bert"].build()
    >>> args, kwargs = make_inputs(1)
    >>> model(*args, **kwargs)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

WEIGHT_SEED = 20191


class Kind(Enum):
    """What sort of network it is; coverage is reported per kind."""

    CONVOLUTIONAL = "convolutional"
    VISION_TRANSFORMER = "vision transformer"
    VISION_MIXED = "vision, mixed or other"
    DENSE_PREDICTION = "segmentation, flow"
    DETECTION = "detection"
    VIDEO = "video"
    ENCODER = "text encoder"
    DECODER = "decoder, no cache"
    DECODER_CACHED = "decoder, with cache"
    ENCODER_DECODER = "encoder-decoder"
    MIXTURE_OF_EXPERTS = "mixture of experts"
    STATE_SPACE = "state space, linear attention"
    AUDIO = "audio"
    MULTIMODAL = "multimodal"
    TIME_SERIES = "time series"
    RECURRENT = "recurrent"


class Call(NamedTuple):
    """The arguments of one call of a model."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Built(NamedTuple):
    """A model ready to run, and the maker of its inputs from a seed."""

    model: nn.Module
    make_inputs: Callable[[int], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One row of the coverage list.

    Attributes:
        name: `library/family`, unique and stable for ever.
        library: `timm`, `torchvision`, `transformers` or `torch`.
        family: the family that the row stands for.
        kind: what sort of network it is.
        variant: the member of the family that is built, with what was shrunk.
        build: makes the model in eval mode and the maker of inputs.
    """

    name: str
    library: str
    family: str
    kind: Kind
    variant: str
    build: Callable[[], Built]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the body under `seed` and give torch's CPU random state back afterwards."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def image_input(size: int, *, batch: int = 1, channels: int = 3) -> Callable[[int], Call]:
    """Return a maker of one image batch `f32[batch, channels, size, size]`."""

    def make_inputs(seed: int) -> Call:
        return Call((normal(seed, batch, channels, size, size),), {})

    return make_inputs


def normal(seed: int, *shape: int) -> Tensor:
    """Return `f32[*shape]` drawn from a normal distribution."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def integers(seed: int, low: int, high: int, *shape: int) -> Tensor:
    """Return `i64[*shape]` drawn evenly from `[low, high)`."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))
