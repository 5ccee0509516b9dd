"""What is asked of runs: train, resume, load.

Wrong requests are answered here, before the seconds that TensorFlow's import takes.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfmix import algos, envs
from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.envs.python.adapters import custom
from tfmix.errors import UserError
from tfmix.runs import checkpoint, folders
from tfmix.types import EnvSpec
from tfmix.utils.quiet import quiet_import
from tfmix.utils.signals import raise_again

if TYPE_CHECKING:
    from tfmix.runs.run import Run

IN_USE = "another process trains there; wait for its end or stop it"


class NewRun(NamedTuple):
    """A run that is asked for.

    Attributes:
      folder: its run folder, which does not hold anything yet.
      config: its settings.
      env: an environment or a factory of the user's, None for the one that
        `config` names.
    """

    folder: Path
    config: Config
    env: Any


class StoredRun(NamedTuple):
    """A run folder that was read.

    Attributes:
      folder: the run folder.
      config: its settings.
      spec: its task's shape.
      env: the environment or factory that was given beside it, or None.
      newest: its newest whole checkpoint, or None.
    """

    folder: Path
    config: Config
    spec: EnvSpec
    env: Any
    newest: Path | None


def new_run(env: Any, settings: dict[str, Any]) -> NewRun:
    """Reads what `train` was asked for.

    Raises:
      UserError: a setting, a name or a folder that cannot be used.
    """
    given: Any = None
    if isinstance(env, str):
        settings["env"] = env
    elif env is not None:
        given = env
        settings["env"] = custom.name_for(env)
    algos.check_name(settings.get("algo", Config.algo))
    if given is None:
        envs.is_graph(settings.get("env", Config.env))
        envs.allow_import(settings.get("env", Config.env))
    config = resolve.resolve(settings)
    folder = Path(config.run_dir) if config.run_dir else _folder_name(config)
    try:
        _refuse_used(folder)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", error)
        raise UserError(f"cannot write to {folder}: {reason}") from error
    return NewRun(folder, config, given)


def _folder_name(config: Config) -> Path:
    """Returns `runs/<env>/<algo>/<seed and UTC time>`."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    parts = [config.env, config.algo, f"seed{config.seed}-{stamp}"]
    return Path("runs", *map(folders.safe, parts))


def _refuse_used(folder: Path) -> None:
    """Raises UserError if `folder` already holds something."""
    if (folder / "run.json").exists():
        raise UserError(
            f"{folder} already holds a run: --mode=resume continues it; "
            "for a new one choose another --run_dir"
        )
    if folder.is_file() or (
        folder.is_dir() and any(path.name != folders.LOCK for path in folder.iterdir())
    ):
        raise UserError(f"{folder} is not an empty folder; choose another --run_dir")


def stored_run(run_dir: str | os.PathLike[str], env: Any = None) -> StoredRun:
    """Reads a run folder.

    Raises:
      UserError: no run is there, or one that cannot be read.
    """
    folder, (config, spec, _) = Path(run_dir), folders.read(run_dir)
    folders.refuse_links(folder)
    algos.check_name(config.algo)
    if isinstance(env, str):
        if env != config.env:
            raise UserError(f"{folder} was trained on {config.env}, not on {env}")
        envs.allow_import(env)
        env = None
    return StoredRun(folder, config, spec, env, checkpoint.latest(folder / "checkpoints"))


def train(env: Any = None, verbose: bool = False, **settings: Any) -> Run:
    """Trains a team in a new run folder.

    Ctrl-C and SIGTERM end the training early, and everything is saved. A SIGTERM
    is then raised again: a script that does not handle it ends there.

    Args:
      env: a name of `--mode=list`, or an environment or a factory of yours.
      verbose: print the device, the seed and the folder first.
      **settings: settings of docs/settings.md by name.

    Returns:
      the run, trained; if it was stopped early its `finished` is False.

    Raises:
      UserError: a setting, environment or folder that cannot be used.
      RunFailedError: the environment returned what its spec excludes, or learning
        gave NaN or infinity.
      KeyboardInterrupt: a second Ctrl-C; what came after the last checkpoint is lost.
    """
    asked = new_run(env, settings)
    quiet_import("tensorflow")
    from tfmix.runs import lifecycle

    return lifecycle.train_new(asked, verbose)


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
      env: the environment or factory if the run was given one, or the run's
        name of code of yours, which a run folder alone does not import.
      verbose: print the device, the seed and the folder first.
      env_steps: a new end, None for the run's own. A linear decay of the learning
        rate reaches 0 there, which is reported on standard error: at a finished run
        it rises from 0 again.

    Raises:
      UserError: no run is there, one with links, pipes or devices in it, or one
        whose checkpoint does not fit.
      RunFailedError, KeyboardInterrupt: as `train`.
    """
    folders.read(run_dir)  # before the lock: a folder that is no run stays as it is
    folders.refuse_links(Path(run_dir), to_write=True)
    if env_steps is not None:
        resolve.resolve({"env_steps": env_steps})  # is it in bounds?
    with folders.locked(Path(run_dir), IN_USE):
        stored = stored_run(run_dir, env)
        old_end = stored.config.env_steps
        if env_steps is not None:
            config = dataclasses.replace(stored.config, env_steps=env_steps)
            stored = stored._replace(config=config)
        quiet_import("tensorflow")
        from tfmix.runs import lifecycle

        run, heard = lifecycle.resume_stored(stored, old_end, verbose)
    raise_again(heard)
    return run


def load(run_dir: str | os.PathLike[str], env: Any = None) -> Run:
    """Opens a run folder with its newest checkpoint.

    Args:
      run_dir: the run folder.
      env: the environment or factory if the run was given one, or the run's
        name of code of yours, which a run folder alone does not import.

    Raises:
      UserError: no run is there, one with symbolic links, pipes or devices in it,
        one not trained yet, or one whose checkpoint does not fit.
    """
    stored = stored_run(run_dir, env)
    if stored.newest is None:
        raise UserError(f"{stored.folder} has no checkpoint yet: --mode=resume trains it")
    quiet_import("tensorflow")
    from tfmix.runs import lifecycle

    return lifecycle.load_stored(stored)
