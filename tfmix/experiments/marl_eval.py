"""Writes runs as the JSON that the package marl-eval reads (Gorsane et al. 2022)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfmix.experiments.curves import Tasks
from tfmix.monitoring.metrics_csv import EVALUATIONS, NotMetricsError, read_columns
from tfmix.utils import files

# A run's episodes of its best team, ten times those of an evaluation, by metric.
ABSOLUTE = "absolute.json"
MOST_BYTES = 1 << 28  # of an evaluations.csv; 100 episodes of 1,000 evaluations have some 3 MB


def as_json(tasks: Tasks, metric: str) -> str:
    """Return the text of marl_eval.json.

    Its levels are environment, task, algorithm, run and evaluation. An evaluation holds
    `step_count` (env steps), `elapsed_time` (seconds) and the metric's values: those of the
    episodes if the run has kept them, else their mean. Runs that have played their best team
    on ten times the episodes also have `absolute_metrics`.

    Args:
      tasks: the runs.
      metric: the metric, `greedy_return` as marl-eval's `return`.
    """
    found: dict[str, Any] = {}
    name = "return" if metric == "greedy_return" else metric
    for task, groups in tasks.items():
        family, _, rest = task.partition("/")
        scenario = found.setdefault(family, {}).setdefault(rest or task, {})
        for group in groups:
            runs = scenario.setdefault(group.label, {})
            for run in group.runs:
                at, value = run.curve(metric, "env_steps")
                seconds = np.interp(at, run.columns["env_steps"], run.columns["seconds"])
                episodes = episodes_of(run.folder, metric)
                steps = {
                    f"step_{number}": {
                        "step_count": int(at[number]),
                        "elapsed_time": float(seconds[number]),
                        name: episodes.get(int(at[number]), [float(value[number])]),
                    }
                    for number in range(len(at))
                }
                if absolute := _absolute(run.folder, metric):
                    steps["absolute_metrics"] = {name: absolute}
                runs[_unique(f"seed_{run.config.seed}", runs)] = steps
    return json.dumps(found, indent=1) + "\n"


def _unique(name: str, known: dict[str, Any]) -> str:
    """Return a name that is not among the known ones; --force may draw a seed twice."""
    number = 2
    found = name
    while found in known:
        found, number = f"{name}_{number}", number + 1
    return found


def episodes_of(folder: Path, metric: str) -> dict[int, list[float]]:
    """Return the values of a greedy metric episode by episode, by env steps of the evaluation.

    Nothing is returned for a run that has not kept them, or for a metric of training.
    """
    column = "return" if metric == "greedy_return" else metric.removeprefix("greedy_")
    path, found = folder / "evaluations.csv", dict[int, list[float]]()
    if not metric.startswith("greedy_"):
        return found
    try:
        if path.stat().st_size > MOST_BYTES:
            return found
        columns = read_columns(path, EVALUATIONS)
    except (OSError, NotMetricsError):
        return found
    values = columns.get(column, np.zeros(0))
    if not np.isfinite(values).all():
        return found
    for at, value in zip(columns["env_steps"].tolist(), values.tolist(), strict=False):
        found.setdefault(at, []).append(value)
    return found


def _absolute(folder: Path, metric: str) -> list[float]:
    """Return what the best team reached on ten times the episodes, nothing if not played."""
    try:
        stored = files.read_json(files.read_text(folder / ABSOLUTE))
        return [float(value) for value in stored[metric]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
