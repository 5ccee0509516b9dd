"""Gymnasium's multi-agent environments, as level-based foraging and the robot warehouse."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmix.config import UserError, nearest
from tfmix.envs.python.common import build, limit_of, load_module, version_of
from tfmix.envs.python.team import TeamEnv

# The package that registers the ids of this beginning.
PACKAGES = {"Foraging": "lbforaging", "rware": "rware"}
# Packages that call the end of their own clock a termination: where the clock is kept.
CLOCKS = {"lbforaging": "_max_episode_steps", "rware": "max_steps"}


def _by_agent(value: Any) -> dict[Any, Any]:
    """One value an agent, by the agent's key or index."""
    return dict(value) if isinstance(value, Mapping) else dict(enumerate(value))


def _is_one(value: Any) -> bool:
    """Whether there is one number for the whole team."""
    return not isinstance(value, Mapping) and np.ndim(value) == 0


class GymnasiumTeam:
    """A Gymnasium environment of several agents in PettingZoo's words.

    Agents are the parts of the action space, a `Tuple` or `Dict` of `Discrete`;
    the observation space has the same parts. Reward, `terminated` and
    `truncated` are one value, or one an agent. The info's `action_mask` holds
    one mask an agent. The state is the bare environment's `state()` where it
    has that method.

    Args:
      env: the environment.
      name: its name.

    Raises:
      UserError: spaces of one agent, or a first step that fails.

    Attributes:
      bare: the environment without wrappers.
      episode_limit: what it says of its longest episode, 0 where it does not.
      limit_from: where it says so.
      own_clock: whether it ends its episodes at its limit itself.
    """

    own_clock = True

    def __init__(self, env: Any, name: str):
        from gymnasium import spaces

        self.env, self.bare = env, getattr(env, "unwrapped", env)
        for space in (env.action_space, env.observation_space):
            if not isinstance(space, spaces.Tuple | spaces.Dict):
                raise UserError(
                    f"{name} is for one agent, it has {type(space).__name__} spaces; "
                    "a team's are a Tuple or Dict, one space an agent"
                )
        self._actions = _by_agent(env.action_space.spaces)
        seen = _by_agent(env.observation_space.spaces)
        self._as_dict = isinstance(env.action_space, spaces.Dict)
        if set(self._actions) != set(seen):
            raise UserError(
                f"{name}: actions are for {list(self._actions)}, observations for {list(seen)}"
            )
        self.possible_agents = list(self._actions)
        self.agents: list[Any] = []
        spec = getattr(env, "spec", None)
        self.episode_limit, self.limit_from = limit_of(self.bare)
        if registered := getattr(spec, "max_episode_steps", None):
            self.episode_limit, self.limit_from = registered, "max_episode_steps as registered"
        if all(isinstance(space, spaces.Discrete) for space in self._actions.values()):
            self.one_reward = build(name, self._try_reward)  # else the team refuses it

    def _try_reward(self) -> bool:
        """Whether `step` gives one number: an environment says so by its step alone."""
        observations, infos = self.reset(seed=0)
        chosen = {}
        for agent, space in self._actions.items():
            places = (observations[agent], infos.get(agent))
            masks = [p["action_mask"] for p in places if isinstance(p, dict) and "action_mask" in p]
            mask = masks[0] if masks else None
            chosen[agent] = int(space.start) + (0 if mask is None else int(np.argmax(mask)))
        return not isinstance(self.step(chosen)[1], Mapping)

    def action_space(self, agent: Any) -> Any:
        """The agent's actions, as the environment has them now."""
        return self.env.action_space[agent]

    def observation_space(self, agent: Any) -> Any:
        """What the agent sees, as the environment has it now."""
        return self.env.observation_space[agent]

    def _all(self, what: str, value: Any) -> dict[Any, Any]:
        """A value of every agent."""
        found = _by_agent(value)
        if missing := [agent for agent in self.possible_agents if agent not in found]:
            raise ValueError(f"{what} lacks {missing}")
        return found

    def _flags(self, value: Any) -> dict[Any, bool]:
        if _is_one(value):
            return dict.fromkeys(self.possible_agents, bool(value))
        return {agent: bool(flag) for agent, flag in _by_agent(value).items()}

    def _infos(self, info: Mapping[Any, Any]) -> dict[Any, Any]:
        masks = info.get("action_mask")
        if masks is None:
            return dict(info)
        rows = self._all("action_mask", masks).items()
        return {**info, **{agent: {"action_mask": mask} for agent, mask in rows}}

    def reset(self, seed: int) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Starts an episode."""
        observations, info = self.env.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._all("the observation", observations), self._infos(info)

    def step(self, actions: Mapping[Any, int]) -> tuple[Any, ...]:
        """Steps the environment; an agent that is gone is sent its first action."""
        chosen = {a: actions.get(a, int(self._actions[a].start)) for a in self.possible_agents}
        given = self.env.step(chosen if self._as_dict else tuple(chosen.values()))
        observations, reward, terminated, truncated, info = given
        ends, cuts = self._flags(terminated), self._flags(truncated)
        self.agents = [a for a in self.agents if not (ends.get(a) or cuts.get(a))]
        rewards = float(reward) if _is_one(reward) else _by_agent(reward)
        return _by_agent(observations), rewards, ends, cuts, self._infos(info)

    def state(self) -> Any:
        """The environment's own state.

        Raises:
          NotImplementedError: it has none.
        """
        own = getattr(self.bare, "state", None)
        if not callable(own):
            raise NotImplementedError
        return own()

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()


class ForagingTeam(GymnasiumTeam):
    """Level-based foraging, an episode made of its seed alone.

    Its own `reset` puts nobody where somebody stood at the end of the episode before.
    """

    def reset(self, seed: int) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Starts an episode."""
        for player in self.bare.players:
            player.position = None
        return super().reset(seed)


def as_team(env: Any, name: str, team_reward: str, episode_limit: int) -> TeamEnv:
    """A Gymnasium environment of several agents as a team.

    Foraging and the warehouse say `terminated` when their own clock strikes,
    where Gymnasium's word is `truncated`. Their clocks are set behind the
    limit, and the limit is kept here: so `--time_limit` decides what a cut
    episode's end is worth, and `--episode_limit` may be longer than theirs.

    Raises:
      UserError: what `GymnasiumTeam` and `TeamEnv` refuse.
    """
    module = type(getattr(env, "unwrapped", env)).__module__
    package = module.split(".")[0]
    team = (ForagingTeam if package == "lbforaging" else GymnasiumTeam)(env, name)
    limit = episode_limit or team.episode_limit
    if limit and (clock := CLOCKS.get(package)):
        setattr(team.bare, clock, limit + 1)
        team.own_clock = False
    spec = getattr(env, "spec", None)
    version = version_of(getattr(spec, "id", type(team.bare).__name__), module)
    return TeamEnv(team, name, team_reward, episode_limit, version)


def make(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """The environment that is registered as `target`, or as Id by module where it is `module:Id`.

    Arguments are for `gymnasium.make`; `max_episode_steps` is its time limit.

    Raises:
      UserError: no such id, or what `as_team` refuses.
    """
    import gymnasium

    module, colon, rest = target.rpartition(":")
    known = [package for start, package in PACKAGES.items() if rest.startswith(start)]
    for package in [module] if colon else known:
        load_module(name, package)
    try:
        env = build(name, gymnasium.make, rest, disable_env_checker=True, **arguments)
    except UserError as error:
        if isinstance(error.__cause__, gymnasium.error.UnregisteredEnv):
            for package in PACKAGES.values():  # their names may be meant
                with contextlib.suppress(UserError):
                    load_module(name, package)
            raise UserError(
                f"{name}: Gymnasium has no {rest!r}{nearest(rest, gymnasium.registry)}"
                " (gymnasium/module:Id imports the module that registers it)"
            ) from error
        raise
    return as_team(env, name, team_reward, episode_limit)
