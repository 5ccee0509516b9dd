"""QTRAN-base (Son et al. 2019, section 3.3): its joint network and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import About, Terms
from tfmix.algos.qtran import (
    NEAR,
    Qtran,
    QtranNetworks,
    StateValue,
    encode_taken,
    share_that,
)
from tfmix.networks.layers import Linear, Mlp, matmul
from tfmix.types import Episode


class JointQ(tf_keras.layers.Layer):
    """QTRAN-base's Q_jt(s, tau, u) with PyMARL's arch `qtran_paper`.

    Each agent's hidden state and action are encoded together; the sum of the
    codes and the state go through two hidden layers.

    Args:
      state_size: S.
      hidden_size: H.
      n_actions: A.
      embed: hidden units of the joint network.
    """

    def __init__(self, state_size: int, hidden_size: int, n_actions: int, embed: int):
        super().__init__(name="joint_q")
        self.state_size = state_size
        code = hidden_size + n_actions
        self.encode = Linear(code, code, "encode")
        self.encode_out = Linear(code, code, "encode_out")
        self.first = Linear(state_size + code, embed, "first")
        self.rest = Mlp([embed, embed, 1], "rest")
        self.built = True

    def call(self, state: tf.Tensor, hidden: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Compute Q_jt of one joint action for each step.

        Args:
          state: [B, T, S].
          hidden: [B, T, N, H], not detached: L_td shapes the agents too.
          action: [B, T, N] int32.

        Returns:
          [B, T].
        """
        code = encode_taken(self.encode, hidden, action)
        # The sum of linear maps is the linear map of the sum.
        agents = tf.cast(tf.shape(hidden)[2], tf.float32)
        code = matmul(tf.reduce_sum(code, 2), self.encode_out.kernel)
        code += agents * self.encode_out.bias
        of_state, of_code = tf.split(self.first.kernel, [self.state_size, code.shape[-1]])
        x = tf.nn.relu(matmul(state, of_state) + matmul(code, of_code) + self.first.bias)
        return tf.squeeze(self.rest(x), -1)


class QtranBase(Qtran):
    """QTRAN-base, the form of PyMARL with arch `qtran_paper`."""

    critic = "joint"
    inspected: ClassVar[Mapping[str, About]] = {
        **Qtran.inspected,
        "qtran/loss_nopt": About(
            "L_nopt of the replay batch: violation of condition (4b)", "reward²"
        ),
    }

    def build(self) -> QtranNetworks:
        """Make the agents' networks, one joint network and V."""
        spec, config = self.spec, self.config
        sizes = spec.state_size, config.hidden_size
        return QtranNetworks(
            agent=self.new_agents(),
            joint=JointQ(*sizes, spec.n_actions, config.qtran_embed),
            value=StateValue(config.qtran_state_value, *sizes, config.qtran_embed),
        )

    def joint_of(
        self, networks: QtranNetworks, state: tf.Tensor, hidden: tf.Tensor, action: tf.Tensor
    ) -> tf.Tensor:
        """Return Q_jt, [B, T]."""
        return networks.joint(state, hidden, action)

    def terms(self, batch: Episode) -> Terms:
        """Compute L = L_td + opt_loss L_opt + nopt_min_loss L_nopt, over real steps.

        With u* each agent's best legal action by the live network, ' the target
        networks and sg() constant to the gradient (Son et al. 2019, section 3.3):

        L_td   = (Q_jt(u) - y)^2, y = r + gamma (1 - d) Q_jt'(s_{t+1}, u*_{t+1})
        L_opt  = (sum_i Q_i(u*_i) - sg Q_jt(u*) + V)^2
        L_nopt = min(sum_i Q_i(u_i) - sg Q_jt(u) + V, 0)^2
        """
        state, q, hidden, greedy, target = self.opening(batch)
        joint = self.joint_of(self.live, state, hidden, batch.action)  # [B, T]
        td_error = joint - target
        td_loss = ops.masked_mean(tf.square(td_error), batch.mask)

        value = self.live.value(state, hidden)  # [B, T]
        greedy_joint = self.joint_of(self.live, state, hidden, greedy)
        greedy_sum = tf.reduce_sum(ops.gather_actions(q, greedy), -1)
        opt_error = greedy_sum - tf.stop_gradient(greedy_joint) + value
        opt_loss = ops.masked_mean(tf.square(opt_error), batch.mask)

        taken_sum = tf.reduce_sum(ops.gather_actions(q, batch.action), -1)
        gap = taken_sum - tf.stop_gradient(joint) + value
        nopt_loss = ops.masked_mean(tf.square(tf.minimum(gap, 0.0)), batch.mask)

        loss = td_loss + self.config.opt_loss * opt_loss + self.config.nopt_min_loss * nopt_loss
        metrics = {
            "loss": loss,
            "loss_td": td_loss,
            "loss_opt": opt_loss,
            "loss_nopt": nopt_loss,
            "q_tot": ops.masked_mean(joint, batch.mask),
            "target": ops.masked_mean(target, batch.mask),
        }
        return Terms(loss, metrics, q, td_error, {"opt_error": opt_error, "gap": gap})

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Return the losses, and how often conditions (4a) and (4b) hold."""
        holds = share_that(terms.parts["gap"] >= -NEAR, batch.mask)
        return {**super().inspect(batch, terms), "qtran/holds_4b": holds}
