"""Separates the random streams of a run: the seed is folded with the stream's number."""

from __future__ import annotations

import enum


class Stream(enum.IntEnum):
    """Use of random numbers. Its value decides the results of every run, and never changes."""

    WEIGHTS = 0
    COLLECT = 1
    REPLAY = 2
    EVALUATE = 3
    SUMMARY = 4
    RANDOM_TEAM = 5
    TF_AGENTS_ENVIRONMENT = 6
    TF_AGENTS_POLICY = 7
    TF_AGENTS_REPLAY = 8
    INSPECT = 9


def stream_of(epsilon: float) -> Stream:
    """Return the stream of the episodes that a loaded run plays."""
    return Stream.RANDOM_TEAM if epsilon >= 1.0 else Stream.SUMMARY
