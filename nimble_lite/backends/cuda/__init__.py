"""The CUDA backend: drivers, emission, capture, conditional nodes."""
