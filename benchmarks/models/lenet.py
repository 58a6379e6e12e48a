"""LeNet-5 for 32 x 32 images, after LeCun et al. (1998), with ReLU and max pooling.

Differs from the paper: the second convolution sees all maps of the first, and the last layer
is linear with a softmax loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """Two convolutions, three linear layers, ten classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `f32[batch, classes]` of `images: f32[batch, 1, 32, 32]`."""
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)
        features = torch.flatten(maps, 1)
        features = F.relu(self.fc1(features))
        features = F.relu(self.fc2(features))
        logits: Tensor = self.fc3(features)
        return logits
