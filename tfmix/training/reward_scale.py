"""Standardises rewards by the mean and the deviation of all collected rewards."""

from __future__ import annotations

import tensorflow as tf

# The largest standardised reward while few rewards differ from the others.
MAX_DEVIATIONS = 10.0


class RewardScale(tf.Module):
    """Running mean and deviation of all collected rewards.

    If nearly all rewards are equal and few differ, the deviation is tiny at first, and
    those few would become huge: one in 10,000 steps would be scaled to 100. Therefore
    rewards are divided by at least a tenth of the distance from the mean to the
    farthest reward, so that no scaled reward is above 10. This floor falls as evidence
    grows: let k be the number of rewards at the farthest distance that would give the
    present sum of squares. From k = 100 on, the floor is that distance divided by
    sqrt(k). It has no effect once it is below the deviation, which is so if k is at
    least the number of steps for each of those rewards. If rewards differ at every
    step, that holds from the start.

    Attributes:
      count: the number of rewards, [] float64 as all others.
      mean: their mean.
      square: the sum of their squared distances from the mean.
      lowest: the smallest reward; above `highest` if there are none yet.
      highest: the largest reward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.mean = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.square = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.lowest = tf.Variable(tf.float64.max, dtype=tf.float64, trainable=False)
        self.highest = tf.Variable(-tf.float64.max, dtype=tf.float64, trainable=False)

    def observe(self, reward: tf.Tensor, mask: tf.Tensor) -> None:
        """Add rewards to the statistics (Chan et al. 1983, pairwise update).

        Args:
          reward: [...] float.
          mask: as reward, 1 on real steps; rewards of other steps are ignored.
        """
        mask = tf.cast(mask, tf.float64)
        widest = tf.fill(tf.shape(mask), tf.float64.max)
        given = tf.cast(reward, tf.float64)
        low = tf.reduce_min(tf.where(mask > 0, given, widest))
        high = tf.reduce_max(tf.where(mask > 0, given, -widest))
        self.lowest.assign(tf.minimum(self.lowest, low))
        self.highest.assign(tf.maximum(self.highest, high))
        reward = tf.where(mask > 0, given, tf.zeros_like(mask))
        added = tf.reduce_sum(mask)
        mean = tf.math.divide_no_nan(tf.reduce_sum(reward), added)
        square = tf.reduce_sum(mask * tf.square(reward - mean))
        total = self.count + added
        delta = mean - self.mean
        self.square.assign_add(
            square + tf.math.divide_no_nan(delta * delta * self.count * added, total)
        )
        self.mean.assign_add(tf.math.divide_no_nan(delta * added, total))
        self.count.assign(total)

    def apply(self, reward: tf.Tensor) -> tf.Tensor:
        """Return (reward - mean) / deviation, with the floor; a constant reward becomes 0."""
        deviation = tf.sqrt(tf.math.divide_no_nan(self.square, self.count))
        farthest = tf.maximum(self.highest - self.mean, self.mean - self.lowest)
        farthest = tf.maximum(farthest, 0.0)  # it is negative without any rewards
        root_k = tf.math.divide_no_nan(tf.sqrt(self.square), farthest)
        floored = tf.maximum(deviation, farthest / tf.maximum(root_k, MAX_DEVIATIONS))
        scale = tf.where(deviation > 1e-6, 1.0 / floored, tf.zeros_like(deviation))
        return tf.cast((tf.cast(reward, tf.float64) - self.mean) * scale, tf.float32)

    def clear(self) -> None:
        """Forget all rewards."""
        for variable in (self.count, self.mean, self.square):
            variable.assign(tf.zeros_like(variable))
        self.lowest.assign(tf.float64.max)
        self.highest.assign(-tf.float64.max)
