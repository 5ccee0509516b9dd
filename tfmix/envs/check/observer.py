"""Observes what the source of a `TeamEnv` returns, before it is flattened and padded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.envs.check.findings import Findings
from tfmix.envs.check.values import array_types, arrays_in, out_of_bounds
from tfmix.envs.python.adapters.reading import brief

# From this whole number on, float32 does not represent every whole number.
MAX_EXACT_WHOLE = 2**24


class SourceObserver:
    """Records what training does not refuse, and counts what the report says.

    While it is attached, a broken rule of `TeamEnv` becomes a finding and play
    continues.

    Args:
      team: the `TeamEnv`.
      findings: receives the broken rules.

    Attributes:
      masks: places of masks, `observation` or `info`.
      alike: number of steps in which all agents received the same reward.
      unlike: number of steps in which they did not.
      left: by agent, number of episodes that it left before their end.
    """

    def __init__(self, team: Any, findings: Findings):
        self._team, self.findings = team, findings
        self._kinds: dict[Any, str] = {}
        self.masks: set[str] = set()
        self.alike = self.unlike = 0
        self.left: Counter[Any] = Counter()
        self._refuse = team.validator.on_fault
        team.validator.observer, team.validator.on_fault = self, findings.add

    def detach(self) -> None:
        """Detach the observer; the team refuses broken rules again."""
        self._team.validator.observer, self._team.validator.on_fault = None, self._refuse

    def see(self, agent: Any, space: Any, value: Any, where: str) -> None:
        """Check an agent's observation, or the state if `agent` is None.

        Args:
          agent: the agent of the observation.
          space: the space of the observation; None for a state.
          value: what the source returned.
          where: the place of its mask, "" if there is none.
        """
        what = "the state" if agent is None else "the observation of {who}"
        if where:
            self.masks.add(where)
        old, new = self._kinds.setdefault(agent, array_types(value)), array_types(value)
        if old != new:
            self.findings.add("kind", agent, what=what, old=old, new=new)
        if space is None:
            return
        if wrong := out_of_bounds(space, value):
            self.findings.add("outside", agent, wrong=wrong)
        self._compare_types(agent, space, value)

    def _compare_types(self, agent: Any, space: Any, value: Any) -> None:
        """Warn of numbers that the space's type, or float32, cannot represent."""
        for array in arrays_in(value):
            declared = getattr(space, "dtype", None)
            if declared is not None and declared.kind in "iub" and array.dtype.kind == "f":
                self.findings.add("cast", agent, found=array.dtype, wanted=declared)
            if array.dtype.kind in "iu" and (np.abs(array.astype(float)) > MAX_EXACT_WHOLE).any():
                self.findings.add("digits", agent, found=brief(array))

    def pay(self, numbers: Mapping[Any, float]) -> None:
        """Count steps in which the agents received the same reward, and others."""
        alike = len(set(numbers.values())) < 2
        self.alike, self.unlike = self.alike + alike, self.unlike + (not alike)

    def end(
        self, before: Sequence[Any], living: Sequence[Any], after: Sequence[Any], over: bool
    ) -> None:
        """Count agents that leave before the episode ends.

        Args:
          before: agents that acted.
          living: agents whose episode continues.
          after: agents that can act.
          over: whether the episode has ended for all.
        """
        if not over:
            self.left.update(a for a in before if a not in living and a not in after)
