"""Looks at what stands below a `TeamEnv`, where every fault can be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmix.envs.check.findings import Findings, brief
from tfmix.envs.check.values import Held, finite, flag, kind, misfit, number


class Watch:
    """The source of a `TeamEnv`, looked at and mended so that the play goes on.

    What breaks a rule is told to `findings` and replaced by something harmless:
    so one fault does not hide the next.

    Args:
      team: the `TeamEnv` above.
      findings: takes what is found.

    Attributes:
      source: what is looked at; it speaks as a ParallelEnv, see `TeamEnv`.
      ended: whether all agents are done.
      masks: where masks were seen, `observation` or `info`.
      alike: steps in which all agents received the same.
      unlike: steps in which they did not.
      left: episodes that an agent left before their end, by agent.
    """

    def __init__(self, team: Any, findings: Findings):
        self.source, self.findings, self._spec = team._env, findings, team.spec
        self._visible: dict[Any, Any] = team._spaces
        self.possible_agents = list(self.source.possible_agents)
        self._declared = {
            a: (self.source.action_space(a), self.source.observation_space(a))
            for a in self.possible_agents
        }
        self._kinds: dict[Any, str] = {}
        self._held = Held()
        self.ended = False
        self.masks: set[str] = set()
        self.alike = self.unlike = 0
        self.left: Counter[Any] = Counter()

    @property
    def agents(self) -> list[Any]:
        """The agents that are there, in the order of all."""
        there = set(self.source.agents)
        return [agent for agent in self.possible_agents if agent in there]

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
        self._held.release(None)
        given = self.source.reset(seed=seed)
        self.ended = False
        self._compare_spaces()
        if not isinstance(given, tuple | list) or len(given) != 2:
            return given  # TeamEnv tells it
        return self._looks(given[0], given[1], self.agents, True)

    def step(self, actions: Mapping[Any, int]) -> Any:
        """Steps the source."""
        before = self.agents
        given = self.source.step(actions)
        self._held.release(self.findings)
        if not isinstance(given, tuple | list) or len(given) != 5:
            return given  # TeamEnv tells it
        observations, rewards, ends, cuts, infos = given
        ends = self._flags("terminations", ends, before)
        cuts = self._flags("truncations", cuts, before)
        after = self.agents
        left = [agent for agent in before if agent not in after]
        for agent in left:
            if ends[agent] is cuts[agent] is False:
                self.findings.add("vanished", agent)
            ends[agent] = ends[agent] or not cuts[agent]
        self.ended = all(ends[agent] or cuts[agent] for agent in before)
        if not self.ended:
            self.left.update(left)
        # Behind a cut the value of what is seen counts, behind a true end it does not.
        needed = not self.ended or not all(ends.values())
        there = before if self.ended else after
        observations, infos = self._looks(observations, infos, there, needed)
        return observations, self._rewards(rewards, before), ends, cuts, infos

    def state(self) -> Any:
        """The source's state.

        Raises:
          NotImplementedError, AttributeError: it has none.
        """
        value, size = self.source.state(), self._spec.state_size
        if np.size(value) != size:
            self.findings.add("shape", what="the state", found=[np.size(value)], wanted=[size])
            return np.zeros(size, np.float32)
        self._same_kind("the state", None, value)
        self._held.hold("the state", None, value)
        if not finite(value):
            self.findings.add("finite", what="the state")
            return np.zeros(size, np.float32)
        return value

    def _compare_spaces(self) -> None:
        """Are the spaces still those of the beginning?"""
        for agent, before in self._declared.items():
            try:
                now = self.source.action_space(agent), self.source.observation_space(agent)
            except Exception as error:
                now = error, error
            for what, old, new in zip(("action", "observation"), before, now, strict=True):
                if old is not new and old != new:
                    self.findings.add("space", agent, what=what, old=brief(old), new=brief(new))

    def _mapping(self, what: str, value: Any) -> Mapping[Any, Any]:
        """`value` if it is a dictionary, else an empty one."""
        if isinstance(value, Mapping):
            return value
        self.findings.add("dict", what=what, found=brief(value))
        return {}

    def _flags(self, what: str, value: Any, acting: list[Any]) -> dict[Any, bool | None]:
        given, found = self._mapping(what, value), {}
        for agent in acting:
            one = flag(given.get(agent))
            if one is None and isinstance(value, Mapping):
                seen = brief(given[agent]) if agent in given else "missing"
                self.findings.add("flag", agent, what=what, found=seen)
            found[agent] = one
        return found

    def _looks(
        self, observations: Any, infos: Any, there: list[Any], needed: bool
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """What the agents that are there see, with their masks in the infos."""
        given = self._mapping("observations", observations)
        told = dict(self._mapping("infos", infos))
        seen = {}
        for agent in there:
            if agent in given:
                seen[agent] = self._look(agent, given[agent], told)
                continue
            if needed and isinstance(observations, Mapping):
                self.findings.add("unseen", agent)
            if not self.ended:
                seen[agent] = self._blank(agent)
        return seen, told

    def _blank(self, agent: Any) -> Any:
        from gymnasium import spaces

        space = self._visible[agent]
        return spaces.unflatten(space, np.zeros(spaces.flatdim(space)))

    def _look(self, agent: Any, value: Any, told: dict[Any, Any]) -> Any:
        """One agent's observation, a blank one where it cannot be read."""
        info = told.get(agent)
        mask = info.get("action_mask") if isinstance(info, Mapping) else None
        where = "info"
        if isinstance(value, Mapping) and "action_mask" in value:
            value, mask, where = value.get("observation"), value["action_mask"], "observation"
        told[agent] = {"action_mask": None if mask is None else self._mask(agent, mask, where)}
        what = "the observation of {who}"
        self._held.hold(what, agent, value)
        wrong, usable = misfit(self._visible[agent], value)
        if usable:
            self._same_kind(what, agent, value)
        if not finite(value):
            self.findings.add("finite", agent, what=what)
            return self._blank(agent)
        if wrong:
            self.findings.add("outside", agent, wrong=wrong)
        return value if usable else self._blank(agent)

    def _same_kind(self, what: str, agent: Any, value: Any) -> None:
        """Are shapes and number types those of the first time?"""
        old, new = self._kinds.setdefault((what, agent), kind(value)), kind(value)
        if old != new:
            self.findings.add("kind", agent, what=what, old=old, new=new)

    def _mask(self, agent: Any, mask: Any, where: str) -> Any:
        """The agent's mask, None where it cannot be used."""
        self.masks.add(where)
        size, shape = int(self.action_space(agent).n), list(np.shape(mask))
        if shape != [size]:
            what = "the action mask of {who}"
            self.findings.add("shape", agent, what=what, found=shape, wanted=[size])
            return None
        if not self.ended and not np.asarray(mask).astype(bool).any():
            self.findings.add("illegal", agent)
            return None
        return mask

    def _rewards(self, rewards: Any, acting: list[Any]) -> Any:
        """The rewards, 0 where they cannot be used."""
        if self._spec.team_reward == "team":
            return self._reward(rewards, "the reward", "one number for the team")
        given = self._mapping("rewards", rewards)
        for agent in acting if isinstance(rewards, Mapping) else ():
            if agent not in given:
                self.findings.add("unpaid", agent)
        found = {
            agent: self._reward(given[agent], "the reward of {who}", "one number an agent", agent)
            for agent in self.possible_agents
            if agent in given
        }
        alike = len(set(found.values())) < 2
        self.alike, self.unlike = self.alike + alike, self.unlike + (not alike)
        if self._spec.team_reward == "one" and not alike:
            self.findings.add("unlike", found=brief(list(found.values())))
            return dict.fromkeys(found, next(iter(found.values())))
        return found

    def _reward(self, value: Any, what: str, wanted: str, who: Any = None) -> float:
        found = number(value)
        if found is None:
            self.findings.add("reward", who, what=what, found=brief(value), wanted=wanted)
        elif not np.isfinite(found):
            self.findings.add("finite", who, what=what)
        return found if found is not None and np.isfinite(found) else 0.0
