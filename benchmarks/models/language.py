"""Language models that keep their state on the object, from one sequence to the next.

The hidden state of the last sequence is where the next one starts (truncated back-propagation
through time): every call reads the attribute that the call before it wrote.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LSTMCell(nn.Module):
    """One step of an LSTM, its equations spelled out."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, 4 * hidden)
        self.from_state = nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and memory for `x: f32[batch, inputs]`."""
        h, c = state
        let_in, forget, candidate, let_out = (self.from_input(x) + self.from_state(h)).chunk(4, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(let_in) * torch.tanh(candidate)
        return torch.sigmoid(let_out) * torch.tanh(c), c


class LSTM(nn.Module):
    """One layer that reads a sequence symbol by symbol, as for Penn Treebank."""

    def __init__(self, symbols: int, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.cell = LSTMCell(width, width)
        self.head = nn.Linear(width, symbols)
        self.state: tuple[Tensor, Tensor] | None = None
        self.sequences = 0

    def forward(self, text: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of predicting `target` from `text`, both `i64[steps, batch]`."""
        state = self.state
        if state is None:
            zeros = torch.zeros(text.shape[1], self.cell.hidden, device=text.device)
            state = (zeros, zeros)
        loss = torch.zeros((), device=text.device)
        for x, wanted in zip(self.embed(text), target, strict=True):
            state = self.cell(x, state)
            loss = loss + F.cross_entropy(self.head(state[0]), wanted)
        self.state = (state[0].detach(), state[1].detach())
        self.sequences += 1
        return loss / len(target)


class LM(nn.Module):
    """Two layers with dropout and a projection before a large vocabulary, as for 1B Words."""

    def __init__(self, words: int, width: int = 128, projection: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, projection)
        self.cells = nn.ModuleList(LSTMCell(projection, width) for _ in range(layers))
        self.projections = nn.ModuleList(nn.Linear(width, projection) for _ in range(layers))
        self.dropout = nn.Dropout(0.1)
        self.bias = nn.Parameter(torch.zeros(words))
        self.states: list[tuple[Tensor, Tensor]] = []

    def forward(self, text: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of predicting `target` from `text`, both `i64[steps, batch]`."""
        if not self.states:
            self.states = [self._zeros(cell, text) for cell in self.cells]
        outputs = []
        for x in self.dropout(self.embed(text)):
            for layer, cell in enumerate(self.cells):
                self.states[layer] = cell(x, self.states[layer])
                x = self.dropout(self.projections[layer](self.states[layer][0]))
            outputs.append(x)
        self.states = [(h.detach(), c.detach()) for h, c in self.states]
        # The embedding is the output matrix as well.
        logits = F.linear(torch.stack(outputs), self.embed.weight, self.bias)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())

    def _zeros(self, cell: nn.Module, text: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(cell, LSTMCell)
        zeros = torch.zeros(text.shape[1], cell.hidden, device=text.device)
        return zeros, zeros
