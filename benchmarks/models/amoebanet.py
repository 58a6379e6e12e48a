"""AmoebaNet-A in the mobile setting, after Real et al. (2019), stacked as DARTS does."""

from __future__ import annotations

from benchmarks.models.darts import AMOEBANET, CellNetwork


def amoebanet() -> CellNetwork:
    """AmoebaNet-A with about half a billion multiply-adds."""
    return CellNetwork(AMOEBANET, channels=44)
