"""Runs the training loop's steps as separate calls, so that each can be timed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from tfmix.training.learner import UpdateResult
from tfmix.training.seeds import Stream
from tfmix.training.trainer import Trainer
from tfmix.types import Episode, Played

Timing = Callable[[str], AbstractContextManager[None]]


class Phases:
    """The loop of `Trainer.run_iterations` in separate calls: collect, store, sample, update.

    The result is that of the loop, to the bit: the same compiled programs get the same numbers.

    Args:
      trainer: the trainer.
      timing: (name) -> a context around each call; it waits for the call's results.
    """

    def __init__(self, trainer: Trainer, timing: Timing):
        self.trainer, self.timing = trainer, timing
        # Rates are computed in a graph, as in the loop, because a graph may round otherwise.
        self._collect = self._play
        if trainer.collector.compiled:
            self._collect = tf.function(self._play, autograph=False)
        self._store = tf.function(trainer.store, autograph=False)
        self._sample = tf.function(self._next_inputs, autograph=False)
        self._count = tf.function(self._count_update, autograph=False)

    def run(self, iterations: int, updates: int) -> tuple[bool, int]:
        """Do what `Trainer.run_iterations` does, and end at the last update without collecting.

        Args:
          iterations: the most collections.
          updates: the most updates.

        Returns:
          whether all numbers are finite; the updates that are left.
        """
        counters = self.trainer.counters
        last = int(counters.updates) + updates
        ok, due = self._learn(last)
        collected = 0
        while ok and due == 0 and collected < iterations and int(counters.updates) < last:
            with self.timing("collect"):
                played = self._collect()
            with self.timing("store"):
                ok = bool(self._store(*played))
            if ok:
                ok, due = self._learn(last)
            collected += 1
        return ok, int(self.trainer.updates_due())

    def _learn(self, last: int) -> tuple[bool, int]:
        """Do the updates that are due, up to the count `last` or one that is not finite."""
        trainer = self.trainer
        due = min(int(trainer.updates_due()), last - int(trainer.counters.updates))
        for _ in range(due):
            with self.timing("sample"):
                inputs = self._sample()
            with self.timing("update"):
                result = trainer.learner.update(*inputs)
                self._count(result)
            if not result.applied:
                return False, int(trainer.updates_due())
        return True, int(trainer.updates_due())

    def _play(self) -> Played:
        """Collect episodes as the loop does."""
        trainer = self.trainer
        return trainer.collector.play(
            tf.stack([trainer.seed, Stream.COLLECT]),
            trainer.counters.episodes.value(),
            trainer.epsilon(),
            trainer.config.n_envs,
        )

    def _next_inputs(self) -> tuple[Episode[Any], tf.Tensor, tf.Tensor]:
        """Return what the next update reads: its batch, its number and its learning rate."""
        trainer = self.trainer
        return trainer.next_batch(), trainer.counters.updates.value(), trainer.learning_rate()

    def _count_update(self, result: UpdateResult) -> None:
        """Add an update to the counters and its metrics to their sums."""
        counters, accumulator = self.trainer.counters, self.trainer.accumulator
        metrics = tf.stack([result.metrics[name] for name in self.trainer.metric_names])
        accumulator.metrics.assign_add(metrics)
        applied = tf.cast(result.applied, tf.int64)
        accumulator.updates.assign_add(applied)
        counters.updates.assign_add(applied)
