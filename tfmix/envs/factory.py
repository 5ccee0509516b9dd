"""Builds environments by name."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from typing import Any

from tfmix.config.resolve import env_arguments
from tfmix.config.schema import Config
from tfmix.envs.registry import GRAPH, PYTHON
from tfmix.errors import UserError
from tfmix.utils.text import nearest


def check_graph(name: str, config: Config) -> dict[str, Any]:
    """Check the arguments of an environment of `GRAPH`, without TensorFlow.

    Returns:
      the arguments that --env_arg gives.

    Raises:
      UserError: an argument is unknown or missing, or a payoff is not a table.
    """
    _, _, fixed = GRAPH[name]
    parameters = {n: x for n, x in _parameters(name).items() if n not in fixed}
    arguments = env_arguments(config)
    for argument in arguments:
        if argument not in parameters:
            takes = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
            raise UserError(
                f"{name} has no argument {argument!r}; {takes}{nearest(argument, parameters)}"
            )
    for parameter, needed in parameters.items():
        if needed and parameter not in arguments:
            raise UserError(f"{name} needs --env_arg={parameter}=...")
    if config.episode_limit:
        raise UserError(
            f"{name} has its own episode limit: --episode_limit is for Python environments only"
        )
    if "payoff" in arguments:
        from tfmix.envs.graph.payoff import read_payoff

        read_payoff(name, arguments["payoff"])
    return arguments


def _parameters(name: str) -> dict[str, bool]:
    """Return the parameters of an environment's builder, and whether each needs a value.

    They are read from the source: its module imports TensorFlow, which takes seconds.
    """
    module, function, _ = GRAPH[name]
    spec = importlib.util.find_spec(module)
    source = spec.loader.get_source(module) if spec else ""  # type: ignore[union-attr]
    nodes = {getattr(node, "name", ""): node for node in ast.parse(source or "").body}
    builder = nodes[function]
    if isinstance(builder, ast.ClassDef):
        methods = {getattr(node, "name", ""): node for node in builder.body}
        builder = methods["__init__"]
    assert isinstance(builder, ast.FunctionDef)
    names = [argument.arg for argument in builder.args.args]
    last = len(names) - len(builder.args.defaults)
    found = {parameter: number < last for number, parameter in enumerate(names)}
    return {n: x for n, x in found.items() if n not in ("self", "name", "team_reward")}


def make_graph(name: str, config: Config) -> Any:
    """Build an environment of `GRAPH`.

    Raises:
      UserError: an argument is unknown, missing or out of bounds.
    """
    module, function, fixed = GRAPH[name]
    arguments = check_graph(name, config)
    build = getattr(importlib.import_module(module), function)
    try:
        return build(name=name, team_reward=config.team_reward, **fixed, **arguments)
    except (ArithmeticError, MemoryError, TypeError, ValueError) as error:
        raise UserError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def make_python(name: str, config: Config) -> Any:
    """Build an environment with a prefix of `PYTHON`, or a user's environment of any kind.

    Raises:
      UserError: it does not exist, or no adapter can play it.
    """
    prefix, _, target = name.partition("/")
    module, function, _ = PYTHON.get(prefix, ("tfmix.envs.python.adapters.custom", "make_env", ""))
    build = getattr(importlib.import_module(module), function)
    return build(
        target or name, name, config.team_reward, config.episode_limit, env_arguments(config)
    )
