"""Holds a run's counters and the metrics that are accumulated between rows of metrics.csv."""

from __future__ import annotations

import tensorflow as tf

from tfmix.config.schema import Config


class Counters(tf.Module):
    """Progress of a run. With the seed the counters decide all later random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.episodes = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)


class MetricAccumulator(tf.Module):
    """Sums of returns and metrics since the last row of metrics.csv.

    Checkpoints hold them, so that a run which is stopped between two rows and resumed
    writes the same next row as an uninterrupted run.

    Args:
      metrics: the number of metrics that an update reports.
      measures: the number of measures of an episode: its length, then the environment's
        metrics.

    Attributes:
      returns: the sum of the returns of collected episodes, [] float.
      episodes: the number of these episodes, [] int64.
      metrics: the sum of each metric, [metrics] float.
      updates: the number of updates, [] int64.
      measures: the sum of each measure of the episodes, [measures] float64.
      measured: the number of episodes that have it, [measures] int64.
    """

    def __init__(self, metrics: int, measures: int = 1) -> None:
        super().__init__()
        self.returns = tf.Variable(0.0, trainable=False)
        self.episodes = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.metrics = tf.Variable(tf.zeros([metrics]), trainable=False)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.measures = tf.Variable(tf.zeros([measures], tf.float64), trainable=False)
        self.measured = tf.Variable(tf.zeros([measures], tf.int64), trainable=False)

    def measure(self, values: tf.Tensor) -> None:
        """Add the measures of episodes, [B, measures] float32; what is not finite is left out."""
        known = tf.math.is_finite(values)
        values = tf.where(known, values, 0.0)
        self.measures.assign_add(tf.reduce_sum(tf.cast(values, tf.float64), 0))
        count = tf.reduce_sum(tf.cast(known, tf.float64), 0)
        self.measured.assign_add(tf.cast(count, tf.int64))


def set_to_zero(module: tf.Module) -> None:
    """Set every variable of `module` to zero."""
    for variable in module.variables:
        variable.assign(tf.zeros_like(variable))


def updates_owed(config: Config, episodes: tf.Tensor, updates: tf.Tensor) -> tf.Tensor:
    """Return how many updates are due: those that the episodes allow, less those done.

    Learning begins once a batch of episodes is collected.

    Args:
      config: the settings.
      episodes: [] int64, the collected episodes.
      updates: [] int64, the updates that are done.

    Returns:
      [] int64.
    """
    learned_from = tf.cast(episodes - config.batch_episodes, tf.float64)
    owed = tf.cast(tf.floor(learned_from * config.updates_per_episode + 1e-6), tf.int64)
    return tf.maximum(owed - updates, 0)
