"""IQL and VDN: the loss of value mixing, which QMIX, Qatten and QPLEX share, and two mixers.

A mixer makes the team's value from the agents' values. Every mixer takes
`(agent_q, state, *, agent_max_q, action, obs)`: agent_q [B, T, N], the values of the
chosen actions; state [B, T, S]; agent_max_q [B, T, N], the agents' best legal values;
action [B, T, N] int32; obs [B, T, N, O]. Most mixers read only the first two.
"""

from __future__ import annotations

import abc
from typing import ClassVar, NamedTuple

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import Algorithm, Terms, Views
from tfmix.networks.layers import Networks
from tfmix.types import Episode


class IndependentMixer(tf_keras.layers.Layer):
    """Mixes nothing: the TD error is of every agent's own value (IQL, Tan 1993)."""

    def call(self, agent_q: tf.Tensor, state: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        """Return `agent_q` itself, [B, T, N]."""
        return agent_q


class AdditiveMixer(tf_keras.layers.Layer):
    """Computes Q_tot = sum_i Q_i (VDN, Sunehag et al. 2017, section 3)."""

    def call(self, agent_q: tf.Tensor, state: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        """Return q_tot, [B, T]."""
        return tf.reduce_sum(agent_q, -1)


class Seen(NamedTuple):
    """What a mixer reads besides values, at T steps: as the fields of `Views`."""

    state: tf.Tensor
    obs: tf.Tensor
    legal: tf.Tensor


class MixedNetworks(Networks):
    """The agents and a mixer."""

    mixer: tf_keras.layers.Layer


class ValueMixing(Algorithm):
    """Q-learning on a mixture of the agents' values."""

    settings = frozenset({"double_q"})
    has_mixer = True
    judges: ClassVar[tuple[str, ...]] = ("Q_tot",)
    live: MixedNetworks
    target: MixedNetworks

    def build(self) -> MixedNetworks:
        """Make the agents' networks and the mixer."""
        return MixedNetworks(agent=self.new_agents(), mixer=self.new_mixer())

    @abc.abstractmethod
    def new_mixer(self) -> tf_keras.layers.Layer:
        """Make the mixer."""

    def terms(self, batch: Episode) -> Terms:
        """Compute L = sum m (Q_tot(s_t, u_t) - y_t)^2 / sum m, over real steps (m = 1).

        y_t = r_t + gamma (1 - d_t) Q_tot'(s_{t+1}, u') or a longer return
        (`td_target`). ' is the target network; u' is each agent's best legal action, by
        the live network with double Q (van Hasselt et al. 2016). Rashid et al. 2018,
        equation 6; Sunehag et al. 2017 with the sum as mixer. IQL has one Q_tot for each
        agent, gives every agent the team's reward and averages over agents too.
        """
        q, _ = self.live.agent.unroll(batch.obs, batch.action)  # [B, T+1, N, A]
        target_q, _ = self.target.agent.unroll(batch.obs, batch.action)
        now, later = slice(None, -1), slice(1, None)
        q_tot = self.mix(self.live, q, batch, now, batch.action)
        chooser = q if self.config.double_q else target_q
        next_action = ops.legal_argmax(chooser[:, later], batch.legal[:, later])  # [B, T, N]
        target = self.td_target(
            batch,
            self.mix(self.target, target_q, batch, later, next_action),
            lambda: self.mix(self.target, target_q, batch, now, batch.action),
        )
        mask = batch.mask
        if self.value_per_agent:
            mask = tf.broadcast_to(mask[:, :, None], tf.shape(q_tot))
        loss = ops.masked_mean(self.squared_error(q_tot, target, q[:, now], batch), mask)
        metrics = {
            "loss": loss,
            "q_tot": ops.masked_mean(q_tot, mask),
            "target": ops.masked_mean(target, mask),
        }
        return Terms(loss, metrics, q[:, now], q_tot - target, {})

    def team_values(self, views: Views, action: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return Q_tot."""
        return {"Q_tot": self._mix(self.live, views.q, views, action)}

    def squared_error(
        self, q_tot: tf.Tensor, target: tf.Tensor, q: tf.Tensor, batch: Episode
    ) -> tf.Tensor:
        """Compute (q_tot - target)^2.

        Args:
          q_tot: of the actions taken, [B, T], or [B, T, N] with `value_per_agent`.
          target: y, as `q_tot`; constant to the gradient.
          q: the live agents' values, [B, T, N, A].
          batch: episodes.
        """
        return tf.square(q_tot - target)

    def mix(
        self, networks: MixedNetworks, q: tf.Tensor, batch: Episode, steps: slice, action: tf.Tensor
    ) -> tf.Tensor:
        """Compute Q_tot of actions.

        Args:
          networks: live or target.
          q: [B, T+1, N, A], the agents' values.
          batch: episodes.
          steps: T of the T+1 steps.
          action: [B, T, N] int32, at `steps`.

        Returns:
          Q_tot [B, T], or [B, T, N] with `value_per_agent`.

        Raises:
          ValueError: the mixer returned another shape.
        """
        seen = Seen(batch.state[:, steps], batch.obs[:, steps], batch.legal[:, steps])
        return self._mix(networks, q[:, steps], seen, action)

    def _mix(
        self, networks: MixedNetworks, q: tf.Tensor, seen: Seen | Views, action: tf.Tensor
    ) -> tf.Tensor:
        """Compute Q_tot as `mix`; q [B, T, N, A] and `seen` are at the T steps of `action`."""
        agent_q = ops.gather_actions(q, action)
        q_tot = networks.mixer(
            agent_q,
            seen.state,
            agent_max_q=tf.stop_gradient(ops.legal_max(q, seen.legal)),
            action=action,
            obs=seen.obs,
        )
        axes = "B T N" if self.value_per_agent else "B T"
        ops.check_shapes(agent_q=(agent_q, "B T N"), q_tot=(q_tot, axes))
        return q_tot


class Iql(ValueMixing):
    """Independent Q-learning (Tan 1993), with the DQN machinery of the others."""

    value_per_agent = True
    judges = ()

    def team_values(self, views: Views, action: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return nothing: no network values joint actions."""
        return {}

    def new_mixer(self) -> IndependentMixer:
        """Make the mixer that mixes nothing."""
        return IndependentMixer()


class Vdn(ValueMixing):
    """Value-decomposition networks (Sunehag et al. 2017)."""

    def new_mixer(self) -> AdditiveMixer:
        """Make the sum."""
        return AdditiveMixer()
