"""The agents' networks: one step, whole episodes, and the policy state between steps.

`tfmix.networks.architectures` says how one network computes. Here one network serves all
agents, or each agent has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.layers import SeededLayer
from tfmix.ops import check_shapes

# The weights of one network: kernel and bias of each layer in turn.
Weights = Sequence[tf.Tensor]


def input_parts(
    agent_spec: AgentSpec, obs: tf.Tensor, last_action: tf.Tensor, agent: tf.Tensor
) -> list[tf.Tensor]:
    """List the parts of a network's input, in the order of the first layer's kernel.

    Args:
      agent_spec: says which parts the network reads.
      obs: [..., O].
      last_action: [..., A], one-hot, zeros before the first action.
      agent: [...] int32, the agents' indices.
    """
    parts = [obs]
    if agent_spec.last_action:
        parts.append(last_action)
    if agent_spec.agent_id:
        parts.append(tf.one_hot(agent, agent_spec.n_agents))
    return parts


def network_step(
    weights: Weights,
    agent_spec: AgentSpec,
    obs: tf.Tensor,
    policy_state: tf.Tensor,
    agent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute one step of one network, before an action is chosen.

    Args:
      weights: of the network.
      agent_spec: describes the network.
      obs: [..., O].
      policy_state: [..., K], zeros at the start of an episode, see `next_policy_state`.
      agent: [...] int32, each agent's index.

    Returns:
      q [..., A] and the features [..., H], which are a GRU's hidden state.
    """
    memory = policy_state[..., : agent_spec.memory_size]
    last_action = policy_state[..., agent_spec.memory_size :]
    inputs = tf.concat(input_parts(agent_spec, obs, last_action, agent), -1)
    q, features = agent_spec.network.step(
        weights,
        tf.reshape(inputs, [-1, agent_spec.n_inputs]),
        tf.reshape(memory, [-1, agent_spec.memory_size]) if agent_spec.memory_size else memory,
    )
    lead = tf.shape(obs)[:-1]
    return (
        tf.reshape(q, tf.concat([lead, [agent_spec.n_actions]], 0)),
        tf.reshape(features, tf.concat([lead, [agent_spec.hidden_size]], 0)),
    )


def policy_step(
    weights: Sequence[Weights],
    agent_spec: AgentSpec,
    obs: tf.Tensor,
    policy_state: tf.Tensor,
    agent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute one step as `network_step`, with the weights of one network or of one per agent."""
    found = [network_step(w, agent_spec, obs, policy_state, agent) for w in weights]
    q, features = found[0]
    for i in range(1, len(found)):
        own = (agent == i)[..., None]
        q, features = tf.where(own, found[i][0], q), tf.where(own, found[i][1], features)
    return q, features


def own_legal(agent_spec: AgentSpec, legal: tf.Tensor, agent: tf.Tensor | None = None) -> tf.Tensor:
    """Remove from `legal` the actions that an agent does not have.

    Args:
      agent_spec: holds the agents' own counts of actions.
      legal: [..., N, A] bool, or [..., A] with `agent`.
      agent: [...] int32, each row's agent; None if `legal` has an axis of agents. A row
        whose index is not from 0 to N - 1 gets no action at all.

    Returns:
      a mask of the shape of `legal`.

    Raises:
      ValueError: a shape is wrong.
    """
    sizes = {"N": agent_spec.n_agents, "A": agent_spec.n_actions}
    if agent is None:
        check_shapes(sizes, legal=(legal, "... N A"))
        own = agent_spec.own_actions
        return legal if own is None else legal & tf.constant(own)
    check_shapes(sizes, agent=(agent, "..."), legal=(legal, "... A"))
    own = agent_spec.own_actions or [[True] * agent_spec.n_actions] * agent_spec.n_agents
    chosen = tf.one_hot(agent, agent_spec.n_agents, on_value=True, off_value=False, dtype=tf.bool)
    return legal & tf.reduce_any(chosen[..., None] & tf.constant(own), -2)


def next_policy_state(agent_spec: AgentSpec, features: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """Join what a policy reads at the next step, [..., K]: its memory and its last action.

    Args:
      agent_spec: says what the network remembers and reads.
      features: [..., H], as `policy_step` returns them.
      action: [...] int32, the action taken.
    """
    memory = features[..., : agent_spec.memory_size]
    if not agent_spec.last_action:
        return memory
    last_action = tf.one_hot(action, agent_spec.n_actions)
    # TensorFlow Lite reads a slice up to 0 as the whole axis.
    return tf.concat([memory, last_action], -1) if agent_spec.memory_size else last_action


class AgentNetwork(SeededLayer):
    """Holds the weights of one network, which values the actions of one agent or of all."""

    def __init__(self, agent_spec: AgentSpec, name: str = "agent_network"):
        super().__init__(name)
        self.agent_spec = agent_spec
        for part, n_in, n_out in agent_spec.layer_sizes:
            self.add_layer(part, n_in, n_out)
        self.built = True

    def add_layer(self, name: str, n_in: int, n_out: int) -> None:
        """Add kernel and bias as attributes `name` and `name_bias`."""
        setattr(self, name, self.add_uniform(name, [n_in, n_out], n_in))
        setattr(self, f"{name}_bias", self.add_uniform(f"{name}_bias", [n_out], n_in))

    def read_weights(self) -> list[tf.Tensor]:
        """Read the weights as tensors, for the functions of this module."""
        return [tf.convert_to_tensor(w) for w in self.weights]

    def unroll(
        self, obs: tf.Tensor, action: tf.Tensor, agent: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute as `AgentTeam.unroll`, for the agents [N] int32 that this network serves."""
        last_action = tf.pad(
            tf.one_hot(action, self.agent_spec.n_actions), [[0, 0], [1, 0], [0, 0], [0, 0]]
        )
        parts = input_parts(self.agent_spec, obs, last_action, agent)
        return self.agent_spec.network.unroll(self.read_weights(), parts)


class AgentTeam(tf_keras.Model):
    """Holds the team's networks: one for all agents, or one for each (`agent_spec.shared`)."""

    def __init__(self, agent_spec: AgentSpec, name: str = "agent"):
        super().__init__(name=name)
        self.agent_spec = agent_spec
        self.networks = [
            AgentNetwork(agent_spec, f"network_{i}") for i in range(agent_spec.n_networks)
        ]
        self.built = True

    def read_weights(self) -> list[list[tf.Tensor]]:
        """Read the weights of each network, for `policy_step`."""
        return [network.read_weights() for network in self.networks]

    def call(self, obs: tf.Tensor, policy_state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute one step of the whole team.

        Args:
          obs: [B, N, O].
          policy_state: [B, N, K], zeros at the start of an episode.

        Returns:
          q [B, N, A] and the features [B, N, H].

        Raises:
          ValueError: a shape is wrong.
        """
        size = self.agent_spec
        check_shapes(
            {"N": size.n_agents, "O": size.obs_size, "K": size.policy_state_size},
            obs=(obs, "B N O"),
            policy_state=(policy_state, "B N K"),
        )
        if size.shared:
            agents = tf.broadcast_to(tf.range(size.n_agents), tf.shape(obs)[:-1])
            return network_step(self.networks[0].read_weights(), size, obs, policy_state, agents)
        found = [
            network_step(
                network.read_weights(),
                size,
                obs[:, i],
                policy_state[:, i],
                tf.fill(tf.shape(obs)[:1], i),
            )
            for i, network in enumerate(self.networks)
        ]
        q, features = zip(*found, strict=True)
        return tf.stack(q, 1), tf.stack(features, 1)

    def unroll(self, obs: tf.Tensor, action: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run the networks over a batch of whole episodes, from the start of each.

        Args:
          obs: [B, T+1, N, O].
          action: [B, T, N] int32; the action of step t is an input of step t + 1.

        Returns:
          q [B, T+1, N, A] and the features [B, T+1, N, H].

        Raises:
          ValueError: a shape is wrong.
        """
        size = self.agent_spec
        check_shapes(
            {"N": size.n_agents, "O": size.obs_size},
            action=(action, "B T N"),
            obs=(obs, "B T+1 N O"),
        )
        agents = tf.range(size.n_agents)
        if size.shared:
            return self.networks[0].unroll(obs, action, agents)
        found = [
            network.unroll(obs[:, :, i : i + 1], action[:, :, i : i + 1], agents[i : i + 1])
            for i, network in enumerate(self.networks)
        ]
        q, features = zip(*found, strict=True)
        return tf.concat(q, 2), tf.concat(features, 2)
