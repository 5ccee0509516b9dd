"""The loop: collect, update, evaluate, log, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix import algos, checkpoint, guard, memory, ops
from tfmix.collect import returns
from tfmix.config import Config, RunFailedError, UserError
from tfmix.guard import NotFiniteError
from tfmix.learner import Learner
from tfmix.monitor import COLUMNS, MetricsFile, Progress, TensorBoard
from tfmix.replay import NOT_UINT8, EpisodeReplay, episode_spec, predicted_bytes
from tfmix.types import EnvSpec, Episode

# What a run's seed is folded with, so that no two uses of it share numbers.
WEIGHTS, COLLECT, REPLAY, EVALUATE, SUMMARY, RANDOM_TEAM = range(6)


class Counters(tf.Module):
    """How far a run is. With the seed they decide all that is random from here on."""

    def __init__(self) -> None:
        super().__init__()
        self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.episodes = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)


def check_playing(spec: EnvSpec, episodes: int) -> None:
    """Raises UserError where the machine cannot hold `episodes` that are played side by side."""
    memory.check_room(
        2 * predicted_bytes(spec, 1, episodes),  # by step, and turned to be by episode
        f"an evaluation of {episodes:,} episodes",
        "set a smaller --eval_episodes",
    )


class Trainer:
    """One run in memory.

    The same loop serves both lanes: with an environment in the graph many
    iterations are compiled into one call, with one in Python the loop's body
    runs as it stands and its parts are compiled.

    Args:
      config: the settings.
      make_collector: builds the collector, a `GraphCollector` or a
        `PythonCollector`, from (act, carry_size).
      spec: the task's shape.
    """

    def __init__(self, config: Config, make_collector: Callable[..., Any], spec: EnvSpec):
        self.config, self.spec = config, spec
        try:
            self.algorithm = algos.make(config.algo, spec, config)
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            raise UserError(
                "the networks need more memory than there is: set a smaller --hidden_size, or "
                "the size of whatever else was made large"
            ) from error
        self.collector = make_collector(self.algorithm.act, self.algorithm.layout.carry_size)
        self.replay = EpisodeReplay(spec, config.n_envs, config.buffer_episodes, config.buffer_type)
        self.learner = Learner(self.algorithm)
        self.counters = Counters()
        # A variable, so that another seed does not compile anew.
        self.seed = tf.Variable(config.seed, dtype=tf.int32, trainable=False)
        self.metric_names = self._trace_update()
        self.run_iterations = (
            tf.function(self._iterations) if self.collector.compiled else self._iterations
        )
        self._learn = tf.function(self._learn_from)
        self.tensors = tf.train.Checkpoint(
            live=self.algorithm.live,
            target=self.algorithm.target,
            optimizer=self.learner.optimizer,
            reward_scale=self.learner.reward_scale,
            counters=self.counters,
            seed=self.seed,
            **{f"replay_{i}": v for i, v in enumerate(self.replay.variables())},
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
        return sorted(set(update.structured_outputs) - {"applied"})

    def reset(self, seed: int) -> None:
        """Starts over from `seed`; nothing is compiled anew."""
        self.seed.assign(seed)
        self.algorithm.reset(tf.stack([self.seed, WEIGHTS]))
        self.learner.reset()
        self.replay.clear()
        for variable in self.counters.variables:
            variable.assign(tf.zeros_like(variable))

    # The loop's body.

    def _iterations(self, iterations: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Collects and learns `iterations` times.

        Stops early where an update or the environment gave NaN or infinity.

        Returns:
          the sum of the returns of the episodes collected [], their count [],
          the sum of each metric over the updates done [metrics], their count [],
          and whether all went well [] bool.
        """
        return_sum = tf.constant(0.0)
        metric_sum = tf.zeros([len(self.metric_names)])
        episodes, updates = self.counters.episodes, self.counters.updates
        episodes_before, updates_before = episodes + 0, updates + 0
        well = True
        for _ in tf.range(iterations):
            episode = self.collector.collect(
                tf.stack([self.seed, COLLECT]),
                self.counters.episodes.value(),
                self.epsilon(),
                self.config.n_envs,
            )
            gained, metrics, well = self._learn(episode)
            return_sum += gained
            metric_sum += metrics
            if not well:
                break
        return (
            return_sum,
            episodes - episodes_before,
            metric_sum,
            updates - updates_before,
            well,
        )

    def _learn_from(self, episode: Episode) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Stores episodes and does the updates that have become due, up to one that fails.

        Returns:
          the sum of the episodes' returns [], the sum of each metric over the
          updates, the failed one included [metrics], and whether none failed [] bool.
        """
        config, counters = self.config, self.counters
        self.replay.add_batch(episode)
        self.learner.reward_scale.observe(episode.reward, episode.mask)
        counters.env_steps.assign_add(tf.cast(tf.reduce_sum(episode.mask), tf.int64))
        counters.episodes.assign_add(config.n_envs)
        metric_sum = tf.zeros([len(self.metric_names)])
        well = self.replay.can_hold(episode)
        for _ in tf.range(tf.where(well, self._updates_due(), 0)):
            metrics = self.learner.update(
                self._next_batch(), counters.updates.value(), self.learning_rate()
            )
            metric_sum += tf.stack([metrics[name] for name in self.metric_names])
            if not metrics["applied"]:
                well = False
                break
            counters.updates.assign_add(1)
        return tf.reduce_sum(returns(episode)), metric_sum, well

    def _next_batch(self) -> Episode:
        """What the next update learns from; the same until an update is counted."""
        seed = tf.random.experimental.stateless_fold_in(
            tf.stack([self.seed, REPLAY]), self.counters.updates.value()
        )
        return self.replay.sample(seed, self.config.batch_episodes)

    def _updates_due(self) -> tf.Tensor:
        """Updates that have added up since the replay first held a batch, less those done."""
        learned_from = self.counters.episodes - self.config.batch_episodes
        owed = tf.cast(learned_from, tf.float64) * self.config.updates_per_episode
        owed = tf.cast(tf.floor(owed + 1e-6), tf.int64)
        return tf.maximum(owed - self.counters.updates, 0)

    def epsilon(self) -> tf.Tensor:
        """The chance of a random action now, [] float."""
        c = self.config
        return ops.linear_schedule(
            c.epsilon_start, c.epsilon_end, c.epsilon_anneal_env_steps, self.counters.env_steps
        )

    def learning_rate(self) -> tf.Tensor:
        """The optimiser's step size now, [] float."""
        c = self.config
        end = 0.0 if c.learning_rate_decay == "linear" else c.learning_rate
        return ops.linear_schedule(c.learning_rate, end, c.env_steps, self.counters.env_steps)

    def _failure(self, metric_sum: np.ndarray) -> NotFiniteError:
        """Says what is not finite, behind a stretch of the loop that ended early."""
        where = f"at {self.env_steps():,} env steps"
        newest = self.replay.newest()
        if spoilt := guard.spoilt_fields(newest):
            kept_as = f" as {self.config.buffer_type}" if "reward" not in spoilt else ""
            text = f"the environment's {', '.join(spoilt)} became NaN or infinite{kept_as} {where}"
            return NotFiniteError(text, newest)
        batch = self._next_batch()
        terms = zip(self.metric_names, metric_sum, strict=True)
        astray = ", ".join(name for name, x in terms if not math.isfinite(x))
        text = f"{astray} became NaN or infinite in update {int(self.counters.updates):,} {where}"
        if spoilt := self.spoilt():
            text += f"; not finite before it: {', '.join(spoilt)}"
        elif spoilt := guard.spoilt_fields(batch):
            text += f"; its episodes' {', '.join(spoilt)} is not finite"
        else:
            text += "; a lower --learning_rate or --grad_clip_norm may help"
        return NotFiniteError(text, batch)

    def spoilt(self) -> list[str]:
        """What of the networks, the optimiser and the reward scale is not finite."""
        found = [f"weights of {n}" for n in guard.spoilt_networks(self.algorithm.live)]
        found += [f"target weights of {n}" for n in guard.spoilt_networks(self.algorithm.target)]
        for name in ("optimizer", "reward_scale"):
            if not ops.all_finite(getattr(self.learner, name).variables):
                found.append(name)
        return found

    # Around the loop.

    def play(self, stream: int, episodes: int, epsilon: float = 0.0, first: int = 0) -> np.ndarray:
        """Returns of `episodes` episodes of the policy as it is, [episodes]."""
        seed = tf.stack([self.seed, stream])
        played = self.collector.collect(
            seed, tf.constant(first, tf.int64), tf.constant(epsilon, tf.float32), episodes
        )
        return np.asarray(returns(played))

    def env_steps(self) -> int:
        """Environment steps done so far."""
        return int(self.counters.env_steps)

    def train_until(
        self, env_steps: int, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """Trains to the first end of a collection at or behind `env_steps`.

        Args:
          env_steps: the goal.
          should_stop: asked between collections where Python steps the
            environment; a compiled stretch is not interrupted.

        Returns:
          means over what was done: `train_return` and each metric.

        Raises:
          RunFailedError: an observation that the replay's number type cannot hold.
          NotFiniteError: NaN or infinity came out of an update, which was then not
            applied, or of the environment.
        """
        widest = self.config.n_envs * self.spec.episode_limit
        totals: list[Any] = []
        while self.env_steps() < env_steps and not should_stop():
            iterations = math.ceil((env_steps - self.env_steps()) / widest)
            if not self.collector.compiled:
                iterations = 1
            try:
                totals.append(self.run_iterations(tf.constant(iterations)))
            except tf.errors.InvalidArgumentError as error:
                if NOT_UINT8 in str(error):
                    raise RunFailedError(NOT_UINT8) from error
                raise
            *sums, well = totals[-1]
            if not well:
                raise self._failure(np.asarray(sums[2]))
        if not totals:
            return {}
        return_sum, episodes, metric_sum, updates = (
            np.sum([np.asarray(x) for x in column], axis=0)
            for column in list(zip(*totals, strict=True))[:4]
        )
        means = {"train_return": float(return_sum / episodes)}
        if updates:
            names = self.metric_names
            means.update(zip(names, (float(x) for x in metric_sum / updates), strict=True))
        return means


class Session:
    """A trainer writing into a run folder.

    Args:
      trainer: what trains.
      folder: the run folder.
      seconds: time spent by earlier starts of this run.
      should_stop: asked between chunks; True ends the training early.
    """

    def __init__(
        self, trainer: Trainer, folder: Path, seconds: float, should_stop: Callable[[], bool]
    ):
        self.trainer, self.folder, self.should_stop = trainer, folder, should_stop
        self.config = trainer.config
        columns = [
            *COLUMNS,
            "epsilon",
            "learning_rate",
            "buffer_episodes",
            "env_steps_per_second",
            *trainer.metric_names,
        ]
        self.metrics = MetricsFile(folder / "metrics.csv", columns)
        self.board = TensorBoard(folder)
        self.began, self.before = time.monotonic(), seconds

    def seconds(self) -> float:
        """Time spent on this run, earlier starts included."""
        return self.before + time.monotonic() - self.began

    def run(self) -> None:
        """Trains to the end, or until `should_stop`.

        Raises:
          RunFailedError: a loss or gradient is not finite.
        """
        config, trainer = self.config, self.trainer
        log_every = config.log_period_env_steps or max(config.env_steps // 200, 1)
        saved_at = time.monotonic()
        greedy: float | None = None
        with Progress(config.env_steps, trainer.env_steps()) as progress:
            while trainer.env_steps() < config.env_steps and not self.should_stop():
                start, clock = trainer.env_steps(), time.monotonic()
                goal = min(
                    config.env_steps,
                    start - start % log_every + log_every,
                    start - start % config.eval_period_env_steps + config.eval_period_env_steps,
                )
                row = self.train_until(goal)
                if trainer.env_steps() == start:
                    break
                done = trainer.env_steps()
                row["env_steps_per_second"] = (done - start) / (time.monotonic() - clock)
                period = config.eval_period_env_steps
                if done // period > start // period or done >= config.env_steps:
                    played = trainer.play(EVALUATE, config.eval_episodes, first=done)
                    greedy = row["greedy_return"] = float(played.mean())
                self.report(row)
                progress.update(done, {**row, "greedy_return": greedy})
                if time.monotonic() - saved_at > config.checkpoint_period_seconds:
                    self.save()
                    saved_at = time.monotonic()
        self.save()

    def train_until(self, env_steps: int) -> dict[str, Any]:
        """`Trainer.train_until`, which leaves the offending episodes in the folder where it fails.

        Raises:
          RunFailedError: NaN or infinity, or what the replay cannot hold.
        """
        trainer, path = self.trainer, self.folder / "offending_batch.npz"
        try:
            return dict(trainer.train_until(env_steps, self.should_stop))
        except NotFiniteError as error:
            about = {"env_steps": trainer.env_steps(), "updates": int(trainer.counters.updates)}
            try:
                guard.dump(path, error.batch, about)
                kept = f"its episodes are in {path}"
            except OSError as fault:
                kept = f"its episodes could not be written: {fault.strerror}"
            text = f"{error}; {kept}; the last checkpoint is kept"
            raise RunFailedError(text) from error

    def report(self, row: dict[str, Any]) -> None:
        """Completes a row and writes it to metrics.csv and TensorBoard."""
        trainer = self.trainer
        row.update(
            env_steps=trainer.env_steps(),
            episodes=int(trainer.counters.episodes),
            updates=int(trainer.counters.updates),
            seconds=round(self.seconds(), 3),
            epsilon=float(trainer.epsilon()),
            learning_rate=float(trainer.learning_rate()),
            buffer_episodes=int(trainer.replay.num_frames()),
        )
        self.metrics.write(row)
        self.board.write(row["env_steps"], row)

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
          RunFailedError: weights are not finite; the last checkpoint is kept.
        """
        if spoilt := self.trainer.spoilt():
            raise RunFailedError(
                f"not finite at {self.trainer.env_steps():,} env steps: {', '.join(spoilt)}; "
                "no checkpoint is written, the last one is kept"
            )
        checkpoint.save(
            self.folder / "checkpoints",
            self.trainer.tensors,
            self.trainer.env_steps(),
            round(self.seconds(), 3),
        )

    def close(self) -> None:
        """Closes the files."""
        self.metrics.close()
        self.board.close()
