"""The agents' action and observation spaces, and the readers of their observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tfmix.envs.python.adapters import reading, rules
from tfmix.envs.python.adapters.common import find_space
from tfmix.errors import UserError
from tfmix.utils import text

BOTH = ("action", "observation")


class AgentSpaces:
    """Reads the spaces of all agents.

    Args:
      source: the environment.
      name: its name.
      agents: the agents' names.

    Raises:
      UserError: a space is missing, actions are not discrete, or observations have
        no fixed size.

    Attributes:
      counts: number of actions of each agent; all lists are in the agents' order.
      firsts: number of each agent's first action.
      visible: by agent, the space of its observation without a mask.
      readers: functions that flatten each agent's observation, see
        `reading.observation_reader`.
      sizes: size of each agent's flat observation.
    """

    def __init__(self, source: Any, name: str, agents: Sequence[Any]):
        from gymnasium import spaces

        self._source, self._name = source, name
        self._declared: dict[Any, tuple[Any, ...]] = {}
        self._declared = self._current(agents)
        for agent, (actions, _) in self._declared.items():
            if not isinstance(actions, spaces.Discrete):
                raise UserError(f"{name}: {_not_discrete(agent, actions)}")
        self.counts = [int(actions.n) for actions, _ in self._declared.values()]
        self.firsts = [int(actions.start) for actions, _ in self._declared.values()]
        self.visible = {agent: reading.visible(seen) for agent, (_, seen) in self._declared.items()}
        self.readers = [self._reader(agent, space) for agent, space in self.visible.items()]
        self.sizes = [int(spaces.utils.flatdim(space)) for space in self.visible.values()]

    def _current(self, agents: Sequence[Any]) -> dict[Any, tuple[Any, ...]]:
        """Return every agent's action and observation space as the source has them at present."""
        try:
            return {
                agent: tuple(find_space(self._source, what, agent) for what in BOTH)
                for agent in agents
            }
        except Exception as error:  # whatever a third party raises
            raise UserError(f"{self._name}: {text.of_error(error)}") from error

    def _reader(self, agent: Any, space: Any) -> reading.Reader:
        try:
            return reading.observation_reader(space)
        except reading.MisfitError as error:
            raise UserError(
                f"{self._name}: the observation space of {rules.agent_label(agent)}: {error}; "
                "tfmix needs spaces of a fixed size"
            ) from error

    def changes(self) -> Iterator[tuple[Any, str, str, str]]:
        """Yield agent, kind, and the old and the new space as text, of each space that changed."""
        for agent, now in self._current(list(self._declared)).items():
            for what, old, new in zip(BOTH, self._declared[agent], now, strict=True):
                if old is not new and old != new:
                    yield agent, what, reading.brief(old), reading.brief(new)


def _not_discrete(agent: Any, space: Any) -> str:
    """Return why an action space cannot be used, and what to do."""
    label, package = rules.agent_label(agent), type(space).__module__.partition(".")[0]
    if package == "gym":
        return (
            f"{label}'s action space is of the package gym; tfmix reads Gymnasium's: "
            "write `from gymnasium import spaces`"
        )
    return (
        f"{label} has actions {reading.brief(space)}; tfmix needs discrete actions"
        " (some environments offer --env_arg=continuous_actions=false)"
    )
