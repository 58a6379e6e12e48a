"""Language models on text that ships with Python: its help topics."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.models.language import LM, LSTM
from benchmarks.trainings.base import Convert, Training

_UNKNOWN = 0


@functools.cache
def load_text() -> str:
    """Return Python's help topics as one text, some 700,000 characters."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def encode(symbols: Sequence[str], limit: int) -> Tensor:
    """Return the numbers of symbols, the most frequent first; 0 for all beyond `limit`."""
    ranked = [symbol for symbol, _ in Counter(symbols).most_common(limit - 1)]
    numbers = {symbol: number for number, symbol in enumerate(ranked, start=_UNKNOWN + 1)}
    return torch.tensor([numbers.get(symbol, _UNKNOWN) for symbol in symbols])


class Reading:
    """Adam on one long text, cut into parallel streams that are read on from step to step.

    Args:
        convert: prepares the model.
        model: returns the loss of a sequence, and keeps its state on itself.
        device: where it runs.
        text: `i64[n]`.
        batch: streams.
        length: symbols of each stream per step.
    """

    def __init__(
        self, convert: Convert, model: nn.Module, device: str, text: Tensor, batch: int, length: int
    ) -> None:
        steps = len(text) // batch
        self._text = text[: steps * batch].view(batch, steps).t().contiguous().to(device)
        self._network = model.to(device)
        self._model = convert(self._network, self._text[:length], self._text[1 : length + 1])
        self._optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        self._length = length
        self._at = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The language model."""
        return (self._network,)

    def step(self) -> tuple[Tensor, ...]:
        """Train on the next symbols of all streams."""
        end = self._at + self._length
        self._optimizer.zero_grad()
        loss = self._model(self._text[self._at : end], self._text[self._at + 1 : end + 1])
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._at = end
        return (loss.detach(),)


def lstm(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start an LSTM on characters."""
    symbols, width, batch, length = (64, 32, 4, 12) if is_small else (96, 200, 20, 35)
    text = encode(load_text(), symbols)
    return Reading(convert, LSTM(symbols, width), device, text, batch, length)


def lm(convert: Convert, device: str, is_small: bool) -> Training:  # noqa: FBT001 # a builder
    """Start a two-layer model on words, with a larger vocabulary."""
    words, width, projection = (500, 48, 24) if is_small else (8_000, 512, 128)
    batch, length = (4, 8) if is_small else (64, 20)
    text = encode(re.findall(r"\w+|[^\w\s]", load_text()), words)
    return Reading(convert, LM(words, width, projection), device, text, batch, length)
