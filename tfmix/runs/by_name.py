"""Reads observations and masks by agent name, and gives results by the same names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfmix.envs.python.adapters import reading
from tfmix.errors import UserError
from tfmix.runs.inputs import read_legal, read_obs
from tfmix.serving.checks import index_of, listed, to_array
from tfmix.types import AgentShape, EnvSpec
from tfmix.utils import text


class TeamInput(NamedTuple):
    """What a caller gives for one step of the team.

    Attributes:
      obs: [B, N, O] float32.
      legal: [B, N, A] bool.
      keys: the caller's key for each agent that is there, by index; None for arrays.
      alone: whether the caller gave one episode without a batch axis.
    """

    obs: np.ndarray
    legal: np.ndarray
    keys: dict[int, Hashable] | None
    alone: bool

    def give(self, values: np.ndarray, sizes: Sequence[int] = ()) -> Any:
        """Return values of the agents in the caller's form.

        Args:
          values: [B, N] or [B, N, A].
          sizes: in a dict, how many of the A values each agent has.

        Returns:
          values, without the batch axis if the caller gave none; or by the caller's keys,
          the entries [] or [sizes[i]] of each agent that is there.
        """
        if self.keys is None:
            return values[0] if self.alone else values
        if values.ndim == 2:
            return {key: int(values[0, i]) for i, key in self.keys.items()}
        return {key: values[0, i, : sizes[i]] for i, key in self.keys.items()}


def read_team_input(spec: EnvSpec, agents: Sequence[AgentShape], obs: Any, legal: Any) -> TeamInput:
    """Read arrays, or dicts by agent for one step of one episode, as `Run.act` takes them.

    Raises:
      UserError: as `read_obs` and `read_legal`; a name is not an agent's, or the size of an
        agent's observation or mask is wrong.
    """
    if not isinstance(obs, Mapping):
        seen = read_obs(spec, obs)
        return TeamInput(seen, read_legal(spec, legal, len(seen)), None, np.ndim(obs) == 2)
    if legal is not None and not isinstance(legal, Mapping):
        raise UserError(f"obs is a dict by agent, and legal is {type(legal).__name__}: give a dict")
    given = {_index(agents, key): key for key, seen in obs.items() if seen is not None}
    masks = {_index(agents, key): mask for key, mask in (legal or {}).items()}
    if not given:
        raise UserError("obs holds no agent's observation")
    padded: np.ndarray = np.zeros([1, spec.n_agents, spec.obs_size], np.float32)
    # An agent that has left observes zeros and has action 0, as in training.
    allowed: np.ndarray = np.zeros([1, spec.n_agents, spec.n_actions])
    allowed[:, :, 0] = 1
    for i, key in sorted(given.items()):
        count = spec.agent_n_actions[i]
        seen, mask = _parts(obs[key], masks.get(i))
        padded[0, i, : agents[i].obs_size] = _row("obs", agents[i], seen, agents[i].obs_size)
        own = np.ones(count) if mask is None else _row("legal", agents[i], mask, count)
        allowed[0, i, :count] = own
    keys = dict(sorted(given.items()))
    return TeamInput(read_obs(spec, padded), read_legal(spec, allowed, 1), keys, True)


def _index(agents: Sequence[AgentShape], key: Any) -> int:
    """Return the index of an agent, given by its name or its index.

    Raises:
      UserError: there is no such agent.
    """
    names = [agent.name for agent in agents]
    found = index_of(names, key)
    if found is not None:
        return found
    near = text.nearest(key, names) if isinstance(key, str) else ""
    shown = listed(names)
    raise UserError(f"there is no agent {text.clean(repr(key), 60)}; there are {shown}{near}")


def _parts(seen: Any, mask: Any) -> tuple[Any, Any]:
    """Return an agent's observation and its mask, which is in a mask, an info or `seen`."""
    if isinstance(mask, Mapping):
        mask = reading.mask_in(mask)
    inner = reading.mask_in(seen)
    if inner is not None:
        seen = reading.without_mask(seen)
    return seen, inner if mask is None else mask


def _row(what: str, agent: AgentShape, given: Any, size: int) -> np.ndarray:
    """Return an agent's observation or mask as `size` numbers."""
    name = f"{what} of agent {text.clean(agent.name, 60)!r}"
    found = to_array(name, given, "biuf", "numbers")
    if found.size != size:
        raise UserError(f"{name} has {found.size} numbers, and the agent was trained with {size}")
    return found.ravel()
