"""Mixers: from the agents' values to the team's value.

All take `(agent_q, state, *, agent_max_q, action, obs)`: agent_q [B, T, N] at
the actions taken, state [B, T, S], agent_max_q [B, T, N] the agents' best
legal values, action [B, T, N] int32, obs [B, T, N, O]. Most look at the first
two alone.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfmix.networks.layers import Linear, Mlp


class IndependentMixer(tf_keras.layers.Layer):
    """No mixing: every agent's value stands for the team's (IQL, Tan 1993)."""

    def call(self, agent_q: tf.Tensor, state: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        """Returns `agent_q` itself, [B, T, N]."""
        return agent_q


class AdditiveMixer(tf_keras.layers.Layer):
    """Q_tot = sum_i Q_i (VDN, Sunehag et al. 2017, section 3)."""

    def call(self, agent_q: tf.Tensor, state: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        """Returns q_tot, [B, T]."""
        return tf.reduce_sum(agent_q, -1)


class MonotonicMixer(tf_keras.layers.Layer):
    """QMIX's mixer (Rashid et al. 2018, section 4.1; 2020, section 4.1).

    Q_tot = ELU(q W1(s) + b1(s)) . Wf(s) + V(s), where |.| around the
    hypernetworks' outputs keeps W1 and Wf from being negative, so that no
    agent's value can lower the team's.

    Args:
      n_agents: N.
      state_size: S.
      embed: units of the mixing layer (32 in the papers).
      hypernet_embed: hidden units of the hypernetworks of W1 and Wf.
      hypernet_layers: 1 (the 2018 paper) or 2 (SMAC and the 2020 paper).
    """

    def __init__(
        self, n_agents: int, state_size: int, embed: int, hypernet_embed: int, hypernet_layers: int
    ):
        super().__init__(name="monotonic_mixer")
        self.n_agents, self.embed = n_agents, embed
        inner = [hypernet_embed] * (hypernet_layers - 1)
        self.hyper_w1 = Mlp([state_size, *inner, n_agents * embed], "hyper_w1")
        self.hyper_b1 = Linear(state_size, embed, "hyper_b1")
        self.hyper_wf = Mlp([state_size, *inner, embed], "hyper_wf")
        self.state_value = Mlp([state_size, embed, 1], "state_value")
        self.built = True

    def call(self, agent_q: tf.Tensor, state: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        """Returns q_tot, [B, T]."""
        w1 = tf.abs(self.hyper_w1(state))  # [B, T, N*E]
        w1 = tf.reshape(w1, [*tf.unstack(tf.shape(w1)[:-1]), self.n_agents, self.embed])
        mixed = tf.reduce_sum(agent_q[..., None] * w1, -2)  # [B, T, E]
        mixed = tf.nn.elu(mixed + self.hyper_b1(state))
        q_tot = tf.reduce_sum(mixed * tf.abs(self.hyper_wf(state)), -1)
        return q_tot + tf.squeeze(self.state_value(state), -1)


class AttentionMixer(tf_keras.layers.Layer):
    """Qatten's mixer (Yang et al. 2020, section 3.2).

    Q_tot = c(s) + sum_h w_h(s) sum_i lambda_{i,h} Q_i: in each head the state
    asks, the agents' observations answer, and the softmax over agents weighs
    their values. All weights are positive, so the mixer is monotonic.

    Args:
      state_size: S.
      obs_size: O.
      embed: size of queries and keys, and hidden units of c (32 in the paper).
      hypernet_embed: hidden units of the queries and of the heads' weights.
      heads: how many (4 in the paper).
      has_bias: whether the keys and the last layer of the queries have a bias
        (they have in PyMARL2, and not in the code of WQMIX's authors).
    """

    def __init__(
        self,
        state_size: int,
        obs_size: int,
        embed: int,
        hypernet_embed: int,
        heads: int,
        has_bias: bool = True,
    ):
        super().__init__(name="attention_mixer")
        self.heads, self.embed = heads, embed
        sizes, each = [state_size, hypernet_embed, embed], range(heads)
        self.query = [Mlp(sizes, f"query_{h}", has_bias) for h in each]
        self.key = [Linear(obs_size, embed, f"key_{h}", has_bias) for h in each]
        self.head_weight = Mlp([state_size, hypernet_embed, heads], "head_weight")
        self.constant = Mlp([state_size, embed, 1], "constant")
        self.built = True

    def logits(self, state: tf.Tensor, obs: tf.Tensor) -> tf.Tensor:
        """How each head's question and each agent's answer agree, unscaled, [B, T, heads, N]."""
        found = []
        for query, key in zip(self.query, self.key, strict=True):
            asked = query(state)[..., None, :]  # [B, T, 1, E]
            found.append(tf.reduce_sum(asked * key(obs), -1))
        return tf.stack(found, -2)

    def call(
        self, agent_q: tf.Tensor, state: tf.Tensor, *, obs: tf.Tensor, **_: tf.Tensor
    ) -> tf.Tensor:
        """Returns q_tot, [B, T]."""
        attention = tf.nn.softmax(self.logits(state, obs) * self.embed**-0.5)
        head_q = tf.reduce_sum(attention * agent_q[..., None, :], -1)  # [B, T, heads]
        weights = tf.abs(self.head_weight(state))  # [B, T, heads]
        q_tot = tf.reduce_sum(weights * head_q, -1)
        return q_tot + tf.squeeze(self.constant(state), -1)


class DuplexMixer(tf_keras.layers.Layer):
    """QPLEX's mixer (Wang et al. 2021, section 3.2).

    Each agent's value is shifted and scaled by the state, Q'_i = w_i Q_i + b_i
    with w_i > 0, and split into its maximum and its advantage A'_i <= 0:
    Q_tot = sum_i Q'_i(u_i) + sum_i (lambda_i(s, u) - 1) A'_i with lambda_i > 0,
    so that the best joint action is still every agent's own best, whatever the
    weights. A' is constant to the gradient, as in the authors' code.

    Args:
      n_agents: N.
      n_actions: A.
      state_size: S.
      hypernet_embed: hidden units (64 in the authors' code).
      kernels: attention kernels of lambda (10).
      layers: layers of each kernel's extractors (3).
    """

    TINY = 1e-10  # keeps weights from being exactly zero

    def __init__(
        self,
        n_agents: int,
        n_actions: int,
        state_size: int,
        hypernet_embed: int,
        kernels: int,
        layers: int,
    ):
        super().__init__(name="duplex_mixer")
        self.n_actions = n_actions
        inner = [hypernet_embed] * (layers - 1)
        both = state_size + n_agents * n_actions
        self.scale = Mlp([state_size, hypernet_embed, n_agents], "scale")
        self.shift = Mlp([state_size, hypernet_embed, n_agents], "shift")
        names = range(kernels)
        self.keys = [Mlp([state_size, *inner, 1], f"key_{k}") for k in names]
        self.agents = [Mlp([state_size, *inner, n_agents], f"agents_{k}") for k in names]
        self.actions = [Mlp([both, *inner, n_agents], f"actions_{k}") for k in names]
        self.built = True

    def call(
        self,
        agent_q: tf.Tensor,
        state: tf.Tensor,
        *,
        agent_max_q: tf.Tensor,
        action: tf.Tensor,
        **_: tf.Tensor,
    ) -> tf.Tensor:
        """Returns q_tot, [B, T]."""
        scale, shift = tf.abs(self.scale(state)) + self.TINY, self.shift(state)
        own = scale * agent_q + shift  # [B, T, N]
        advantage = tf.stop_gradient(own - (scale * agent_max_q + shift))
        chosen = tf.one_hot(action, self.n_actions)  # [B, T, N, A]
        shape = tf.concat([tf.shape(state)[:-1], [chosen.shape[-2] * self.n_actions]], 0)
        both = tf.concat([state, tf.reshape(chosen, shape)], -1)
        weight = tf.zeros_like(agent_q)
        for key, agents, actions in zip(self.keys, self.agents, self.actions, strict=True):
            importance = tf.abs(key(state)) + self.TINY  # [B, T, 1]
            weight += importance * tf.sigmoid(agents(state)) * tf.sigmoid(actions(both))
        return tf.reduce_sum(own + (weight - 1.0) * advantage, -1)


class UnrestrictedMixer(tf_keras.layers.Layer):
    """WQMIX's mixer of the central Q* (Rashid et al. 2020b, appendix B): any function.

    Three hidden layers on the state and the central agents' values, plus V(s).

    Args:
      n_agents: N.
      state_size: S.
      embed: hidden units (256 in the authors' code).
    """

    def __init__(self, n_agents: int, state_size: int, embed: int):
        super().__init__(name="unrestricted_mixer")
        self.net = Mlp([state_size + n_agents, embed, embed, embed, 1], "net")
        self.state_value = Mlp([state_size, embed, 1], "state_value")
        self.built = True

    def call(self, agent_q: tf.Tensor, state: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        """Returns Q*, [B, T]."""
        value = self.net(tf.concat([state, agent_q], -1)) + self.state_value(state)
        return tf.squeeze(value, -1)
