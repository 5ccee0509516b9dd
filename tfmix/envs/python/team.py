"""A ParallelEnv, or an adapter that speaks its words, as a team with one reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmix.config import UserError
from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.common import limit_of
from tfmix.types import EnvSpec

Seen = tuple[np.ndarray, np.ndarray, np.ndarray]


class TeamEnv:
    """An environment of tfmix's Python lane over one with PettingZoo's parallel interface.

    Unequal agents are padded to the widest observation and action set. Masks
    come from the observation's or the info's `action_mask`. The state is
    `state()` or, where there is none, the observations side by side. An agent
    that is gone sees zeros and keeps action 0 as its only legal one.

    Args:
      source: has `possible_agents`, `agents`, the spaces of an agent,
        `reset(seed)`, `step(actions)` and `close()` as a ParallelEnv. Where
        `one_reward` is true, `step` gives the team's reward, not one an agent.
      name: the environment's name.
      team_reward: `sum`, `mean` or `one`.
      episode_limit: longest episode in env steps; 0 asks the environment.
      version: of its source.

    Raises:
      UserError: fewer than two agents, actions that are not discrete, no limit
        known, no first reset.

    Attributes:
      spec: the task's shape.
      limit_from: who named the longest episode.
      agent_names: what the source calls the agents.
    """

    def __init__(self, source: Any, name: str, team_reward: str, episode_limit: int, version: str):
        from gymnasium import spaces

        self._flatten = spaces.utils.flatten
        self._env, self._name = source, name
        self._team_reward = "team" if getattr(source, "one_reward", False) else team_reward
        self._agents = self.agent_names = list(getattr(source, "possible_agents", []))
        if len(self._agents) < 2:
            raise UserError(f"{name}: a team needs two agents or more, this has {self._agents}")
        actions = {agent: source.action_space(agent) for agent in self._agents}
        for agent, space in actions.items():
            if not isinstance(space, spaces.Discrete):
                raise UserError(
                    f"{name}: agent {agent} has actions {space}; tfmix needs discrete actions"
                    " (some environments offer --env_arg=continuous_actions=false)"
                )
        self._counts = [int(actions[agent].n) for agent in self._agents]
        self._firsts = [int(actions[agent].start) for agent in self._agents]
        self._declared = self._spaces_now()
        self._spaces = {agent: self._visible(seen) for agent, (_, seen) in self._declared.items()}
        self._sizes = [int(spaces.utils.flatdim(space)) for space in self._spaces.values()]
        own_limit, named = limit_of(source)
        self._limit = episode_limit or own_limit
        self.limit_from = (
            "--episode_limit" if episode_limit else getattr(source, "limit_from", named)
        )
        if not self._limit:
            raise UserError(f"{name} does not say how long an episode can be; give --episode_limit")
        self._n_actions, self._obs_size = max(self._counts), max(self._sizes)
        self._clock = 0
        try:
            self._ask("reset", 2, seed=0)
        except EnvError as error:
            raise UserError(str(error)) from error
        self._has_state = True
        state = self._own_state()
        self._has_state = state is not None
        self.spec = EnvSpec(
            name=name,
            n_agents=len(self._agents),
            n_actions=self._n_actions,
            obs_size=self._obs_size,
            state_size=len(self._agents) * self._obs_size if state is None else state.size,
            episode_limit=self._limit,
            agent_n_actions=tuple(self._counts),
            team_reward=self._team_reward,
            version=version,
        )

    def _spaces_now(self) -> dict[Any, tuple[Any, Any]]:
        """Every agent's spaces of actions and observations, as the source has them."""
        return {
            a: (self._env.action_space(a), self._env.observation_space(a)) for a in self._agents
        }

    @staticmethod
    def _visible(space: Any) -> Any:
        """The part of an observation space that is an observation, not a mask."""
        inner = getattr(space, "spaces", None)
        if isinstance(inner, dict) and "observation" in inner and "action_mask" in inner:
            return inner["observation"]
        return space

    def _ask(self, what: str, count: int, *words: Any, **arguments: Any) -> Sequence[Any]:
        """Calls the source's `what`, which must give `count` values."""
        try:
            given = getattr(self._env, what)(*words, **arguments)
        except Exception as error:
            raise EnvRaisedError(
                f"{self._name}: {what}() raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(given, tuple | list) or len(given) != count:
            found = len(given) if isinstance(given, tuple | list) else type(given).__name__
            raise EnvError(f"{self._name}: {what}() must return {count} values, not {found}")
        return given

    def _own_state(self) -> np.ndarray | None:
        if not self._has_state:
            return None
        try:
            return np.array(self._env.state(), np.float32).ravel()
        except (NotImplementedError, AttributeError):
            return None
        except Exception as error:
            raise EnvError(
                f"{self._name}: state() raised {type(error).__name__}: {error}"
            ) from error

    def _look(
        self, observations: dict[Any, Any], infos: dict[Any, Any], last: bool = False
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
            seen, told = observations[agent], infos.get(agent)
            mask = told.get("action_mask") if isinstance(told, dict) else None
            if isinstance(seen, dict) and "action_mask" in seen:
                seen, mask = seen["observation"], seen["action_mask"]
            try:
                flat = np.asarray(self._flatten(self._spaces[agent], seen), np.float32)
                if flat.size != self._sizes[i]:
                    raise ValueError(f"{flat.size} numbers, not {self._sizes[i]}")
                obs[i, : flat.size] = flat
                legal[i, : self._counts[i]] = True if mask is None else np.asarray(mask, bool)
            except (ValueError, TypeError) as error:
                raise EnvError(
                    f"{self._name}: agent {agent}'s observation or mask does not fit its space: "
                    f"{error}"
                ) from error
            if last and not legal[i].any():
                legal[i, 0] = True  # nobody acts any more
            if not legal[i].any():
                raise EnvError(f"{self._name}: agent {agent} has no legal action{self._when()}")
        own = self._own_state()
        state = obs.ravel() if own is None else own
        if state.size != self.spec.state_size:
            raise EnvError(
                f"{self._name}: the state has {state.size} numbers, not {self.spec.state_size}"
            )
        if not (np.isfinite(obs).all() and np.isfinite(state).all()):
            odd = [
                a for a, row in zip(self._agents, obs, strict=True) if not np.isfinite(row).all()
            ]
            what = f"agent {odd[0]}'s observation" if odd else "the state"
            raise EnvError(f"{self._name}: {what} is NaN or infinite{self._when()}")
        return obs, state, legal

    def _when(self) -> str:
        return f" at step {self._clock} of the episode"

    def reset(self, seed: int) -> Seen:
        """Starts an episode."""
        observations, infos = self._ask("reset", 2, seed=seed)
        self._clock = 0
        for agent, now in self._spaces_now().items():
            if now != self._declared[agent]:
                raise EnvError(
                    f"{self._name}: agent {agent}'s spaces changed between episodes: {now}, "
                    f"before {self._declared[agent]}"
                )
        return self._look(observations, infos)

    def rehearse(self) -> bool:
        """Starts episodes, so that what changes between them is told before a training.

        Returns:
          whether the same seed gave the same start.

        Raises:
          UserError: a reset fails, or spaces change.
        """
        try:
            first, _, again = [self.reset(seed) for seed in (0, 1, 0)]
        except EnvError as error:
            raise UserError(str(error)) from error
        return all(map(np.array_equal, first, again))

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, bool, bool, dict[Any, Any]]:
        """Steps the team; agents that are gone are not asked."""
        alive = set(self._env.agents)
        chosen = {
            agent: self._firsts[i] + int(action[i])
            for i, agent in enumerate(self._agents)
            if agent in alive
        }
        observations, rewards, terminations, truncations, infos = self._ask("step", 5, chosen)
        self._clock += 1
        gone = {a for a in alive if terminations.get(a) or truncations.get(a)}
        left = alive - gone
        # A true end wins where the clock strikes at the same time.
        over = not left and all(terminations.get(a) for a in gone)
        cut = not over and (not left or self._clock >= self._limit)
        return *self._look(observations, infos, over or cut), self._team(rewards), over, cut, infos

    def _team(self, rewards: Any) -> float:
        """The team's one number."""
        try:
            if self._team_reward == "team":
                numbers = [float(rewards)]
            else:
                numbers = [float(rewards[agent]) for agent in self._agents if agent in rewards]
        except (TypeError, ValueError) as error:
            wanted = "one number" if self._team_reward == "team" else "one number an agent"
            raise EnvError(f"{self._name}: the reward must be {wanted}, not {rewards}") from error
        if not np.isfinite(numbers).all():
            raise EnvError(f"{self._name}: a reward is NaN or infinite: {numbers}{self._when()}")
        if self._team_reward == "one" and numbers:
            if max(numbers) != min(numbers):
                raise EnvError(
                    f"{self._name}: --team_reward=one, but the agents receive {numbers}; "
                    "choose sum or mean"
                )
            return numbers[0]
        # The mean is over the whole team, agents that are gone included.
        return sum(numbers) / (len(self._agents) if self._team_reward == "mean" else 1)

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()
