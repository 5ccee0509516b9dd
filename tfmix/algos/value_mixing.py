"""IQL and VDN: the loss of value mixing, which QMIX, Qatten and QPLEX share, and two mixers.

A mixer makes the team's value from the agents' values. All take
`(agent_q, state, *, agent_max_q, action, obs)`: agent_q [B, T, N] at the actions
taken, state [B, T, S], agent_max_q [B, T, N] the agents' best legal values,
action [B, T, N] int32, obs [B, T, N, O]. Most use the first two alone.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import Algorithm, Metrics
from tfmix.networks.layers import Networks
from tfmix.types import Episode


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
                ops.gather_actions(q[:, steps], action),
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
