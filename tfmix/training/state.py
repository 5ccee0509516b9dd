"""How far a run is, and what was collected and learned since the last row of metrics."""

from __future__ import annotations

import tensorflow as tf

from tfmix.config.schema import Config


class Counters(tf.Module):
    """How far a run is. With the seed they decide all that is random from here on."""

    def __init__(self) -> None:
        super().__init__()
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.episodes = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)


class MetricAccumulator(tf.Module):
    """What was collected and learned since the last row of metrics.csv.

    Kept in checkpoints: a run that is stopped between two rows and resumed
    writes the row that it would have written.
    """

    def __init__(self, metrics: int) -> None:
        super().__init__()
        self.returns = tf.Variable(0.0, trainable=False)
        self.episodes = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.metrics = tf.Variable(tf.zeros([metrics]), trainable=False)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)


def clear(module: tf.Module) -> None:
    """Sets every variable of `module` to zero."""
    for variable in module.variables:
        variable.assign(tf.zeros_like(variable))


def updates_owed(config: Config, episodes: tf.Tensor, updates: tf.Tensor) -> tf.Tensor:
    """Counts the updates that have added up since a batch was collected, less those done.

    Args:
      config: the settings.
      episodes: [] int64, collected so far.
      updates: [] int64, done so far.

    Returns:
      [] int64.
    """
    learned_from = tf.cast(episodes - config.batch_episodes, tf.float64)
    owed = tf.cast(tf.floor(learned_from * config.updates_per_episode + 1e-6), tf.int64)
    return tf.maximum(owed - updates, 0)
