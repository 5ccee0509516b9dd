"""Trains in memory: the loop that collects episodes, stores them and learns from them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfmix import ops
from tfmix.errors import RunFailedError
from tfmix.training import finite
from tfmix.training.best import BestTeam
from tfmix.training.call_limits import CallLimits
from tfmix.training.finite import NotFiniteError
from tfmix.training.inspector import Inspector
from tfmix.training.learner import Learner
from tfmix.training.playing import Scores, play_episodes, returns
from tfmix.training.replay import NOT_UINT8, EpisodeReplay
from tfmix.training.replay_size import episode_spec
from tfmix.training.seeds import Stream
from tfmix.training.state import Counters, MetricAccumulator, set_to_zero, updates_owed
from tfmix.training.task import Task
from tfmix.training.team import make_algorithm
from tfmix.types import Episode, Played

# AutoGraph rewrites the loop's `for` and `if`. The functions that the loop calls do not need
# that, and rewriting them would take seconds.
_no_autograph = tf.autograph.experimental.do_not_convert


class Trainer:
    """Training of one run in memory.

    All environments share the same loop. With an environment in the graph, many
    iterations are compiled into one call. With one in Python, the loop runs in Python
    and its steps are compiled.

    Args:
      task: the task, opened to train.

    Attributes:
      counters: the run's env steps, episodes and updates.
      best: the weights of the best team of all evaluations.
      inspector: looks at the team at evaluations.
      metric_names: the metrics that an update reports, sorted.
      measures: what episodes are measured by: their length, then the environment's metrics.
      run_iterations: (iterations, updates) -> (ok, due), see `_iterations`.
      tensors: all variables that a checkpoint holds.
    """

    def __init__(self, task: Task):
        assert task.replay is not None, "the task was opened to play, not to train"
        self.task = task
        self.config, self.spec = config, spec = task.config, task.spec
        self.algorithm = make_algorithm(config, spec)
        self.collector = task.make_collector(self.algorithm)
        self.replay = EpisodeReplay(
            spec, config.n_envs, task.replay.episodes, config.buffer_type, task.replay.device
        )
        self.learner = Learner(self.algorithm)
        self.best = BestTeam(self.algorithm.live)
        self.counters, self.limits = Counters(), CallLimits()
        # A variable, so that another seed needs no new compilation.
        self.seed = tf.Variable(config.seed, dtype=tf.int32, trainable=False)
        self.inspector = Inspector(self.algorithm, self.learner.prepared, self.replay, self.seed)
        self.metric_names = self._trace_update()
        self.measures = ["length", *self.collector.metric_names]
        self.accumulator = MetricAccumulator(len(self.metric_names), len(self.measures))
        self.run_iterations: Callable[..., Any] = self._iterations
        if self.collector.compiled:
            self.run_iterations = tf.function(self._iterations)
        self._compiled_store_and_learn = tf.function(self._store_and_learn)
        kept = self.replay.variables() if config.checkpoint_replay else ()
        self.tensors = tf.train.Checkpoint(
            live=self.algorithm.live,
            target=self.algorithm.target,
            optimizer=self.learner.optimizer,
            reward_scale=self.learner.reward_scale,
            counters=self.counters,
            seed=self.seed,
            sums=self.accumulator,
            best=self.best,
            **{f"replay_{i}": v for i, v in enumerate(kept)},
        )
        self.restart(config.seed)

    def _trace_update(self) -> list[str]:
        """Trace the update once and return the names of the metrics that it reports."""
        update = self.learner.update.get_concrete_function(
            self.batch_spec(), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
        )
        return sorted(update.structured_outputs.metrics)

    def batch_spec(self) -> Episode[Any]:
        """Return a `TensorSpec` of each field of a batch."""
        size, fields = self.config.batch_episodes, episode_spec(self.spec)
        return Episode(*(tf.TensorSpec([size, *x.shape], x.dtype) for x in fields))

    def restart(self, seed: int) -> None:
        """Start over from `seed`, with new weights and an empty replay; compiled code is kept."""
        self.seed.assign(seed)
        self.algorithm.init_weights(tf.stack([self.seed, Stream.WEIGHTS]))
        self.learner.clear()
        self.replay.clear()
        self.best.clear()
        set_to_zero(self.counters)
        set_to_zero(self.accumulator)
        self.limits.clear()

    # The loop's body.

    def _iterations(self, iterations: tf.Tensor, updates: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Do the updates that are due, then collect and learn until a limit is reached.

        It also ends at NaN or infinity. The limits do not affect the run's result,
        because the next call continues at the same update.

        Args:
          iterations: [] int, the most collections.
          updates: [] int64, the largest number of updates.

        Returns:
          whether all numbers are finite, [] bool; the updates that are left, [] int64.
        """
        last = self.counters.updates + updates
        ok, due = tf.constant(True), self.updates_due()
        if due > 0:
            ok, due = self._compiled_store_and_learn(last)
        collected = 0
        while ok and due == 0 and collected < iterations:
            played = self.collector.play(
                tf.stack([self.seed, Stream.COLLECT]),
                self.counters.episodes.value(),
                self.epsilon(),
                self.config.n_envs,
            )
            ok, due = self._compiled_store_and_learn(last, played)
            collected += 1
        return ok, due

    def _store_and_learn(
        self, last: tf.Tensor, played: Played | None = None
    ) -> tuple[tf.Tensor, ...]:
        """Store episodes and do the updates that are due, up to one that is not finite.

        Args:
          last: [] int64, the count of updates at which it ends in any case.
          played: the collected episodes, or None.

        Returns:
          whether all numbers are finite, [] bool; the updates that are left, [] int64. The
          metrics of an update that is not finite are added to the accumulator.
        """
        counters, accumulator = self.counters, self.accumulator
        ok = tf.constant(True) if played is None else self.store(*played)
        due = tf.minimum(self.updates_due(), last - counters.updates)
        for _ in tf.range(tf.where(ok, due, 0)):
            result = self.learner.update(
                self.next_batch(), counters.updates.value(), self.learning_rate()
            )
            metrics = tf.stack([result.metrics[name] for name in self.metric_names])
            accumulator.metrics.assign_add(metrics)
            if not result.applied:
                ok = tf.constant(False)
                break
            accumulator.updates.assign_add(1)
            counters.updates.assign_add(1)
        return ok, self.updates_due()

    @_no_autograph
    def store(self, episode: Episode, metrics: tf.Tensor) -> tf.Tensor:
        """Add episodes to the replay and count them; return whether it can hold them, [] bool."""
        counters, accumulator = self.counters, self.accumulator
        self.replay.add_batch(episode)
        self.learner.reward_scale.observe(episode.reward, episode.mask)
        counters.env_steps.assign_add(tf.cast(tf.reduce_sum(episode.mask), tf.int64))
        counters.episodes.assign_add(self.config.n_envs)
        accumulator.returns.assign_add(tf.reduce_sum(returns(episode)))
        accumulator.episodes.assign_add(self.config.n_envs)
        lengths = tf.reduce_sum(episode.mask, -1, keepdims=True)
        accumulator.measure(tf.concat([lengths, metrics], 1))
        return self.replay.can_hold(episode)

    @_no_autograph
    def next_batch(self) -> Episode:
        """Sample the batch of the next update; it is the same until that update is counted."""
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([self.seed, Stream.REPLAY]), self.counters.updates.value()
        )
        return self.replay.sample(seed, self.config.batch_episodes)

    @_no_autograph
    def updates_due(self) -> tf.Tensor:
        """Return how many updates are due before more is collected, [] int64."""
        due = updates_owed(self.config, self.counters.episodes, self.counters.updates)
        if not self.config.checkpoint_replay:  # a resumed run first fills its replay with a batch
            full = self.replay.num_episodes() >= self.config.batch_episodes
            due = tf.where(full, due, tf.zeros_like(due))
        return due

    @_no_autograph
    def epsilon(self) -> tf.Tensor:
        """Return the present probability of a random action, [] float."""
        c = self.config
        return ops.linear_schedule(
            c.epsilon_start, c.epsilon_end, c.epsilon_anneal_env_steps, self.counters.env_steps
        )

    @_no_autograph
    def learning_rate(self, end_env_steps: int | None = None) -> tf.Tensor:
        """Return the present learning rate, [] float.

        Args:
          end_env_steps: the env steps at which a decay ends; None for the run's own end.
        """
        c, end = self.config, end_env_steps or self.config.env_steps
        lowest = 0.0 if c.learning_rate_decay == "linear" else c.learning_rate
        return ops.linear_schedule(c.learning_rate, lowest, end, self.counters.env_steps)

    def _failure(self) -> NotFiniteError:
        """Return the error of a call of the loop that met NaN or infinity; it names them."""
        moment = f"at {self.env_steps():,} env steps"
        newest = self.replay.newest()
        if non_finite := finite.non_finite_fields(newest):
            stored_as = f" as {self.config.buffer_type}" if "reward" not in non_finite else ""
            text = f"the environment's {', '.join(non_finite)} became NaN or infinite{stored_as}"
            return NotFiniteError(f"{text} {moment}", newest)
        batch = self.next_batch()
        metrics = zip(self.metric_names, self.accumulator.metrics.numpy(), strict=True)
        bad_metrics = ", ".join(name for name, x in metrics if not math.isfinite(x))
        update = f"in update {int(self.counters.updates):,} {moment}"
        text = f"{bad_metrics} became NaN or infinite {update}"
        if non_finite := self.non_finite():
            text += f"; not finite before it: {', '.join(non_finite)}"
        elif non_finite := finite.non_finite_fields(batch):
            text += f"; its episodes' {', '.join(non_finite)} is not finite"
        else:
            text += "; a lower --learning_rate or --grad_clip_norm may help"
        return NotFiniteError(text, batch)

    def non_finite(self) -> list[str]:
        """Return the names of all networks and of what else holds a non-finite variable.

        The optimiser and the reward scale are examined too.
        """
        found = [f"weights of {n}" for n in finite.non_finite_networks(self.algorithm.live)]
        found += [
            f"target weights of {n}" for n in finite.non_finite_networks(self.algorithm.target)
        ]
        for name in ("optimizer", "reward_scale"):
            if not ops.all_finite(getattr(self.learner, name).variables):
                found.append(name)
        return found

    # Around the loop.

    def evaluate(self, episodes: int, first: int = 0) -> Scores:
        """Play greedy episodes as `play_greedy`, and return what they came to."""
        return Scores.of(self.play_greedy(episodes, first))

    def play_greedy(self, episodes: int, first: int = 0) -> Played:
        """Play greedy episodes with the present policy; `first` is the number of the first."""
        return play_episodes(self.collector, self.seed, Stream.EVALUATE, episodes, first=first)

    def env_steps(self) -> int:
        """Return the environment steps of the run."""
        return int(self.counters.env_steps)

    def owes_updates(self) -> bool:
        """Return whether updates are due for collected episodes; `advance` begins with them."""
        return int(self.updates_due()) > 0

    def advance(self, env_steps: int) -> bool:
        """Train for about `CALL_SECONDS`, and stop after the collection that reaches `env_steps`.

        How often it is called does not affect the run's result.

        Returns:
          whether updates of its last collection are left, as `owes_updates`.

        Raises:
          RunFailedError: an observation that the replay's number type cannot hold.
          NotFiniteError: NaN or infinity in an update, which is then not applied, or in
            the environment's episodes.
        """
        most_steps = self.config.n_envs * self.spec.episode_limit
        # So few collections cannot pass the one that reaches `env_steps`.
        wanted = max(math.ceil((env_steps - self.env_steps()) / most_steps), 0)
        limits = self.limits
        iterations, updates = min(wanted, limits.collections), limits.updates
        began = time.monotonic()
        try:
            ok, due = self.run_iterations(
                tf.constant(iterations), tf.constant(updates, dtype=tf.int64)
            )
        except tf.errors.InvalidArgumentError as error:
            if NOT_UINT8 in str(error):
                raise RunFailedError(NOT_UINT8) from error
            raise
        if not ok:
            raise self._failure()
        owes = int(due) > 0
        full = iterations == limits.collections and self.collector.compiled
        limits.adapt(time.monotonic() - began, owes, full)
        return owes

    def train_until(self, env_steps: int) -> None:
        """Train until the collection that reaches `env_steps` is learned from; raise as `advance`.

        Args:
          env_steps: the env steps of the whole run, not of this call.
        """
        owes = self.owes_updates()
        while owes or self.env_steps() < env_steps:
            owes = self.advance(env_steps)

    def take_means(self) -> dict[str, float]:
        """Return the means since the last call, and set the accumulator to zero.

        Returns:
          `train_return`, `train_length` and the environment's metrics if episodes were
          collected, and each metric of the algorithm if updates were done.
        """
        accumulator, means = self.accumulator, {}
        if int(accumulator.episodes):
            means["train_return"] = float(accumulator.returns) / int(accumulator.episodes)
        if int(accumulator.updates):
            values = accumulator.metrics.numpy() / int(accumulator.updates)
            means.update(zip(self.metric_names, map(float, values), strict=True))
        sums, counts = accumulator.measures.numpy(), accumulator.measured.numpy()
        for name, total, count in zip(self.measures, sums, counts, strict=True):
            if count:
                means[f"train_{name}"] = float(total / count)
        set_to_zero(accumulator)
        return means
