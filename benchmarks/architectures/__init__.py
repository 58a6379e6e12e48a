"""The coverage list: one architecture per family of timm, torchvision and transformers.

`ARCHITECTURES` is data: nothing is imported or built until `build()` is called, and a family
that the installed version of its library does not ship raises there, not here.
"""

from __future__ import annotations

from benchmarks.architectures.base import Architecture, Built, Call, Kind, seeded
from benchmarks.architectures.timm_models import TIMM
from benchmarks.architectures.torch_models import TORCH
from benchmarks.architectures.torchvision_models import TORCHVISION
from benchmarks.architectures.transformers_models import TRANSFORMERS

ARCHITECTURES: tuple[Architecture, ...] = (
    *TORCH,
    *TIMM,
    *TORCHVISION,
    *TRANSFORMERS,
)
BY_NAME: dict[str, Architecture] = {row.name: row for row in ARCHITECTURES}

__all__ = ["ARCHITECTURES", "BY_NAME", "Architecture", "Built", "Call", "Kind", "seeded"]
