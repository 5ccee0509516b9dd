"""Train, resume and load runs as folders."""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmix import algos, envs
from tfmix.algos.base import Algorithm
from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.envs.python import EnvError
from tfmix.envs.python.adapters import custom
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring.metrics_csv import cut_metrics
from tfmix.monitoring.tensorboard import cut_events
from tfmix.runs import checkpoint, folders
from tfmix.runs.manifest import _create, _store, device_line
from tfmix.runs.opening import _check_moment, _open_env, _open_trainer, _read
from tfmix.runs.run import Run
from tfmix.runs.session import REPORTED, Session
from tfmix.runs.task import open_env
from tfmix.training.replay_size import HOST, plan
from tfmix.training.state import Counters
from tfmix.training.team import make_algorithm
from tfmix.training.trainer import Trainer
from tfmix.types import EnvSpec
from tfmix.utils import memory, text
from tfmix.utils.signals import STOPPING, raise_again, stop_on_signal
from tfmix.utils.text import show, tell

tf.get_logger().setLevel("ERROR")  # its advice to developers is not for a run's screen
IN_USE = "another process trains there; wait for its end or stop it"
LARGE_REPLAY = 500_000_000  # bytes that are worth a line


def _folder_name(settings: Config) -> Path:
    """`runs/<env>/<algo>/<seed and UTC time>`."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    parts = [settings.env, settings.algo, f"seed{settings.seed}-{stamp}"]
    return Path("runs", *map(folders.safe, parts))


def _refuse_used(folder: Path) -> None:
    """Raises UserError where `folder` holds something already."""
    if (folder / "run.json").exists():
        raise UserError(
            f"{folder} already holds a run: --mode=resume continues it; "
            "for a new one choose another --run_dir"
        )
    if folder.is_file() or (
        folder.is_dir() and any(path.name != folders.LOCK for path in folder.iterdir())
    ):
        raise UserError(f"{folder} is not an empty folder; choose another --run_dir")


def train(env: Any = None, verbose: bool = False, **settings: Any) -> Run:
    """Trains a team in a new run folder.

    Args:
      env: a name of `--mode=list`, or an environment or a factory of yours.
      verbose: print the device, the seed and the folder first.
      **settings: settings of docs/settings.md by name.

    Ctrl-C and SIGTERM end the training early, and all is saved. A SIGTERM is
    then raised again: a script that does not handle it ends there.

    Returns:
      the run, trained; if it was stopped early its `finished` is False.

    Raises:
      UserError: a setting, environment or folder that does not serve.
      RunFailedError: the environment broke its word.
      KeyboardInterrupt: a second Ctrl-C; what came after the last checkpoint
        is lost.
    """
    given: Any = None
    if isinstance(env, str):
        settings["env"] = env
    elif env is not None:
        given = env
        settings["env"] = custom.name_for(env)
    algos.check(settings.get("algo", Config.algo))
    if given is None:
        envs.is_graph(settings.get("env", Config.env))
        envs.allow_import(settings.get("env", Config.env))
    chosen = resolve.resolve(settings)
    folder = Path(chosen.run_dir) if chosen.run_dir else _folder_name(chosen)
    try:
        _refuse_used(folder)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", error)
        raise UserError(f"cannot write to {folder}: {reason}") from error
    spec, make_collector = open_env(chosen, given)
    if verbose:
        _announce(chosen, spec, folder)
    trainer = Trainer(chosen, make_collector, spec)
    with folders.locked(folder, IN_USE):
        _create(folder, chosen, spec)
        run = Run.of(folder, trainer)
        heard = _go_on(run, 0.0)
    raise_again(heard)
    return run


def _report_decay(run: Run, old_end: int) -> None:
    """Prints what a new end makes of a step size that goes down to the end of the run."""
    trainer, end = run.trainer, run.config.env_steps
    before, after = (float(trainer.learning_rate(x)) for x in (old_end, end))
    if run.env_steps and before != after:
        tell(
            f"tfmix: --learning_rate_decay=linear ends at {end:,} env steps, not at {old_end:,}: "
            f"the step size at {run.env_steps:,} is {after:.3g} instead of {before:.3g}"
        )


def resume(
    run_dir: str | os.PathLike[str],
    env: Any = None,
    verbose: bool = False,
    env_steps: int | None = None,
) -> Run:
    """Continues a run from its newest checkpoint, or from its start if it has none.

    Ctrl-C and SIGTERM do what they do in `train`.

    Args:
      run_dir: the run folder.
      env: the environment or factory where the run was given one, or the run's
        name of code of yours, which a run folder alone does not import.
      verbose: print the device, the seed and the folder first.
      env_steps: a new end, None for the run's own. A linear decay of the step size
        reaches 0 there, which is reported on standard error: at a finished run it
        rises from 0 again.

    Raises:
      UserError: no run there, one with links, pipes or devices in it, or one
        whose checkpoint does not fit.
      RunFailedError, KeyboardInterrupt: as `train`.
    """
    folders.read(run_dir)  # before the lock: a folder that is no run stays as it is
    folders.refuse_links(Path(run_dir), to_write=True)
    with folders.locked(Path(run_dir), IN_USE):
        opened = _read(run_dir, env, env_steps)
        run, newest = Run.of(opened.folder, _open_trainer(opened)), opened.newest
        if env_steps is not None and run.env_steps > env_steps:
            raise UserError(
                f"{run.folder} is at {run.env_steps:,} env steps, "
                f"which is more than --env_steps={env_steps}"
            )
        if env_steps is not None:
            _report_decay(run, folders.read(run_dir).config.env_steps)
        finished = run.finished and folders.is_finished(run.folder, run.config.env_steps)
        if env_steps is not None or not finished:
            _store(run.folder, env_steps)
        if verbose:
            _announce(run.config, run.spec, run.folder)
        if finished:
            if verbose:
                show("this run is finished; a greater --env_steps continues it")
            return run
        if verbose and newest and not run.config.checkpoint_replay:
            show("the replay is not in the checkpoint: it is filled anew before learning")
        seconds = checkpoint.seconds_of(newest) if newest else 0.0
        reported = checkpoint.count_of(newest, REPORTED) if newest else None
        # Rows that a later checkpoint would have held are written again.
        _cut(run.folder, run.env_steps if reported is None else reported)
        heard = _go_on(run, seconds, reported)
    raise_again(heard)
    return run


def _cut(folder: Path, env_steps: int) -> None:
    """Drops what metrics.csv and TensorBoard's files hold after `env_steps`.

    Raises:
      RunFailedError: they cannot be read or written.
    """
    try:
        cut_metrics(folder / "metrics.csv", env_steps)
        cut_events(folder, env_steps)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or text.clean(error, 200)
        raise RunFailedError(
            f"{getattr(error, 'filename', None) or folder} cannot be cut back to "
            f"{env_steps:,} env steps: {reason}"
        ) from error


def load(run_dir: str | os.PathLike[str], env: Any = None) -> Run:
    """Opens a run folder with its newest checkpoint.

    Args:
      run_dir: the run folder.
      env: the environment or factory where the run was given one, or the run's
        name of code of yours, which a run folder alone does not import.

    Raises:
      UserError: no run there, one with symbolic links, pipes or devices in it,
        one not trained yet, or one whose checkpoint does not fit.
    """
    opened = _read(run_dir, env)
    newest, settings, spec = opened.newest, opened.config, opened.spec
    if newest is None:
        raise UserError(f"{opened.folder} has no checkpoint yet: --mode=resume trains it")
    algorithm, counters = make_algorithm(settings, spec), Counters()
    checkpoint.restore_part(newest, tf.train.Checkpoint(live=algorithm.live, counters=counters))
    _check_moment(newest, counters)

    def open_collector(algorithm: Algorithm) -> Any:
        return _open_env(opened)[1](algorithm)

    def open_trainer() -> Trainer:
        return _open_trainer(opened)

    return Run(opened.folder, algorithm, counters, open_collector, open_trainer)


def _announce(settings: Config, spec: EnvSpec, folder: Path) -> None:
    """The first lines of a start."""
    show(device_line())
    room = plan(settings, spec)
    if room.size >= LARGE_REPLAY:
        where = "" if room.device == HOST else ", in the GPU's memory"
        show(f"replay: {room.episodes:,} episodes, {memory.in_words(room.size)}{where}")
    show(f"{settings.algo} on {settings.env}, seed {settings.seed}, run folder {folder}")


def _go_on(run: Run, seconds: float, reported: int | None = None) -> int:
    """Trains `run` to its end, exports it and marks it as finished, or trains it to a stop.

    Args:
      run: what is trained.
      seconds: time that it took before.
      reported: env steps at its last row of metrics, None for where it is.

    Returns:
      the signal that was heard, 0 for none.

    Raises:
      RunFailedError: the environment broke its word, learning went astray, or
        the folder cannot be written any more.
    """
    try:
        with stop_on_signal(STOPPING) as stop:
            session = Session(run.trainer, run.folder, seconds, stop, reported)
            with contextlib.closing(session):
                try:
                    run.stopped = not session.run()
                except (RunFailedError, OSError, tf.errors.OpError):
                    raise
                except Exception as error:  # of the environment: what was learned is kept
                    session.save()
                    if isinstance(error, EnvError):
                        raise RunFailedError(
                            f"{error}; what was learned is saved in {run.folder}"
                        ) from error
                    raise
    except OSError as error:
        raise RunFailedError(
            f"{run.folder} cannot be written: {error.strerror or error}; its last checkpoint "
            "is whole, and --mode=resume continues from there"
        ) from error
    if not run.stopped:
        run.export()
        _store(run.folder, finished=run.env_steps)
    return stop.number
