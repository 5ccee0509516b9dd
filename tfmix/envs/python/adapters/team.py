"""Adapts PettingZoo's parallel interface to a team with one reward.

Everything that `reset` and `step` of a third-party environment return is checked
here by type, keys, shape and value, in training and in `check_env` alike.
docs/environments.md lists the conventions that are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.envs import metrics
from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.adapters import reading
from tfmix.envs.python.adapters.common import close_quietly, find_limit, layers_of, seed_hint
from tfmix.envs.python.adapters.rehearsal import rehearse
from tfmix.envs.python.adapters.spaces import AgentSpaces
from tfmix.envs.python.adapters.validation import StepValidator
from tfmix.errors import UserError
from tfmix.types import EnvSpec
from tfmix.utils import text

Seen = tuple[np.ndarray, np.ndarray, np.ndarray]
RETURNS = {
    "reset": "observations and infos",
    "step": "observations, rewards, terminations, truncations and infos",
}


class TeamEnv:
    """A Python environment over one with PettingZoo's parallel interface.

    Unequal agents are padded to the largest observation and action set. Masks
    come from the observation's or the info's `action_mask`. The state is
    `state()` or, if there is none, the concatenated observations. An agent that
    has left observes zeros and has action 0 as its only legal one.

    Args:
      source: has `possible_agents`, `agents`, the spaces of an agent,
        `reset(seed)` and `step(actions)` as a ParallelEnv. If its `one_reward`
        is true, `step` returns the team's reward, not one for each agent.
      name: the environment's name.
      team_reward: `sum`, `mean` or `one`.
      episode_limit: longest episode in env steps; 0 for the source's limit.
      version: version of the source.

    Raises:
      UserError: there are fewer than two agents, actions are not discrete, no
        limit is known, or the first reset fails.

    Attributes:
      spec: the task's shape.
      limit_from: where the episode limit comes from.
      agent_names: the source's names of the agents.
      agent_obs_sizes: the size of each agent's observation without padding.
      ended: whether the source itself has ended the episode.
      spaces: the agents' spaces.
      validator: reads what a step returns, or refuses it.
      metric_names: names of the metrics of an episode, those that the source declares, or that
        the rehearsal has found.
      finds_metrics: whether the source declares none.
    """

    def __init__(self, source: Any, name: str, team_reward: str, episode_limit: int, version: str):
        self._env, self._name, self.ended = source, name, False
        self._acting: list[Any] = []
        self.agent_names = self._find_agents()
        one = getattr(source, "one_reward", False)
        self.validator = StepValidator(name, self.agent_names, "team" if one else team_reward)
        self.spaces = AgentSpaces(source, name, self.agent_names)
        self.agent_obs_sizes = self.spaces.sizes
        self._n_actions, self._obs_size = max(self.spaces.counts), max(self.spaces.sizes)
        counts = np.asarray(self.spaces.counts)[:, None]
        self._own_actions: np.ndarray = np.arange(self._n_actions) < counts  # [N, A]
        names = metrics.declared(layers_of(source), name)
        self.metric_names, self.finds_metrics = names or (), names is None
        source_limit, named = find_limit(source)
        self._limit = episode_limit or source_limit
        named = getattr(source, "limit_from", named)
        self.limit_from = "--episode_limit" if episode_limit else named
        if not self._limit:
            raise UserError(f"{name} does not say how long an episode can be; give --episode_limit")
        try:
            self._call("reset", 2, seed=0)
            self._state_size = -1
            state = self._read_state()
        except EnvError as error:
            raise UserError(str(error)) from error
        size = self._state_size = -1 if state is None else state.size
        self.spec = EnvSpec(
            name=name,
            n_agents=len(self.agent_names),
            n_actions=self._n_actions,
            obs_size=self._obs_size,
            state_size=len(self.agent_names) * self._obs_size if size < 0 else size,
            episode_limit=self._limit,
            agent_n_actions=tuple(self.spaces.counts),
            team_reward=self.validator.team_reward,
            version=version,
        )

    # What the source is.

    def _find_agents(self) -> list[Any]:
        """Return `possible_agents`, which some environments set at their first reset."""
        if not list(getattr(self._env, "possible_agents", None) or []):
            try:
                self._call("reset", 2, seed=0)
            except EnvError as error:
                raise UserError(str(error)) from error
        names = list(getattr(self._env, "possible_agents", None) or [])
        if len(set(names)) < 2:
            raise UserError(
                f"{self._name}: a team needs two agents or more, this has {reading.brief(names)}"
            )
        return names

    @property
    def source(self) -> Any:
        """The environment that is adapted."""
        return self._env

    @property
    def has_state(self) -> bool:
        """Whether the source has a state, not only observations."""
        return self._state_size >= 0

    def _present(self) -> list[Any]:
        """Return the agents that can act, in the order of `agent_names`."""
        there = set(getattr(self._env, "agents", self.agent_names))
        known = [agent for agent in self.agent_names if agent in there]
        for agent in there.difference(known) if len(known) < len(there) else ():
            self.validator.on_fault("stranger", agent)
        return known

    def _call(self, what: str, count: int, *values: Any, **arguments: Any) -> Sequence[Any]:
        """Call the source's `what`, which must return `count` values."""
        try:
            given = getattr(self._env, what)(*values, **arguments)
        except (Exception, SystemExit) as error:
            raise EnvRaisedError(
                f"{self._name}: {what}() raised {text.of_error(error)}{seed_hint(error)}"
            ) from error
        if not isinstance(given, tuple | list) or len(given) != count:
            found = len(given) if isinstance(given, tuple | list) else reading.brief(given)
            raise EnvError(
                f"{self._name}: {what}() must return {count} values ({RETURNS[what]}), not {found}"
            )
        return given

    # Observations, masks and the state.

    def _read_state(self) -> np.ndarray | None:
        """Return the source's state, flat, or None if it has none."""
        try:
            given = getattr(self._env, "state", None)
            if callable(given):
                given = given()
            elif not isinstance(given, np.ndarray):  # an attribute for other purposes
                given = None
        except NotImplementedError:
            return None
        except (Exception, SystemExit) as error:
            if isinstance(error, AttributeError) and error.name == "state":
                return None  # a wrapper around an environment without a state
            raise EnvRaisedError(f"{self._name}: state() raised {text.of_error(error)}") from error
        if given is None:
            return None
        try:
            return reading.to_float32(reading.real_array(given)).ravel()
        except reading.WideError as error:
            self.validator.on_fault("wide", what="the state", found=str(error))
            return np.zeros(np.size(given), np.float32)
        except reading.MisfitError as error:
            raise EnvError(f"{self._name}: the state cannot be read: {error}") from error

    def _observe(
        self, observations: Any, infos: Any, needed: Sequence[Any], over: str = ""
    ) -> Seen:
        """Return observations, state and masks of all agents, padded and checked.

        Args:
          observations: by agent.
          infos: by agent.
          needed: agents that must have an observation.
          over: how the episode has ended, `terminated`, `truncated` or "". After its
            end all observations that are returned are read, since after a
            truncation the value of the last state counts.
        """
        observations = self.validator.mapping("observations", observations)
        infos = self.validator.mapping("infos", infos)
        present = observations if over else self._acting
        obs: np.ndarray = np.zeros([len(self.agent_names), self._obs_size], np.float32)
        legal = self._own_actions.copy()
        of_team = reading.mask_in(infos)
        for i, agent in enumerate(self.agent_names):
            if agent not in observations or agent not in present:
                legal[i] = False
                legal[i, 0] = True
                if agent in needed:
                    self.validator.on_fault("unseen", agent)
                continue
            mask = self._read(i, agent, observations[agent], infos.get(agent), obs[i])
            if mask is None and of_team is not None:
                mask = reading.row_of(of_team, agent, i, len(self.agent_names))
            if mask is not None:
                self._allow(i, agent, mask, legal[i], over)
        if not np.isfinite(obs).all():
            for row in np.flatnonzero(~np.isfinite(obs).all(-1)):
                what = "the observation of {who}"
                self.validator.on_fault("finite", self.agent_names[row], what=what)
                obs[row] = 0.0
        return obs, self._state(obs, over), legal

    def _read(self, i: int, agent: Any, seen: Any, info: Any, obs: np.ndarray) -> Any:
        """Write an agent's observation into its row of `obs`, and return its mask or None."""
        mask, where = reading.mask_in(seen), "observation"
        if mask is not None:
            seen = reading.without_mask(seen)
        else:
            mask, where = reading.mask_in(info), "info"
        try:
            flat = self.spaces.readers[i](seen)
            obs[: flat.size] = flat
            if self.validator.observer is not None:
                where = "" if mask is None else where
                self.validator.observer.see(agent, self.spaces.visible[agent], seen, where)
        except reading.WideError as error:
            self.validator.on_fault(
                "wide", agent, what="the observation of {who}", found=str(error)
            )
        except reading.MisfitError as error:
            self.validator.on_fault("outside", agent, wrong=str(error))
        return mask

    def _allow(self, i: int, agent: Any, mask: Any, legal: np.ndarray, over: str) -> None:
        """Write an agent's mask into its row of `legal`, which holds the agent's actions."""
        count = self.spaces.counts[i]
        allowed = reading.mask(mask, count)
        if allowed is None:
            self.validator.on_fault("mask", agent, found=reading.brief(mask), size=count)
        elif allowed.any():
            legal[:count] = allowed
        elif over:  # no agent acts after the end
            legal[1:] = False
        else:
            self.validator.on_fault("illegal", agent)

    def _state(self, obs: np.ndarray, over: str) -> np.ndarray:
        """Return the state; zeros after termination, when nothing reads it."""
        if not self.has_state:
            return obs.ravel()
        size = self.spec.state_size
        blank: np.ndarray = np.zeros(size, np.float32)
        if over == "terminated":
            return blank
        state = self._read_state()
        if state is None or state.size != size:
            found = [0 if state is None else state.size]
            self.validator.on_fault("shape", what="the state", found=found, wanted=[size])
            return blank
        if self.validator.observer is not None:
            self.validator.observer.see(None, None, state, "")
        if not np.isfinite(state).all():
            self.validator.on_fault("finite", what="the state")
            return blank
        return state.copy()

    # Playing.

    def reset(self, seed: int) -> Seen:
        """Start an episode.

        Raises:
          EnvError: the source breaks a rule of `rules.TRAINING_RULES`.
        """
        self.validator.clock, self.ended = 0, False
        observations, infos = self._call("reset", 2, seed=seed)
        self._acting = self._present()
        if not self._acting:
            self.validator.on_fault("empty")
        for agent, what, old, new in self.spaces.changes():
            self.validator.on_fault("space", agent, what=what, old=old, new=new)
        return self._observe(observations, infos, self._acting)

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, bool, bool, Mapping[Any, Any]]:
        """Step the team; agents that have left are not asked for an action.

        Args:
          action: [N] int, counted from 0 for every agent.

        Returns:
          obs [N, O], state [S], legal [N, A], reward, terminated, truncated, infos.

        Raises:
          EnvError: the source breaks a rule of `rules.TRAINING_RULES`.
        """
        acting = self._acting
        index, firsts = self.validator.index, self.spaces.firsts
        chosen = {agent: firsts[index[agent]] + int(action[index[agent]]) for agent in acting}
        observations, rewards, ends, cuts, infos = self._call("step", 5, chosen)
        self.validator.clock += 1
        terminated = self.validator.flags("terminations", ends, acting)
        truncated = self.validator.flags("truncations", cuts, acting)
        living = self._living(terminated, truncated, infos)
        # Termination takes precedence over a truncation at the same step.
        over = self.ended and all(terminated[a] for a in acting if a not in living)
        cut = not over and (self.ended or self.validator.clock >= self._limit)
        needed = [] if over else living
        if cut:
            needed = [a for a in acting if not terminated[a]]
        reward = self.validator.team_reward_of(rewards, acting)
        how = "terminated" if over else "truncated" if cut else ""
        return *self._observe(observations, infos, needed, how), reward, over, cut, infos

    def _living(
        self, terminated: dict[Any, bool | None], truncated: dict[Any, bool | None], infos: Any
    ) -> list[Any]:
        """Update which agents act next, and return those whose episode continues.

        These are the agents that acted and have not ended, and those that enter.
        """
        before, self._acting = self._acting, self._present()
        self.validator.complete(before, self._acting, terminated, truncated, infos)
        living = [a for a in before if not (terminated[a] or truncated[a])]
        living += [agent for agent in self._acting if agent not in terminated]
        self.ended = not living
        if self.validator.observer is not None:
            self.validator.observer.end(before, living, self._acting, self.ended)
        return living

    # Before and after a training.

    def rehearse(self) -> list[str]:
        """Play an episode before a training, see `rehearsal.rehearse`."""
        return rehearse(self)

    @property
    def must_end(self) -> bool:
        """Whether the source has to end its episodes at the limit itself."""
        return self.limit_from != "--episode_limit" and getattr(self._env, "truncates_itself", True)

    def close(self) -> None:
        """Close the environment; an exception from its `close` is dropped."""
        close_quietly(self._env)
