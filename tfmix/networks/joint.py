"""QTRAN's joint networks (Son et al. 2019). They are not mixers.

A layer that reads several things joined together is a sum of products, one
for each thing. Written so, what does not depend on the actions is computed
once however many joint actions are asked about: the compiler sees the same
product again and keeps one.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfmix.networks.layers import Linear, Mlp, matmul


def encode_taken(layer: Linear, hidden: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """The first layer of h_Q: ReLU of `layer` over [hidden, one-hot action], which are not joined.

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
        """Q_jt of one joint action a step.

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

    Agent i's network reads h_V,i, a code of its own hidden state, and the sum
    of the OTHERS' h_Q,j, in which hidden state and action are encoded together
    so that it matters who does what; beside them, as QTRAN-base's here, the
    state, and its id. It answers with one value for each of its own A actions.

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
        """Q_jt of each agent's own actions beside the others' given ones.

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
        """V_jt [B, T] from state [B, T, S] and hidden [B, T, N, H]."""
        if self.kind == "zero":
            return tf.zeros(tf.shape(state)[:2])
        if self.kind == "state":
            return tf.squeeze(self.value(state), -1)
        return tf.squeeze(self.value(tf.reduce_sum(self.encode(hidden), 2)), -1)
