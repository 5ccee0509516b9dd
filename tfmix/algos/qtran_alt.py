"""QTRAN-alt (Son et al. 2019, section 3.4): its counterfactual joint network and its loss."""

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


class CounterfactualQ(tf_keras.layers.Layer):
    """QTRAN-alt's Q_jt(s, tau, (., u_-i)): every own action in one pass.

    Agent i's network reads h_V,i, a code of the agent's hidden state, and the sum of
    h_Q,j over the OTHER agents. h_Q,j encodes hidden state and action together, so that
    the sum depends on which agent takes which action. It also reads the state, as
    QTRAN-base's network does here, and the agent's id. Its output is one value for each
    of the agent's A actions.

    Args:
      n_agents: N.
      state_size: S.
      hidden_size: H.
      n_actions: A.
      embed: units E of the codes and of the joint network's hidden layers.
    """

    def __init__(
        self, n_agents: int, state_size: int, hidden_size: int, n_actions: int, embed: int
    ):
        super().__init__(name="counterfactual_q")
        self.parts = [state_size, n_agents, embed, embed]
        self.own = Linear(hidden_size, embed, "own")
        self.own_out = Linear(embed, embed, "own_out")
        self.encode = Linear(hidden_size + n_actions, embed, "encode")
        self.encode_out = Linear(embed, embed, "encode_out")
        self.first = Linear(sum(self.parts), embed, "first")
        self.rest = Mlp([embed, embed, n_actions], "rest")
        self.built = True

    def call(self, state: tf.Tensor, hidden: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Compute Q_jt of each agent's own actions, with the other agents' actions as given.

        Args:
          state: [B, T, S].
          hidden: [B, T, N, H], not detached.
          action: [B, T, N] int32; agent i's own entry is not looked at.

        Returns:
          [B, T, N, A].
        """
        code = encode_taken(self.encode, hidden, action)  # [B, T, N, E]
        # No ReLU is between a code's last layer and the joint network's first: one product with the
        # product of both kernels. The sum of linear maps is the linear map of the sum.
        of_state, of_id, of_own, of_others = tf.split(self.first.kernel, self.parts)
        others = matmul(
            tf.reduce_sum(code, 2, keepdims=True) - code, self.encode_out.kernel @ of_others
        )
        own = matmul(tf.nn.relu(self.own(hidden)), self.own_out.kernel @ of_own)
        count = tf.cast(tf.shape(hidden)[2] - 1, tf.float32)
        bias = self.own_out.bias[None] @ of_own + count * self.encode_out.bias[None] @ of_others
        x = matmul(state, of_state)[:, :, None] + of_id + own + others + bias + self.first.bias
        return self.rest(tf.nn.relu(x))


class QtranAlt(Qtran):
    """QTRAN-alt, recurrent, with a counterfactual joint network for each agent."""

    settings = Qtran.settings | {"qtran_slack"}
    critic = "counterfactual"
    inspected: ClassVar[Mapping[str, About]] = {
        **Qtran.inspected,
        "qtran/loss_nopt_min": About(
            "L_nopt-min of the replay batch: violation of condition (7)", "reward²"
        ),
        "qtran/holds_7": About(
            "Share of the replay batch's steps, and of agents with two or more legal actions, at "
            "which condition (7) holds within 0.1: the least of Q' + V_jt - Q_jt over an agent's "
            "own actions is 0",
            "0 to 1",
        ),
    }
    value_per_agent = True

    def build(self) -> QtranNetworks:
        """Make the agents' networks, the counterfactual joint network and V."""
        spec, config = self.spec, self.config
        sizes = spec.state_size, config.hidden_size
        return QtranNetworks(
            agent=self.new_agents(),
            joint=CounterfactualQ(spec.n_agents, *sizes, spec.n_actions, config.qtran_embed),
            value=StateValue(config.qtran_state_value, *sizes, config.qtran_embed),
        )

    def joint_of(
        self, networks: QtranNetworks, state: tf.Tensor, hidden: tf.Tensor, action: tf.Tensor
    ) -> tf.Tensor:
        """Return Q_jt of each agent's network, [B, T, N]."""
        return ops.gather_actions(networks.joint(state, hidden, action), action)

    def terms(self, batch: Episode) -> Terms:
        """Compute L = L_td + opt_loss L_opt + nopt_min_loss L_nopt-min, over steps and agents.

        Condition 4b is only an inequality and leaves Q' loose. Condition 7 (Son
        et al. 2019, theorem 2) asks that for every agent, beside the others'
        actions as taken, at least one own action meets it with equality: m_i = 0.
        Three or more agents cannot in general meet it, see docs/algorithms.md, so
        m_i > 0 counts `qtran_slack` times as much as m_i < 0, which breaks 4b;
        with 1 this is the paper's loss. Q_jt,i(., u_-i) is agent i's network, all
        its actions at once:

        L_td       = mean_i (Q_jt,i(u_i, u_-i) - y_i)^2,
                     y_i = r + gamma (1 - d) Q_jt,i'(s_{t+1}, u*_{t+1})
        L_opt      = mean_i (sum_j Q_j(u*_j) - sg Q_jt,i(u*) + V)^2
        L_nopt-min = mean_i [min(m_i, 0)^2 + slack max(m_i, 0)^2],
                     m_i = min over agent i's legal actions a of D_i(a),
                     D_i(a) = Q_i(a) + sum_{j!=i} Q_j(u_j) - sg Q_jt,i(a, u_-i) + V

        The mean of L_nopt-min is over agents with two or more legal actions: with
        one alone, m_i = 0 would ask for equality at every joint action of the
        others. If no agent has two, it is mean_i min(D_i(u_i), 0)^2, condition 4b.
        """
        state, q, hidden, greedy, target = self.opening(batch)
        counterfactual = self.live.joint(state, hidden, batch.action)  # [B, T, N, A]
        joint = ops.gather_actions(counterfactual, batch.action)  # [B, T, N]
        td_error = joint - target
        td_loss = self._mean(tf.square(td_error), batch.mask)

        value = self.live.value(state, hidden)[..., None]  # [B, T, 1]
        greedy_joint = self.joint_of(self.live, state, hidden, greedy)
        greedy_sum = tf.reduce_sum(ops.gather_actions(q, greedy), -1, keepdims=True)
        opt_error = greedy_sum - tf.stop_gradient(greedy_joint) + value  # [B, T, N]
        opt_loss = self._mean(tf.square(opt_error), batch.mask)

        taken = ops.gather_actions(q, batch.action)  # [B, T, N]
        others = tf.reduce_sum(taken, -1, keepdims=True) - taken
        gap = q + (others + value)[..., None] - tf.stop_gradient(counterfactual)
        legal = batch.legal[:, :-1]
        chooses = tf.reduce_sum(tf.cast(legal, tf.int32), -1) > 1  # [B, T, N]
        smallest = tf.reduce_min(tf.where(legal, gap, tf.fill(tf.shape(gap), gap.dtype.max)), -1)
        # An agent without a legal action, as on padding, has no minimum to square.
        smallest = tf.where(chooses, smallest, ops.gather_actions(gap, batch.action))
        slack = self.config.qtran_slack * tf.cast(chooses, tf.float32)
        nopt_error = tf.square(tf.minimum(smallest, 0.0))
        nopt_error += slack * tf.square(tf.maximum(smallest, 0.0))
        counted = tf.cast(chooses | ~tf.reduce_any(chooses, -1, keepdims=True), tf.float32)
        nopt_error = tf.reduce_sum(counted * nopt_error, -1) / tf.reduce_sum(counted, -1)
        nopt_loss = ops.masked_mean(nopt_error, batch.mask)

        loss = td_loss + self.config.opt_loss * opt_loss + self.config.nopt_min_loss * nopt_loss
        metrics = {
            "loss": loss,
            "loss_td": td_loss,
            "loss_opt": opt_loss,
            "loss_nopt_min": nopt_loss,
            "q_tot": self._mean(joint, batch.mask),
            "target": self._mean(target, batch.mask),
        }
        parts = {"opt_error": opt_error, "gap": gap, "smallest": smallest, "counted": counted}
        return Terms(loss, metrics, q, td_error, parts)

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Return the losses, and how often conditions (4a), (4b) and (7) hold."""
        parts = terms.parts
        taken = ops.gather_actions(parts["gap"], batch.action)  # [B, T, N]
        counted = parts["counted"] * batch.mask[..., None]
        holds = tf.cast(tf.abs(parts["smallest"]) <= NEAR, tf.float32)
        return {
            **super().inspect(batch, terms),
            "qtran/holds_4b": share_that(taken >= -NEAR, batch.mask),
            "qtran/holds_7": ops.masked_mean(holds, counted),
        }

    def _mean(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Average x [B, T, N] over real steps and agents."""
        return ops.masked_mean(tf.reduce_mean(x, -1), mask)
