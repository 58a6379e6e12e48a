"""Measure both packages against eager PyTorch and every other choice a user has."""
