"""Pix2pix after Isola et al. (2017): a U-Net that draws, a critic that judges patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _norm(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)


class UNet(nn.Module):
    """Encoder and decoder; each decoder stage sees the encoder's of its size."""

    def __init__(self, channels: int = 1, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(depth)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.down_norms = nn.ModuleList()
        self.up_norms = nn.ModuleList()
        for level, outputs in enumerate(widths):
            inputs = channels if level == 0 else widths[level - 1]
            self.down.append(nn.Conv2d(inputs, outputs, 4, 2, padding=1))
            self.down_norms.append(_norm(outputs) if 0 < level < depth - 1 else nn.Identity())
        for level in reversed(range(depth)):
            inputs = widths[level] * (1 if level == depth - 1 else 2)
            outputs = channels if level == 0 else widths[level - 1]
            self.up.append(nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1))
            self.up_norms.append(_norm(outputs) if level > 0 else nn.Identity())
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Return drawings of the shape of `images: f32[batch, channels, height, width]`."""
        skips: list[Tensor] = []
        x = images
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = norm(conv(x if not skips else F.leaky_relu(x, 0.2)))
            skips.append(x)
        x = skips.pop()
        for level, (conv, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            x = norm(conv(F.relu(x)))
            if level == 0:
                x = self.dropout(x)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return torch.tanh(x)


class PatchCritic(nn.Module):
    """A drawing beside its source to a map of logits, one for each patch."""

    def __init__(self, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, width, 4, 2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, padding=1),
            _norm(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 4, padding=1),
        )

    def forward(self, source: Tensor, drawing: Tensor) -> Tensor:
        """Return logits `f32[batch, 1, height / 4 - 1, width / 4 - 1]`."""
        logits: Tensor = self.layers(torch.cat([source, drawing], dim=1))
        return logits
