"""Adapts PettingZoo's environments: ParallelEnv, and AEC through PettingZoo's converter."""

from __future__ import annotations

from typing import Any

from tfmix.envs.python.adapters.common import build, load_module, version_of
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.errors import UserError


def _load(module: str, name: str, arguments: dict[str, Any]) -> Any:
    """Return `module.parallel_env(**arguments)`, or `module.env(**arguments)` converted."""
    source = load_module(name, module)
    if hasattr(source, "parallel_env"):
        return build(name, source.parallel_env, **arguments)
    if hasattr(source, "env") and callable(source.env):
        return build(name, in_parallel, build(name, source.env, **arguments))
    raise UserError(f"{name}: module {module} has no parallel_env() and no env()")


def in_parallel(env: Any) -> Any:
    """Convert an AEC environment to a ParallelEnv with PettingZoo's converter.

    The converter accepts environments whose metadata say `is_parallelizable`:
    those that update once all agents have acted.
    """
    from pettingzoo.utils.conversions import aec_to_parallel

    return aec_to_parallel(env)


def version(module: str, env: Any) -> str:
    """Return the environment's name and its package's version."""
    return version_of((getattr(env, "metadata", None) or {}).get("name", module), module)


def make_env(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """Make the environment of the module `target`.

    Arguments are passed to its `parallel_env` or `env`.

    Raises:
      UserError: there is no such module, or `TeamEnv` refuses its environment.
    """
    env = _load(target, name, arguments)
    return TeamEnv(env, name, team_reward, episode_limit, version(target, env))
