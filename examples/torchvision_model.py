"""Speculate on a model that somebody else wrote. It is changed in place and stays what it was.

$ python examples/torchvision_model.py
"""

from __future__ import annotations

import copy

import torch
from torchvision.models import resnet18

import janus_lite

model = resnet18(weights=None).eval()
eager = copy.deepcopy(model)
janus_lite.speculate(model)

with torch.no_grad():
    for _ in range(3):
        images = torch.randn(1, 3, 64, 64)
        assert torch.equal(model(images), eager(images))

    # A new weight, however it gets there, is used by the very next call.
    for network in (model, eager):
        network.fc.weight.data.mul_(2)
        network.conv1 = torch.nn.Conv2d(3, 64, 5, stride=2, padding=2)
    eager.load_state_dict(model.state_dict())
    assert torch.equal(model(images), eager(images))

assert list(model.state_dict()) == list(eager.state_dict())
print(janus_lite.explain(model))
