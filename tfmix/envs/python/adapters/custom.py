"""Recognises a user's environment, in any interface that tfmix knows, and adapts it."""

from __future__ import annotations

import functools
from typing import Any

from tfmix.envs.python.adapters import gymnasium, pettingzoo, pymarl
from tfmix.envs.python.adapters.common import build, find_callable
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.errors import UserError
from tfmix.types import EnvSpec
from tfmix.utils import text

KNOWN = (
    "an environment of tfmix, a ParallelEnv or AECEnv of PettingZoo, a Gymnasium one of several "
    "agents, or a PyMARL-style one"
)


def adapt(made: Any, name: str, team_reward: str, episode_limit: int) -> Any:
    """Return an environment that tfmix can play, recognised by the attributes of `made`.

    An `EnvSpec` as `spec` means tfmix's interface: `made` is returned itself.
    `get_avail_actions` and `get_env_info` mean PyMARL, `possible_agents` means
    PettingZoo (AEC if there is `agent_iter`), and action and observation spaces
    mean Gymnasium.

    Raises:
      UserError: `made` has none of these interfaces, or the adapter refuses it.
    """
    if isinstance(getattr(made, "spec", None), EnvSpec) and not isinstance(made, type):
        if episode_limit:
            raise UserError(f"{name} has its own episode limit in its spec: no --episode_limit")
        return made
    if isinstance(made, type):
        raise UserError(
            f"{name} gives the class {made.__name__}, not an environment: give the class itself, "
            f"or return {made.__name__}()"
        )
    if hasattr(made, "get_avail_actions") and hasattr(made, "get_env_info"):
        return pymarl.as_team(made, name, team_reward, episode_limit)
    if hasattr(made, "possible_agents"):
        team = build(name, pettingzoo.in_parallel, made) if hasattr(made, "agent_iter") else made
        version = pettingzoo.version(type(getattr(made, "unwrapped", made)).__module__, made)
        return TeamEnv(team, name, team_reward, episode_limit, version)
    if hasattr(made, "action_space") and hasattr(made, "observation_space"):
        return gymnasium.as_team(made, name, team_reward, episode_limit)
    raise UserError(f"{name} gives {text.clean(_type_name(made))}, which is not {KNOWN}")


def _type_name(made: Any) -> str:
    kind = type(made).__name__
    return f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"


def name_for(env: Any) -> str:
    """Return a run's name for an environment, or a factory, that was given from Python."""
    return f"custom/{getattr(env, '__name__', type(env).__name__)}"


def is_instance(env: Any) -> bool:
    """Return whether `env` is an environment, and not a factory of environments."""
    return hasattr(env, "reset") and hasattr(env, "step") and not isinstance(env, type)


def make_from_factory(factory: Any, name: str, team_reward: str, episode_limit: int) -> Any:
    """Call a factory and adapt the environment that it returns.

    Raises:
      UserError: the factory raises an exception, or `adapt` refuses its result.
    """
    return adapt(build(name, factory), name, team_reward, episode_limit)


def make_env(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> Any:
    """Call `target`, `module:function` or `module:Class`, and adapt its result.

    Raises:
      UserError: there is no such function, it raises an exception, or `adapt`
        refuses its result.
    """
    factory = functools.partial(find_callable(name, target), **arguments)
    return make_from_factory(factory, name, team_reward, episode_limit)
