"""The loop of a run in memory: collect, store, update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix import ops
from tfmix.errors import RunFailedError
from tfmix.training import finite
from tfmix.training.finite import NotFiniteError
from tfmix.training.learner import Learner
from tfmix.training.playing import play, returns
from tfmix.training.replay import NOT_UINT8, EpisodeReplay
from tfmix.training.replay_size import episode_spec
from tfmix.training.seeds import Stream
from tfmix.training.state import Counters, MetricAccumulator, clear, updates_owed
from tfmix.training.task import Task
from tfmix.training.team import make_algorithm
from tfmix.types import Episode

# What a call takes, about: a stop or a checkpoint waits for its end. It is cut by work: by
# collections, and by updates, of which a collection may owe thousands.
CALL_SECONDS = 1.0
# The loop's `for` and `if` are AutoGraph's to rewrite; what they call needs no rewriting, which
# takes seconds.
_no_autograph = tf.autograph.experimental.do_not_convert


class Trainer:
    """One run in memory.

    The same loop serves all environments. With one in the graph, many iterations
    are compiled into one call. With one in Python, the loop's body is Python and
    its parts are compiled.

    Args:
      task: what is trained on, opened to train.
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
        self.counters = Counters()
        # A variable, so that another seed does not compile anew.
        self.seed = tf.Variable(config.seed, dtype=tf.int32, trainable=False)
        self.metric_names = self._trace_update()
        self.sums = MetricAccumulator(len(self.metric_names))
        self.run_iterations: Callable[..., Any] = self._iterations
        if self.collector.compiled:
            self.run_iterations = tf.function(self._iterations)
        self._learn = tf.function(self._catch_up)
        self._iterations_a_call = self._updates_a_call = 1
        kept = self.replay.variables() if config.checkpoint_replay else ()
        self.tensors = tf.train.Checkpoint(
            live=self.algorithm.live,
            target=self.algorithm.target,
            optimizer=self.learner.optimizer,
            reward_scale=self.learner.reward_scale,
            counters=self.counters,
            seed=self.seed,
            sums=self.sums,
            **{f"replay_{i}": v for i, v in enumerate(kept)},
        )
        self.reset(config.seed)

    def _trace_update(self) -> list[str]:
        """Traces the update once, for the names of what it reports."""
        batch = tf.nest.map_structure(
            lambda s: tf.TensorSpec([self.config.batch_episodes, *s.shape], s.dtype),
            episode_spec(self.spec),
        )
        update = self.learner.update.get_concrete_function(
            batch, tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
        )
        return sorted(update.structured_outputs.metrics)

    def reset(self, seed: int) -> None:
        """Starts over from `seed`; nothing is compiled anew."""
        self.seed.assign(seed)
        self.algorithm.init_weights(tf.stack([self.seed, Stream.WEIGHTS]))
        self.learner.reset()
        self.replay.clear()
        clear(self.counters)
        clear(self.sums)

    # The loop's body.

    def _iterations(self, iterations: tf.Tensor, updates: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Does the updates that are owed, then collects and learns until a limit is reached.

        It ends where NaN or infinity comes, too. Where it ends changes nothing
        about the run: the next call begins with what this one left.

        Args:
          iterations: [] int, collections at most.
          updates: [] int64, updates at most.

        Returns:
          whether all went well, [] bool; the updates that are left, [] int64.
        """
        last = self.counters.updates + updates
        ok, due = tf.constant(True), self._updates_due()
        if due > 0:
            ok, due = self._learn(last)
        collected = 0
        while ok and due == 0 and collected < iterations:
            episode = self.collector.collect(
                tf.stack([self.seed, Stream.COLLECT]),
                self.counters.episodes.value(),
                self.epsilon(),
                self.config.n_envs,
            )
            ok, due = self._learn(last, episode)
            collected += 1
        return ok, due

    def _catch_up(self, last: tf.Tensor, episode: Episode | None = None) -> tuple[tf.Tensor, ...]:
        """Stores episodes and does the updates that are due, up to one that fails.

        Args:
          last: [] int64, the count of updates at which it ends in any case.
          episode: what was collected, None for nothing.

        Returns:
          whether none failed, [] bool, the failed one's metrics are in the sums;
          and the updates that are left, [] int64.
        """
        counters, sums = self.counters, self.sums
        ok = tf.constant(True) if episode is None else self._store(episode)
        due = tf.minimum(self._updates_due(), last - counters.updates)
        for _ in tf.range(tf.where(ok, due, 0)):
            result = self.learner.update(
                self._next_batch(), counters.updates.value(), self.learning_rate()
            )
            sums.metrics.assign_add(tf.stack([result.metrics[name] for name in self.metric_names]))
            if not result.applied:
                ok = tf.constant(False)
                break
            sums.updates.assign_add(1)
            counters.updates.assign_add(1)
        return ok, self._updates_due()

    @_no_autograph
    def _store(self, episode: Episode) -> tf.Tensor:
        """Puts episodes into the replay and counts them; whether all of them fit, [] bool."""
        counters, sums = self.counters, self.sums
        self.replay.add_batch(episode)
        self.learner.reward_scale.observe(episode.reward, episode.mask)
        counters.env_steps.assign_add(tf.cast(tf.reduce_sum(episode.mask), tf.int64))
        counters.episodes.assign_add(self.config.n_envs)
        sums.returns.assign_add(tf.reduce_sum(returns(episode)))
        sums.episodes.assign_add(self.config.n_envs)
        return self.replay.can_hold(episode)

    @_no_autograph
    def _next_batch(self) -> Episode:
        """What the next update learns from; the same until an update is counted."""
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([self.seed, Stream.REPLAY]), self.counters.updates.value()
        )
        return self.replay.sample(seed, self.config.batch_episodes)

    @_no_autograph
    def _updates_due(self) -> tf.Tensor:
        """Counts the updates that are to be done before more is collected, [] int64."""
        due = updates_owed(self.config, self.counters.episodes, self.counters.updates)
        if not self.config.checkpoint_replay:  # a resumed run waits until it holds a batch again
            full = self.replay.num_episodes() >= self.config.batch_episodes
            due = tf.where(full, due, tf.zeros_like(due))
        return due

    @_no_autograph
    def epsilon(self) -> tf.Tensor:
        """The chance of a random action now, [] float."""
        c = self.config
        return ops.linear_schedule(
            c.epsilon_start, c.epsilon_end, c.epsilon_anneal_env_steps, self.counters.env_steps
        )

    @_no_autograph
    def learning_rate(self, end_env_steps: int | None = None) -> tf.Tensor:
        """Returns the optimiser's step size at this point, [] float.

        Args:
          end_env_steps: where a decay ends; None for the run's own end.
        """
        c, end = self.config, end_env_steps or self.config.env_steps
        lowest = 0.0 if c.learning_rate_decay == "linear" else c.learning_rate
        return ops.linear_schedule(c.learning_rate, lowest, end, self.counters.env_steps)

    def _failure(self) -> NotFiniteError:
        """Says what is not finite, behind a stretch of the loop that ended early."""
        where = f"at {self.env_steps():,} env steps"
        newest = self.replay.newest()
        if non_finite := finite.non_finite_fields(newest):
            kept_as = f" as {self.config.buffer_type}" if "reward" not in non_finite else ""
            text = (
                f"the environment's {', '.join(non_finite)} became NaN or infinite{kept_as} {where}"
            )
            return NotFiniteError(text, newest)
        batch = self._next_batch()
        terms = zip(self.metric_names, self.sums.metrics.numpy(), strict=True)
        bad_terms = ", ".join(name for name, x in terms if not math.isfinite(x))
        text = (
            f"{bad_terms} became NaN or infinite in update {int(self.counters.updates):,} {where}"
        )
        if non_finite := self.non_finite():
            text += f"; not finite before it: {', '.join(non_finite)}"
        elif non_finite := finite.non_finite_fields(batch):
            text += f"; its episodes' {', '.join(non_finite)} is not finite"
        else:
            text += "; a lower --learning_rate or --grad_clip_norm may help"
        return NotFiniteError(text, batch)

    def non_finite(self) -> list[str]:
        """What of the networks, the optimiser and the reward scale is not finite."""
        found = [f"weights of {n}" for n in finite.non_finite_networks(self.algorithm.live)]
        found += [
            f"target weights of {n}" for n in finite.non_finite_networks(self.algorithm.target)
        ]
        for name in ("optimizer", "reward_scale"):
            if not ops.all_finite(getattr(self.learner, name).variables):
                found.append(name)
        return found

    # Around the loop.

    def play(self, stream: int, episodes: int, epsilon: float = 0.0, first: int = 0) -> np.ndarray:
        """Plays the policy as it is; as the function `play`."""
        return play(self.collector, self.seed, stream, episodes, epsilon, first)

    def env_steps(self) -> int:
        """Environment steps done so far."""
        return int(self.counters.env_steps)

    def owes_updates(self) -> bool:
        """Whether updates are due for what was collected; `advance` begins with them."""
        return int(self._updates_due()) > 0

    def advance(self, env_steps: int) -> bool:
        """Trains for a second or so, at most to the first collection's end from `env_steps` on.

        Where one call ends changes nothing about the run.

        Returns:
          whether updates of its last collection are left, as `owes_updates`.

        Raises:
          RunFailedError: an observation that the replay's number type cannot hold.
          NotFiniteError: NaN or infinity came out of an update, which was then not
            applied, or of the environment.
        """
        widest = self.config.n_envs * self.spec.episode_limit
        # As many as cannot lead past the goal's collection.
        wanted = max(math.ceil((env_steps - self.env_steps()) / widest), 0)
        iterations, updates = min(wanted, self._iterations_a_call), self._updates_a_call
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
        self._size_calls(time.monotonic() - began, owes, iterations == self._iterations_a_call)
        return owes

    def _size_calls(self, took: float, owes: bool, full: bool) -> None:
        """Sets what the next call may do, by what the last one took.

        Args:
          took: its seconds.
          owes: it ended at the limit of updates.
          full: it was allowed as many collections as a call may do.
        """
        if took > CALL_SECONDS:
            slower = CALL_SECONDS / took
            self._iterations_a_call = max(int(self._iterations_a_call * slower), 1)
            self._updates_a_call = max(int(self._updates_a_call * slower), 1)
        elif took < CALL_SECONDS / 2:
            if owes:
                self._updates_a_call *= 2
            elif full and self.collector.compiled:
                self._iterations_a_call *= 2

    def train_until(self, env_steps: int) -> None:
        """Trains to the first end of a collection from `env_steps` on; raises as `advance`."""
        owes = self.owes_updates()
        while owes or self.env_steps() < env_steps:
            owes = self.advance(env_steps)

    def take_means(self) -> dict[str, float]:
        """Means since the last call: `train_return` and, where updates were done, each metric."""
        sums, means = self.sums, {}
        if int(sums.episodes):
            means["train_return"] = float(sums.returns) / int(sums.episodes)
        if int(sums.updates):
            values = sums.metrics.numpy() / int(sums.updates)
            means.update(zip(self.metric_names, map(float, values), strict=True))
        clear(sums)
        return means
