"""A small adversarial network for grey images, after Goodfellow et al. (2014)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Generator(nn.Module):
    """Noise to an image of 32 x 32 pixels."""

    def __init__(self, noise: int = 32, width: int = 32) -> None:
        super().__init__()
        self.noise = noise
        self.start = nn.Linear(noise, 2 * width * 8 * 8)
        self.norm1 = nn.BatchNorm2d(2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 4, 2, padding=1)
        self.norm2 = nn.BatchNorm2d(width)
        self.up2 = nn.ConvTranspose2d(width, 1, 4, 2, padding=1)

    def forward(self, noise: Tensor) -> Tensor:
        """Return images `f32[batch, 1, 32, 32]` of `noise: f32[batch, noise]`."""
        x = self.start(noise).unflatten(1, (-1, 8, 8))
        x = self.up1(F.relu(self.norm1(x)))
        return torch.tanh(self.up2(F.relu(self.norm2(x))))


class Discriminator(nn.Module):
    """An image to the logit of its being real."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 4, 2, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, padding=1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * width * 8 * 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `f32[batch]`."""
        x = F.leaky_relu(self.down1(images), 0.2)
        x = F.leaky_relu(self.norm(self.down2(x)), 0.2)
        logits: Tensor = self.head(self.dropout(torch.flatten(x, 1)))
        return logits.squeeze(1)
