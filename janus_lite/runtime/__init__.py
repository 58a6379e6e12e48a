"""Programs -> fast calls: guards, emission, cache, policy."""
