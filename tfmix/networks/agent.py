"""The recurrent agent network and its unroll.

Linear, ReLU, GRU cell, Linear, the agent of every value-decomposition paper
since QMIX (Rashid et al. 2018, section 6.1), shared by all agents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

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


class Gates(NamedTuple):
    """What a GRU cell computes on its way, each [M, H].

    `recurrent` is the candidate's share of the hidden state, before the reset
    gate is applied to it.
    """

    reset: tf.Tensor
    update: tf.Tensor
    candidate: tf.Tensor
    recurrent: tf.Tensor


def gru_gates(weights: AgentWeights, x: tf.Tensor, hidden: tf.Tensor) -> Gates:
    """The gates of a GRU cell whose reset gate stands behind the matrix product.

    The form of Cho et al. (2014) that cuDNN and PyTorch use.

    Args:
      x: [M, H], the encoded input.
      hidden: [M, H].
    """
    from_input = x @ weights.gates + weights.gates_bias
    from_hidden = hidden @ weights.recur + weights.recur_bias
    reset_x, update_x, candidate_x = tf.split(from_input, 3, axis=-1)
    reset_h, update_h, candidate_h = tf.split(from_hidden, 3, axis=-1)
    reset = tf.sigmoid(reset_x + reset_h)
    update = tf.sigmoid(update_x + update_h)
    return Gates(reset, update, tf.tanh(candidate_x + reset * candidate_h), candidate_h)


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
    q, hidden, _, _ = _step(weights, inputs, hidden)
    return q, hidden


def _step(
    weights: AgentWeights, inputs: tf.Tensor, hidden: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, Gates]:
    """`agent_step`, and the encoded input and the gates on the way."""
    x = tf.nn.relu(inputs @ weights.encode + weights.encode_bias)
    gates = gru_gates(weights, x, hidden)
    hidden = gates.update * hidden + (1.0 - gates.update) * gates.candidate
    return hidden @ weights.head + weights.head_bias, hidden, x, gates


def _scan(
    length: int,
    step: Callable[..., Any],
    carry: tf.Tensor,
    rows: list[tf.Tensor],
    widths: list[int],
) -> list[tf.Tensor]:
    """Calls `carry, outputs = step(carry, *rows[t])` for each t; returns the outputs.

    Args:
      length: T.
      step: of tensors [M, ...].
      carry: [M, H].
      rows: tensors [T, M, ...].
      widths: last axis of each output.

    Returns:
      the outputs, [T, M, width] each.
    """
    read = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in rows]
    shapes = [[carry.shape[0], width] for width in widths]
    write = [tf.TensorArray(carry.dtype, length, element_shape=shape) for shape in shapes]

    def body(t: tf.Tensor, carry: tf.Tensor, write: list[Any]) -> tuple[Any, Any, Any]:
        carry, outputs = step(carry, *(x.read(t) for x in read))
        return t + 1, carry, [w.write(t, x) for w, x in zip(write, outputs, strict=True)]

    start = (0, carry, write)
    _, _, write = tf.while_loop(lambda t, *_: t < length, body, start, maximum_iterations=length)
    return [x.stack() for x in write]


def agent_unroll(weights: AgentWeights, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs the agent network over whole episodes from a zero hidden state.

    With a gradient of its own: the way back only carries the hidden state's
    gradient, and every weight's gradient is one product over all steps at the
    end, where automatic differentiation does a small one at every step. The
    gates are kept for it; where no gradient is asked for, XLA drops them.

    Args:
      inputs: [T, M, I], time first, all sizes known.

    Returns:
      q [T, M, A] and the hidden states [T, M, H] behind each step.
    """

    @tf.custom_gradient
    def run(inputs: tf.Tensor, *flat: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        weights = AgentWeights(*flat)
        length, rows, _ = inputs.shape
        size, n_actions = weights.head.shape

        def forward(hidden: tf.Tensor, inputs: tf.Tensor) -> tuple[Any, list[tf.Tensor]]:
            q, hidden, x, gates = _step(weights, inputs, hidden)
            return hidden, [q, hidden, x, *gates]

        start = tf.zeros([rows, size])
        q, hidden, x, *gates = _scan(length, forward, start, [inputs], [n_actions] + [size] * 6)
        before = tf.concat([start[None], hidden[:-1]], 0)

        def gradient(of_q: tf.Tensor, of_hidden: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return _unroll_gradient(
                weights, inputs, x, before, hidden, Gates(*gates), of_q, of_hidden
            )

        return (q, hidden), gradient

    return run(inputs, *weights)


def _unroll_gradient(
    weights: AgentWeights,
    inputs: tf.Tensor,
    x: tf.Tensor,
    before: tf.Tensor,
    hidden: tf.Tensor,
    gates: Gates,
    of_q: tf.Tensor,
    of_hidden: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Gradients of `agent_unroll` in its inputs and in each of the weights.

    Args:
      weights: as there.
      inputs: [T, M, I].
      x: [T, M, H], encoded inputs.
      before: [T, M, H], hidden states ahead of each step.
      hidden: [T, M, H], behind each step.
      gates: [T, M, H] each.
      of_q: [T, M, A], the loss's gradient in q.
      of_hidden: [T, M, H], the loss's gradient in the hidden states.
    """
    length, _, size = before.shape

    def flat(y: tf.Tensor) -> tf.Tensor:
        return tf.reshape(y, [-1, y.shape[-1]])

    def weights_of(y: tf.Tensor, of_output: tf.Tensor) -> list[tf.Tensor]:
        return [tf.matmul(flat(y), of_output, transpose_a=True), tf.reduce_sum(of_output, 0)]

    of_q = flat(of_q)
    of_hidden += tf.reshape(tf.matmul(of_q, weights.head, transpose_b=True), hidden.shape)
    to_reset, to_update, to_recurrent = tf.split(tf.transpose(weights.recur), 3, axis=0)

    def backward(
        carry: tf.Tensor, of_h: tf.Tensor, before: tf.Tensor, *gates: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        reset, update, candidate, recurrent = gates
        of_h = of_h + carry
        of_update = of_h * (before - candidate) * update * (1.0 - update)
        of_candidate = of_h * (1.0 - update) * (1.0 - candidate * candidate)
        of_reset = of_candidate * recurrent * reset * (1.0 - reset)
        of_recurrent = of_candidate * reset
        # Three narrow products compile better than a wide one.
        carry = of_h * update + of_reset @ to_reset
        carry += of_update @ to_update + of_recurrent @ to_recurrent
        return carry, [of_reset, of_update, of_candidate, of_recurrent]

    back = [tf.reverse(y, [0]) for y in (of_hidden, before, *gates)]
    found = _scan(length, backward, tf.zeros_like(before[0]), back, [size] * 4)
    of_reset, of_update, of_candidate, of_recurrent = (flat(tf.reverse(y, [0])) for y in found)
    of_gates_x = tf.concat([of_reset, of_update, of_candidate], -1)
    of_gates_h = tf.concat([of_reset, of_update, of_recurrent], -1)
    of_x = tf.matmul(of_gates_x, weights.gates, transpose_b=True)
    of_x = tf.where(flat(x) > 0, of_x, tf.zeros_like(of_x))
    of_inputs = tf.matmul(of_x, weights.encode, transpose_b=True)
    return (
        tf.reshape(of_inputs, inputs.shape),
        *weights_of(inputs, of_x),
        *weights_of(x, of_gates_x),
        *weights_of(before, of_gates_h),
        *weights_of(hidden, of_q),
    )


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


class RecurrentAgent(SeededLayer, tf_keras.Model):
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
