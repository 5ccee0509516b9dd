"""The agents' networks: what one reads and carries, and the team's values of it.

A network is recurrent (`tfmix.networks.gru`) or feed-forward, and one serves
all agents or each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.gru import RecurrentWeights, recurrent_step, recurrent_unroll
from tfmix.networks.layers import SeededLayer, matmul

# The weights of one network: `RecurrentWeights`, or kernel and bias of each layer in turn.
Weights = Sequence[tf.Tensor]


def join(
    agent_spec: AgentSpec, obs: tf.Tensor, last_action: tf.Tensor, agent: tf.Tensor
) -> tf.Tensor:
    """A network's input [..., I].

    Args:
      obs: [..., O].
      last_action: [..., A], one-hot, zeros before the first action.
      agent: [...] int32, each agent's index.
    """
    parts = [obs]
    if agent_spec.last_action:
        parts.append(last_action)
    if agent_spec.agent_id:
        parts.append(tf.one_hot(agent, agent_spec.n_agents))
    return tf.concat(parts, -1)


def feed_forward(weights: Weights, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Linear layers with ReLU between them.

    Args:
      inputs: [M, I].

    Returns:
      q [M, A] and the last hidden layer's output [M, H].
    """
    *hidden, (head, head_bias) = zip(weights[::2], weights[1::2], strict=True)
    x = inputs
    for kernel, bias in hidden:
        x = tf.nn.relu(x @ kernel + bias)
    return x @ head + head_bias, x


def network_step(
    weights: Weights,
    agent_spec: AgentSpec,
    obs: tf.Tensor,
    policy_state: tf.Tensor,
    agent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of one network, before an action is chosen.

    Args:
      obs: [..., O].
      carry: [..., K], zeros at the start of an episode, see `next_policy_state`.
      agent: [...] int32, each agent's index.

    Returns:
      q [..., A] and the hidden features [..., H], a GRU's state where there is one.
    """
    memory, last_action = (
        policy_state[..., : agent_spec.memory_size],
        policy_state[..., agent_spec.memory_size :],
    )
    inputs = tf.reshape(join(agent_spec, obs, last_action, agent), [-1, agent_spec.n_inputs])
    if agent_spec.recurrent:
        memory = tf.reshape(memory, [-1, agent_spec.hidden_size])
        q, hidden = recurrent_step(RecurrentWeights(*weights), inputs, memory)
    else:
        q, hidden = feed_forward(weights, inputs)
    lead = tf.shape(obs)[:-1]
    return (
        tf.reshape(q, tf.concat([lead, [agent_spec.n_actions]], 0)),
        tf.reshape(hidden, tf.concat([lead, [agent_spec.hidden_size]], 0)),
    )


def policy_step(
    weights: Sequence[Weights],
    agent_spec: AgentSpec,
    obs: tf.Tensor,
    policy_state: tf.Tensor,
    agent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `network_step`, with the agents' weights: of one network, or of one for each agent."""
    found = [network_step(w, agent_spec, obs, policy_state, agent) for w in weights]
    q, hidden = found[0]
    for i in range(1, len(found)):
        own = (agent == i)[..., None]
        q, hidden = tf.where(own, found[i][0], q), tf.where(own, found[i][1], hidden)
    return q, hidden


def own_legal(agent_spec: AgentSpec, legal: tf.Tensor, agent: tf.Tensor | None = None) -> tf.Tensor:
    """Takes away from `legal` the actions that an agent does not have.

    Args:
      agent_spec: with the agents' own counts of actions.
      legal: [..., N, A] bool, or [..., A] with `agent`.
      agent: [...] int32, each row's agent; a row whose index is no agent of the team
        has no action at all. None where `legal` has an axis of agents.

    Returns:
      as `legal`.
    """
    if agent is None:
        own = agent_spec.own_actions
        return legal if own is None else legal & tf.constant(own)
    own = agent_spec.own_actions or [[True] * agent_spec.n_actions] * agent_spec.n_agents
    chosen = tf.one_hot(agent, agent_spec.n_agents, on_value=True, off_value=False, dtype=tf.bool)
    return legal & tf.reduce_any(chosen[..., None] & tf.constant(own), -2)


def next_policy_state(agent_spec: AgentSpec, hidden: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """What a policy carries on, [..., K].

    Args:
      hidden: [..., H], as `policy_step` returns it.
      action: [...] int32, the action taken.
    """
    parts = [hidden] if agent_spec.recurrent else []
    if agent_spec.last_action:
        parts.append(tf.one_hot(action, agent_spec.n_actions))
    return tf.concat(parts, -1) if parts else hidden[..., :0]


class AgentNetwork(SeededLayer):
    """One network, with which one agent or all of them value their actions."""

    def __init__(self, agent_spec: AgentSpec, name: str = "agent_network"):
        super().__init__(name)
        self.agent_spec = agent_spec
        for part, n_in, n_out in agent_spec.layer_sizes:
            self.add_layer(part, n_in, n_out)
        self.built = True

    def add_layer(self, name: str, n_in: int, n_out: int) -> None:
        """Kernel and bias as attributes `name` and `name_bias`."""
        setattr(self, name, self.add_uniform(name, [n_in, n_out], n_in))
        setattr(self, f"{name}_bias", self.add_uniform(f"{name}_bias", [n_out], n_in))

    def read(self) -> list[tf.Tensor]:
        """The weights as tensors, for the functions of this module."""
        return [tf.convert_to_tensor(w) for w in self.weights]

    def _encode(self, obs: tf.Tensor, last_action: tf.Tensor, agent: tf.Tensor) -> tf.Tensor:
        """The first layer's product with what `join` would join, which is not stored.

        Args:
          obs: [B, T, N, O].
          last_action: [B, T, N, A], one-hot.
          agent: [N] int32.

        Returns:
          [B, T, N, H], bias included.
        """
        agent_spec = self.agent_spec
        parts = [obs]
        if agent_spec.last_action:
            parts.append(last_action)
        if agent_spec.agent_id:
            parts.append(tf.one_hot(agent, agent_spec.n_agents))
        kernels = tf.split(self.encode, [x.shape[-1] for x in parts])
        products = [matmul(x, kernel) for x, kernel in zip(parts, kernels, strict=True)]
        return sum(products, tf.convert_to_tensor(self.encode_bias))

    def unroll(
        self, obs: tf.Tensor, action: tf.Tensor, agent: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `AgentTeam.unroll`, for the agents [N] int32 that this network serves."""
        batch, length, agents, _ = obs.shape
        last = tf.pad(
            tf.one_hot(action, self.agent_spec.n_actions), [[0, 0], [1, 0], [0, 0], [0, 0]]
        )
        if not self.agent_spec.recurrent:
            inputs = join(
                self.agent_spec, obs, last, tf.broadcast_to(agent, [batch, length, agents])
            )
            found = feed_forward(self.read(), tf.reshape(inputs, [-1, self.agent_spec.n_inputs]))
            q, hidden = (tf.reshape(x, [batch, length, agents, x.shape[-1]]) for x in found)
            return q, hidden
        encoded = tf.transpose(self._encode(obs, last, agent), [1, 0, 2, 3])
        encoded = tf.reshape(encoded, [length, batch * agents, self.agent_spec.hidden_size])
        q, hidden = recurrent_unroll(RecurrentWeights(*self.read()), encoded)

        def unfold(x: tf.Tensor) -> tf.Tensor:
            x = tf.reshape(x, [length, batch, agents, x.shape[-1]])
            return tf.transpose(x, [1, 0, 2, 3])

        return unfold(q), unfold(hidden)


class AgentTeam(tf_keras.Model):
    """The team: one network for all agents, or one for each (`agent_spec.shared`)."""

    def __init__(self, agent_spec: AgentSpec, name: str = "agent"):
        super().__init__(name=name)
        self.agent_spec = agent_spec
        self.networks = [
            AgentNetwork(agent_spec, f"network_{i}") for i in range(agent_spec.n_networks)
        ]
        self.built = True

    def read(self) -> list[list[tf.Tensor]]:
        """The weights of each network, for `policy_step`."""
        return [network.read() for network in self.networks]

    def call(self, obs: tf.Tensor, policy_state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of the whole team, see `network_step`: obs [B, N, O] and carry [B, N, K]."""
        if self.agent_spec.shared:
            agents = tf.broadcast_to(tf.range(self.agent_spec.n_agents), tf.shape(obs)[:-1])
            return network_step(self.networks[0].read(), self.agent_spec, obs, policy_state, agents)
        found = [
            network_step(
                network.read(),
                self.agent_spec,
                obs[:, i],
                policy_state[:, i],
                tf.fill(tf.shape(obs)[:1], i),
            )
            for i, network in enumerate(self.networks)
        ]
        q, hidden = zip(*found, strict=True)
        return tf.stack(q, 1), tf.stack(hidden, 1)

    def unroll(self, obs: tf.Tensor, action: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs the networks over a batch of whole episodes, from the start of each.

        Args:
          obs: [B, T+1, N, O].
          action: [B, T, N] int32; the action of step t is an input of step t + 1.

        Returns:
          q [B, T+1, N, A] and the hidden features [B, T+1, N, H].
        """
        agents = tf.range(self.agent_spec.n_agents)
        if self.agent_spec.shared:
            return self.networks[0].unroll(obs, action, agents)
        found = [
            network.unroll(obs[:, :, i : i + 1], action[:, :, i : i + 1], agents[i : i + 1])
            for i, network in enumerate(self.networks)
        ]
        q, hidden = zip(*found, strict=True)
        return tf.concat(q, 2), tf.concat(hidden, 2)
