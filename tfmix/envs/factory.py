"""Builds environments by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from tfmix.config.resolve import env_arguments
from tfmix.config.schema import Config
from tfmix.envs.registry import GRAPH, PYTHON
from tfmix.errors import UserError
from tfmix.utils.text import nearest


def make_graph(name: str, config: Config) -> Any:
    """Builds an environment of `GRAPH`.

    Raises:
      UserError: an argument is unknown, missing or out of bounds.
    """
    module, function, fixed = GRAPH[name]
    build = getattr(importlib.import_module(module), function)
    parameters = {
        p.name: p
        for p in inspect.signature(build).parameters.values()
        if p.name not in ("name", "team_reward", *fixed)
    }
    arguments = env_arguments(config)
    for argument in arguments:
        if argument not in parameters:
            takes = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
            raise UserError(
                f"{name} has no argument {argument!r}{nearest(argument, parameters)}; {takes}"
            )
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in arguments:
            raise UserError(f"{name} needs --env_arg={parameter.name}=...")
    if config.episode_limit:
        raise UserError(
            f"{name} has its own episode limit: --episode_limit is for Python environments only"
        )
    try:
        return build(name=name, team_reward=config.team_reward, **fixed, **arguments)
    except (ArithmeticError, MemoryError, TypeError, ValueError) as error:
        raise UserError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def make_python(name: str, config: Config) -> Any:
    """Builds an environment with a prefix of `PYTHON`, or a user's environment of any kind.

    Raises:
      UserError: it does not exist, or no adapter can play it.
    """
    prefix, _, target = name.partition("/")
    module, function, _ = PYTHON.get(prefix, ("tfmix.envs.python.adapters.custom", "make_env", ""))
    build = getattr(importlib.import_module(module), function)
    return build(
        target or name, name, config.team_reward, config.episode_limit, env_arguments(config)
    )
