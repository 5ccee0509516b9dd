"""What a run's seed is folded with, so that no two uses of it share numbers."""

from __future__ import annotations

import enum


class Stream(enum.IntEnum):
    """One use of random numbers. The values are part of every run's results: they never change."""

    WEIGHTS = 0
    COLLECT = 1
    REPLAY = 2
    EVALUATE = 3
    SUMMARY = 4
    RANDOM_TEAM = 5
    TF_AGENTS_ENVIRONMENT = 6
    TF_AGENTS_POLICY = 7
    TF_AGENTS_REPLAY = 8
