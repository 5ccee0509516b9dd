"""QTRAN-base and QTRAN-alt (Son et al. 2019, arXiv:1905.05408).

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
from tfmix.algos.base import Algorithm, Metrics
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


class CounterfactualQ(tf_keras.layers.Layer):
    """QTRAN-alt's Q_jt(s, tau, (., u_-i)): every own action in one pass.

    Agent i's network reads h_V,i, a code of the agent's hidden state, and the sum
    of the OTHERS' h_Q,j, in which hidden state and action are encoded together
    so that it matters who does what; beside them, as QTRAN-base's here, the
    state, and its id. It answers with one value for each of the agent's A actions.

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

    joint: JointQ | CounterfactualQ
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


class QtranBase(Qtran):
    """QTRAN-base, the form of PyMARL with arch `qtran_paper`."""

    critic = "joint"

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

    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
        """Compute L = L_td + opt_loss L_opt + nopt_min_loss L_nopt, over real steps.

        With u* each agent's best legal action by the live network, ' the target
        networks and sg() constant to the gradient (Son et al. 2019, section 3.3):

        L_td   = (Q_jt(u) - y)^2, y = r + gamma (1 - d) Q_jt'(s_{t+1}, u*_{t+1})
        L_opt  = (sum_i Q_i(u*_i) - sg Q_jt(u*) + V)^2
        L_nopt = min(sum_i Q_i(u_i) - sg Q_jt(u) + V, 0)^2
        """
        state, q, hidden, greedy, target = self.opening(batch)
        joint = self.joint_of(self.live, state, hidden, batch.action)  # [B, T]
        td_loss = ops.masked_mean(tf.square(joint - target), batch.mask)

        value = self.live.value(state, hidden)  # [B, T]
        greedy_joint = self.joint_of(self.live, state, hidden, greedy)
        greedy_sum = tf.reduce_sum(ops.gather_actions(q, greedy), -1)
        opt_error = greedy_sum - tf.stop_gradient(greedy_joint) + value
        opt_loss = ops.masked_mean(tf.square(opt_error), batch.mask)

        taken_sum = tf.reduce_sum(ops.gather_actions(q, batch.action), -1)
        nopt_error = tf.minimum(taken_sum - tf.stop_gradient(joint) + value, 0.0)
        nopt_loss = ops.masked_mean(tf.square(nopt_error), batch.mask)

        loss = td_loss + self.config.opt_loss * opt_loss + self.config.nopt_min_loss * nopt_loss
        return loss, {
            "loss": loss,
            "loss_td": td_loss,
            "loss_opt": opt_loss,
            "loss_nopt": nopt_loss,
            "q_tot": ops.masked_mean(joint, batch.mask),
            "target": ops.masked_mean(target, batch.mask),
        }


class QtranAlt(Qtran):
    """QTRAN-alt, recurrent, with a counterfactual joint network for each agent."""

    settings = Qtran.settings | {"qtran_slack"}
    critic = "counterfactual"
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

    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
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
        td_loss = self._mean(tf.square(joint - target), batch.mask)

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
        return loss, {
            "loss": loss,
            "loss_td": td_loss,
            "loss_opt": opt_loss,
            "loss_nopt_min": nopt_loss,
            "q_tot": self._mean(joint, batch.mask),
            "target": self._mean(target, batch.mask),
        }

    def _mean(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Average x [B, T, N] over real steps and agents."""
        return ops.masked_mean(tf.reduce_mean(x, -1), mask)
