"""Trains and writes into the run folder: metrics, TensorBoard, checkpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmix.errors import RunFailedError
from tfmix.monitoring.metrics_csv import EVALUATIONS, MetricsFile
from tfmix.monitoring.progress import Progress
from tfmix.monitoring.tensorboard import TensorBoard
from tfmix.runs import checkpoint, folders
from tfmix.runs.columns import columns_of, rows_of
from tfmix.runs.profile import Profile
from tfmix.training import finite
from tfmix.training.finite import NotFiniteError
from tfmix.training.playing import Scores, summarize
from tfmix.training.trainer import Trainer
from tfmix.types import Episode
from tfmix.watch.pictures import pictures

# The largest share of a run's time that checkpoints every --checkpoint_period_seconds may take.
SAVING_SHARE = 0.02
# The name in a checkpoint's manifest of the env steps at the last row of metrics.
REPORTED = "reported_env_steps"


class Evaluation(NamedTuple):
    """Greedy episodes.

    Attributes:
      scores: of all episodes.
      first: the first ones, as many as the inspector looks at; None without --inspect.
    """

    scores: Scores
    first: Episode[Any] | None


class Session:
    """Training that writes into a run folder.

    Args:
      trainer: the trainer.
      folder: the run folder.
      seconds: time spent by earlier starts of this run.
      should_stop: called between calls of the trainer; True ends the training early.
      reported: env steps at the run's last row of metrics, None for its present env steps.
      profile: measures the time of some updates; it is closed at the end. None for none.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        seconds: float,
        should_stop: Callable[[], bool],
        reported: int | None = None,
        profile: Profile | None = None,
    ):
        self.profile = profile
        self.trainer, self.folder, self.should_stop = trainer, folder, should_stop
        self.config = trainer.config
        self.folder_guard = folders.FolderGuard(folder)
        self.metrics = MetricsFile(folder / "metrics.csv", columns_of(trainer))
        self.evaluations = MetricsFile(
            folder / "evaluations.csv",
            [*EVALUATIONS.first, *trainer.collector.metric_names],
            EVALUATIONS,
        )
        self.tensorboard = TensorBoard(folder)
        self.start_time, self.earlier_seconds = time.monotonic(), seconds
        self.reported = trainer.env_steps() if reported is None else reported
        self.speed_since = trainer.env_steps(), self.start_time  # the speed is measured from here
        self.saved_at, self.saved_env_steps = self.start_time, trainer.env_steps()
        self.save_seconds = 0.0
        self.greedy_return: float | None = None
        self.progress = Progress(self.config.env_steps, trainer.env_steps())
        self.updates_before: int | None = int(trainer.counters.updates)
        self.compiled = self.evaluated = False

    def seconds(self) -> float:
        """Return the time spent on this run, earlier starts included."""
        return self.earlier_seconds + time.monotonic() - self.start_time

    def run(self) -> bool:
        """Train to the end of the run, or until `should_stop`, and save.

        If it stops while updates or a row of metrics are due, the resumed run begins with
        them.

        Returns:
          whether the run has finished.

        Raises:
          RunFailedError: see `advance`, `report` and `save`.
        """
        config, trainer = self.config, self.trainer
        log_every = config.log_period_env_steps or max(config.env_steps // 200, 1)
        eval_every = config.eval_period_env_steps
        with self.progress as progress:
            while self.reported < config.env_steps:
                start = self.reported
                goal = min(
                    config.env_steps,
                    start - start % log_every + log_every,
                    start - start % eval_every + eval_every,
                )
                if not self.train_until(goal):
                    break
                done = trainer.env_steps()
                evaluate = done // eval_every > start // eval_every or done >= config.env_steps
                row = self.report(evaluate)
                if row is None:
                    break
                progress.update(done, row)
        with self.timing("save"):
            self.save()
        return self.reported >= config.env_steps

    def train_until(self, env_steps: int) -> bool:
        """Train as `Trainer.train_until`, and save whenever saving is due.

        Args:
          env_steps: the env steps of the whole run.

        Returns:
          False if `should_stop` ended it early.
        """
        trainer = self.trainer
        owes = trainer.owes_updates()
        while owes or trainer.env_steps() < env_steps:
            if self.should_stop():
                return False
            if self.saving_is_due():
                with self.timing("save"):
                    self.save()
            owes = self.show_advance(env_steps)
        return True

    def show_advance(self, env_steps: int) -> bool:
        """Do `advance` and report it; what compiles does not count for the pace."""
        trainer, updates = self.trainer, self.trainer.counters.updates
        fills = int(trainer.replay.num_episodes()) + self.config.n_envs
        if not self.compiled and (
            trainer.collector.compiled or fills >= self.config.batch_episodes
        ):
            with self.progress.waiting("compiling", once=True):
                owes = self.advance(env_steps)
            self.compiled = True
        else:
            owes = self.advance(env_steps)
        done = int(updates)
        if self.updates_before is not None and done > self.updates_before:
            self.updates_before = None
            self.progress.pace_begins(trainer.env_steps())
        self.progress.advance(trainer.env_steps(), done)
        return owes

    def advance(self, env_steps: int) -> bool:
        """Train as `Trainer.advance`; write the episodes of an update that is not finite.

        Raises:
          RunFailedError: NaN or infinity, or what the replay cannot hold.
        """
        trainer, path = self.trainer, self.folder / "offending_batch.npz"
        try:
            return trainer.advance(env_steps)
        except NotFiniteError as error:
            about = {"env_steps": trainer.env_steps(), "updates": int(trainer.counters.updates)}
            try:
                self.folder_guard.check_unchanged()
                finite.dump(path, error.batch, about)
                kept = f"its episodes are in {path}"
            except (OSError, RunFailedError) as fault:
                reason = getattr(fault, "strerror", None) or fault
                kept = f"its episodes could not be written: {reason}"
            text = f"{error}; {kept}; the last checkpoint is kept"
            raise RunFailedError(text) from error

    def report(self, evaluate: bool) -> dict[str, Any] | None:
        """Write the metrics since the last report to metrics.csv and TensorBoard.

        The episodes of an evaluation go to evaluations.csv, and its team is kept if it is
        the best.

        Args:
          evaluate: play greedy episodes too.

        Returns:
          the row, with the newest greedy return; None if `should_stop` ended the
          evaluation, and nothing was written.

        Raises:
          RunFailedError: the run folder or its lock was removed or replaced.
        """
        trainer = self.trainer
        done, now = trainer.env_steps(), time.monotonic()
        since_env_steps, since = self.speed_since
        evaluation = self.show_evaluate() if evaluate else None
        if evaluate and evaluation is None:
            return None
        played = evaluation.scores if evaluation else None
        row: dict[str, Any] = dict(trainer.take_means())
        row["env_steps_per_second"] = (done - since_env_steps) / (now - since)
        if played is not None:
            row.update(summarize(played, trainer.collector.metric_names))
            self.greedy_return = row["greedy_return"]
        row.update(
            env_steps=done,
            episodes=int(trainer.counters.episodes),
            updates=int(trainer.counters.updates),
            seconds=round(self.seconds(), 3),
            epsilon=float(trainer.epsilon()),
            learning_rate=float(trainer.learning_rate()),
            buffer_episodes=int(trainer.replay.num_episodes()),
        )
        if not trainer.collector.compiled:
            row["worker_restarts"] = trainer.collector.restarts
        with self.timing("log"):
            self._write(row, played)
        if evaluation and evaluation.first is not None:
            with self.timing("inspect"):
                self.inspect(done, evaluation.first)
        self.reported, self.speed_since = done, (done, time.monotonic())
        return {**row, "greedy_return": self.greedy_return}

    def timing(self, name: str) -> AbstractContextManager[None]:
        """Return a context that adds the time inside of it to the profile, if there is one."""
        return self.profile.timing(name) if self.profile else contextlib.nullcontext()

    def _write(self, row: dict[str, Any], played: Scores | None) -> None:
        """Write a row and the episodes of its evaluation, and keep the team if it is the best."""
        trainer, done = self.trainer, row["env_steps"]
        self.folder_guard.check_unchanged()
        if played is not None:
            names = self.trainer.collector.metric_names
            self.evaluations.write_all(rows_of(done, played, names))
        self.metrics.write(row)
        if played is not None:
            trainer.best.offer(trainer.algorithm.live, row["greedy_return"], done)
            row["best_greedy_return"] = float(trainer.best.greedy_return)
        self.tensorboard.write(done, row)

    def inspect(self, env_steps: int, greedy: Episode[Any]) -> None:
        """Write to TensorBoard what the inspector sees in the team, given greedy episodes."""
        found = self.trainer.inspector.inspect(greedy, env_steps)
        images = pictures(found, self.trainer.algorithm, self.trainer.collector)
        self.tensorboard.write_inspection(env_steps, found.scalars, found.histograms, images)

    def show_evaluate(self) -> Evaluation | None:
        """Do `evaluate` and report it; the first one compiles."""
        waiting = self.progress.waiting("evaluating", once=not self.evaluated)
        with waiting, self.timing("evaluate"):
            played = self.evaluate()
        self.evaluated = True
        return played

    def evaluate(self) -> Evaluation | None:
        """Play `eval_episodes` greedy episodes; return None if it was stopped.

        A stop waits for the episodes that are played in parallel: for all of them if the
        environment is in the graph.
        """
        trainer, count, found = self.trainer, self.config.eval_episodes, []
        kept: list[Episode[Any]] = []
        left = trainer.inspector.greedy_episodes if self.config.inspect else 0
        at_once = count if trainer.collector.compiled else self.config.n_envs
        for start in range(0, count, at_once):
            if self.should_stop():
                return None
            first = trainer.env_steps() + start
            played = trainer.play_greedy(min(at_once, count - start), first)
            found.append(Scores.of(played))
            if left > start:
                kept.append(Episode(*(np.asarray(x[: left - start]) for x in played.episode)))
        fields = [np.concatenate(x) for x in zip(*kept, strict=True)]
        return Evaluation(Scores.join(found), Episode(*fields) if kept else None)

    def saving_is_due(self) -> bool:
        """Return whether a checkpoint period has passed.

        The period in seconds grows if saving takes long, see `SAVING_SHARE`.
        """
        period = max(self.config.checkpoint_period_seconds, self.save_seconds / SAVING_SHARE)
        every = self.config.checkpoint_period_env_steps
        return time.monotonic() - self.saved_at > period or bool(
            every and self.trainer.env_steps() // every > self.saved_env_steps // every
        )

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
          RunFailedError: weights are not finite, and the last checkpoint is kept; or the
            run folder or its lock was removed or replaced.
        """
        self.folder_guard.check_unchanged()
        if non_finite := self.trainer.non_finite():
            raise RunFailedError(
                f"not finite at {self.trainer.env_steps():,} env steps: {', '.join(non_finite)}; "
                "no checkpoint is written, the last one is kept"
            )
        began = time.monotonic()
        checkpoint.save(
            self.folder / "checkpoints",
            self.trainer.tensors,
            self.trainer.env_steps(),
            round(self.seconds(), 3),
            {"updates": int(self.trainer.counters.updates), REPORTED: self.reported},
        )
        self.saved_at, self.saved_env_steps = time.monotonic(), self.trainer.env_steps()
        self.save_seconds = self.saved_at - began

    def close(self) -> None:
        """Close metrics.csv, evaluations.csv, TensorBoard's file, the profile and the folder."""
        self.metrics.close()
        self.evaluations.close()
        self.tensorboard.close()
        if self.profile:
            self.profile.close()
        self.folder_guard.close()
