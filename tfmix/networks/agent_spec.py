"""The shape of the agents' networks. Workers read it, so it imports no TensorFlow."""

from __future__ import annotations

import dataclasses

from tfmix.config.schema import Config
from tfmix.networks import architectures
from tfmix.networks.architectures.base import Architecture
from tfmix.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class AgentSpec:
    """Describes what an agent's network reads, how it computes and what it remembers.

    Attributes:
      obs_size: O.
      n_agents: N.
      n_actions: A.
      hidden_size: H, of the GRU or of each hidden layer.
      last_action: whether the agent reads its last action's one-hot.
      agent_id: whether the agent reads its own index as a one-hot.
      architecture: name of the network's architecture, a key of `architectures.REGISTRY`.
      layers: hidden layers of a feed-forward network.
      shared: whether one network serves all agents.
      agent_n_actions: every agent's own count of actions; from that count on, actions
        are padding, which no policy takes. Empty if every agent has all A.
    """

    obs_size: int
    n_agents: int
    n_actions: int
    hidden_size: int
    last_action: bool = True
    agent_id: bool = True
    architecture: str = "gru"
    layers: int = 2
    shared: bool = True
    agent_n_actions: tuple[int, ...] = ()

    @property
    def own_actions(self) -> list[list[bool]] | None:
        """Marks the actions that are an agent's own and not padding, [N, A]; None if all are."""
        if all(own == self.n_actions for own in self.agent_n_actions):
            return None
        return [[a < own for a in range(self.n_actions)] for own in self.agent_n_actions]

    @property
    def n_inputs(self) -> int:
        """The size I of what the network reads."""
        return self.obs_size + self.n_actions * self.last_action + self.n_agents * self.agent_id

    @property
    def network(self) -> Architecture:
        """The architecture, which computes."""
        return architectures.REGISTRY[self.architecture]

    @property
    def memory_size(self) -> int:
        """The size of the network's memory: H if it is recurrent, otherwise 0."""
        return self.hidden_size * self.network.recurrent

    @property
    def policy_state_size(self) -> int:
        """The size K of a policy's state: the memory, then A for the last action if it is read."""
        return self.memory_size + self.n_actions * self.last_action

    @classmethod
    def of(cls, spec: EnvSpec, config: Config) -> AgentSpec:
        """Make the description of a task's agents from the settings."""
        return cls(
            obs_size=spec.obs_size,
            n_agents=spec.n_agents,
            n_actions=spec.n_actions,
            hidden_size=config.hidden_size,
            last_action=config.last_action,
            # With a network for each agent, the index would be a constant.
            agent_id=config.share_parameters and config.agent_id,
            architecture=architectures.chosen_by(config),
            layers=0 if config.recurrent else config.agent_layers,
            shared=config.share_parameters,
            agent_n_actions=spec.agent_n_actions,
        )

    @property
    def n_networks(self) -> int:
        """The number of networks: one for all agents, or one for each."""
        return 1 if self.shared else self.n_agents

    @property
    def layer_sizes(self) -> list[tuple[str, int, int]]:
        """Name, inputs and outputs of each layer of a network, in the order of its weights."""
        return self.network.layer_sizes(self)


def settings_read(config: Config) -> frozenset[str]:
    """Return the settings that `AgentSpec.of` and the networks read if they are `config`."""
    own = architectures.REGISTRY[architectures.chosen_by(config)].settings
    shared = {"share_parameters", "agent_id"} if config.share_parameters else {"share_parameters"}
    return own | shared | {"recurrent", "last_action"}
