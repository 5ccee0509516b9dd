"""Qatten (Yang et al. 2020): its mixer and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import About, Terms
from tfmix.algos.value_mixing import ValueMixing
from tfmix.networks.layers import Linear, Mlp
from tfmix.types import Episode


class AttentionMixer(tf_keras.layers.Layer):
    """Computes Qatten's Q_tot (Yang et al. 2020, section 3.2).

    Q_tot = c(s) + sum_h w_h(s) sum_i lambda_{i,h} Q_i. In each head h the state is the
    query, the agents' observations are the keys, and lambda is the softmax over agents of
    their scaled products. No weight is negative, so the mixer is monotonic.

    Args:
      state_size: S.
      obs_size: O.
      embed: size of queries and keys, and hidden units of c (32 in the paper).
      hypernet_embed: hidden units of the queries and of the heads' weights.
      heads: number of heads (4 in the paper).
      has_bias: whether the keys and the last layer of the queries have a bias
        (PyMARL2: yes; the code of WQMIX's authors: no).
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
        """Compute the unscaled products of queries and keys.

        Args:
          state: [B, T, S].
          obs: [B, T, N, O].

        Returns:
          [B, T, heads, N].
        """
        found = []
        for query, key in zip(self.query, self.key, strict=True):
            of_state = query(state)[..., None, :]  # [B, T, 1, E]
            found.append(tf.reduce_sum(of_state * key(obs), -1))
        return tf.stack(found, -2)

    def attention(self, state: tf.Tensor, obs: tf.Tensor) -> tf.Tensor:
        """Return lambda, [B, T, heads, N]; the arguments are those of `logits`."""
        return tf.nn.softmax(self.logits(state, obs) * self.embed**-0.5)

    def head_weights(self, state: tf.Tensor) -> tf.Tensor:
        """Return w_h, [B, T, heads]."""
        return tf.abs(self.head_weight(state))

    def call(
        self, agent_q: tf.Tensor, state: tf.Tensor, *, obs: tf.Tensor, **_: tf.Tensor
    ) -> tf.Tensor:
        """Return q_tot, [B, T]."""
        attention = self.attention(state, obs)
        head_q = tf.reduce_sum(attention * agent_q[..., None, :], -1)  # [B, T, heads]
        weights = self.head_weights(state)
        q_tot = tf.reduce_sum(weights * head_q, -1)
        return q_tot + tf.squeeze(self.constant(state), -1)


class Qatten(ValueMixing):
    """Qatten (Yang et al. 2020); the agents' features are their observations."""

    settings = ValueMixing.settings | {
        "mixer_embed",
        "hypernet_embed",
        "attention_heads",
        "attention_bias",
        "attention_logit_loss",
    }
    inspected: ClassVar[Mapping[str, About]] = {
        "qatten/head_weight": About(
            "Weight w_h of each head in the replay batch, mean over steps", axes=("head",)
        ),
        "qatten/attention": About(
            "Attention lambda of each head to each agent in the replay batch, mean over steps",
            "each row adds up to 1",
            ("head", "agent"),
        ),
    }

    def new_mixer(self) -> AttentionMixer:
        """Make the attention mixer."""
        return AttentionMixer(
            self.spec.state_size,
            self.spec.obs_size,
            self.config.mixer_embed,
            self.config.hypernet_embed,
            self.config.attention_heads,
            self.config.attention_bias,
        )

    def terms(self, batch: Episode) -> Terms:
        """Compute L = L_mixing + attention_logit_loss sum_h mean_i logit_{i,h}^2.

        L_mixing is the loss of `ValueMixing`, and the second term is a mean over real steps.
        That term is in the code of WQMIX's and QPLEX's authors and not in the paper.
        """
        terms = super().terms(batch)
        if self.config.attention_logit_loss == 0:
            return terms
        mixer = cast(AttentionMixer, self.live.mixer)
        logits = mixer.logits(batch.state[:, :-1], batch.obs[:, :-1])
        squares = tf.reduce_sum(tf.reduce_mean(tf.square(logits), -1), -1)  # [B, T]
        logit_loss = ops.masked_mean(squares, batch.mask)
        loss = terms.loss + self.config.attention_logit_loss * logit_loss
        metrics = {**terms.metrics, "loss": loss, "loss_logit": logit_loss}
        return terms._replace(loss=loss, metrics=metrics)

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Return the heads' weights [heads] and the attention [heads, N], means over steps."""
        mixer, state = cast(AttentionMixer, self.live.mixer), batch.state[:, :-1]
        attention = mixer.attention(state, batch.obs[:, :-1])
        return {
            "qatten/head_weight": ops.mean_over_steps(mixer.head_weights(state), batch.mask),
            "qatten/attention": ops.mean_over_steps(attention, batch.mask),
        }
