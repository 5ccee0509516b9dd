"""A ParallelEnv, or an adapter with its interface, as a team with one reward.

This is the door between an environment and tfmix: everything that `reset` and
`step` return is checked here by type, keys, shape and value, in training and
in `check_env` alike. docs/environments.md lists the conventions that are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.adapters import door, rules
from tfmix.envs.python.adapters.common import close_quietly, hint, limit_of, space_of
from tfmix.errors import UserError
from tfmix.types import EnvSpec
from tfmix.utils import text

Seen = tuple[np.ndarray, np.ndarray, np.ndarray]
MISSING = object()
# The rehearsal plays an episode of at most that many seconds.
REHEARSAL_SECONDS = 2.0
CLOCK_KEY = "TimeLimit.truncated"  # old Gym's, in an info
RETURNS = {
    "reset": "observations and infos",
    "step": "observations, rewards, terminations, truncations and infos",
}


class TeamEnv:
    """An environment that Python steps, over one with PettingZoo's parallel interface.

    Unequal agents are padded to the widest observation and action set. Masks
    come from the observation's or the info's `action_mask`. The state is
    `state()` or, if there is none, the observations one after another. An agent
    that is gone sees zeros and keeps action 0 as its only legal one.

    Args:
      source: has `possible_agents`, `agents`, the spaces of an agent,
        `reset(seed)` and `step(actions)` as a ParallelEnv. If `one_reward` is
        true, `step` gives the team's reward, not one for each agent.
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
      ended: whether the source itself has ended the episode.
      on_fault: (rule, agent, fields) -> None, called at each broken rule of
        `rules.DOOR`; by default it raises EnvError. If it returns, a harmless
        value takes the place of the wrong one.
      witness: None, or an object that is shown what the source returns, see
        `tfmix.envs.check.source.Witness`.
    """

    def __init__(self, source: Any, name: str, team_reward: str, episode_limit: int, version: str):
        self._env, self._name, self._clock, self.ended = source, name, 0, False
        self.on_fault: Callable[..., None] = self._refuse
        self.witness: Any = None
        self._acting: list[Any] = []
        self._team_reward = "team" if getattr(source, "one_reward", False) else team_reward
        self._find_agents()
        self._find_spaces()
        own_limit, named = limit_of(source)
        self._limit = episode_limit or own_limit
        self.limit_from = (
            "--episode_limit" if episode_limit else getattr(source, "limit_from", named)
        )
        if not self._limit:
            raise UserError(f"{name} does not say how long an episode can be; give --episode_limit")
        try:
            self._ask("reset", 2, seed=0)
            self._state_size = -1
            state = self._own_state()
        except EnvError as error:
            raise UserError(str(error)) from error
        own = self._state_size = -1 if state is None else state.size
        self.spec = EnvSpec(
            name=name,
            n_agents=len(self.agent_names),
            n_actions=self._n_actions,
            obs_size=self._obs_size,
            state_size=len(self.agent_names) * self._obs_size if own < 0 else own,
            episode_limit=self._limit,
            agent_n_actions=tuple(self._counts),
            team_reward=self._team_reward,
            version=version,
        )

    # What the source is.

    def _find_agents(self) -> None:
        """Reads `possible_agents`, which some environments fill in at their first reset."""
        if not list(getattr(self._env, "possible_agents", None) or []):
            try:
                self._ask("reset", 2, seed=0)
            except EnvError as error:
                raise UserError(str(error)) from error
        self.agent_names = list(getattr(self._env, "possible_agents", None) or [])
        self._index = {agent: i for i, agent in enumerate(self.agent_names)}
        if len(self._index) < 2:
            raise UserError(
                f"{self._name}: a team needs two agents or more, this has "
                f"{door.brief(self.agent_names)}"
            )

    def _find_spaces(self) -> None:
        """Reads every agent's spaces and makes what reads its observations."""
        from gymnasium import spaces

        self._declared = self._spaces_now()
        for agent, (actions, _) in self._declared.items():
            if not isinstance(actions, spaces.Discrete):
                raise UserError(f"{self._name}: {_not_discrete(agent, actions)}")
        self._counts = [int(actions.n) for actions, _ in self._declared.values()]
        self._firsts = [int(actions.start) for actions, _ in self._declared.values()]
        self.visible = {agent: door.visible(seen) for agent, (_, seen) in self._declared.items()}
        self._readers: list[door.Reader] = []
        for agent, space in self.visible.items():
            try:
                self._readers.append(door.reader(space))
            except door.MisfitError as error:
                raise UserError(
                    f"{self._name}: the observation space of {rules.called(agent)}: {error}; "
                    "tfmix needs spaces of a fixed size"
                ) from error
        self.sizes = [int(spaces.utils.flatdim(space)) for space in self.visible.values()]
        self._n_actions, self._obs_size = max(self._counts), max(self.sizes)

    def _spaces_now(self) -> dict[Any, tuple[Any, Any]]:
        """Returns every agent's spaces of actions and observations, as the source has them."""
        try:
            return {
                agent: tuple(space_of(self._env, what, agent) for what in ("action", "observation"))
                for agent in self.agent_names
            }
        except Exception as error:  # whatever a third party raises
            raise UserError(f"{self._name}: {text.of_error(error)}") from error

    @property
    def has_state(self) -> bool:
        """Whether the source has a state, and not its observations alone."""
        return self._state_size >= 0

    def _present(self) -> list[Any]:
        """Returns the agents that can act now, in the order of all."""
        there = set(getattr(self._env, "agents", self.agent_names))
        if not there <= self._index.keys():
            for agent in there - self._index.keys():
                self.on_fault("stranger", agent)
        return [agent for agent in self.agent_names if agent in there]

    # Faults.

    def _refuse(self, rule: str, agent: Any = None, **fields: Any) -> None:
        """Raises EnvError: what is wrong, at which step, and what to do."""
        who = "" if agent is None else rules.called(agent)
        seen, advice = rules.fill(rules.DOOR, rule, {"who": who, **fields})
        seen = seen.replace("{who}", who)  # `what` may name the agent too
        raise EnvError(
            f"{text.clean(self._name)}: {text.clean(seen)} at step {self._clock} of the episode: "
            f"{advice}"
        )

    def _ask(self, what: str, count: int, *values: Any, **arguments: Any) -> Sequence[Any]:
        """Calls the source's `what`, which must return `count` values."""
        try:
            given = getattr(self._env, what)(*values, **arguments)
        except (Exception, SystemExit) as error:
            raise EnvRaisedError(
                f"{self._name}: {what}() raised {text.of_error(error)}{hint(error)}"
            ) from error
        if not isinstance(given, tuple | list) or len(given) != count:
            found = len(given) if isinstance(given, tuple | list) else door.brief(given)
            raise EnvError(
                f"{self._name}: {what}() must return {count} values ({RETURNS[what]}), not {found}"
            )
        return given

    def _mapping(self, what: str, value: Any) -> Mapping[Any, Any]:
        if isinstance(value, Mapping):
            return value
        if what == "infos" and value is None:
            return {}
        self.on_fault("dict", what=what, found=door.brief(value))
        return {}

    # What the agents see.

    def _own_state(self) -> np.ndarray | None:
        """Returns the source's state, flat; None if it has none."""
        try:
            given = getattr(self._env, "state", None)
            if callable(given):
                given = given()
            elif not isinstance(given, np.ndarray):  # a variable of the environment's
                given = None
        except NotImplementedError:
            return None
        except (Exception, SystemExit) as error:
            if isinstance(error, AttributeError) and error.name == "state":
                return None  # a wrapper around an environment without one
            raise EnvRaisedError(f"{self._name}: state() raised {text.of_error(error)}") from error
        if given is None:
            return None
        try:
            return door.to_float32(door.real_array(given)).ravel()
        except door.WideError as error:
            self.on_fault("wide", what="the state", found=str(error))
            return np.zeros(np.size(given), np.float32)
        except door.MisfitError as error:
            raise EnvError(f"{self._name}: the state cannot be read: {error}") from error

    def _look(self, observations: Any, infos: Any, needed: Sequence[Any], over: str = "") -> Seen:
        """Returns observations, state and masks of all agents, padded and checked.

        Args:
          observations: by agent.
          infos: by agent.
          needed: agents that must have an observation.
          over: how the episode has ended, `terminated`, `truncated` or "".
            After its end every observation that is given is read: after a
            truncation the value of the next state counts.
        """
        observations = self._mapping("observations", observations)
        infos = self._mapping("infos", infos)
        present = set(observations) if over else {*self._acting}
        obs: np.ndarray = np.zeros([len(self.agent_names), self._obs_size], np.float32)
        legal: np.ndarray = np.zeros([len(self.agent_names), self._n_actions], bool)
        for i, agent in enumerate(self.agent_names):
            if agent not in observations or agent not in present:
                legal[i, 0] = True
                if agent in needed:
                    self.on_fault("unseen", agent)
                continue
            self._read(i, agent, observations[agent], infos, obs[i], legal[i])
            if not legal[i].any():
                if not over:
                    self.on_fault("illegal", agent)
                    legal[i, : self._counts[i]] = True
                legal[i, 0] = True
        return obs, self._state(obs, over), legal

    def _read(
        self, i: int, agent: Any, seen: Any, infos: Any, obs: np.ndarray, legal: np.ndarray
    ) -> None:
        """Writes an agent's observation and mask into its rows of `obs` and `legal`."""
        mask = door.mask_in(seen)
        where = "info" if mask is None else "observation"
        if mask is not None:
            seen = door.without_mask(seen)
        elif infos:
            mask = door.team_mask(infos, agent, i, len(self.agent_names))
        try:
            flat = self._readers[i](seen)
            if np.isfinite(flat).all():
                obs[: flat.size] = flat
            else:
                self.on_fault("finite", agent, what="the observation of {who}")
            if self.witness is not None:
                self.witness.see(agent, self.visible[agent], seen, "" if mask is None else where)
        except door.WideError as error:
            self.on_fault("wide", agent, what="the observation of {who}", found=str(error))
        except door.MisfitError as error:
            self.on_fault("outside", agent, wrong=str(error))
        count = self._counts[i]
        if mask is None:
            legal[:count] = True
            return
        allowed = door.mask(mask, count)
        if allowed is None:
            self.on_fault("mask", agent, found=door.brief(mask), size=count)
        legal[:count] = True if allowed is None else allowed

    def _state(self, obs: np.ndarray, over: str) -> np.ndarray:
        """Returns the state; zeros after a true end, when nothing reads it."""
        if not self.has_state:
            return obs.ravel()
        size = self.spec.state_size
        blank: np.ndarray = np.zeros(size, np.float32)
        if over == "terminated":
            return blank
        own = self._own_state()
        if own is None or own.size != size:
            found = [0 if own is None else own.size]
            self.on_fault("shape", what="the state", found=found, wanted=[size])
            return blank
        if self.witness is not None:
            self.witness.see(None, None, own, "")
        if not np.isfinite(own).all():
            self.on_fault("finite", what="the state")
            return blank
        return own.copy()

    # Playing.

    def reset(self, seed: int) -> Seen:
        """Starts an episode.

        Raises:
          EnvError: the source breaks a rule of `rules.DOOR`.
        """
        self._clock, self.ended = 0, False
        observations, infos = self._ask("reset", 2, seed=seed)
        self._acting = self._present()
        if not self._acting:
            self.on_fault("empty")
        for agent, now in self._spaces_now().items():
            for what, old, new in zip(
                ("action", "observation"), self._declared[agent], now, strict=True
            ):
                if old is not new and old != new:
                    self.on_fault(
                        "space", agent, what=what, old=door.brief(old), new=door.brief(new)
                    )
        return self._look(observations, infos, self._acting)

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, bool, bool, Mapping[Any, Any]]:
        """Steps the team; agents that are gone are not asked.

        Args:
          action: [N] int, counted from 0 for every agent.

        Returns:
          obs [N, O], state [S], legal [N, A], reward, terminated, truncated, infos.

        Raises:
          EnvError: the source breaks a rule of `rules.DOOR`.
        """
        acting = self._acting
        chosen = {
            agent: self._firsts[i] + int(action[i])
            for agent, i in ((agent, self._index[agent]) for agent in acting)
        }
        observations, rewards, ends, cuts, infos = self._ask("step", 5, chosen)
        self._clock += 1
        terminated = self._flags("terminations", ends, acting)
        truncated = self._flags("truncations", cuts, acting)
        living = self._living(terminated, truncated, infos)
        # A true end wins if the time limit comes at the same step.
        over = self.ended and all(terminated[a] for a in acting if a not in living)
        cut = not over and (self.ended or self._clock >= self._limit)
        needed = [] if over else living
        if cut:
            needed = [a for a in acting if not terminated[a]]
        reward = self._team(rewards, acting)
        how = "terminated" if over else "truncated" if cut else ""
        return *self._look(observations, infos, needed, how), reward, over, cut, infos

    def _living(
        self, terminated: dict[Any, bool | None], truncated: dict[Any, bool | None], infos: Any
    ) -> list[Any]:
        """Updates who acts next; returns those for whom the episode goes on.

        These are the agents that acted and have not ended, and those that enter.
        """
        before, self._acting = self._acting, self._present()
        after = set(self._acting)
        for agent in before:
            if terminated[agent]:
                if _by_clock(infos, agent):
                    terminated[agent], truncated[agent] = False, True
            elif agent not in after and not truncated[agent]:
                if terminated[agent] is truncated[agent] is False:  # and not unreadable
                    self.on_fault("vanished", agent)
                terminated[agent] = True
        living = [a for a in before if not (terminated[a] or truncated[a])]
        living += [agent for agent in self._acting if agent not in terminated]
        self.ended = not living
        if self.witness is not None:
            self.witness.end(before, living, self._acting, self.ended)
        return living

    def _flags(self, what: str, value: Any, acting: Sequence[Any]) -> dict[Any, bool | None]:
        """Returns one flag for each agent that acted; RLlib's `__all__` counts for all.

        A flag that cannot be read is None.
        """
        if not isinstance(value, Mapping):
            self.on_fault("dict", what=what, found=door.brief(value))
            return dict.fromkeys(acting)
        found: dict[Any, bool | None] = {}
        everyone = value.get(door.EVERYONE, MISSING)
        for agent in acting:
            given = value.get(agent, everyone)
            one = door.flag(given)
            if one is None:
                shown = "missing" if given is MISSING else door.brief(given)
                self.on_fault("flag", agent, what=what, found=shown)
            found[agent] = one
        if everyone is not MISSING and door.flag(everyone):
            return dict.fromkeys(found, True)
        return found

    def _team(self, rewards: Any, acting: Sequence[Any]) -> float:
        """Returns the team's one number."""
        if self._team_reward == "team":
            return self._number(rewards, "the reward", "one number for the team")
        given = self._mapping("rewards", rewards)
        for agent in acting if isinstance(rewards, Mapping) else ():
            if agent not in given:
                self.on_fault("unpaid", agent)
        wanted = "one number for each agent"
        numbers = {
            agent: self._number(given[agent], "the reward of {who}", wanted, agent)
            for agent in self.agent_names
            if agent in given
        }
        for agent in given if len(numbers) < len(given) else ():
            if agent not in numbers:
                self.on_fault("unknown", agent)
        if self.witness is not None:
            self.witness.pay(numbers)
        if self._team_reward == "one" and numbers:
            first = next(iter(numbers.values()))
            if any(one != first for one in numbers.values()):
                self.on_fault("unlike", found=door.brief(list(numbers.values())))
            return first
        # The mean is over the whole team, agents that are gone included.
        return sum(numbers.values()) / (len(self._index) if self._team_reward == "mean" else 1)

    def _number(self, value: Any, what: str, wanted: str, agent: Any = None) -> float:
        found = door.number(value)
        if found is None:
            self.on_fault("reward", agent, what=what, found=door.brief(value), wanted=wanted)
        elif not abs(found) <= door.LARGEST:
            self.on_fault("finite", agent, what=what, found=f" in float32: {found:g}")
        else:
            return found
        return 0.0

    # Before and after.

    def rehearse(self) -> list[str]:
        """Starts episodes and plays one, so that a training does not begin with a broken one.

        Returns:
          what a user should know before a training, a sentence each.

        Raises:
          UserError: the source breaks a rule of `rules.DOOR`.
        """
        try:
            first, _, again = [self.reset(seed) for seed in (0, 1, 0)]
            cut_short = self._play_to_limit(again[2])
        except EnvError as error:
            raise UserError(str(error)) from error
        except Exception as error:  # an object that does not act as its type promises
            raise UserError(f"{self._name} cannot be played: {text.of_error(error)}") from error
        notices = []
        if not all(map(np.array_equal, first, again)):
            notices.append(
                "ignores its seed: the same run does not come twice, and a resumed one differs "
                "from one that was never stopped"
            )
        if cut_short:
            notices.append(
                f"does not end at its {self.limit_from} of {self._limit:,} env steps: tfmix cuts "
                "its episodes there; --episode_limit sets another limit"
            )
        return notices

    def _play_to_limit(self, legal: np.ndarray) -> bool:
        """Plays random legal actions to the episode's end or for some seconds.

        Returns:
          whether the source plays on at a limit that it names itself.
        """
        draw, end = np.random.default_rng(0), time.monotonic() + REHEARSAL_SECONDS
        while time.monotonic() < end:
            action = np.where(legal, draw.random(legal.shape), -1.0).argmax(-1)
            _, _, legal, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                return not self.ended and self.must_end
        return False

    @property
    def must_end(self) -> bool:
        """Whether the source has to end its episodes at the limit itself."""
        return self.limit_from != "--episode_limit" and getattr(self._env, "own_clock", True)

    def close(self) -> None:
        """Closes the environment; what its `close` raises is dropped."""
        close_quietly(self._env)


def _by_clock(infos: Any, agent: Any) -> bool:
    """Whether an info has old Gym's sign that the time limit ended the episode."""
    if not isinstance(infos, Mapping):
        return False
    own = infos.get(agent)
    places = (own, infos) if isinstance(own, Mapping) else (infos,)
    return any(bool(door.flag(place.get(CLOCK_KEY, False))) for place in places)


def _not_discrete(agent: Any, space: Any) -> str:
    """Says why an action space does not serve."""
    package = type(space).__module__.partition(".")[0]
    if package == "gym":
        return (
            f"{rules.called(agent)}'s action space is of the package gym; tfmix reads Gymnasium's: "
            "write `from gymnasium import spaces`"
        )
    return (
        f"{rules.called(agent)} has actions {door.brief(space)}; tfmix needs discrete actions"
        " (some environments offer --env_arg=continuous_actions=false)"
    )
