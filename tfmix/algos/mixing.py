"""IQL, VDN, QMIX, Qatten and QPLEX: one loss, and a mixer each."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import Algorithm, Metrics
from tfmix.networks.layers import Networks
from tfmix.networks.mixers import (
    AdditiveMixer,
    AttentionMixer,
    DuplexMixer,
    IndependentMixer,
    MonotonicMixer,
)
from tfmix.types import Episode


class ValueMixing(Algorithm):
    """Q-learning on a mixture of the agents' values."""

    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
        """L = sum m (Q_tot(s_t, u_t) - y_t)^2 / sum m, over real steps.

        y_t = r_t + gamma (1 - d_t) Q_tot'(s_{t+1}, u') or a longer return of it
        (`td_target`), where ' is the target network and u' each agent's best
        legal action, by the live network with double Q (van Hasselt et al. 2016).
        Rashid et al. 2018, equation 6; Sunehag et al. 2017 with the sum as mixer.
        IQL has one Q_tot an agent, gives every agent the team's reward and
        averages over agents too.
        """
        q, _ = self.live.agent.unroll(batch.obs, batch.action)  # [B, T+1, N, A]
        target_q, _ = self.target.agent.unroll(batch.obs, batch.action)

        def mix(
            mixer: tf_keras.layers.Layer, q: tf.Tensor, steps: slice, action: tf.Tensor
        ) -> tf.Tensor:
            """Q_tot of actions [B, T, N] at `steps`, [B, T], IQL: [B, T, N]."""
            return mixer(
                ops.take(q[:, steps], action),
                batch.state[:, steps],
                agent_max_q=tf.stop_gradient(ops.legal_max(q[:, steps], batch.legal[:, steps])),
                action=action,
                obs=batch.obs[:, steps],
            )

        now, later = slice(None, -1), slice(1, None)
        q_tot = mix(self.live.mixer, q, now, batch.action)
        chooser = q if self.config.double_q else target_q
        next_action = ops.legal_argmax(chooser[:, later], batch.legal[:, later])  # [B, T, N]
        target = self.td_target(
            batch,
            mix(self.target.mixer, target_q, later, next_action),
            lambda: mix(self.target.mixer, target_q, now, batch.action),
        )
        mask = batch.mask
        if q_tot.shape.rank == 3:  # one value an agent
            mask = tf.broadcast_to(mask[..., None], tf.shape(q_tot))
        loss = ops.masked_mean(tf.square(q_tot - target), mask)
        return loss, {
            "loss": loss,
            "q_tot": ops.masked_mean(q_tot, mask),
            "target": ops.masked_mean(target, mask),
        }


class Iql(ValueMixing):
    """Independent Q-learning (Tan 1993), with the DQN machinery of the others."""

    def build(self) -> Networks:
        """The agent network alone."""
        return Networks(agent=self.new_agents(), mixer=IndependentMixer())


class Vdn(ValueMixing):
    """Value-decomposition networks (Sunehag et al. 2017)."""

    def build(self) -> Networks:
        """The agent network and a sum."""
        return Networks(agent=self.new_agents(), mixer=AdditiveMixer())


class Qmix(ValueMixing):
    """QMIX (Rashid et al. 2018, 2020)."""

    def build(self) -> Networks:
        """The agent network and the monotonic mixer."""
        mixer = MonotonicMixer(
            self.spec.n_agents,
            self.spec.state_size,
            self.config.mixer_embed,
            self.config.hypernet_embed,
            self.config.hypernet_layers,
        )
        return Networks(agent=self.new_agents(), mixer=mixer)


class Qatten(ValueMixing):
    """Qatten (Yang et al. 2020); the agents' features are their observations."""

    def build(self) -> Networks:
        """The agent network and the attention mixer."""
        mixer = AttentionMixer(
            self.spec.state_size,
            self.spec.obs_size,
            self.config.mixer_embed,
            self.config.hypernet_embed,
            self.config.attention_heads,
            self.config.attention_bias,
        )
        return Networks(agent=self.new_agents(), mixer=mixer)

    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
        """The shared loss plus attention_logit_loss sum_h mean_i logit_{i,h}^2, over real steps.

        The second part stands in the code of WQMIX's and QPLEX's authors alone.
        """
        loss, metrics = super().loss(batch)
        if self.config.attention_logit_loss == 0:
            return loss, metrics
        logits = self.live.mixer.logits(batch.state[:, :-1], batch.obs[:, :-1])
        squares = tf.reduce_sum(tf.reduce_mean(tf.square(logits), -1), -1)  # [B, T]
        logit_loss = ops.masked_mean(squares, batch.mask)
        loss += self.config.attention_logit_loss * logit_loss
        return loss, {**metrics, "loss": loss, "loss_logit": logit_loss}


class Qplex(ValueMixing):
    """QPLEX (Wang et al. 2021)."""

    def build(self) -> Networks:
        """The agent network and the duplex mixer."""
        mixer = DuplexMixer(
            self.spec.n_agents,
            self.spec.n_actions,
            self.spec.state_size,
            self.config.hypernet_embed,
            self.config.duplex_kernels,
            self.config.duplex_layers,
        )
        return Networks(agent=self.new_agents(), mixer=mixer)
