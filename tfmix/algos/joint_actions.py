"""Values many joint actions at the same steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmix import ops
from tfmix.algos.base import Algorithm, Views

# Most joint actions of a step that are all valued; of larger tasks only single deviations are.
MOST_JOINT = 4096
# Two values are equal if they differ by less than this share of them, or by less than this.
ROUNDING = 1e-5


def all_joint_actions(counts: Sequence[int]) -> np.ndarray:
    """Return every joint action of agents with these counts of actions, [C, N] int32."""
    return np.asarray(list(itertools.product(*map(range, counts))), np.int32)


def single_deviations(greedy: tf.Tensor, counts: Sequence[int]) -> tf.Tensor:
    """Return the joint actions in which one agent deviates.

    Args:
      greedy: [K, N] int32, a joint action for each step.
      counts: of each agent's actions.

    Returns:
      [C, K, N] int32, with C = sum(counts); those that deviate to the same action are included.
    """
    agent = np.repeat(np.arange(len(counts)), counts)
    action = np.concatenate([np.arange(count) for count in counts])
    deviates = agent[:, None, None] == np.arange(len(counts))  # [C, 1, N]
    return tf.where(deviates, action[:, None, None].astype(np.int32), greedy)


def value_each(algorithm: Algorithm, views: Views, action: tf.Tensor) -> dict[str, tf.Tensor]:
    """Value many joint actions at each of K steps.

    Args:
      algorithm: the networks.
      views: of one row, [1, K, ...].
      action: [C, K, N] int32.

    Returns:
      what `Algorithm.team_values` returns, [C, K] each.
    """
    cells = action.shape[0]
    repeated = Views(*(tf.tile(x, [cells] + [1] * (x.shape.rank - 1)) for x in views))
    return algorithm.team_values(repeated, action)


def greedy_is_best(algorithm: Algorithm, views: Views, enumerate_all: bool) -> dict[str, tf.Tensor]:
    """Return at which of K steps the greedy joint action is also the best by the joint value.

    The greedy joint action is each agent's own best legal action. It counts as best if no
    other legal joint action has a higher value, up to `ROUNDING`.

    Args:
      algorithm: the networks.
      views: of one row, [1, K, ...].
      enumerate_all: compare with all joint actions; otherwise with those in which one agent
        deviates.

    Returns:
      [K] bool for each of `algorithm.judges`.
    """
    counts, steps = algorithm.spec.agent_n_actions, views.q.shape[1]
    greedy = ops.legal_argmax(views.q, views.legal)[0]  # [K, N]
    if enumerate_all:
        others = tf.constant(np.repeat(all_joint_actions(counts)[:, None], steps, axis=1))
    else:
        others = single_deviations(greedy, counts)
    action = tf.concat([greedy[None], others], 0)  # [C + 1, K, N]
    chosen = tf.one_hot(action, algorithm.spec.n_actions, True, False, dtype=tf.bool)
    legal = tf.reduce_all(tf.reduce_any(chosen & views.legal, -1), -1)  # [C + 1, K]
    values = value_each(algorithm, views, action)
    found = {}
    for name in algorithm.judges:
        of_greedy, value = values[name][0], values[name]
        best = tf.reduce_max(tf.where(legal, value, value.dtype.min), 0)
        found[name] = of_greedy >= best - ROUNDING * tf.maximum(tf.abs(best), 1.0)
    return found
