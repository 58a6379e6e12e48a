"""An LSTM written by hand: one cell, called once per time step from a Python loop.

This is how a researcher writes a cell that no library ships; the loop has as many small
operations as steps, so the host decides how fast it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSTMLoop(nn.Module):
    """A single-layer LSTM over `steps` inputs, cell equations spelled out."""

    def __init__(self, inputs: int = 64, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, 4 * hidden)
        self.from_state = nn.Linear(hidden, 4 * hidden, bias=False)

    def cell(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next state and memory for one input `x: f32[batch, inputs]`."""
        gates = self.from_input(x) + self.from_state(h)
        let_in, forget, candidate, let_out = gates.chunk(4, dim=1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(let_in) * torch.tanh(candidate)
        return torch.sigmoid(let_out) * torch.tanh(c), c

    def forward(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """Return all states and the last memory for `sequence: f32[steps, batch, inputs]`."""
        h = sequence.new_zeros(sequence.shape[1], self.hidden)
        c = sequence.new_zeros(sequence.shape[1], self.hidden)
        states = []
        for step in range(sequence.shape[0]):
            h, c = self.cell(sequence[step], h, c)
            states.append(h)
        return torch.stack(states), c
