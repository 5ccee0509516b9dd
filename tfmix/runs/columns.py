"""Columns of a run's metrics.csv, and rows of its evaluations.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tfmix.monitoring.metrics_csv import COLUMNS, EVALUATIONS, LENGTHS, SPREAD
from tfmix.training.playing import Scores
from tfmix.training.trainer import Trainer


def columns_of(trainer: Trainer) -> list[str]:
    """Return the columns of a run's metrics.csv."""
    return [
        *COLUMNS,
        *SPREAD,
        *LENGTHS,
        "epsilon",
        "learning_rate",
        "buffer_episodes",
        *([] if trainer.collector.compiled else ["worker_restarts"]),
        *trainer.metric_names,
        *(f"train_{name}" for name in trainer.collector.metric_names),
        *(f"greedy_{name}" for name in trainer.collector.metric_names),
    ]


def rows_of(env_steps: int, scores: Scores, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of evaluations.csv of an evaluation, one for each episode.

    Args:
      env_steps: the run's env steps at the evaluation.
      scores: of the episodes.
      names: of the environment's metrics. One that is not finite has an empty cell.
    """
    for number, (total, length, metrics) in enumerate(zip(*scores, strict=True), 1):
        first = env_steps, number, float(total), int(length)
        known = zip(names, map(float, metrics), strict=True)
        yield {
            **dict(zip(EVALUATIONS.first, first, strict=True)),
            **{name: value for name, value in known if math.isfinite(value)},
        }
