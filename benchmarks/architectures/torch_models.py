"""Networks that torch itself ships: recurrent layers and its transformer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from benchmarks.architectures.base import (
    WEIGHT_SEED,
    Architecture,
    Built,
    Call,
    Kind,
    normal,
    seeded,
)


def _sequence(seed: int) -> Call:
    return Call((normal(seed, 2, 12, 32),), {})


def _two_sequences(seed: int) -> Call:
    return Call((normal(seed, 2, 12, 32), normal(seed + 1_000, 2, 8, 32)), {})


def _lstm() -> nn.Module:
    return nn.LSTM(32, 64, num_layers=2, bidirectional=True, batch_first=True)


def _gru() -> nn.Module:
    return nn.GRU(32, 64, num_layers=2, batch_first=True)


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers=2)


def _transformer() -> nn.Module:
    return nn.Transformer(
        d_model=32,
        nhead=4,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dim_feedforward=64,
        batch_first=True,
    )


_ROWS: tuple[tuple[str, Kind, Callable[[], nn.Module], Callable[[int], Call]], ...] = (
    ("lstm", Kind.RECURRENT, _lstm, _sequence),
    ("gru", Kind.RECURRENT, _gru, _sequence),
    ("transformer_encoder", Kind.ENCODER, _encoder, _sequence),
    ("transformer", Kind.ENCODER_DECODER, _transformer, _two_sequences),
)


def _build(make: Callable[[], nn.Module], make_inputs: Callable[[int], Call]) -> Built:
    with seeded(WEIGHT_SEED):
        model = make()
    return Built(model.eval(), make_inputs)


TORCH: tuple[Architecture, ...] = tuple(
    Architecture(
        name=f"torch/{family}",
        library="torch",
        family=family,
        kind=kind,
        variant=f"torch.nn {family}",
        build=partial(_build, make, make_inputs),
    )
    for family, kind, make, make_inputs in _ROWS
)
