"""Trains, resumes and loads run folders."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfmix.algos.base import Algorithm
from tfmix.config.values import Window
from tfmix.envs.python import EnvError
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring.metrics_csv import EVALUATIONS, cut_metrics
from tfmix.monitoring.tensorboard import cut_events
from tfmix.runs import checkpoint, folders
from tfmix.runs.about import describe
from tfmix.runs.manifest import (
    create_manifest,
    device_line,
    recorded_failure,
    update_manifest,
)
from tfmix.runs.opening import check_env_steps, open_stored_task, open_stored_trainer
from tfmix.runs.profile import Profile
from tfmix.runs.requests import IN_USE, NewRun, StoredRun
from tfmix.runs.run import Run
from tfmix.runs.session import REPORTED, Session
from tfmix.training.best import BestTeam
from tfmix.training.replay_size import HOST
from tfmix.training.state import Counters
from tfmix.training.task import Task, open_task
from tfmix.training.team import make_algorithm
from tfmix.training.trainer import Trainer
from tfmix.utils import memory, text
from tfmix.utils.signals import STOPPING, raise_again, stop_on_signal
from tfmix.utils.text import show, tell

tf.get_logger().setLevel("ERROR")  # its warnings are advice to developers of TensorFlow code
LARGE_REPLAY = 500_000_000  # bytes from which on the size of the replay is printed


def train_new(asked: NewRun, window: Window | None = None) -> Run:
    """Train a new run, and profile the updates of `window`; see `requests.train`."""
    task = open_task(asked.config, asked.env)
    _announce(task, asked.folder, asked.flagfiles)
    tell("building ...")
    trainer = Trainer(task)
    with folders.locked(asked.folder, IN_USE):
        create_manifest(asked.folder, task, asked.flagfiles)
        run = Run.of(asked.folder, trainer)
        with recorded_failure(asked.folder):
            received = _train_to_end(run, 0.0, profile=_profile(run, window))
    raise_again(received)
    return run


def _profile(run: Run, window: Window | None) -> Profile | None:
    """Return the profile of the updates of `window`; raise UserError if they are done."""
    return Profile(run.trainer, window, run.folder) if window else None


def _report_decay(run: Run, old_end: int) -> None:
    """Print how a new end changes the present learning rate, if it decays until the end."""
    trainer, end = run.trainer, run.config.env_steps
    before, after = (float(trainer.learning_rate(x)) for x in (old_end, end))
    if run.env_steps and before != after:
        tell(
            f"tfmix: --learning_rate_decay=linear ends at {end:,} env steps, not at {old_end:,}: "
            f"the learning rate at {run.env_steps:,} is {after:.3g} instead of {before:.3g}"
        )


def resume_stored(stored: StoredRun, old_end: int, window: Window | None = None) -> tuple[Run, int]:
    """Continue a run whose folder this process has locked; see `requests.resume`.

    Args:
      stored: the run, with the end in env steps that is asked for.
      old_end: the end in env steps that it had before.
      window: the updates to profile, None for none.

    Returns:
      the run; and the signal that stopped it, 0 for none.
    """
    trainer = open_stored_trainer(stored)
    run, newest, end = Run.of(stored.folder, trainer), stored.newest, stored.config.env_steps
    profile = _profile(run, window)
    if end != old_end:
        if run.env_steps > end:
            raise UserError(
                f"{run.folder} is at {run.env_steps:,} env steps, "
                f"which is more than --env_steps={end}"
            )
        _report_decay(run, old_end)
    finished = run.finished and folders.is_finished(run.folder, end)
    if end != old_end or not finished:
        update_manifest(run.folder, end)
    _announce(trainer.task, run.folder, folders.flagfiles_of(run.folder))
    if finished:
        show("this run is finished; a greater --env_steps continues it")
        if profile:
            profile.close()
        return run, 0
    if newest and not run.config.checkpoint_replay:
        show("the checkpoint has no replay: episodes are collected before learning continues")
    seconds = checkpoint.seconds_of(newest) if newest else 0.0
    reported = checkpoint.count_of(newest, REPORTED) if newest else None
    # Rows after the checkpoint are written again.
    _cut_logs(run.folder, run.env_steps if reported is None else reported)
    with recorded_failure(run.folder):
        return run, _train_to_end(run, seconds, reported, profile)


def _cut_logs(folder: Path, env_steps: int) -> None:
    """Remove what is after `env_steps` from metrics.csv, evaluations.csv and TensorBoard's files.

    Raises:
      RunFailedError: they cannot be read or written.
    """
    try:
        cut_metrics(folder / "metrics.csv", env_steps)
        cut_metrics(folder / "evaluations.csv", env_steps, EVALUATIONS)
        cut_events(folder, env_steps)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or text.clean(error, 200)
        raise RunFailedError(
            f"{getattr(error, 'filename', None) or folder} cannot be cut back to "
            f"{env_steps:,} env steps: {reason}"
        ) from error


def load_stored(stored: StoredRun, which: str = "last") -> Run:
    """Open a run folder that has a checkpoint; see `requests.load`."""
    newest = stored.newest
    assert newest is not None
    algorithm, counters = make_algorithm(stored.config, stored.spec), Counters()
    best_at = None
    if which == "best":
        best_at = _restore_best(newest, algorithm, counters)
    else:
        checkpoint.restore_part(newest, tf.train.Checkpoint(live=algorithm.live, counters=counters))
    check_env_steps(newest, counters)
    return Run(
        stored.folder,
        algorithm,
        counters,
        lambda algorithm: open_stored_task(stored, to_train=False).make_collector(algorithm),
        lambda: open_stored_trainer(stored),
        best_at,
    )


def _restore_best(newest: Path, algorithm: Algorithm, counters: Counters) -> int:
    """Read the best team of a checkpoint into the live networks.

    Args:
      newest: the checkpoint.
      algorithm: the networks.
      counters: receive the run's progress.

    Returns:
      the env steps at the team's evaluation.

    Raises:
      UserError: the checkpoint holds no best team.
    """
    best = BestTeam(algorithm.live)
    if checkpoint.read_manifest(newest)["format"] >= checkpoint.BEST_FORMAT:
        checkpoint.restore_part(newest, tf.train.Checkpoint(best=best, counters=counters))
    if not best.exists:
        raise UserError(
            f"{newest} holds no best team, because no evaluation has kept one yet: "
            "--which=last is the team as it is"
        )
    best.write_to(algorithm.live)
    return int(best.env_steps)


def _announce(task: Task, folder: Path, flagfiles: Sequence[str] = ()) -> None:
    """Print the first lines of a start."""
    show(device_line())
    config, replay = task.config, task.replay
    if replay is not None and replay.size >= LARGE_REPLAY:
        place = "" if replay.device == HOST else ", in the GPU's memory"
        held = text.counted(replay.episodes, "episode")
        show(f"replay: {held}, {memory.format_bytes(replay.size)}{place}")
    show(f"{config.algo} on {config.env}, seed {config.seed}, run folder {folder}")
    show(f"flagfiles: {', '.join(text.clean(name, 200) for name in flagfiles) or 'none'}")


def _train_to_end(
    run: Run, seconds: float, reported: int | None = None, profile: Profile | None = None
) -> int:
    """Train `run` until its end or a signal; at its end, export it and mark it as finished.

    Args:
      run: the run.
      seconds: time spent on it by earlier starts.
      reported: env steps at its last row of metrics, None for its present env steps.
      profile: measures some updates, None for none; it is closed.

    Returns:
      the signal that stopped it, 0 for none.

    Raises:
      RunFailedError: the environment violated its interface, learning gave NaN or
        infinity, or the folder cannot be written.
    """
    try:
        with stop_on_signal(STOPPING) as stop:
            describe(run.folder, run.trainer)
            session = Session(run.trainer, run.folder, seconds, stop, reported, profile)
            with contextlib.closing(session):
                try:
                    run.stopped = not session.run()
                except (RunFailedError, OSError, tf.errors.OpError):
                    raise
                except Exception as error:  # of the environment, so that the weights are good
                    session.save()
                    if isinstance(error, EnvError):
                        raise RunFailedError(
                            f"{error}; what was learned is saved in {run.folder}"
                        ) from error
                    raise
    except OSError as error:
        raise RunFailedError(
            f"{run.folder} cannot be written: {error.strerror or error}; its last checkpoint "
            "is complete, and --mode=resume continues from it"
        ) from error
    if not run.stopped:
        tell("exporting ...")
        run.export()
        run.export_best()
        update_manifest(run.folder, finished=run.env_steps)
    return stop.number
