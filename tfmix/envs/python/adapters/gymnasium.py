"""Adapts Gymnasium's multi-agent environments, such as level-based foraging and rware."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmix.envs.python.adapters import reading
from tfmix.envs.python.adapters.common import build, find_limit, load_module, version_of
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.envs.suggest import REGISTERING
from tfmix.errors import UserError
from tfmix.utils.text import nearest

# Packages that report their time limit as a termination, and the attribute that holds it.
LIMIT_ATTRIBUTES = {"lbforaging": "_max_episode_steps", "rware": "max_steps"}


class GymnasiumTeam:
    """A Gymnasium environment of several agents, with PettingZoo's parallel interface.

    The agents are the parts of the action space, a `Tuple` or `Dict` of
    `Discrete`; the observation space has the same parts. Reward, `terminated` and
    `truncated` are one value, or one for each agent: a dict, or a list in the
    order of the action space. The info's `action_mask`, or `get_avail_actions()`
    of the unwrapped environment, holds one mask for each agent. The state is
    `state()` or `get_state()` of the unwrapped environment, if it has one.

    Args:
      env: the environment.
      name: its name.

    Raises:
      UserError: the spaces are for one agent, or the first step fails.

    Attributes:
      bare: the environment without wrappers.
      episode_limit: its episode limit, 0 if it has none.
      limit_from: where the limit comes from.
      truncates_itself: whether it truncates its episodes at its limit itself.
    """

    truncates_itself = True

    def __init__(self, env: Any, name: str):
        from gymnasium import spaces

        self.env, self.bare = env, getattr(env, "unwrapped", env)
        for what in ("action", "observation"):
            if not isinstance(getattr(env, f"{what}_space"), spaces.Tuple | spaces.Dict):
                raise UserError(f"{name} {_for_one_agent(what, getattr(env, f'{what}_space'))}")
        self._actions = _parts(env.action_space)
        seen = _parts(env.observation_space)
        self._as_dict = isinstance(env.action_space, spaces.Dict)
        if set(self._actions) != set(seen):
            raise UserError(
                f"{name}: actions are for {reading.brief(list(self._actions))}, observations for "
                f"{reading.brief(list(seen))}"
            )
        self.possible_agents = list(self._actions)
        self.agents: list[Any] = []
        spec = getattr(env, "spec", None)
        self.episode_limit, self.limit_from = find_limit(self.bare)
        if registered := getattr(spec, "max_episode_steps", None):
            self.episode_limit, self.limit_from = registered, "max_episode_steps as registered"
        self._has_masks = callable(getattr(self.bare, "get_avail_actions", None))
        if all(isinstance(space, spaces.Discrete) for space in self._actions.values()):
            self.one_reward = build(name, self._try_reward)  # else `TeamEnv` refuses it

    def _try_reward(self) -> bool:
        """Play a step to find out whether `step` returns one reward for the team."""
        observations, infos = self.reset(seed=0)
        given = observations if isinstance(observations, Mapping) else {}
        chosen = {}
        for i, (agent, space) in enumerate(self._actions.items()):
            found = reading.mask_in(given.get(agent))
            if found is None:
                found = reading.team_mask(infos, agent, i, len(self._actions))
            legal = None if found is None else reading.mask(found, int(space.n))
            chosen[agent] = int(space.start) + (0 if legal is None else int(np.argmax(legal)))
        return isinstance(self.step(chosen)[1], float)

    def action_space(self, agent: Any) -> Any:
        """Return the agent's action space as the environment has it at present."""
        return self.env.action_space[agent]

    def observation_space(self, agent: Any) -> Any:
        """Return the agent's observation space as the environment has it at present."""
        return self.env.observation_space[agent]

    def _by_agent(self, value: Any) -> Any:
        """Return a value for each agent by agent; one value is repeated for all agents."""
        if not isinstance(value, Mapping) and not (reading.is_list(value) and len(value) != 1):
            return dict.fromkeys(self.possible_agents, value)
        return reading.by_agent(value, self.possible_agents)

    def _infos(self, info: Any) -> Any:
        if self._has_masks and isinstance(info, Mapping) and reading.mask_in(info) is None:
            return {**info, "action_mask": self.bare.get_avail_actions()}
        return info

    def reset(self, seed: int) -> Any:
        """Start an episode."""
        given = self.env.reset(seed=seed)
        if not isinstance(given, tuple | list) or len(given) != 2:
            return given  # `TeamEnv` refuses it
        observations, info = given
        self.agents = list(self.possible_agents)
        return reading.by_agent(observations, self.possible_agents), self._infos(info)

    def step(self, actions: Mapping[Any, int]) -> Any:
        """Step the environment; an agent that has left gets its first action."""
        chosen = {a: actions.get(a, int(self._actions[a].start)) for a in self.possible_agents}
        given = self.env.step(chosen if self._as_dict else tuple(chosen.values()))
        if not isinstance(given, tuple | list) or len(given) != 5:
            return given  # `TeamEnv` refuses it
        observations, reward, terminated, truncated, info = given
        ends, cuts = self._by_agent(terminated), self._by_agent(truncated)
        flags = [by for by in (ends, cuts) if isinstance(by, Mapping)]
        everyone = any(reading.flag(by.get(reading.EVERYONE)) for by in flags)
        self.agents = [
            a for a in self.agents if not (everyone or any(reading.flag(by.get(a)) for by in flags))
        ]
        one = None if isinstance(reward, Mapping) else reading.number(reward)
        rewards = reading.by_agent(reward, self.possible_agents) if one is None else one
        seen = reading.by_agent(observations, self.possible_agents)
        return seen, rewards, ends, cuts, self._infos(info)

    def state(self) -> Any:
        """Return the environment's state.

        Raises:
          NotImplementedError: it has no state.
        """
        for name in ("state", "get_state"):
            if callable(get_state := getattr(self.bare, name, None)):
                return get_state()
        raise NotImplementedError

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _parts(space: Any) -> dict[Any, Any]:
    """Return the spaces of a Tuple or Dict by agent."""
    parts = space.spaces
    return dict(parts) if isinstance(parts, Mapping) else dict(enumerate(parts))


def _for_one_agent(what: str, space: Any) -> str:
    """Say why a space is not a team's."""
    kind = type(space).__name__
    if callable(space):
        return (
            f"has a method {what}_space and no possible_agents: a ParallelEnv of PettingZoo lists "
            "its agents there as soon as it is made"
        )
    if type(space).__module__.partition(".")[0] == "gym":
        return (
            f"has an {what} space of the package gym; tfmix reads Gymnasium's: write "
            "`from gymnasium import spaces`"
        )
    if kind == "MultiDiscrete":
        return (
            f"has one MultiDiscrete as its {what} space; a team's is a Tuple with a Discrete for "
            "each agent, such as Tuple([Discrete(2), Discrete(2)])"
        )
    return (
        f"is for one agent, its {what} space is {kind}; a team's is a Tuple or Dict with one space "
        "for each agent"
    )


class ForagingTeam(GymnasiumTeam):
    """Level-based foraging, with episodes that depend only on their seed.

    The package's `reset` avoids the cells in which the last episode left players.
    """

    def reset(self, seed: int) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Start an episode."""
        for player in self.bare.players:
            player.position = None
        return super().reset(seed)


def as_team(env: Any, name: str, team_reward: str, episode_limit: int) -> TeamEnv:
    """Make a team of a Gymnasium environment of several agents.

    Foraging and rware report their time limit as `terminated`, which Gymnasium
    calls `truncated`. Their limits are set out of reach, and `TeamEnv` truncates
    instead: so `--time_limit` decides what the end of a truncated episode is
    worth, and `--episode_limit` may be longer than theirs.

    Raises:
      UserError: `GymnasiumTeam` or `TeamEnv` refuses it.
    """
    module = type(getattr(env, "unwrapped", env)).__module__
    package = module.split(".")[0]
    team = (ForagingTeam if package == "lbforaging" else GymnasiumTeam)(env, name)
    limit = episode_limit or team.episode_limit
    if limit and (attribute := LIMIT_ATTRIBUTES.get(package)):
        setattr(team.bare, attribute, limit + 1)
        team.truncates_itself = False
    spec = getattr(env, "spec", None)
    version = version_of(getattr(spec, "id", type(team.bare).__name__), module)
    return TeamEnv(team, name, team_reward, episode_limit, version)


def make_env(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """Make the environment registered as `target`, or by a module if it is `module:Id`.

    Arguments are for `gymnasium.make`; `max_episode_steps` is its time limit.

    Raises:
      UserError: there is no such id, or `as_team` refuses its environment.
    """
    import gymnasium

    module, colon, rest = target.rpartition(":")
    known = [package for start, package in REGISTERING.items() if rest.startswith(start)]
    for package in [module] if colon else known:
        load_module(name, package)
    try:
        env = build(name, gymnasium.make, rest, disable_env_checker=True, **arguments)
    except UserError as error:
        if isinstance(error.__cause__, gymnasium.error.UnregisteredEnv):
            for package in REGISTERING.values():  # so that their ids are among the suggestions
                with contextlib.suppress(UserError):
                    load_module(name, package)
            raise UserError(
                f"{name}: Gymnasium has no {rest!r}{nearest(rest, gymnasium.registry)}"
                " (gymnasium/module:Id imports the module that registers it)"
            ) from error
        raise
    return as_team(env, name, team_reward, episode_limit)
