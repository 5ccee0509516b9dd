"""Plays episodes with a policy that does not learn meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmix.monitoring.metrics_csv import SPREAD
from tfmix.training.replay_size import episode_bytes, episode_spec
from tfmix.types import Collector, EnvSpec, Episode, Played
from tfmix.utils import memory, text


def returns(episode: Episode[Any]) -> Any:
    """Return the undiscounted return of each episode, [B]."""
    return (
        (episode.reward * episode.mask).sum(-1)
        if isinstance(episode.reward, np.ndarray)
        else tf.reduce_sum(episode.reward * episode.mask, -1)
    )


class Scores(NamedTuple):
    """What episodes came to.

    Attributes:
      returns: undiscounted returns, [B] float32.
      lengths: env steps, [B] float32.
      metrics: the environment's metrics, [B, M] float32, NaN if an episode lacks one.
    """

    returns: np.ndarray
    lengths: np.ndarray
    metrics: np.ndarray

    @classmethod
    def of(cls, played: Played) -> Scores:
        """Return what the episodes came to."""
        episode, metrics = played
        lengths = np.asarray(episode.mask).sum(-1)
        return cls(np.asarray(returns(episode)), lengths, np.asarray(metrics))

    @classmethod
    def join(cls, parts: Iterable[Scores]) -> Scores:
        """Return the scores of all episodes in `parts`, in order."""
        return cls(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def summarize(scores: Scores, metric_names: Iterable[str] = ()) -> dict[str, float]:
    """Return the columns of metrics.csv that greedy episodes give.

    Args:
      scores: of the episodes.
      metric_names: names of the M metrics of the environment.

    Returns:
      mean, standard deviation (divided by B) and quartiles (linear interpolation) of the
      returns; the mean length; `greedy_<name>`, the mean over the episodes that have the
      metric, if any has.
    """
    quartiles = np.quantile(scores.returns.astype(np.float64), [0.25, 0.5, 0.75])
    found = {
        "greedy_return": float(scores.returns.mean()),
        "greedy_return_std": float(scores.returns.astype(np.float64).std()),
        **dict(zip(SPREAD[1:], map(float, quartiles), strict=True)),
        "greedy_length": float(scores.lengths.mean()),
    }
    for name, values in zip(metric_names, scores.metrics.T.astype(np.float64), strict=True):
        known = values[np.isfinite(values)]
        if known.size:
            found[f"greedy_{name}"] = float(known.mean())
    return found


def check_playing_memory(spec: EnvSpec, episodes: int) -> None:
    """Raise UserError if the machine cannot hold `episodes` that are played in parallel."""
    memory.check_memory(
        2 * episodes * episode_bytes(episode_spec(spec)),  # by step, then transposed to by episode
        f"an evaluation of {text.counted(episodes, 'episode')}",
        "set a smaller --eval_episodes",
    )


def play_episodes(
    collector: Collector,
    seed: Any,
    stream: int,
    episodes: int,
    epsilon: float = 0.0,
    first: int = 0,
) -> Played:
    """Play episodes with a collector's policy and return them.

    Args:
      collector: plays the episodes.
      seed: the run's seed.
      stream: what the seed is used for, a `Stream`.
      episodes: the number of episodes.
      epsilon: the probability of a random action.
      first: the number of the first episode.

    Returns:
      the episodes, whole and padded, and their metrics.
    """
    return collector.play(
        tf.stack([seed, stream]),
        tf.constant(first, tf.int64),
        tf.constant(epsilon, tf.float32),
        episodes,
    )


def without_padding(episode: Episode[Any]) -> list[Episode[np.ndarray]]:
    """Return each of B padded episodes at its own length T, as NumPy arrays without B.

    obs, state and legal have T + 1 steps, the other fields T.
    """
    whole = Episode(*(np.asarray(part) for part in episode))
    lengths = whole.mask.sum(-1).astype(int)
    return [
        Episode(
            *(part[row, : length + 1] for part in whole[:3]),
            *(part[row, :length] for part in whole[3:]),
        )
        for row, length in enumerate(lengths)
    ]
