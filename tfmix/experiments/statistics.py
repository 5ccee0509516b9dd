"""Statistics over few runs, in NumPy (Agarwal et al. 2021, "Deep RL at the edge of the
statistical precipice").

Scores are lists with one array a task, [R, ...] with R runs; tasks may have different numbers
of runs. Axes after the first, such as points of a curve, are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Statistic = Callable[[Sequence[Array]], Array]
# With fewer runs a bootstrap says nothing: three runs have ten different resamples.
LEAST_RUNS = 5
LEVEL = 0.95
RESAMPLES = 5_000


def interquartile_mean(scores: Sequence[Array]) -> Array:
    """Return the mean of the middle half of all runs of all tasks.

    A quarter of the runs, rounded down, is left out at each end, as `scipy.stats.trim_mean`
    does. Of three runs it is the mean.

    Args:
      scores: one array a task, [R, ...].

    Returns:
      [...].
    """
    every = np.sort(np.concatenate(scores), axis=0)
    cut = len(every) // 4
    middle: Array = every[cut : len(every) - cut].mean(axis=0)
    return middle


def performance_profile(scores: Sequence[Array], thresholds: Array) -> Array:
    """Return the share of runs with a score above each threshold, [K].

    Every run counts the same (Agarwal et al. 2021, equation 2).

    Args:
      scores: one array a task, [R].
      thresholds: [K].
    """
    every = np.concatenate(scores)
    shares: Array = (every[:, None] > thresholds).mean(axis=0)
    return shares


def probability_of_improvement(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Return the probability that a run of X scores higher than one of Y, averaged over tasks.

    A tie counts half. It is the Mann-Whitney statistic over the number of pairs (Agarwal et
    al. 2021, section 4.3), and needs no common scale of the tasks.

    Args:
      pairs: for each task the scores of X, [R], and of Y, [Q].
    """
    chances = [
        np.mean(x[:, None] > y) + 0.5 * np.mean(x[:, None] == y)  # of every pair of runs
        for x, y in pairs
    ]
    return float(np.mean(chances))


def _resamples(counts: Sequence[int], number: int) -> Iterator[list[NDArray[np.int64]]]:
    """Yield `number` resamples: for each stratum the places of its runs, with replacement.

    The generator starts from the same seed each time, so that the same runs have the same
    interval, whatever else is drawn.
    """
    generator = np.random.default_rng(0)
    for _ in range(number):
        yield [generator.integers(count, size=count) for count in counts]


def interval(
    scores: Sequence[Array], statistic: Statistic, number: int = RESAMPLES
) -> tuple[Array, Array]:
    """Return a percentile bootstrap interval, with the runs of each task as a stratum.

    A run is drawn as a whole, so that the points of a curve stay together.

    Args:
      scores: one array a task, [R, ...].
      statistic: of such a list, such as `interquartile_mean`.
      number: resamples.

    Returns:
      lower and upper end of the 95% interval, as what `statistic` returns.
    """
    counts = [len(task) for task in scores]
    found = np.asarray(
        [
            statistic([task[places] for task, places in zip(scores, drawn, strict=True)])
            for drawn in _resamples(counts, number)
        ]
    )
    return _ends(found)


def improvement_interval(
    pairs: Sequence[tuple[Array, Array]], number: int = RESAMPLES
) -> tuple[float, float]:
    """Return a 95% bootstrap interval of `probability_of_improvement`.

    The runs of X and of Y are drawn independently, within each task.
    """
    counts = [len(side) for pair in pairs for side in pair]
    found = [
        probability_of_improvement(
            [(x[drawn[2 * task]], y[drawn[2 * task + 1]]) for task, (x, y) in enumerate(pairs)]
        )
        for drawn in _resamples(counts, number)
    ]
    low, high = _ends(np.asarray(found))
    return float(low), float(high)


def _ends(found: Array) -> tuple[Array, Array]:
    """Return the ends of the middle `LEVEL` of statistics of resamples, along the first axis."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(found, [tail, 100 - tail], axis=0)
    return low, high
