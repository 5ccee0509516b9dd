"""Describes a run for TensorBoard: texts, hyperparameters, layout of charts, the update's graph."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfmix.config.resolve import resolve
from tfmix.config.schema import FIELDS, Config
from tfmix.config.values import as_typed
from tfmix.monitoring.tensorboard import (
    ONLY_HERE,
    Description,
    is_described,
    tag_of,
    write_description,
)
from tfmix.runs import folders
from tfmix.runs.columns import columns_of
from tfmix.training.inspection import scalar_tags
from tfmix.training.trainer import Trainer
from tfmix.training.update_graph import update_graph
from tfmix.types import TEAM_REWARD, EnvSpec
from tfmix.utils.command import program
from tfmix.utils.text import clean, of_error, tell

# The settings by which TensorBoard's HParams compares runs.
COMPARED = (
    *("algo", "env", "env_arg", "seed", "env_steps", "learning_rate", "gamma", "td_lambda"),
    *("batch_episodes", "updates_per_episode", "hidden_size", "epsilon_anneal_env_steps"),
)
MOST_CHARACTERS = 200  # of a cell


def describe(folder: Path, trainer: Trainer) -> None:
    """Write the description of a run for TensorBoard, unless its folder has one.

    TensorBoard reads the files of a folder in the order of their names. A run's scalars are
    therefore in a file that is begun later. If the description cannot be made, a line says why,
    and the run trains without it.

    Args:
      folder: the run folder.
      trainer: its trainer.
    """
    if is_described(folder):
        return
    try:
        write_description(folder, _description(folder, trainer))
    except Exception as error:  # TensorBoard's plugins may change, and training needs none
        tell(f"tfmix: TensorBoard shows no description of the run: {of_error(error, 200)}")


def _description(folder: Path, trainer: Trainer) -> Description:
    """Return the description of the run in a folder."""
    stored = folders.read(folder)
    texts = {
        "about/command": _command(stored.config, stored.about),
        "about/settings": _settings(stored.config),
        "about/versions": _versions(stored.about),
        "about/environment": _environment(stored.spec, stored.about.get("metrics", [])),
    }
    tags = tuple(map(tag_of, (*columns_of(trainer)[1:], *ONLY_HERE)))
    if stored.config.inspect:
        tags += tuple(scalar_tags(trainer.algorithm))
    graph = update_graph(trainer.learner, trainer.batch_spec())
    return Description(texts, _hparams(stored.config), graph, tags)


def _hparams(config: Config) -> dict[str, Any]:
    """Return the values of the settings that are compared."""
    values = {name: getattr(config, name) for name in COMPARED}
    return {name: _shown(x) if isinstance(x, tuple | str) else x for name, x in values.items()}


def _shown(value: Any) -> str:
    """Return a setting's value as it is typed."""
    if isinstance(value, tuple):
        value = " ".join(value)
    return clean(as_typed(value), MOST_CHARACTERS)


def _cell(value: Any) -> str:
    """Return a value as a cell of a table that no text can leave."""
    shown = _shown(value).replace("`", "'").replace("|", "¦")
    return f"`{shown}`" if shown else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([_cell(x) for x in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _command(config: Config, about: Mapping[str, Any]) -> str:
    """Return the command that trains such a run, and the flagfiles that it reads by itself."""
    if config.env.startswith("custom/"):
        return f"Trained from Python, with an environment object: {_cell(config.env)}"
    base = resolve({"algo": config.algo, "env": config.env})
    words = [f"--algo={config.algo}", f"--env={config.env}"]
    for name in FIELDS:
        value = getattr(config, name)
        if name == "env_arg":
            words += [f"--env_arg={word}" for word in value if word not in base.env_arg]
        elif name not in ("algo", "env", "run_dir") and value != getattr(base, name):
            words.append(f"--{name}={as_typed(value)}")
    # A line of the text for each argument; a shell joins them.
    first, *others = [clean(shlex.quote(word), 4_000) for word in words]
    lines = [f"    {program()} {first}", *(f"      {word}" for word in others)]
    lines = [" \\\n".join(lines)]
    if flagfiles := about.get("flagfiles"):
        lines += ["", f"Flagfiles: {', '.join(map(_cell, flagfiles))}"]
    return "\n".join(lines)


def _settings(config: Config) -> str:
    """Return the settings that differ from the defaults."""
    rows = [
        (f"--{name}", value, field.default, field.metadata["unit"])
        for name, field in FIELDS.items()
        if name != "run_dir" and (value := getattr(config, name)) != field.default
    ]
    return _table(("setting", "value", "default", "unit"), rows)


def _versions(about: Mapping[str, Any]) -> str:
    """Return the versions of software, the machine and the start."""
    hardware, versions = about.get("hardware", {}), about.get("versions", {})
    rows = [
        *versions.items(),
        ("commit", about.get("git_commit") or "unknown"),
        *hardware.items(),
        ("started", about.get("started", "")),
    ]
    return _table(("what", "version"), rows)


def _environment(spec: EnvSpec, metrics: Iterable[str]) -> str:
    """Return the environment's card."""
    own = spec.agent_n_actions
    rows = [
        ("environment", spec.name),
        ("version", spec.version),
        ("agents", spec.n_agents),
        ("actions of an agent", own[0] if len(set(own)) == 1 else ", ".join(map(str, own))),
        ("numbers in an observation", spec.obs_size),
        ("numbers in the state", spec.state_size),
        ("longest episode (env steps)", spec.episode_limit),
        ("reward", TEAM_REWARD[spec.team_reward]),
        ("metrics of an episode", ", ".join(metrics) or "none"),
    ]
    return _table(("what", "value"), rows)
