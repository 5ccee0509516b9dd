"""Opens the task and the trainer of a run folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfmix import envs
from tfmix.errors import UserError
from tfmix.runs import checkpoint
from tfmix.runs.requests import StoredRun
from tfmix.training.state import Counters
from tfmix.training.task import Task, open_task, task_without_env
from tfmix.training.trainer import Trainer
from tfmix.types import EnvSpec
from tfmix.utils import text
from tfmix.utils.text import tell

# The fields of a task's shape that must be the same for a trained team to play.
SHAPE = ("n_agents", "n_actions", "obs_size", "agent_n_actions")


def open_stored_task(stored: StoredRun, to_train: bool) -> Task:
    """Open the environment that a run folder names, or the one that the caller gave instead.

    Args:
      stored: the run folder.
      to_train: see `open_task`.

    Other differences between the environment's spec and the run's are reported on
    standard error.

    Raises:
      UserError: the environment's shape is not that of the run.
    """
    config, spec, env = stored.config, stored.spec, stored.env
    if env is None and (config.env.startswith("custom/") or not envs.may_import(config.env)):
        return task_without_env(config, spec, stored.folder, to_train, stored.metric_names)
    task = open_task(config, env, to_train, stored.metric_names)
    if task.spec != spec:
        differences = ", ".join(
            f"{field.name} is {text.clean(getattr(task.spec, field.name), 60)}, was "
            f"{text.clean(getattr(spec, field.name), 60)}"
            for field in dataclasses.fields(EnvSpec)
            if getattr(task.spec, field.name) != getattr(spec, field.name)
        )
        differs = f"{config.env} differs from what {stored.folder} was trained on: {differences}"
        if any(getattr(task.spec, name) != getattr(spec, name) for name in SHAPE):
            raise UserError(differs)
        tell(f"tfmix: {differs}")
    return task


def open_stored_trainer(stored: StoredRun) -> Trainer:
    """Build a run's trainer, and restore its newest checkpoint if it has one."""
    trainer = Trainer(open_stored_task(stored, to_train=True))
    if stored.newest is not None:
        checkpoint.restore(stored.newest, trainer.tensors)
        check_env_steps(stored.newest, trainer.counters)
    return trainer


def check_env_steps(newest: Path, counters: Counters) -> None:
    """Raise UserError if a checkpoint's tensors are not of the env steps that name it."""
    if newest.name != str(int(counters.env_steps)):
        raise UserError(
            f"checkpoint {newest} holds the state at {int(counters.env_steps):,} env steps, not at "
            f"{int(newest.name):,}: remove it, and the checkpoint before it is used"
        )
