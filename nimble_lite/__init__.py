"""Ahead-of-time scheduled, race-free, multi-stream replay of PyTorch graphs (after Nimble)."""

__all__: list[str] = []
