"""Plays episodes with a policy as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.training.replay_size import episode_bytes, episode_spec
from tfmix.types import Collector, EnvSpec, Episode
from tfmix.utils import memory


def returns(episode: Episode[Any]) -> Any:
    """The undiscounted return of each episode, [B]."""
    return (
        (episode.reward * episode.mask).sum(-1)
        if isinstance(episode.reward, np.ndarray)
        else tf.reduce_sum(episode.reward * episode.mask, -1)
    )


def check_playing(spec: EnvSpec, episodes: int) -> None:
    """Raises UserError where the machine cannot hold `episodes` that are played side by side."""
    memory.check_memory(
        2 * episodes * episode_bytes(episode_spec(spec)),  # by step, and turned to be by episode
        f"an evaluation of {episodes:,} episodes",
        "set a smaller --eval_episodes",
    )


def play(
    collector: Collector,
    seed: Any,
    stream: int,
    episodes: int,
    epsilon: float = 0.0,
    first: int = 0,
) -> np.ndarray:
    """Plays a collector's policy as it is.

    Args:
      collector: plays.
      seed: the run's.
      stream: the use of it, a `Stream`.
      episodes: how many.
      epsilon: the chance of a random action.
      first: the number of the first episode.

    Returns:
      the episodes' returns, [episodes].
    """
    played = collector.collect(
        tf.stack([seed, stream]),
        tf.constant(first, tf.int64),
        tf.constant(epsilon, tf.float32),
        episodes,
    )
    return np.asarray(returns(played))
