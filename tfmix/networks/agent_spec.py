"""The shape of the agents' networks. No TensorFlow here: workers that step environments read it."""

from __future__ import annotations

import dataclasses
import itertools

from tfmix.config.schema import Config
from tfmix.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class AgentSpec:
    """What one agent reads, how it computes, and what it carries from step to step.

    Attributes:
      obs_size: O.
      n_agents: N.
      n_actions: A.
      hidden_size: H, of the GRU or of each hidden layer.
      last_action: whether the agent reads its last action's one-hot.
      agent_id: whether the agent reads its own index as a one-hot.
      recurrent: whether the network has a GRU; else it is feed-forward.
      layers: hidden layers of a feed-forward network.
      shared: whether one network serves all agents.
      agent_n_actions: every agent's own count of actions; from that count on, actions
        are padding, which no policy takes. Empty where every agent has all A.
    """

    obs_size: int
    n_agents: int
    n_actions: int
    hidden_size: int
    last_action: bool = True
    agent_id: bool = True
    recurrent: bool = True
    layers: int = 2
    shared: bool = True
    agent_n_actions: tuple[int, ...] = ()

    @property
    def own_actions(self) -> list[list[bool]] | None:
        """True where an action is an agent's own and not padding, [N, A]; None without padding."""
        if all(own == self.n_actions for own in self.agent_n_actions):
            return None
        return [[a < own for a in range(self.n_actions)] for own in self.agent_n_actions]

    @property
    def n_inputs(self) -> int:
        """I, the size of what the network reads."""
        return self.obs_size + self.n_actions * self.last_action + self.n_agents * self.agent_id

    @property
    def memory_size(self) -> int:
        """What the network itself carries: H where it is recurrent, else 0."""
        return self.hidden_size * self.recurrent

    @property
    def policy_state_size(self) -> int:
        """K, the size of what a policy carries: the memory, then A with the last action."""
        return self.memory_size + self.n_actions * self.last_action

    @classmethod
    def of(cls, spec: EnvSpec, config: Config) -> AgentSpec:
        """What the settings make of a task."""
        return cls(
            obs_size=spec.obs_size,
            n_agents=spec.n_agents,
            n_actions=spec.n_actions,
            hidden_size=config.hidden_size,
            last_action=config.last_action,
            # A network of its own knows whose it is.
            agent_id=config.agent_id and config.share_parameters,
            recurrent=config.recurrent,
            layers=config.agent_layers,
            shared=config.share_parameters,
            agent_n_actions=spec.agent_n_actions,
        )

    @property
    def n_networks(self) -> int:
        """One for all agents, or one for each."""
        return 1 if self.shared else self.n_agents

    @property
    def layer_sizes(self) -> list[tuple[str, int, int]]:
        """Name, inputs and outputs of each layer of a network, in the order of its weights."""
        h = self.hidden_size
        if self.recurrent:
            first = [("encode", self.n_inputs, h), ("gates", h, 3 * h), ("recur", h, 3 * h)]
        else:
            pairs = itertools.pairwise([self.n_inputs] + [h] * self.layers)
            first = [(f"hidden_{i}", n, m) for i, (n, m) in enumerate(pairs)]
        return [*first, ("head", h, self.n_actions)]
