"""Plays episodes with a policy that does not learn meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.training.replay_size import episode_bytes, episode_spec
from tfmix.types import Collector, EnvSpec, Episode
from tfmix.utils import memory


def returns(episode: Episode[Any]) -> Any:
    """Return the undiscounted return of each episode, [B]."""
    return (
        (episode.reward * episode.mask).sum(-1)
        if isinstance(episode.reward, np.ndarray)
        else tf.reduce_sum(episode.reward * episode.mask, -1)
    )


def check_playing_memory(spec: EnvSpec, episodes: int) -> None:
    """Raise UserError if the machine cannot hold `episodes` that are played in parallel."""
    memory.check_memory(
        2 * episodes * episode_bytes(episode_spec(spec)),  # by step, then transposed to by episode
        f"an evaluation of {episodes:,} episodes",
        "set a smaller --eval_episodes",
    )


def play_episodes(
    collector: Collector,
    seed: Any,
    stream: int,
    episodes: int,
    epsilon: float = 0.0,
    first: int = 0,
) -> Episode[Any]:
    """Play episodes with a collector's policy and return them.

    Args:
      collector: plays the episodes.
      seed: the run's seed.
      stream: what the seed is used for, a `Stream`.
      episodes: the number of episodes.
      epsilon: the probability of a random action.
      first: the number of the first episode.

    Returns:
      the episodes, whole and padded.
    """
    return collector.collect(
        tf.stack([seed, stream]),
        tf.constant(first, tf.int64),
        tf.constant(epsilon, tf.float32),
        episodes,
    )


def play(
    collector: Collector,
    seed: Any,
    stream: int,
    episodes: int,
    epsilon: float = 0.0,
    first: int = 0,
) -> np.ndarray:
    """Play as `play_episodes` and return the episodes' returns, [episodes]."""
    return np.asarray(returns(play_episodes(collector, seed, stream, episodes, epsilon, first)))
