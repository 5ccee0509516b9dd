"""A trainer that writes into its run folder: metrics, TensorBoard, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfmix.errors import RunFailedError
from tfmix.monitoring.metrics_csv import COLUMNS, MetricsFile
from tfmix.monitoring.progress import Progress
from tfmix.monitoring.tensorboard import TensorBoard
from tfmix.runs import checkpoint, folders
from tfmix.training import finite
from tfmix.training.finite import NotFiniteError
from tfmix.training.seeds import Stream
from tfmix.training.trainer import Trainer

# The share of a run's time that checkpoints may take, unless --checkpoint_period_env_steps asks.
SAVING_SHARE = 0.02
# The name in a checkpoint's manifest of the env steps at the last row of metrics.
REPORTED = "reported_env_steps"


class Session:
    """A trainer that writes into a run folder.

    Args:
      trainer: what trains.
      folder: the run folder.
      seconds: time spent by earlier starts of this run.
      should_stop: asked between chunks; True ends the training early.
      reported: env steps at the run's last row of metrics, None for where it is.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        seconds: float,
        should_stop: Callable[[], bool],
        reported: int | None = None,
    ):
        self.trainer, self.folder, self.should_stop = trainer, folder, should_stop
        self.config = trainer.config
        columns = [
            *COLUMNS,
            "epsilon",
            "learning_rate",
            "buffer_episodes",
            *([] if trainer.collector.compiled else ["worker_restarts"]),
            *trainer.metric_names,
        ]
        self.held = folders.FolderGuard(folder)
        self.metrics = MetricsFile(folder / "metrics.csv", columns)
        self.board = TensorBoard(folder)
        self.began, self.before = time.monotonic(), seconds
        self.reported = trainer.env_steps() if reported is None else reported
        self.paced = trainer.env_steps(), self.began
        self.saved_at, self.saved_env_steps = self.began, trainer.env_steps()
        self.save_seconds = 0.0
        self.greedy: float | None = None

    def seconds(self) -> float:
        """Time spent on this run, earlier starts included."""
        return self.before + time.monotonic() - self.began

    def run(self) -> bool:
        """Train to the end, or until `should_stop`, and saves.

        A run that is stopped while it owes updates or a row of metrics begins
        with these when it is resumed.

        Returns:
          whether it came to its end.

        Raises:
          RunFailedError: a loss or gradient is not finite.
        """
        config, trainer = self.config, self.trainer
        log_every = config.log_period_env_steps or max(config.env_steps // 200, 1)
        eval_every = config.eval_period_env_steps
        with Progress(config.env_steps, trainer.env_steps()) as progress:
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
        self.save()
        return self.reported >= config.env_steps

    def train_until(self, env_steps: int) -> bool:
        """Do `Trainer.train_until`, and saves at times; whether it got there unstopped."""
        trainer = self.trainer
        owes = trainer.owes_updates()
        while owes or trainer.env_steps() < env_steps:
            if self.should_stop():
                return False
            if self.saving_is_due():
                self.save()
            owes = self.advance(env_steps)
        return True

    def advance(self, env_steps: int) -> bool:
        """Do `Trainer.advance`, and leaves offending episodes in the folder if it fails.

        Raises:
          RunFailedError: NaN or infinity, or what the replay cannot hold.
        """
        trainer, path = self.trainer, self.folder / "offending_batch.npz"
        try:
            return trainer.advance(env_steps)
        except NotFiniteError as error:
            about = {"env_steps": trainer.env_steps(), "updates": int(trainer.counters.updates)}
            try:
                self.held.check()
                finite.dump(path, error.batch, about)
                kept = f"its episodes are in {path}"
            except (OSError, RunFailedError) as fault:
                reason = getattr(fault, "strerror", None) or fault
                kept = f"its episodes could not be written: {reason}"
            text = f"{error}; {kept}; the last checkpoint is kept"
            raise RunFailedError(text) from error

    def report(self, evaluate: bool) -> dict[str, Any] | None:
        """Write what was done since the last report to metrics.csv and TensorBoard.

        Args:
          evaluate: play greedy episodes too.

        Returns:
          the row, with the newest greedy return there is; None if it was
          stopped before anything was written.

        Raises:
          RunFailedError: the run folder or its lock is gone, or another is in its place.
        """
        trainer = self.trainer
        done, now = trainer.env_steps(), time.monotonic()
        before, then = self.paced
        played = self.evaluate() if evaluate else None
        if evaluate and played is None:
            return None
        row: dict[str, Any] = dict(trainer.take_means())
        row["env_steps_per_second"] = (done - before) / (now - then)
        if played is not None:
            self.greedy = row["greedy_return"] = float(played.mean())
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
        self.held.check()
        self.metrics.write(row)
        self.board.write(done, row)
        self.reported, self.paced = done, (done, time.monotonic())
        return {**row, "greedy_return": self.greedy}

    def evaluate(self) -> np.ndarray | None:
        """Play greedy episodes; their returns [eval_episodes], or None if it was stopped.

        A stop waits for as many episodes as are played side by side, in the
        graph for all.
        """
        trainer, count, found = self.trainer, self.config.eval_episodes, []
        part = count if trainer.collector.compiled else self.config.n_envs
        for start in range(0, count, part):
            if self.should_stop():
                return None
            first = trainer.env_steps() + start
            found.append(trainer.play(Stream.EVALUATE, min(part, count - start), first=first))
        return np.concatenate(found)

    def saving_is_due(self) -> bool:
        """Whether a period has passed; that in seconds grows where saving takes long."""
        period = max(self.config.checkpoint_period_seconds, self.save_seconds / SAVING_SHARE)
        every = self.config.checkpoint_period_env_steps
        return time.monotonic() - self.saved_at > period or bool(
            every and self.trainer.env_steps() // every > self.saved_env_steps // every
        )

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
          RunFailedError: weights are not finite; the last checkpoint is kept. Or
            the run folder or its lock is gone, or another is in its place.
        """
        self.held.check()
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
        """Close the files."""
        self.metrics.close()
        self.board.close()
        self.held.close()
