"""Reads requests to train, resume and load runs, and starts them.

Wrong requests are answered here, before the seconds that TensorFlow's import takes.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfmix import algos, envs
from tfmix.config import resolve
from tfmix.config.modes import WHICH
from tfmix.config.resolve import Resolved
from tfmix.config.schema import Config
from tfmix.config.values import Window, read_window
from tfmix.config.wording import in_python
from tfmix.envs.python.adapters import custom
from tfmix.errors import UserError
from tfmix.runs import checkpoint, folders
from tfmix.runs.unread import refuse_unread
from tfmix.types import EnvSpec
from tfmix.utils import text
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
      env: the user's environment or factory, None for the one that
        `config` names.
      flagfiles: names of the flagfiles that were read, in order.
    """

    folder: Path
    config: Config
    env: Any
    flagfiles: tuple[str, ...] = ()


class StoredRun(NamedTuple):
    """A run folder that was read.

    Attributes:
      folder: the run folder.
      config: its settings.
      spec: its task's shape.
      env: the environment or factory that was given with it, or None.
      newest: its newest whole checkpoint, or None.
      metric_names: names of its environment's metrics of an episode.
    """

    folder: Path
    config: Config
    spec: EnvSpec
    env: Any
    newest: Path | None
    metric_names: tuple[str, ...] = ()


def new_run(
    env: Any,
    settings: Mapping[str, Any],
    sources: Mapping[str, str] | None = None,
    flagfiles: Sequence[str] = (),
) -> NewRun:
    """Read the request of a training.

    Args:
      env: the environment; None for the setting `env`.
      settings: the other settings.
      sources: where the settings were given; None for arguments of a Python function.
      flagfiles: the flagfiles that are in `settings` already.

    Raises:
      UserError: a setting, a name or a folder that cannot be used.
    """
    given = None if env is None or isinstance(env, str) else env
    if env is not None:
        settings = {**settings, "env": env if given is None else custom.name_for(env)}
    resolved = check_request(settings, sources, flagfiles, given is None)
    config = resolved.config
    folder = Path(config.run_dir) if config.run_dir else _folder_name(config)
    try:
        _refuse_used(folder)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", error)
        raise UserError(f"cannot write to {folder}: {reason}") from error
    return NewRun(folder, config, given, resolved.flagfiles)


def check_request(
    settings: Mapping[str, Any],
    sources: Mapping[str, str] | None = None,
    flagfiles: Sequence[str] = (),
    by_name: bool = True,
) -> Resolved:
    """Resolve the settings of a training and check what can be checked without TensorFlow.

    Args:
      settings: values by name.
      sources: where they were given; None for arguments of a Python function.
      flagfiles: the flagfiles that are in `settings` already.
      by_name: whether the setting `env` names the environment to make.

    Raises:
      UserError: a name that does not exist, a setting that does not fit, or one that the
        training would never read.
    """
    settings = dict(settings)
    if settings.get("algo") is not None:
        settings["algo"] = algos.find(settings["algo"])
    name = Config.env if settings.get("env") is None else settings["env"]
    if by_name:
        check_env_name(name)
        envs.allow_import(name)
    resolved = resolve.resolve_all(settings, sources, flagfiles)
    refuse_unread(resolved.config, resolved.typed)
    if by_name and envs.is_graph(name):
        envs.check_graph(name, resolved.config)
    else:
        resolve.env_arguments(resolved.config)
    return resolved


def check_env_name(name: str) -> None:
    """Raise UserError if files show that no environment has that name."""
    if "," in name and name not in envs.GRAPH:
        raise UserError(f"--env={name} names several: --mode=benchmark trains on each of them")
    envs.is_graph(name)
    envs.check_target(name)


def _folder_name(config: Config) -> Path:
    """Return `runs/<env>/<algo>/<seed and UTC time>`."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    parts = [config.env, config.algo, f"seed{config.seed}-{stamp}"]
    return Path("runs", *map(folders.safe, parts))


def _refuse_used(folder: Path) -> None:
    """Raise UserError if `folder` already holds something."""
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
    """Read a run folder.

    Raises:
      UserError: no run is there, or one that cannot be read.
    """
    folder, (config, spec, _) = Path(run_dir), folders.read(run_dir)
    folders.refuse_links(folder)
    algos.find(config.algo)
    if isinstance(env, str):
        if env != config.env:
            raise UserError(f"{folder} was trained on {config.env}, not on {env}")
        envs.allow_import(env)
        env = None
    newest = checkpoint.latest(folder / "checkpoints")
    return StoredRun(folder, config, spec, env, newest, folders.metric_names_of(folder))


@in_python
def train(
    env: Any = Config.env,
    algo: str = Config.algo,
    *,
    seed: int = 0,
    env_steps: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    profile: str | None = None,
    **settings: Any,
) -> Run:
    """Train a team in a new run folder.

        run = tfmix.train("two_step", "qmix", seed=3, env_steps=5_000, learning_rate=1e-3)

    Ctrl-C and SIGTERM end the training early, and everything is saved. A SIGTERM
    is then raised again: a script that does not handle it ends there.

    Args:
      env: a name of `--mode=list`, or your own environment or factory.
      algo: a name of `--mode=list`.
      seed: seed of all random numbers.
      env_steps: the length of the training; None for the environment's own.
      run_dir: the run folder; None for `runs/<env>/<algo>/<seed and time>`.
      progress: print the device, the flagfiles, the folder, the progress and warnings;
        False prints nothing.
      profile: updates to profile, as `100:200`: it prints where their time went, and writes
        a trace for TensorBoard's profiler. None for none.
      **settings: settings of docs/settings.md by name.

    Returns:
      the run, trained; if it was stopped early its `finished` is False.

    Raises:
      UserError: a setting, environment or folder that cannot be used, or a setting that
        the training would never read.
      RunFailedError: the environment returned what its spec excludes, or learning
        gave NaN or infinity.
      KeyboardInterrupt: a second Ctrl-C; what came after the last checkpoint is lost.
    """
    _refuse_swapped(env, algo)
    named = {"algo": algo, "seed": seed, "env_steps": env_steps, "run_dir": run_dir}
    window = _window(profile)
    return start(new_run(env, {**named, **settings}), progress, window)


def _window(profile: str | None) -> Window | None:
    """Read the argument `profile`; raise UserError if it is not FIRST:LAST."""
    try:
        return None if profile is None else read_window(str(profile))
    except ValueError as error:
        raise UserError(f"--profile={text.clean(repr(profile), 60)}: {error}") from error


def start(asked: NewRun, progress: bool, window: Window | None = None) -> Run:
    """Train what `new_run` has read; as `train`."""
    quiet_import("tensorflow")
    from tfmix.runs import lifecycle

    with text.printing(progress):
        return lifecycle.train_new(asked, window)


def _refuse_swapped(env: Any, algo: Any) -> None:
    """Raise UserError if an algorithm was given in the environment's place."""
    if isinstance(env, str) and env.lower() in algos.REGISTRY:
        other = algo if isinstance(algo, str) and algo not in algos.REGISTRY else Config.env
        raise UserError(
            f"{env!r} is an algorithm, and the environment comes first: "
            f"tfmix.train({other!r}, {env.lower()!r})"
        )
    if not isinstance(algo, str):
        raise UserError(f"algo={text.clean(repr(algo), 60)}: it takes the name of an algorithm")


@in_python
def resume(
    run_dir: str | os.PathLike[str],
    env: Any = None,
    *,
    env_steps: int | None = None,
    progress: bool = True,
    profile: str | None = None,
) -> Run:
    """Continue a run from its newest checkpoint, or from its start if it has none.

    Ctrl-C and SIGTERM do what they do in `train`.

    Args:
      run_dir: the run folder.
      env: the environment or factory if the run was given one, or the
        name of your code, which a run folder alone does not import.
      env_steps: a new end, None for the run's own. A linear decay of the learning
        rate reaches 0 there, which is reported on standard error: at a finished run
        it rises from 0 again.
      progress: print the device, the flagfiles, the folder, the progress and warnings;
        False prints nothing.
      profile: as in `train`.

    Raises:
      UserError: no run is there, one with links, pipes or devices in it, or one
        whose checkpoint does not fit.
      RunFailedError, KeyboardInterrupt: as `train`.
    """
    window = _window(profile)
    run_dir = folders.expand(run_dir)
    folders.read(run_dir)  # before the lock: a folder that is not a run stays as it is
    folders.refuse_links(Path(run_dir), to_write=True)
    if env_steps is not None:
        env_steps = resolve.resolve({"env_steps": env_steps}).env_steps  # is it in bounds?
    with folders.locked(Path(run_dir), IN_USE):
        stored = stored_run(run_dir, env)
        old_end = stored.config.env_steps
        if env_steps is not None:
            config = dataclasses.replace(stored.config, env_steps=env_steps)
            stored = stored._replace(config=config)
        quiet_import("tensorflow")
        from tfmix.runs import lifecycle

        with text.printing(progress):
            run, heard = lifecycle.resume_stored(stored, old_end, window)
    raise_again(heard)
    return run


@in_python
def load(run_dir: str | os.PathLike[str], env: Any = None, *, which: str = "last") -> Run:
    """Open a run folder with its newest checkpoint.

    Args:
      run_dir: the run folder.
      env: the environment or factory if the run was given one, or the
        name of your code, which a run folder alone does not import.
      which: `last` for the team as it was trained last, `best` for the team of the evaluation
        with the highest greedy return (the last one if several are equal).

    Raises:
      UserError: no run is there, one with symbolic links, pipes or devices in it,
        one not trained yet, or one whose checkpoint does not fit; or there was no
        evaluation yet whose team could be the best.
    """
    if which not in WHICH:
        raise UserError(
            f"--which={text.clean(repr(which), 60)}: it takes one of {', '.join(WHICH)}"
        )
    stored = stored_run(folders.expand(run_dir), env)
    if stored.newest is None:
        raise UserError(f"{stored.folder} has no checkpoint yet: --mode=resume trains it")
    quiet_import("tensorflow")
    from tfmix.runs import lifecycle

    return lifecycle.load_stored(stored, which)
