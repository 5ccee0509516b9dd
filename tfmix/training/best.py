"""Keeps the weights of the best team that a run has had."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf


class BestTeam(tf.Module):
    """The weights with the highest greedy return of all evaluations, of the later one if equal.

    Checkpoints hold it, so that a run which is stopped and resumed has the same best team
    as an uninterrupted run.

    Args:
      live: the networks that learn.

    Attributes:
      weights: a copy of each variable of `live`, in the order of `live.variables`.
      greedy_return: the mean return of its evaluation, [] float64; -infinity if there is none.
      env_steps: the run's env steps at its evaluation, [] int64; -1 if there is none.
    """

    def __init__(self, live: tf.Module):
        super().__init__()
        self.weights = [tf.Variable(x, trainable=False) for x in live.variables]
        self.greedy_return = tf.Variable(-float("inf"), dtype=tf.float64, trainable=False)
        self.env_steps = tf.Variable(-1, dtype=tf.int64, trainable=False)

    @property
    def exists(self) -> bool:
        """Whether there was an evaluation."""
        return int(self.env_steps) >= 0

    def offer(self, live: tf.Module, greedy_return: float, env_steps: int) -> bool:
        """Keep the weights of `live` if no evaluation gave more; return whether they are kept."""
        if not greedy_return >= float(self.greedy_return):
            return False
        for kept, variable in zip(self.weights, live.variables, strict=True):
            kept.assign(variable)
        self.greedy_return.assign(greedy_return)
        self.env_steps.assign(env_steps)
        return True

    def write_to(self, live: tf.Module) -> None:
        """Give `live` the weights of the best team."""
        for kept, variable in zip(self.weights, live.variables, strict=True):
            variable.assign(kept)

    @contextlib.contextmanager
    def in_place_of(self, live: tf.Module) -> Iterator[None]:
        """Give `live` the weights of the best team, as a context, and its own ones afterwards."""
        own = [variable.numpy() for variable in live.variables]
        self.write_to(live)
        try:
            yield
        finally:
            for variable, value in zip(live.variables, own, strict=True):
                variable.assign(value)

    def clear(self) -> None:
        """Forget the best team; its weights are written over at the next evaluation."""
        self.greedy_return.assign(-float("inf"))
        self.env_steps.assign(-1)
