"""Opens a run folder for reading: its settings, its environment, its trainer."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tfmix import algos, envs
from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.runs import checkpoint, folders
from tfmix.runs.task import MissingEnv, open_env
from tfmix.training.state import Counters
from tfmix.training.trainer import Trainer
from tfmix.types import EnvSpec
from tfmix.utils import text
from tfmix.utils.text import tell

# What of a task's shape a trained team cannot play without.
SHAPE = ("n_agents", "n_actions", "obs_size", "agent_n_actions")


class Opened(NamedTuple):
    """A run folder that was read, and nothing built of it yet.

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


def _read(run_dir: str | os.PathLike[str], env: Any, env_steps: int | None = None) -> Opened:
    """Reads a run folder; `env_steps` is a new end.

    Raises:
      UserError: no run there, or one that cannot be read.
    """
    folder, (settings, spec, _) = Path(run_dir), folders.read(run_dir)
    folders.refuse_links(folder)
    if env_steps is not None:
        resolve.resolve({"env_steps": env_steps})  # is it in bounds?
        settings = dataclasses.replace(settings, env_steps=env_steps)
    algos.check(settings.algo)
    if isinstance(env, str):
        if env != settings.env:
            raise UserError(f"{folder} was trained on {settings.env}, not on {env}")
        envs.allow_import(env)
        env = None
    return Opened(folder, settings, spec, env, checkpoint.latest(folder / "checkpoints"))


def _open_env(opened: Opened) -> tuple[EnvSpec, Callable[..., Any]]:
    """Opens the environment of a run folder; returns its spec and what builds its collector.

    Raises:
      UserError: the environment's shape is not that of the run.
    """
    settings, spec, env = opened.config, opened.spec, opened.env
    if env is None and (settings.env.startswith("custom/") or not envs.may_import(settings.env)):
        return spec, functools.partial(MissingEnv, opened.folder, settings.env)
    found, make_collector = open_env(settings, env)
    if found != spec:
        differences = ", ".join(
            f"{field.name} is {text.clean(getattr(found, field.name), 60)}, was "
            f"{text.clean(getattr(spec, field.name), 60)}"
            for field in dataclasses.fields(EnvSpec)
            if getattr(found, field.name) != getattr(spec, field.name)
        )
        differs = f"{settings.env} differs from what {opened.folder} was trained on: {differences}"
        if any(getattr(found, name) != getattr(spec, name) for name in SHAPE):
            raise UserError(differs)
        tell(f"tfmix: {differs}")
    return found, make_collector


def _open_trainer(opened: Opened) -> Trainer:
    """Builds everything that a run's checkpoint holds and restores it, if there is one."""
    found, make_collector = _open_env(opened)
    trainer = Trainer(opened.config, make_collector, found)
    if opened.newest is not None:
        checkpoint.restore(opened.newest, trainer.tensors)
        _check_moment(opened.newest, trainer.counters)
    return trainer


def _check_moment(newest: Path, counters: Counters) -> None:
    """Raises UserError if a checkpoint's tensors are not of the env steps that name it."""
    if newest.name != str(int(counters.env_steps)):
        raise UserError(
            f"checkpoint {newest} is of another moment of a run, or of another run: it was "
            f"written at {int(counters.env_steps):,} env steps"
        )
