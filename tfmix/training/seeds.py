"""What a run's seed is folded with, so that no two uses of it share numbers."""

from __future__ import annotations

# What a run's seed is folded with, so that no two uses of it share numbers.
WEIGHTS, COLLECT, REPLAY, EVALUATE, SUMMARY, RANDOM_TEAM = range(6)
