"""QMIX (Rashid et al. 2018, 2020): its mixer; the loss is that of value mixing."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfmix.algos.value_mixing import ValueMixing
from tfmix.networks.layers import Linear, Mlp


class MonotonicMixer(tf_keras.layers.Layer):
    """Computes QMIX's Q_tot (Rashid et al. 2018, section 4.1; 2020, section 4.1).

    Q_tot = ELU(q |W1(s)| + b1(s)) . |Wf(s)| + V(s). Hypernetworks compute W1, b1 and Wf
    from the state. The absolute values keep the weights from being negative, so a higher
    value of an agent never lowers Q_tot.

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
        """Return q_tot, [B, T]."""
        w1 = tf.abs(self.hyper_w1(state))  # [B, T, N*E]
        w1 = tf.reshape(w1, [*tf.unstack(tf.shape(w1)[:-1]), self.n_agents, self.embed])
        mixed = tf.reduce_sum(agent_q[..., None] * w1, -2)  # [B, T, E]
        mixed = tf.nn.elu(mixed + self.hyper_b1(state))
        q_tot = tf.reduce_sum(mixed * tf.abs(self.hyper_wf(state)), -1)
        return q_tot + tf.squeeze(self.state_value(state), -1)


class Qmix(ValueMixing):
    """QMIX (Rashid et al. 2018, 2020)."""

    settings = ValueMixing.settings | {"mixer_embed", "hypernet_embed", "hypernet_layers"}

    def new_mixer(self) -> MonotonicMixer:
        """Make the monotonic mixer."""
        return MonotonicMixer(
            self.spec.n_agents,
            self.spec.state_size,
            self.config.mixer_embed,
            self.config.hypernet_embed,
            self.config.hypernet_layers,
        )
