"""What QTRAN-base and QTRAN-alt share (Son et al. 2019, arXiv:1905.05408).

A joint network learns Q_jt without any constraint. The agents' values are
made to agree with it: with Q'_jt = sum_i Q_i and V_jt to make up for partial
observation, Q'_jt - Q_jt + V_jt is to be zero at the agents' own best
actions (condition 4a) and at least zero elsewhere (4b); then both have the
same best joint action.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import Algorithm
from tfmix.networks.layers import Linear, Mlp, Networks, matmul
from tfmix.types import Episode


def encode_taken(layer: Linear, hidden: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """Compute the first layer of h_Q, ReLU of `layer` over [hidden, one-hot action], unjoined.

    Args:
      layer: from H + A.
      hidden: [B, T, N, H].
      action: [B, T, N] int32.

    Returns:
      [B, T, N, units of the layer].
    """
    n_hidden, n_inputs = hidden.shape[-1], layer.kernel.shape[0]
    of_hidden, of_action = tf.split(layer.kernel, [n_hidden, n_inputs - n_hidden])
    chosen = matmul(tf.one_hot(action, n_inputs - n_hidden), of_action)
    return tf.nn.relu(matmul(hidden, of_hidden) + chosen + layer.bias)


class StateValue(tf_keras.layers.Layer):
    """QTRAN's V_jt, which makes up for what the agents cannot observe.

    Args:
      kind: `state` reads the state (PyMARL), `features` reads the sum of the
        agents' features h_V (the paper), `zero` is 0, which suffices where
        every agent observes everything.
      state_size: S.
      hidden_size: H.
      embed: hidden units.
    """

    def __init__(self, kind: str, state_size: int, hidden_size: int, embed: int):
        super().__init__(name="state_value")
        self.kind = kind
        if kind == "state":
            self.value = Mlp([state_size, embed, embed, 1], "value")
        elif kind == "features":
            self.encode = Mlp([hidden_size, embed, embed], "encode")
            self.value = Mlp([embed, embed, 1], "value")
        self.built = True

    def call(self, state: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        """Compute V_jt [B, T] from state [B, T, S] and hidden [B, T, N, H]."""
        if self.kind == "zero":
            return tf.zeros(tf.shape(state)[:2])
        if self.kind == "state":
            return tf.squeeze(self.value(state), -1)
        return tf.squeeze(self.value(tf.reduce_sum(self.encode(hidden), 2)), -1)


class Opening(NamedTuple):
    """What both of QTRAN's losses begin with.

    Attributes:
      state: [B, T, S].
      q: [B, T, N, A], the agents' values.
      hidden: [B, T, N, H], the agents' hidden states, not detached.
      greedy: [B, T, N] int32, each agent's best legal action u* by the live network.
      target: y, constant to the gradient, one number for each joint network:
        [B, T] or [B, T, N].
    """

    state: tf.Tensor
    q: tf.Tensor
    hidden: tf.Tensor
    greedy: tf.Tensor
    target: tf.Tensor


class QtranNetworks(Networks):
    """The agents, one joint network or one for each agent, and V_jt."""

    joint: tf_keras.layers.Layer
    value: StateValue


class Qtran(Algorithm):
    """What the two have in common; they differ in the joint network and in L_nopt."""

    settings = frozenset(
        {"double_q", "qtran_embed", "qtran_state_value", "opt_loss", "nopt_min_loss"}
    )
    live: QtranNetworks
    target: QtranNetworks

    @abc.abstractmethod
    def joint_of(
        self, networks: QtranNetworks, state: tf.Tensor, hidden: tf.Tensor, action: tf.Tensor
    ) -> tf.Tensor:
        """Return Q_jt of a joint action, [B, T], or that of each agent's network, [B, T, N].

        Args:
          networks: the live ones or the targets.
          state: [B, T, S].
          hidden: [B, T, N, H], of the same networks.
          action: [B, T, N] int32.
        """

    def opening(self, batch: Episode) -> Opening:
        """Unroll the agents, choose their best actions, and compute y."""
        q, hidden = self.live.agent.unroll(batch.obs, batch.action)  # [B, T+1, N, A], [.., H]
        target_q, target_hidden = self.target.agent.unroll(batch.obs, batch.action)
        state, next_state = batch.state[:, :-1], batch.state[:, 1:]
        best = ops.legal_argmax(q, batch.legal)  # [B, T+1, N]
        next_best = best[:, 1:]
        if not self.config.double_q:
            next_best = ops.legal_argmax(target_q[:, 1:], batch.legal[:, 1:])
        target = self.td_target(
            batch,
            self.joint_of(self.target, next_state, target_hidden[:, 1:], next_best),
            lambda: self.joint_of(self.target, state, target_hidden[:, :-1], batch.action),
        )
        return Opening(state, q[:, :-1], hidden[:, :-1], best[:, :-1], target)
