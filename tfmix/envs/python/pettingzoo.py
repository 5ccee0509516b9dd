"""PettingZoo's ParallelEnv, any with discrete actions."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from tfmix.config import UserError
from tfmix.envs.python import EnvError
from tfmix.quiet import quiet_import
from tfmix.types import EnvSpec

# Where environments keep the length of an episode; there is no standard for it.
LIMIT_NAMES = ("max_cycles", "episode_limit", "max_steps", "max_iter", "num_iters")

Seen = tuple[np.ndarray, np.ndarray, np.ndarray]


def _load(module: str, name: str, arguments: dict[str, Any]) -> Any:
    """`module.parallel_env(**arguments)`."""
    try:
        source = quiet_import(module)
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{name}: cannot import {module}: {error}") from error
    if not hasattr(source, "parallel_env"):
        raise UserError(f"{name}: module {module} has no parallel_env()")
    try:
        return source.parallel_env(**arguments)
    except Exception as error:  # whatever a third party raises, the request was wrong
        raise UserError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def _limit_of(env: Any) -> int:
    """The environment's own limit in steps, 0 where it does not say."""
    layers = [env, getattr(env, "aec_env", None), getattr(env, "par_env", None)]
    for layer in layers:
        for place in (layer, getattr(layer, "unwrapped", None)):
            for attribute in LIMIT_NAMES:
                value = getattr(place, attribute, None)
                if isinstance(value, int | np.integer) and value > 0:
                    return int(value)
    return 0


class PettingZooEnv:
    """A ParallelEnv as a team with one reward.

    Unequal agents are padded to the widest observation and action set. Masks
    come from the observation's or the info's `action_mask`. The state is
    `state()` or, where there is none, the observations side by side. An agent
    that is gone sees zeros and keeps action 0 as its only legal one.

    Args:
      module: module path with a `parallel_env`.
      name: the environment's name.
      team_reward: `sum`, `mean` or `one`.
      episode_limit: longest episode in steps; 0 asks the environment.
      arguments: for `parallel_env`.

    Raises:
      UserError: no such module, actions that are not discrete, no limit known.
    """

    def __init__(
        self,
        module: str,
        name: str,
        team_reward: str,
        episode_limit: int,
        arguments: dict[str, Any],
    ):
        from gymnasium import spaces

        self._flatten = spaces.utils.flatten
        self._env = _load(module, name, arguments)
        self._name, self._team_reward = name, team_reward
        self._agents = list(self._env.possible_agents)
        if len(self._agents) < 2:
            raise UserError(f"{name}: a team needs two agents or more, this has {self._agents}")
        actions = {agent: self._env.action_space(agent) for agent in self._agents}
        for agent, space in actions.items():
            if not isinstance(space, spaces.Discrete):
                raise UserError(
                    f"{name}: {agent} has actions {space}; tfmix needs discrete actions"
                    " (some environments offer --env_arg=continuous_actions=false)"
                )
        self._counts = [int(actions[agent].n) for agent in self._agents]
        self._firsts = [int(actions[agent].start) for agent in self._agents]
        self._spaces = {
            agent: self._visible(self._env.observation_space(agent)) for agent in self._agents
        }
        sizes = [int(spaces.utils.flatdim(space)) for space in self._spaces.values()]
        limit = episode_limit or _limit_of(self._env)
        if not limit:
            raise UserError(f"{name} does not say how long an episode can be; give --episode_limit")
        self._n_actions, self._obs_size, self._limit = max(self._counts), max(sizes), limit
        self._clock = 0
        self._has_state = True
        self._env.reset(seed=0)
        self._has_state = self._own_state() is not None
        state = self._own_state()
        self.spec = EnvSpec(
            name=name,
            n_agents=len(self._agents),
            n_actions=self._n_actions,
            obs_size=self._obs_size,
            state_size=len(self._agents) * self._obs_size if state is None else state.size,
            episode_limit=limit,
            agent_n_actions=tuple(self._counts),
            team_reward=team_reward,
            version=_version(module, self._env),
        )

    @staticmethod
    def _visible(space: Any) -> Any:
        """The part of an observation space that is an observation, not a mask."""
        inner = getattr(space, "spaces", None)
        if isinstance(inner, dict) and "observation" in inner and "action_mask" in inner:
            return inner["observation"]
        return space

    def _own_state(self) -> np.ndarray | None:
        if not self._has_state:
            return None
        try:
            return np.asarray(self._env.state(), np.float32).ravel()
        except (NotImplementedError, AttributeError):
            return None

    def _look(
        self, observations: dict[str, Any], infos: dict[str, Any], last: bool = False
    ) -> Seen:
        """Observations, state and masks of all agents, padded and checked.

        On an episode's last step everybody is still looked at: where the clock
        cut it, the value of what they see is counted on.
        """
        present = set(observations if last else self._env.agents)
        obs: np.ndarray = np.zeros([len(self._agents), self._obs_size], np.float32)
        legal: np.ndarray = np.zeros([len(self._agents), self._n_actions], bool)
        for i, agent in enumerate(self._agents):
            if agent not in present or agent not in observations:
                legal[i, 0] = True
                continue
            seen, mask = observations[agent], (infos.get(agent) or {}).get("action_mask")
            if isinstance(seen, dict) and "action_mask" in seen:
                seen, mask = seen["observation"], seen["action_mask"]
            try:
                flat = np.asarray(self._flatten(self._spaces[agent], seen), np.float32)
                obs[i, : flat.size] = flat
            except (ValueError, TypeError) as error:
                raise EnvError(
                    f"{self._name}: {agent}'s observation does not fit its space: {error}"
                ) from error
            legal[i, : self._counts[i]] = True if mask is None else np.asarray(mask, bool)
            if last and not legal[i].any():
                legal[i, 0] = True  # nobody acts any more
            if not legal[i].any():
                raise EnvError(f"{self._name}: {agent} has no legal action")
        own = self._own_state()
        state = obs.ravel() if own is None else own
        if not (np.isfinite(obs).all() and np.isfinite(state).all()):
            raise EnvError(f"{self._name}: an observation or the state is NaN or infinite")
        return obs, state, legal

    def reset(self, seed: int) -> Seen:
        """Starts an episode."""
        try:
            observations, infos = self._env.reset(seed=seed)
        except Exception as error:
            raise EnvError(
                f"{self._name}: reset() raised {type(error).__name__}: {error}"
            ) from error
        self._clock = 0
        return self._look(observations, infos)

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, bool, bool, dict[str, Any]]:
        """Steps the team; agents that are gone are not asked."""
        alive = set(self._env.agents)
        chosen = {
            agent: self._firsts[i] + int(action[i])
            for i, agent in enumerate(self._agents)
            if agent in alive
        }
        try:
            observations, rewards, terminations, truncations, infos = self._env.step(chosen)
        except Exception as error:
            raise EnvError(
                f"{self._name}: step() raised {type(error).__name__}: {error}"
            ) from error
        self._clock += 1
        gone = {a for a in alive if terminations.get(a) or truncations.get(a)}
        left = alive - gone
        # A true end wins where the clock strikes at the same time.
        over = not left and all(terminations.get(a) for a in gone)
        cut = not over and (not left or self._clock >= self._limit)
        reward = self._team([float(rewards[a]) for a in self._agents if a in rewards])
        return *self._look(observations, infos, over or cut), reward, over, cut, infos

    def _team(self, rewards: list[float]) -> float:
        if not np.isfinite(rewards).all():
            raise EnvError(f"{self._name}: a reward is NaN or infinite: {rewards}")
        if self._team_reward == "one" and rewards:
            if max(rewards) != min(rewards):
                raise EnvError(
                    f"{self._name}: --team_reward=one, but the agents receive {rewards}; "
                    "choose sum or mean"
                )
            return rewards[0]
        # The mean is over the whole team, agents that are gone included.
        return sum(rewards) / (len(self._agents) if self._team_reward == "mean" else 1)

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()


def _version(module: str, env: Any) -> str:
    """The environment's own name and its package's version."""
    package = module.split(".")[0]
    try:
        number = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        number = "?"
    return f"{(env.metadata or {}).get('name', module)}, {package} {number}"
