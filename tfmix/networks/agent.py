"""The recurrent agent network and its unroll.

Linear, ReLU, GRU cell, Linear, the agent of every value-decomposition paper
since QMIX (Rashid et al. 2018, section 6.1), shared by all agents.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tfmix.networks.layers import SeededLayer


class AgentWeights(NamedTuple):
    """I is the input size: O, then A with the last action, then N with the id.

    encode [I, H], encode_bias [H], gates [H, 3H], gates_bias [3H],
    recur [H, 3H], recur_bias [3H] (in the order reset, update, candidate),
    head [H, A], head_bias [A].
    """

    encode: tf.Tensor
    encode_bias: tf.Tensor
    gates: tf.Tensor
    gates_bias: tf.Tensor
    recur: tf.Tensor
    recur_bias: tf.Tensor
    head: tf.Tensor
    head_bias: tf.Tensor


def gru_step(weights: AgentWeights, x: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    """One step of a GRU cell with the reset gate behind the matrix product.

    The form of Cho et al. (2014) that cuDNN and PyTorch use.

    Args:
      x: [M, H], the encoded input.
      hidden: [M, H].

    Returns:
      [M, H], the new hidden state.
    """
    from_input = x @ weights.gates + weights.gates_bias
    from_hidden = hidden @ weights.recur + weights.recur_bias
    reset_x, update_x, candidate_x = tf.split(from_input, 3, axis=-1)
    reset_h, update_h, candidate_h = tf.split(from_hidden, 3, axis=-1)
    reset = tf.sigmoid(reset_x + reset_h)
    update = tf.sigmoid(update_x + update_h)
    candidate = tf.tanh(candidate_x + reset * candidate_h)
    return update * hidden + (1.0 - update) * candidate


def agent_step(
    weights: AgentWeights, inputs: tf.Tensor, hidden: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of the agent network.

    Args:
      inputs: [M, I].
      hidden: [M, H].

    Returns:
      q [M, A] and the new hidden state [M, H].
    """
    x = tf.nn.relu(inputs @ weights.encode + weights.encode_bias)
    hidden = gru_step(weights, x, hidden)
    return hidden @ weights.head + weights.head_bias, hidden


def agent_unroll(weights: AgentWeights, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs the agent network over whole episodes from a zero hidden state.

    Args:
      inputs: [T, M, I], time first.

    Returns:
      q [T, M, A] and the hidden states [T, M, H] behind each step.
    """
    length, rows = inputs.shape[0], tf.shape(inputs)[1]
    size, n_actions = weights.head.shape
    xs = tf.TensorArray(tf.float32, length, element_shape=inputs.shape[1:]).unstack(inputs)
    qs = tf.TensorArray(tf.float32, length, element_shape=[inputs.shape[1], n_actions])
    hs = tf.TensorArray(tf.float32, length, element_shape=[inputs.shape[1], size])

    def step(t, hidden, qs, hs):
        q, hidden = agent_step(weights, xs.read(t), hidden)
        return t + 1, hidden, qs.write(t, q), hs.write(t, hidden)

    _, _, qs, hs = tf.while_loop(
        lambda t, *_: t < length,
        step,
        (0, tf.zeros([rows, size]), qs, hs),
        maximum_iterations=length,
    )
    return qs.stack(), hs.stack()


@dataclasses.dataclass(frozen=True)
class AgentLayout:
    """What one agent reads, and what it carries from step to step.

    Attributes:
      obs_size: O.
      n_agents: N.
      n_actions: A.
      hidden_size: H.
      last_action: whether the agent reads its last action's one-hot.
      agent_id: whether the agent reads its own index as a one-hot.
    """

    obs_size: int
    n_agents: int
    n_actions: int
    hidden_size: int
    last_action: bool
    agent_id: bool

    @property
    def n_inputs(self) -> int:
        """I, the size of what the network reads."""
        return self.obs_size + self.n_actions * self.last_action + self.n_agents * self.agent_id

    @property
    def carry_size(self) -> int:
        """K, the size of what a policy carries: H, then A with the last action."""
        return self.hidden_size + self.n_actions * self.last_action

    def join(self, obs: tf.Tensor, last_action: tf.Tensor, agent: tf.Tensor) -> tf.Tensor:
        """The network's input [..., I].

        Args:
          obs: [..., O].
          last_action: [..., A], one-hot, zeros before the first action.
          agent: [...] int32, each agent's index.
        """
        parts = [obs]
        if self.last_action:
            parts.append(last_action)
        if self.agent_id:
            parts.append(tf.one_hot(agent, self.n_agents))
        return tf.concat(parts, -1)


def policy_step(
    weights: AgentWeights,
    layout: AgentLayout,
    obs: tf.Tensor,
    carry: tf.Tensor,
    agent: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of the decentralised policy, before an action is chosen.

    Args:
      obs: [..., O].
      carry: [..., K], zeros at the start of an episode, see `policy_carry`.
      agent: [...] int32, each agent's index.

    Returns:
      q [..., A] and the GRU's state [..., H].
    """
    hidden, last_action = carry[..., : layout.hidden_size], carry[..., layout.hidden_size :]
    inputs = layout.join(obs, last_action, agent)
    lead = tf.shape(obs)[:-1]
    q, hidden = agent_step(
        weights,
        tf.reshape(inputs, [-1, layout.n_inputs]),
        tf.reshape(hidden, [-1, layout.hidden_size]),
    )
    return (
        tf.reshape(q, tf.concat([lead, [layout.n_actions]], 0)),
        tf.reshape(hidden, tf.concat([lead, [layout.hidden_size]], 0)),
    )


def policy_carry(layout: AgentLayout, hidden: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """What a policy carries on: the GRU's state [..., H] and the action [...] taken; [..., K]."""
    if not layout.last_action:
        return hidden
    return tf.concat([hidden, tf.one_hot(action, layout.n_actions)], -1)


class RecurrentAgent(SeededLayer):
    """The agent network, one for all agents."""

    def __init__(self, layout: AgentLayout, name: str = "agent"):
        super().__init__(name)
        self.layout = layout
        size, n_inputs, n_actions = layout.hidden_size, layout.n_inputs, layout.n_actions
        self.encode = self.add_uniform("encode", [n_inputs, size], n_inputs)
        self.encode_bias = self.add_uniform("encode_bias", [size], n_inputs)
        self.gates = self.add_uniform("gates", [size, 3 * size], size)
        self.gates_bias = self.add_uniform("gates_bias", [3 * size], size)
        self.recur = self.add_uniform("recur", [size, 3 * size], size)
        self.recur_bias = self.add_uniform("recur_bias", [3 * size], size)
        self.head = self.add_uniform("head", [size, n_actions], size)
        self.head_bias = self.add_uniform("head_bias", [n_actions], size)
        self.built = True

    def read(self) -> AgentWeights:
        """The weights as tensors, for the functions of this module."""
        return AgentWeights(*(tf.convert_to_tensor(w) for w in self.weights))

    def call(self, obs: tf.Tensor, carry: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`policy_step` of the whole team: obs [B, N, O] and carry [B, N, K]."""
        agent = tf.broadcast_to(tf.range(self.layout.n_agents), tf.shape(obs)[:-1])
        return policy_step(self.read(), self.layout, obs, carry, agent)

    def unroll(self, obs: tf.Tensor, action: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`agent_unroll` for a batch of whole episodes.

        Args:
          obs: [B, T+1, N, O].
          action: [B, T, N] int32; the action of step t is an input of step t + 1.

        Returns:
          q [B, T+1, N, A] and hidden states [B, T+1, N, H].
        """
        batch, length, agents, _ = obs.shape
        obs, action = tf.transpose(obs, [1, 0, 2, 3]), tf.transpose(action, [1, 0, 2])
        last = tf.pad(tf.one_hot(action, self.layout.n_actions), [[1, 0], [0, 0], [0, 0], [0, 0]])
        agent = tf.broadcast_to(tf.range(agents), [length, batch, agents])
        inputs = self.layout.join(obs, last, agent)
        rows = tf.reshape(inputs, [length, batch * agents, self.layout.n_inputs])
        q, hidden = agent_unroll(self.read(), rows)

        def unfold(x: tf.Tensor) -> tf.Tensor:
            return tf.transpose(tf.reshape(x, [length, batch, agents, x.shape[-1]]), [1, 0, 2, 3])

        return unfold(q), unfold(hidden)
