"""Validates what a step returns for each agent: terminations, truncations, rewards, infos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfmix.envs.python import EnvError
from tfmix.envs.python.adapters import reading, rules
from tfmix.utils import text

MISSING = object()
TIME_LIMIT_KEY = "TimeLimit.truncated"  # key of an info in old Gym


class StepValidator:
    """Reads what a step returns by agent, and reports what breaks a rule.

    Args:
      name: the environment's name.
      agent_names: all agents, in their order.
      team_reward: `sum`, `mean`, `one`, or `team` if the environment gives one number.

    Attributes:
      agent_names: as above.
      on_fault: (rule, agent, fields) -> None, called at each broken rule of
        `rules.TRAINING_RULES`; by default it raises EnvError. If it returns, a
        harmless value replaces the wrong one.
      observer: None, or an object that receives what the environment returns, see
        `tfmix.envs.check.observer.SourceObserver`.
      clock: steps of the current episode.
    """

    def __init__(self, name: str, agent_names: Sequence[Any], team_reward: str):
        self.name, self.agent_names, self.team_reward = name, list(agent_names), team_reward
        self.index = {agent: i for i, agent in enumerate(self.agent_names)}
        self.on_fault: Callable[..., None] = self._refuse
        self.observer: Any = None
        self.clock = 0

    def _refuse(self, rule: str, agent: Any = None, **fields: Any) -> None:
        """Raise EnvError, which says what is wrong, at which step, and what to do."""
        who = "" if agent is None else rules.agent_label(agent)
        seen, advice = rules.fill(rules.TRAINING_RULES, rule, {"who": who, **fields})
        seen = seen.replace("{who}", who)  # the field `what` may name the agent too
        raise EnvError(
            f"{text.clean(self.name)}: {text.clean(seen)} at step {self.clock} of the episode: "
            f"{advice}"
        )

    def mapping(self, what: str, value: Any) -> Mapping[Any, Any]:
        """Return `value` if it is a mapping; None as infos is read as an empty one."""
        if type(value) is dict or isinstance(value, Mapping):
            return value
        if what == "infos" and value is None:
            return {}
        self.on_fault("dict", what=what, found=reading.brief(value))
        return {}

    def complete(
        self,
        before: Sequence[Any],
        after: Sequence[Any],
        terminated: dict[Any, bool | None],
        truncated: dict[Any, bool | None],
        infos: Any,
    ) -> None:
        """Complete the flags of agents that acted: time limits in infos, and agents that left.

        Args:
          before: the agents that acted.
          after: the agents that act next.
          terminated: by agent, changed in place.
          truncated: as `terminated`.
          infos: of the step.
        """
        there = set(after)
        for agent in before:
            if terminated[agent]:
                if ended_by_time_limit(infos, agent):
                    terminated[agent], truncated[agent] = False, True
            elif agent not in there and not truncated[agent]:
                if terminated[agent] is truncated[agent] is False:  # and both were readable
                    self.on_fault("vanished", agent)
                terminated[agent] = True

    def flags(self, what: str, value: Any, acting: Sequence[Any]) -> dict[Any, bool | None]:
        """Return one flag for each agent that acted; a true `__all__` (RLlib) sets all.

        A flag that cannot be read is None.
        """
        if type(value) is not dict and not isinstance(value, Mapping):
            self.on_fault("dict", what=what, found=reading.brief(value))
            return dict.fromkeys(acting)
        found: dict[Any, bool | None] = {}
        everyone = value.get(reading.EVERYONE, MISSING)
        for agent in acting:
            given = value.get(agent, everyone)
            one = reading.flag(given)
            if one is None:
                shown = "missing" if given is MISSING else reading.brief(given)
                self.on_fault("flag", agent, what=what, found=shown)
            found[agent] = one
        if everyone is not MISSING and reading.flag(everyone):
            return dict.fromkeys(found, True)
        return found

    def team_reward_of(self, rewards: Any, acting: Sequence[Any]) -> float:
        """Return the team's reward, one number."""
        if self.team_reward == "team":
            return self._number(rewards, "the reward", "one number for the team")
        given = self.mapping("rewards", rewards)
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
        if self.observer is not None:
            self.observer.pay(numbers)
        if self.team_reward == "one" and numbers:
            first = next(iter(numbers.values()))
            if any(one != first for one in numbers.values()):
                self.on_fault("unlike", found=reading.brief(list(numbers.values())))
            return first
        # The mean is over the whole team, including agents that have left.
        return sum(numbers.values()) / (len(self.index) if self.team_reward == "mean" else 1)

    def _number(self, value: Any, what: str, wanted: str, agent: Any = None) -> float:
        found = reading.number(value)
        if found is None:
            self.on_fault("reward", agent, what=what, found=reading.brief(value), wanted=wanted)
        elif not abs(found) <= reading.MAX_FLOAT32:
            self.on_fault("finite", agent, what=what, found=f" in float32: {found:g}")
        else:
            return found
        return 0.0


def ended_by_time_limit(infos: Any, agent: Any) -> bool:
    """Return whether an info has old Gym's flag that the time limit ended the episode."""
    if not isinstance(infos, Mapping):
        return False
    info = infos.get(agent)
    places = (info, infos) if isinstance(info, Mapping) else (infos,)
    return any(bool(reading.flag(place.get(TIME_LIMIT_KEY, False))) for place in places)
