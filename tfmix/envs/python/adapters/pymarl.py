"""Adapts environments with the interface of PyMARL's MultiAgentEnv, such as SMAC.

The interface is `reset()`, `step(actions)`, `get_obs()`, `get_state()`,
`get_avail_actions()`, `get_env_info()` and `close()` (oxwhirl/pymarl,
src/envs/multiagentenv.py); EPyMARL's `step` of five values is read too.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfmix.envs.python.adapters import reading
from tfmix.envs.python.adapters.common import (
    SeededGlobalRandom,
    build,
    close_quietly,
    find_callable,
    version_of,
)
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.errors import UserError
from tfmix.utils import text

NEEDED = ("reset", "step", "get_obs", "get_state", "get_avail_actions", "get_env_info")


def _parameters(call: Any) -> Mapping[str, Any]:
    """Return the parameters of `call`, or none if Python cannot tell."""
    try:
        return inspect.signature(call).parameters
    except (TypeError, ValueError):
        return {}


class PymarlTeam:
    """A PyMARL-style environment, with PettingZoo's parallel interface.

    All agents take part until the end: one that has died keeps the actions that
    its mask allows, a no-op. The reward is one number for the team or, in EPyMARL
    with `common_reward=False`, one for each agent. `terminated` is one flag or one
    for each agent, and the episode ends when all are set. An end with
    `info["episode_limit"]` is a truncation by the time limit. The info, such as
    SMAC's `battle_won`, is passed on.

    The interface has no seed for an episode. Before each episode,

      - `reset(seed=...)` is used if reset takes a seed, as in EPyMARL; else
      - `seed(number)` is called if there is such a method, `_seed` or `seed` is
        set if there is such an attribute (SMAC keeps the seed of its game in
        `_seed`), and the environment gets a private, seeded state of `random`
        and `np.random`, so that its draws and those of other code are
        independent.

    An environment with a generator that none of these reaches
    (`np.random.default_rng()`) does not repeat with the run's seed.

    Args:
      env: the environment.
      name: its name.

    Raises:
      UserError: a method is missing, or `get_env_info()` reports no shapes.
    """

    limit_from = "episode_limit of get_env_info()"

    def __init__(self, env: Any, name: str):
        missing = [method for method in NEEDED if not callable(getattr(env, method, None))]
        if missing:
            raise UserError(f"{name} is not PyMARL-style: it has no {missing[0]}()")
        info = build(name, env.get_env_info)
        try:
            count, self._n_actions = int(info["n_agents"]), int(info["n_actions"])
            self._obs_size = int(np.prod(info["obs_shape"]))
            self.episode_limit = int(info.get("episode_limit") or 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{name}: get_env_info() must give n_agents, n_actions and obs_shape as numbers: "
                f"{text.of_error(error)}"
            ) from error
        self.env, self.possible_agents = env, list(range(count))
        self.agents: list[int] = []
        self._spaces = self._make_spaces()
        self._state: Any = None
        self._seeds_itself = "seed" in _parameters(env.reset)
        self._random: Any = contextlib.nullcontext() if self._seeds_itself else SeededGlobalRandom()
        self.one_reward = self._try_reward()

    def _try_reward(self) -> bool:
        """Play a step to find out whether it returns one reward; a failure is reported later."""
        try:
            _, infos = self.reset(seed=0)
            legal = [reading.mask(infos[a]["action_mask"], self._n_actions) for a in self.agents]
            chosen = {a: 0 if row is None else int(row.argmax()) for a, row in enumerate(legal)}
            reward = self.step(chosen)[1]
        except (Exception, SystemExit):
            return True
        return not isinstance(reward, Mapping)

    def _make_spaces(self) -> tuple[Any, Any]:
        from gymnasium import spaces

        seen = spaces.Box(-np.inf, np.inf, (self._obs_size,), np.float32)
        return spaces.Discrete(self._n_actions), seen

    def action_space(self, agent: int) -> Any:
        """Return the action space, the same for every agent; masks say which actions are legal."""
        return self._spaces[0]

    def observation_space(self, agent: int) -> Any:
        """Return the observation space, of one size for every agent."""
        return self._spaces[1]

    def _observe(self, info: Mapping[Any, Any]) -> tuple[dict[int, Any], dict[Any, Any]]:
        """Return observations by agent and the info with the agents' masks; store the state."""
        rows, masks = self.env.get_obs(), np.asarray(self.env.get_avail_actions())
        shape = (len(self.possible_agents), self._n_actions)
        if len(rows) != shape[0] or masks.shape != shape:
            raise ValueError(
                f"{len(rows)} observations and actions' mask {list(masks.shape)}, "
                f"not {shape[0]} and {list(shape)}"
            )
        infos = {agent: {"action_mask": masks[agent]} for agent in self.possible_agents}
        infos = {**info, **infos} if isinstance(info, Mapping) else infos
        self._state = self.env.get_state()
        return {agent: np.ravel(rows[agent]) for agent in self.possible_agents}, infos

    def _seed(self, seed: int) -> None:
        """Seed an environment whose reset takes no seed."""
        self._random.seed(seed)
        method: Any = getattr(self.env, "seed", None)
        if _parameters(method):  # PyMARL's method takes no argument and returns the seed
            with contextlib.suppress(NotImplementedError):
                method(seed)
        layers = (self.env, getattr(self.env, "env", None))
        for layer in (layer for layer in layers if hasattr(layer, "__dict__")):
            for attribute in ("_seed", "seed"):
                if not callable(vars(layer).get(attribute, callable)):
                    setattr(layer, attribute, seed)

    def reset(self, seed: int) -> tuple[dict[int, Any], dict[Any, Any]]:
        """Start an episode."""
        if not self._seeds_itself:
            self._seed(seed)
        with self._random:
            if self._seeds_itself:
                self.env.reset(seed=seed)
            else:
                self.env.reset()
            self.agents = list(self.possible_agents)
            return self._observe({})

    def step(self, actions: Mapping[int, int]) -> tuple[Any, ...]:
        """Step the environment."""
        with self._random:
            # An array, as in PyMARL: some environments use its shape or item().
            given = self.env.step(np.asarray([actions[agent] for agent in self.possible_agents]))
            if not isinstance(given, tuple | list) or len(given) not in (3, 5):
                raise ValueError(
                    f"step() gave {reading.brief(given)}, not 3 values (or EPyMARL's 5)"
                )
            *_, reward, terminated, truncated, info = (
                given if len(given) == 5 else (*given[:2], False, given[2])
            )
            observations, infos = self._observe(info)
        over, cut = reading.all_flags(terminated), reading.all_flags(truncated)
        if over and isinstance(info, Mapping) and reading.flag(info.get("episode_limit")):
            over, cut = False, True
        if over or cut:
            over, self.agents = over and not cut, []
        # `TeamEnv` refuses a value that is not a flag.
        ends = dict.fromkeys(self.possible_agents, terminated if over is None else over)
        cuts = dict.fromkeys(self.possible_agents, truncated if cut is None else cut)
        if reading.number(reward) is None:
            reward = reading.by_agent(reward, self.possible_agents)
        return observations, reward, ends, cuts, infos

    def state(self) -> Any:
        """Return the state after the last reset or step."""
        return self._state

    def close(self) -> None:
        """Close the environment, if it can be closed."""
        close_quietly(self.env)


def as_team(env: Any, name: str, team_reward: str, episode_limit: int) -> TeamEnv:
    """Make a team of a PyMARL-style environment.

    `team_reward` is unused if the environment returns one reward.

    Raises:
      UserError: `PymarlTeam` or `TeamEnv` refuses it.
    """
    kind = type(env)
    version = version_of(kind.__name__, kind.__module__)
    return TeamEnv(PymarlTeam(env, name), name, team_reward, episode_limit, version)


def make_env(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """Make the environment of `target`, `module:Class` or `module:function`.

    Raises:
      UserError: there is no such class, or `as_team` refuses its environment.
    """
    source: Callable[..., Any] = find_callable(name, target)
    return as_team(build(name, source, **arguments), name, team_reward, episode_limit)
