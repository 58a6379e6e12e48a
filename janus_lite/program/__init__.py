"""Traces -> programs: assumptions, graph, effects."""
