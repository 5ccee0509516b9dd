"""Looks at what stands below a `TeamEnv`, where every fault can be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmix.envs.check.findings import Findings, Held, brief, finite, flag, leaves, misfit, number
from tfmix.types import EnvSpec

WORDS = ("observations", "rewards", "terminations", "truncations", "infos")


class Watch:
    """A source of `TeamEnv` that is looked at, and mended so that the play goes on.

    What breaks a rule is told to `findings` and replaced by something harmless:
    so one fault does not hide the next.

    Args:
      source: speaks as a ParallelEnv, see `TeamEnv`.
      spec: the team's.
      findings: takes what is found.

    Attributes:
      ended: whether all agents are done.
      masks: where masks were seen, `observation` or `info`.
      alike: steps in which all agents received the same.
      unlike: steps in which they did not.
      left: episodes that an agent left before their end, by agent.
    """

    def __init__(self, source: Any, spec: EnvSpec, findings: Findings):
        self.source, self.findings, self._spec = source, findings, spec
        self.possible_agents = list(source.possible_agents)
        self._declared = {
            a: (source.action_space(a), source.observation_space(a)) for a in self.possible_agents
        }
        self._kinds: dict[Any, Any] = {}
        self._held = Held()
        self.ended = False
        self.masks: set[str] = set()
        self.alike = self.unlike = 0
        self.left: Counter[Any] = Counter()

    @property
    def agents(self) -> list[Any]:
        """The agents that are there."""
        return list(self.source.agents)

    def action_space(self, agent: Any) -> Any:
        """As it was at first."""
        return self._declared[agent][0]

    def observation_space(self, agent: Any) -> Any:
        """As it was at first."""
        return self._declared[agent][1]

    def close(self) -> None:
        """Closes the source."""
        self.source.close()

    def reset(self, seed: int) -> Any:
        """Starts an episode."""
        self._held.release()
        given = self.source.reset(seed=seed)
        self.ended = False
        self._compare_spaces()
        if not isinstance(given, tuple | list) or len(given) != 2:
            return given  # TeamEnv tells it
        there = set(self.source.agents)
        return self._looks(*given, there, there)

    def step(self, actions: Mapping[Any, int]) -> Any:
        """Steps the source."""
        before = set(self.source.agents)
        given = self.source.step(actions)
        self._held.release(self.findings)
        if not isinstance(given, tuple | list) or len(given) != 5:
            return given
        observations, rewards, ends, cuts, infos = given
        ends, cuts = (
            self._flags("terminations", ends, before),
            self._flags("truncations", cuts, before),
        )
        after, gone = set(self.source.agents), {a for a in before if ends[a] or cuts[a]}
        self.ended = before <= gone
        for agent in before - after - gone:
            self._tell(
                "vanished",
                "{who} left env.agents without being terminated or truncated",
                "set one of the two to True in the agent's last step",
                agent,
            )
        if not self.ended:
            self.left.update(before - after)
        there = before if self.ended else after
        needed = there if not self.ended or not all(ends.values()) else set()
        observations, infos = self._looks(observations, infos, there, needed)
        return observations, self._rewards(rewards, before), ends, cuts, infos

    def state(self) -> Any:
        """The source's state.

        Raises:
          NotImplementedError, AttributeError: it has none.
        """
        value = self.source.state()
        size, found = self._spec.state_size, np.size(value)
        if found != size:
            self._tell(
                "state size",
                f"the state has {found} numbers, before it had {size}",
                "give a state of one size in every step and episode",
            )
            return np.zeros(size, np.float32)
        self._same_kind("state", None, value)
        self._held.hold("state", None, value)
        if not finite(value):
            self._tell_not_finite("the state")
            return np.zeros(size, np.float32)
        return value

    def _tell(self, kind: str, text: str, advice: str, who: Any = None) -> None:
        self.findings.add(kind, text, advice, who)

    def _tell_not_finite(self, what: str, who: Any = None) -> None:
        self._tell(
            f"not finite {what}",
            f"{what} is NaN or infinite",
            "find the division or logarithm that it comes of; one such number spoils the networks",
            who,
        )

    def _compare_spaces(self) -> None:
        """Are the spaces still those of the beginning?"""
        for agent, before in self._declared.items():
            try:
                now = self.source.action_space(agent), self.source.observation_space(agent)
            except Exception as error:
                now = error, error
            for what, one, other in zip(("action", "observation"), now, before, strict=True):
                if one is not other and one != other:
                    self._tell(
                        f"{what} space",
                        f"the {what} space of {{who}} changed to {brief(one)}, "
                        f"it was {brief(other)}",
                        "keep spaces as they are; pad them and mask what is not there",
                        agent,
                    )

    def _mapping(self, what: str, value: Any) -> Mapping[Any, Any]:
        """`value` if it is a dictionary, else an empty one."""
        if isinstance(value, Mapping):
            return value
        self._tell(
            f"no dict {what}",
            f"the {what} are {brief(value)}, not a dict",
            "return a dict with an entry for every agent",
        )
        return {}

    def _flags(self, what: str, value: Any, acting: set[Any]) -> dict[Any, bool]:
        given, found = self._mapping(what, value), {}
        for agent in acting:
            one = flag(given.get(agent))
            if one is None and isinstance(value, Mapping):
                self._tell(
                    f"flag {what}",
                    f"{what} of {{who}}: {brief(given[agent]) if agent in given else 'missing'}",
                    "give True or False for every agent that acted",
                    agent,
                )
            found[agent] = bool(one)
        return found

    def _looks(
        self, observations: Any, infos: Any, there: set[Any], needed: set[Any]
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """What the agents that are there see, with their masks in the infos."""
        given, told = (
            self._mapping("observations", observations),
            dict(self._mapping("infos", infos)),
        )
        seen = {}
        for agent in (a for a in self.possible_agents if a in there):
            if agent in given:
                seen[agent] = self._look(agent, given[agent], told)
            elif agent in needed and isinstance(observations, Mapping):
                self._tell(
                    "no observation",
                    "{who} acts and gets no observation",
                    "give one to every agent in env.agents, and behind a truncation to all",
                    agent,
                )
            if agent not in seen and not self.ended:
                seen[agent] = self._blank(agent)
        return seen, told

    def _blank(self, agent: Any) -> Any:
        from gymnasium import spaces

        space = self._visible(agent)
        return spaces.unflatten(space, np.zeros(spaces.flatdim(space)))

    def _visible(self, agent: Any) -> Any:
        from tfmix.envs.python.team import TeamEnv

        return TeamEnv._visible(self.observation_space(agent))

    def _look(self, agent: Any, value: Any, told: dict[Any, Any]) -> Any:
        """One agent's observation, a blank one where it cannot be read."""
        info = told.get(agent)
        mask = info.get("action_mask") if isinstance(info, Mapping) else None
        where = "info"
        if isinstance(value, Mapping) and "action_mask" in value:
            value, mask, where = value.get("observation"), value["action_mask"], "observation"
        told[agent] = {"action_mask": None if mask is None else self._mask(agent, mask, where)}
        self._same_kind("observation", agent, value)
        self._held.hold("observation", agent, value)
        if not all(finite(x) for x in leaves([value])):
            self._tell_not_finite("the observation of {who}", agent)
            return self._blank(agent)
        wrong, usable = misfit(self._visible(agent), value)
        if wrong:
            self._tell(
                "observation" if usable else "unreadable observation",
                f"the observation of {{who}} is not in its space: {wrong}",
                "return what observation_space says, or say there what is returned",
                agent,
            )
        return value if usable else self._blank(agent)

    def _same_kind(self, what: str, agent: Any, value: Any) -> None:
        """Are shapes and number types those of the first time?"""
        kind = [(x.dtype, x.shape) for x in leaves([value])]
        first = self._kinds.setdefault((what, agent), kind)
        if kind != first:
            old, new = (
                ", ".join(f"{d} {list(s)}" for d, s in k) or "no array" for k in (first, kind)
            )
            self._tell(
                f"kind {what}",
                f"the {what}{' of {who}' * (agent is not None)} changed from {old} to {new}",
                "return the same number type and shape at every step and in every episode",
                agent,
            )

    def _mask(self, agent: Any, mask: Any, where: str) -> Any:
        """The agent's mask, None where it cannot be used."""
        self.masks.add(where)
        size = int(self.action_space(agent).n)
        if np.shape(mask) != (size,):
            self._tell(
                "mask",
                f"the action mask of {{who}} has shape {list(np.shape(mask))}, not [{size}]",
                "give one number for every action",
                agent,
            )
            return None
        if not self.ended and not np.asarray(mask).astype(bool).any():
            self._tell(
                "no legal action",
                "{who} has no legal action",
                "leave every agent one action, a no-op for those that can do nothing",
                agent,
            )
            return None
        return mask

    def _rewards(self, rewards: Any, acting: set[Any]) -> Any:
        """The rewards, 0 where they cannot be used."""
        if self._spec.team_reward == "team":
            return self._reward(rewards, "the reward", "one number for the team")
        given = self._mapping("rewards", rewards)
        missing = [a for a in self.possible_agents if a in acting and a not in given]
        for agent in missing if isinstance(rewards, Mapping) else ():
            self._tell(
                "no reward",
                "the rewards lack {who}, which acted",
                "give every agent that acted a reward, 0 where there is none",
                agent,
            )
        found = {
            agent: self._reward(given[agent], "the reward of {who}", "one number", agent)
            for agent in self.possible_agents
            if agent in given
        }
        alike = len(set(found.values())) < 2
        self.alike, self.unlike = self.alike + alike, self.unlike + (not alike)
        if self._spec.team_reward == "one" and not alike:
            self._tell(
                "unlike rewards",
                f"--team_reward=one, and the agents receive {brief(list(found.values()))}",
                "take --team_reward=sum or mean, or give all agents the same",
            )
            return dict.fromkeys(found, next(iter(found.values())))
        return found

    def _reward(self, value: Any, what: str, wanted: str, who: Any = None) -> float:
        found = number(value)
        if found is None:
            self._tell(
                f"kind of {what}",
                f"{what} is {brief(value)}, not a number",
                f"return {wanted}, the same kind at every step",
                who,
            )
            return 0.0
        if not np.isfinite(found):
            self._tell_not_finite(what, who)
            return 0.0
        return found
