"""The numbers of the figures: curves with bands, final scores, profiles, improvements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfmix.experiments import curves, statistics
from tfmix.experiments.curves import Group, Key, Tasks
from tfmix.experiments.statistics import LEAST_RUNS, Array
from tfmix.utils import text

ALL_TASKS = "all tasks, normalised"
PROFILE_POINTS = 201
NONE: Array = np.zeros(0)
Finals = dict[str, dict[Key, Array]]  # by task and group, the scores of its runs [R]


class Curve(NamedTuple):
    """A statistic of a group of runs over points.

    Attributes:
      task: the task, or `ALL_TASKS`.
      key: the group.
      x: points, [P].
      value: the statistic, [P]; empty if there are too few runs for it.
      low, high: its 95% interval, [P]; empty if there are too few runs for it.
      seeds: number of runs, the smallest of the tasks.
    """

    task: str
    key: Key
    x: Array
    value: Array
    low: Array
    high: Array
    seeds: int


class Score(NamedTuple):
    """The final scores of a group.

    Attributes:
      task: the task, or `ALL_TASKS`.
      key: the group.
      value: interquartile mean, NaN if there are too few runs for it.
      low, high: its 95% interval, likewise.
      runs: scores of the runs, [R].
    """

    task: str
    key: Key
    value: float
    low: float
    high: float
    runs: Array


class Improvement(NamedTuple):
    """The probability that a run of X scores higher than one of Y, averaged over tasks.

    Attributes:
      first, second: the groups X and Y.
      value: the probability.
      low, high: its 95% interval, NaN if there are too few runs for it.
      tasks: number of tasks.
    """

    first: Key
    second: Key
    value: float
    low: float
    high: float
    tasks: int


class Results(NamedTuple):
    """All numbers that are drawn.

    Attributes:
      metric, x: what is drawn over what.
      bounds: lowest and highest possible value, of the tasks that declare them.
      curves: learning curves.
      final: final scores by task; those over all tasks come last.
      profiles: performance profiles, over all tasks if these declare bounds, else of each.
      improvements: of each pair of groups.
      notes: what is left out, and why.
    """

    metric: str
    x: str
    bounds: dict[str, tuple[float, float]]
    curves: list[Curve]
    final: list[Score]
    profiles: list[Curve]
    improvements: list[Improvement]
    notes: list[str]


def of(tasks: Tasks, metric: str, x: str) -> Results:
    """Return the numbers of all figures of some runs.

    Args:
      tasks: the runs; each group has common points.
      metric: a column of metrics.csv.
      x: `env_steps`, `updates` or `seconds`.
    """
    bounds, final = curves.bounds_of(tasks, metric), curves.final_scores(tasks, metric)
    scores = [_score(task, key, [runs]) for task in final for key, runs in final[task].items()]
    every, notes = _over_tasks(final, bounds, metric)
    scores += [_score(ALL_TASKS, key, strata) for key, strata in every.items()]
    if every:
        profiles = _profiles(ALL_TASKS, every)
    else:
        profiles = [
            line
            for task, groups in final.items()
            for line in _profiles(task, {key: [runs] for key, runs in groups.items()})
        ]
    return Results(
        metric=metric,
        x=x,
        bounds=bounds,
        curves=[_curve(task, group, metric, x) for task in tasks for group in tasks[task]],
        final=scores,
        profiles=profiles,
        improvements=_improvements(final),
        notes=[*_unfinished(tasks), *notes],
    )


def _curve(task: str, group: Group, metric: str, x: str) -> Curve:
    """Return the learning curve of a group, without values if it has too few runs."""
    points, values = curves.on_common_points(group, metric, x)
    count = len(values)
    if count < LEAST_RUNS:
        return Curve(task, group.key, points, NONE, NONE, NONE, count)
    low, high = statistics.interval([values], statistics.interquartile_mean)
    return Curve(task, group.key, points, statistics.interquartile_mean([values]), low, high, count)


def _score(task: str, key: Key, strata: Sequence[Array]) -> Score:
    """Return the final score of a group over one task or several."""
    runs = np.concatenate(strata)
    if min(len(stratum) for stratum in strata) < LEAST_RUNS:
        return Score(task, key, math.nan, math.nan, math.nan, runs)
    value = statistics.interquartile_mean(strata)
    low, high = statistics.interval(strata, statistics.interquartile_mean)
    return Score(task, key, float(value), float(low), float(high), runs)


def _over_tasks(
    final: Finals, bounds: dict[str, tuple[float, float]], metric: str
) -> tuple[dict[Key, list[Array]], list[str]]:
    """Return the scores of each group that ran on every task, from 0 to 1 by the task's bounds.

    Returns:
      for each group one array a task; nothing for a single task or if one lacks bounds. And
      what is left out, as notes.
    """
    if len(final) < 2:
        return {}, []
    without = [task for task in final if task not in bounds]
    if without:
        shown = ", ".join(text.clean(task, 60) for task in without)
        return {}, [f"no score over all tasks: no bounds of {metric} are declared for {shown}"]
    keys = list(dict.fromkeys(key for groups in final.values() for key in groups))
    whole = [key for key in keys if all(key in groups for groups in final.values())]
    notes = [
        f"{curves.label_of(key)} is not in the score over all tasks: it has no finished run on "
        + ", ".join(text.clean(task, 60) for task in final if key not in final[task])
        for key in keys
        if key not in whole
    ]
    return {
        key: [_scaled(final[task][key], bounds[task]) for task in final] for key in whole
    }, notes


def _scaled(runs: Array, bounds: tuple[float, float]) -> Array:
    """Return scores with 0 for the lowest and 1 for the highest possible return."""
    low, high = bounds
    return (runs - low) / (high - low)


def _profiles(task: str, groups: dict[Key, list[Array]]) -> list[Curve]:
    """Return the performance profile of each group over common thresholds."""
    if not groups:
        return []
    every = np.concatenate([stratum for strata in groups.values() for stratum in strata])
    low, high = float(every.min()), float(every.max())
    if task == ALL_TASKS:
        low, high = min(low, 0.0), max(high, 1.0)
    edge = 0.02 * (high - low) or 0.5
    thresholds = np.linspace(low - edge, high + edge, PROFILE_POINTS)

    def profile(strata: Sequence[Array]) -> Array:
        return statistics.performance_profile(strata, thresholds)

    found = []
    for key, strata in groups.items():
        count = min(len(stratum) for stratum in strata)
        ends = (NONE, NONE)
        if count >= LEAST_RUNS:
            ends = statistics.interval(strata, profile)
        found.append(Curve(task, key, thresholds, profile(strata), *ends, count))
    return found


def _improvements(final: Finals) -> list[Improvement]:
    """Return the probability of improvement of each pair of groups, the better one first."""
    keys = list(dict.fromkeys(key for groups in final.values() for key in groups))
    found = []
    for first, second in itertools.combinations(keys, 2):
        pairs = [(t[first], t[second]) for t in final.values() if first in t and second in t]
        if not pairs:
            continue
        if statistics.probability_of_improvement(pairs) < 0.5:
            first, second, pairs = second, first, [(y, x) for x, y in pairs]
        ends = (math.nan, math.nan)
        if min(len(side) for pair in pairs for side in pair) >= LEAST_RUNS:
            ends = statistics.improvement_interval(pairs)
        value = statistics.probability_of_improvement(pairs)
        found.append(Improvement(first, second, value, *ends, len(pairs)))
    return found


def _unfinished(tasks: Tasks) -> list[str]:
    """Return a note if runs are not at their end; a curve ends at the end of its shortest run."""
    every = [run for groups in tasks.values() for group in groups for run in group.runs]
    short = sum(not run.is_complete for run in every)
    if not short:
        return []
    return [
        f"{short} of {len(every)} runs are not at their end: curves end where the shortest run of "
        "their group ends, and final scores are of the others"
    ]


def lines(results: Results) -> list[str]:
    """Return the final scores as lines of text, then the notes."""
    names = [(text.clean(score.task, 60), curves.label_of(score.key)) for score in results.final]
    wide = [max((len(name[part]) for name in names), default=0) for part in (0, 1)]
    found = []
    for (task, label), score in zip(names, results.final, strict=True):
        count = len(score.runs)
        if math.isnan(score.value):
            shown = ", ".join(f"{value:.2f}" for value in score.runs[:LEAST_RUNS])
            shown += ", ..." if count > LEAST_RUNS else ""
            shown += "  (fewer than 5 seeds: no interval)"
        else:
            shown = f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
        found.append(f"{task:<{wide[0]}}  {label:<{wide[1]}}  n={count:<3} {shown}")
    return found + results.notes
