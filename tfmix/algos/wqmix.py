"""CW-QMIX and OW-QMIX (Rashid et al. 2020, arXiv:2006.10800).

QMIX weighs all joint actions alike. If it cannot represent all their values, it may give
up the best one. WQMIX also learns a central Q* without constraints, from the same target.
Joint actions that may be better than QMIX's choice weigh more in QMIX's loss.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import About, Algorithm, Terms, Views
from tfmix.algos.qmix import MonotonicMixer
from tfmix.algos.value_mixing import MixedNetworks
from tfmix.networks.agent import AgentTeam
from tfmix.networks.layers import Mlp
from tfmix.types import Episode


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
        """Return Q*, [B, T]."""
        value = self.net(tf.concat([state, agent_q], -1)) + self.state_value(state)
        return tf.squeeze(value, -1)


class WeightedNetworks(MixedNetworks):
    """QMIX's networks and the central ones."""

    central_agent: AgentTeam
    central_mixer: UnrestrictedMixer


class WeightedQmix(Algorithm):
    """What the two have in common; they differ in the weight."""

    settings = frozenset(
        {"mixer_embed", "hypernet_embed", "hypernet_layers", "central_embed", "wqmix_alpha"}
    )
    has_mixer = True
    critic = "central"
    judges = ("Q_tot", "Q*")
    inspected: ClassVar[Mapping[str, About]] = {
        "wqmix/weight_is_1": About(
            "Share of the replay batch's joint actions that count fully, with weight 1", "0 to 1"
        )
    }
    live: WeightedNetworks
    target: WeightedNetworks

    def build(self) -> WeightedNetworks:
        """Make QMIX's agents and mixer, the central agents and the unrestricted mixer."""
        spec, config = self.spec, self.config
        return WeightedNetworks(
            agent=self.new_agents(),
            mixer=MonotonicMixer(
                spec.n_agents,
                spec.state_size,
                config.mixer_embed,
                config.hypernet_embed,
                config.hypernet_layers,
            ),
            central_agent=self.new_agents(),
            central_mixer=UnrestrictedMixer(spec.n_agents, spec.state_size, config.central_embed),
        )

    def terms(self, batch: Episode) -> Terms:
        """Compute L = sum m (Q*(u) - y)^2 / sum m + sum w m (Q_tot(u) - y)^2 / sum m.

        y = r + gamma (1 - d) Q*'(s_{t+1}, u^) for both, u^ each QMIX agent's
        best legal action by the live network, ' the target central networks;
        w and y are constant to the gradient (equations 10 to 13, with the
        weight of CW-QMIX as in the text and the authors' code).
        """
        q, _ = self.live.agent.unroll(batch.obs, batch.action)  # [B, T+1, N, A]
        central_q, _ = self.live.central_agent.unroll(batch.obs, batch.action)
        target_q, _ = self.target.central_agent.unroll(batch.obs, batch.action)
        state, mask = batch.state[:, :-1], batch.mask
        greedy = ops.legal_argmax(q, batch.legal)  # [B, T+1, N]

        # Q* of the greedy actions at every step, by the target central networks.
        bound = self.target.central_mixer(
            ops.gather_actions(target_q, greedy), batch.state
        )  # [B, T+1]
        target = self.td_target(
            batch,
            bound[:, 1:],
            lambda: self.target.central_mixer(
                ops.gather_actions(target_q[:, :-1], batch.action), state
            ),
        )
        q_tot = self.live.mixer(ops.gather_actions(q[:, :-1], batch.action), state)  # [B, T]
        central = self.live.central_mixer(
            ops.gather_actions(central_q[:, :-1], batch.action), state
        )

        is_greedy = tf.reduce_all(batch.action == greedy[:, :-1], -1)  # [B, T]
        full = self.counts_fully(q_tot, target, bound[:, :-1], is_greedy)
        weight = tf.where(full, 1.0, self.config.wqmix_alpha)
        central_loss = ops.masked_mean(tf.square(central - target), mask)
        td_error = q_tot - target
        qmix_loss = ops.masked_mean(weight * tf.square(td_error), mask)
        loss = central_loss + qmix_loss
        metrics = {
            "loss": loss,
            "loss_central": central_loss,
            "loss_qmix": qmix_loss,
            "weight": ops.masked_mean(weight, mask),
            "q_tot": ops.masked_mean(q_tot, mask),
            "target": ops.masked_mean(target, mask),
        }
        return Terms(loss, metrics, q[:, :-1], td_error, {"full": full})

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Return the share of joint actions whose weight is 1."""
        full = tf.cast(terms.parts["full"], tf.float32)
        return {"wqmix/weight_is_1": ops.masked_mean(full, batch.mask)}

    def views(self, batch: Episode) -> Views:
        """Unroll the agents, the central ones too."""
        central_q, _ = self.live.central_agent.unroll(batch.obs, batch.action)
        return super().views(batch)._replace(central_q=central_q)

    def team_values(self, views: Views, action: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return Q_tot and the central Q*."""
        chosen, central = (ops.gather_actions(q, action) for q in (views.q, views.central_q))
        return {
            "Q_tot": self.live.mixer(chosen, views.state),
            "Q*": self.live.central_mixer(central, views.state),
        }

    @abc.abstractmethod
    def counts_fully(
        self, q_tot: tf.Tensor, target: tf.Tensor, bound: tf.Tensor, is_greedy: tf.Tensor
    ) -> tf.Tensor:
        """Return where the weight is 1; otherwise it is `wqmix_alpha`. All [B, T].

        Args:
          q_tot: QMIX's value of the joint action taken.
          target: y.
          bound: Q* of the greedy joint action, by the target networks.
          is_greedy: whether every agent took its own best action.
        """


class CwQmix(WeightedQmix):
    """Centrally weighted QMIX."""

    def counts_fully(
        self, q_tot: tf.Tensor, target: tf.Tensor, bound: tf.Tensor, is_greedy: tf.Tensor
    ) -> tf.Tensor:
        """Return where the joint action is greedy, or y is above the greedy one's value."""
        return is_greedy | (target > bound)


class OwQmix(WeightedQmix):
    """Optimistically weighted QMIX."""

    def counts_fully(
        self, q_tot: tf.Tensor, target: tf.Tensor, bound: tf.Tensor, is_greedy: tf.Tensor
    ) -> tf.Tensor:
        """Return where QMIX underestimates the joint action (equation 13)."""
        return q_tot < target
