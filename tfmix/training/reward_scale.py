"""Standardises rewards by the mean and deviation of all that were collected."""

from __future__ import annotations

import tensorflow as tf

# The most that a standardised reward may be while few rewards differ from the others.
MOST_DEVIATIONS = 10.0


class RewardScale(tf.Module):
    """Mean and deviation of every reward collected so far.

    Where nearly all rewards are alike and few differ, the deviation of the first ones
    is tiny, and those few would become huge: one in 10,000 steps is worth 100. So
    the deviation that divides has a floor, a tenth of the distance from the mean to
    the reward that is farthest from it. No reward is more than 10 then. The floor
    sinks once the deviation rests on many rewards: with k as far from the mean as
    the farthest (which is how many would make up the sum of squares) it is a
    sqrt(k)-th of the distance from k = 100 on. It lies below the deviation, and
    changes nothing, as soon as k is as large as the number of steps for each of those
    rewards. Where rewards differ at every step, it always does.

    Attributes:
      count: rewards, [] float64 as the others.
      mean: of them.
      square: the sum of their squared distances from the mean.
      lowest: the smallest of them; above `highest` where none is known.
      highest: the largest of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.mean = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.square = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.lowest = tf.Variable(tf.float64.max, dtype=tf.float64, trainable=False)
        self.highest = tf.Variable(-tf.float64.max, dtype=tf.float64, trainable=False)

    def observe(self, reward: tf.Tensor, mask: tf.Tensor) -> None:
        """Counts rewards in (Chan et al. 1983, pairwise update).

        Args:
          reward: [...] float.
          mask: as reward, 1 on real steps; what `reward` holds elsewhere is not looked at.
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
        """Returns (reward - mean) / deviation, with the floor; a constant reward becomes 0."""
        deviation = tf.sqrt(tf.math.divide_no_nan(self.square, self.count))
        farthest = tf.maximum(self.highest - self.mean, self.mean - self.lowest)
        farthest = tf.maximum(farthest, 0.0)  # none is known
        root_k = tf.math.divide_no_nan(tf.sqrt(self.square), farthest)
        floored = tf.maximum(deviation, farthest / tf.maximum(root_k, MOST_DEVIATIONS))
        scale = tf.where(deviation > 1e-6, 1.0 / floored, tf.zeros_like(deviation))
        return tf.cast((tf.cast(reward, tf.float64) - self.mean) * scale, tf.float32)

    def reset(self) -> None:
        """Forgets every reward."""
        for variable in (self.count, self.mean, self.square):
            variable.assign(tf.zeros_like(variable))
        self.lowest.assign(tf.float64.max)
        self.highest.assign(-tf.float64.max)
