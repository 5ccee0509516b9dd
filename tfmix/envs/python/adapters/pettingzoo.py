"""PettingZoo's environments with discrete actions: ParallelEnv, and AEC through its converter."""

from __future__ import annotations

from typing import Any

from tfmix.envs.python.adapters.common import build, load_module, version_of
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.errors import UserError


def _load(module: str, name: str, arguments: dict[str, Any]) -> Any:
    """`module.parallel_env(**arguments)`, or `module.env` converted."""
    source = load_module(name, module)
    if hasattr(source, "parallel_env"):
        return build(name, source.parallel_env, **arguments)
    if hasattr(source, "env") and callable(source.env):
        return build(name, in_parallel, build(name, source.env, **arguments))
    raise UserError(f"{name}: module {module} has no parallel_env() and no env()")


def in_parallel(env: Any) -> Any:
    """An AEC environment as a ParallelEnv, by PettingZoo's own converter.

    It takes environments whose metadata say `is_parallelizable`: those that
    move once all agents have acted.
    """
    from pettingzoo.utils.conversions import aec_to_parallel

    return aec_to_parallel(env)


def version(module: str, env: Any) -> str:
    """The environment's own name and its package's version."""
    return version_of((getattr(env, "metadata", None) or {}).get("name", module), module)


def make_env(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """The environment of the module `target`; arguments are for its `parallel_env` or `env`.

    Raises:
      UserError: no such module, or what `TeamEnv` refuses.
    """
    env = _load(target, name, arguments)
    return TeamEnv(env, name, team_reward, episode_limit, version(target, env))
