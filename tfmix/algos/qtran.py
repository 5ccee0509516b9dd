"""What QTRAN-base and QTRAN-alt share (Son et al. 2019, arXiv:1905.05408).

A joint network learns Q_jt without any constraint. The agents' values are
made to agree with it: with Q'_jt = sum_i Q_i and V_jt to make up for partial
observation, Q'_jt - Q_jt + V_jt is to be zero at the agents' own best
actions (condition 4a) and at least zero elsewhere (4b); then both have the
same best joint action.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import About, Algorithm, Terms, Views
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


# How far from its condition a step may be that counts as one at which the condition holds.
NEAR = 0.1


def share_that(holds: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return the share of real steps, and of agents, at which a condition holds.

    Args:
      holds: [B, T] or [B, T, N] bool.
      mask: [B, T].
    """
    found = tf.cast(holds, tf.float32)
    if found.shape.rank == 3:
        found = tf.reduce_mean(found, -1)
    return ops.masked_mean(found, mask)


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
    judges = ("Q_jt",)
    inspected: ClassVar[Mapping[str, About]] = {
        "qtran/loss_td": About("L_td of the replay batch: squared TD error of Q_jt", "reward²"),
        "qtran/loss_opt": About(
            "L_opt of the replay batch: violation of condition (4a)", "reward²"
        ),
        "qtran/holds_4a": About(
            "Share of the replay batch's steps at which condition (4a) holds within 0.1: at the "
            "greedy joint action, Q' + V_jt equals Q_jt",
            "0 to 1",
        ),
        "qtran/holds_4b": About(
            "Share of the replay batch's steps at which condition (4b) holds within 0.1: at the "
            "joint action taken, Q' + V_jt is not below Q_jt",
            "0 to 1",
        ),
    }
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

    def team_values(self, views: Views, action: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return Q_jt, averaged over agents if each has its own, the sum of the Q_i and V_jt."""
        joint = self.joint_of(self.live, views.state, views.features, action)
        return {
            "Q_jt": joint if joint.shape.rank == 2 else tf.reduce_mean(joint, -1),
            "sum of Q_i": tf.reduce_sum(ops.gather_actions(views.q, action), -1),
            "V_jt": self.live.value(views.state, views.features),
        }

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Return the losses, and how often condition (4a) holds."""
        names = [tag.removeprefix("qtran/") for tag in self.inspected if "/loss_" in tag]
        holds = tf.abs(terms.parts["opt_error"]) <= NEAR
        return {
            **{f"qtran/{name}": terms.metrics[name] for name in names},
            "qtran/holds_4a": share_that(holds, batch.mask),
        }

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
