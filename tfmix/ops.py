"""The arithmetic that algorithms share: pure functions, no variables."""

from __future__ import annotations

import tensorflow as tf

from tfmix.types import Episode


def masked_mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Averages `x` over the steps that really happened.

    Args:
      x: [B, T] float, any value allowed on padded steps, NaN included.
      mask: [B, T] float, 1 on real steps and 0 on padding.

    Returns:
      [] float, zero when the batch holds no real step.
    """
    total = tf.reduce_sum(tf.where(mask > 0, x, tf.zeros_like(x)))
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask))


def clear_padding(episode: Episode) -> Episode:
    """Zeroes whatever lies behind the end of each episode.

    A NaN on a padded step would reach the gradients even through a masked
    loss, because zero times NaN is NaN; so padding is cleared where it enters.

    Args:
      episode: a batch; row t of obs, state and legal is real when t = 0 or
        step t - 1 is.
    """
    real = episode.mask > 0  # [B, T]
    seen = tf.concat([tf.ones_like(real[:, :1]), real], axis=1)  # [B, T+1]

    def clear(x: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(keep), tf.ones([x.shape.rank - 2], tf.int32)], axis=0)
        return tf.where(tf.reshape(keep, shape), x, tf.zeros_like(x))

    return Episode(
        obs=clear(episode.obs, seen),
        state=clear(episode.state, seen),
        legal=clear(episode.legal, seen),
        action=clear(episode.action, real),
        reward=clear(episode.reward, real),
        terminated=clear(episode.terminated, real),
        mask=episode.mask,
    )


def legal_argmax(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """The best action among the allowed ones.

    Args:
      q: [..., A] float; illegal entries may hold anything.
      legal: [..., A] bool. Where nothing is legal (padding) the answer is 0.

    Returns:
      [...] int32.
    """
    return tf.argmax(tf.where(legal, q, tf.fill(tf.shape(q), q.dtype.min)), -1, tf.int32)


def legal_max(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """The best value among the allowed actions.

    Args:
      q: [..., A] float; illegal entries may hold anything.
      legal: [..., A] bool. Where nothing is legal (padding) the answer is 0.

    Returns:
      [...] float.
    """
    best = tf.reduce_max(tf.where(legal, q, tf.fill(tf.shape(q), q.dtype.min)), -1)
    return tf.where(tf.reduce_any(legal, -1), best, tf.zeros_like(best))


def take(q: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """`q` at `action`, as a contraction: it compiles better than a gather.

    Args:
      q: [..., A] float; entries that are not taken may hold NaN.
      action: [...] int.

    Returns:
      [...] float.
    """
    chosen = tf.one_hot(action, q.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_sum(tf.where(chosen, q, tf.zeros_like(q)), -1)


def one_step_target(
    reward: tf.Tensor, terminated: tf.Tensor, next_value: tf.Tensor, gamma: float
) -> tf.Tensor:
    """r_t + gamma (1 - terminated_t) v_{t+1}, constant to the gradient; all [B, T]."""
    return tf.stop_gradient(reward + gamma * (1.0 - terminated) * next_value)


def select_actions(
    q: tf.Tensor, legal: tf.Tensor, epsilon: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Epsilon-greedy, for every agent by itself; random actions are legal ones.

    Args:
      q: [B, N, A] float.
      legal: [B, N, A] bool.
      epsilon: [] float, the chance of a uniformly random legal action.
      seed: [2] int.

    Returns:
      [B, N] int32.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    lottery = tf.random.stateless_uniform(tf.shape(q), seeds[0])
    explores = tf.random.stateless_uniform(tf.shape(q)[:-1], seeds[1]) < epsilon
    return tf.where(explores, legal_argmax(lottery, legal), legal_argmax(q, legal))


def linear_schedule(
    start: float, end: float, duration: tf.Tensor | int, now: tf.Tensor
) -> tf.Tensor:
    """Goes from `start` to `end` over `duration`, then stays; [] float32."""
    share = tf.cast(now, tf.float32) / tf.maximum(tf.cast(duration, tf.float32), 1.0)
    return start + (end - start) * tf.minimum(share, 1.0)
