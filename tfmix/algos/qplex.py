"""QPLEX (Wang et al. 2021): its mixer; the loss is that of value mixing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import About, Terms
from tfmix.algos.value_mixing import MixedNetworks, ValueMixing
from tfmix.networks.layers import Mlp
from tfmix.types import Episode


class DuplexMixer(tf_keras.layers.Layer):
    """Computes QPLEX's Q_tot (Wang et al. 2021, section 3.2).

    The state scales and shifts each agent's value, Q'_i = w_i Q_i + b_i with w_i > 0. Q'_i
    is split into its maximum and its advantage A'_i <= 0:

      Q_tot = sum_i Q'_i(u_i) + sum_i (lambda_i(s, u) - 1) A'_i, lambda_i > 0.

    The best joint action is therefore each agent's own best action, whatever the weights
    are. A' is constant to the gradient, as in the authors' code.

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

    def own(self, agent_q: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Return Q'_i = w_i Q_i + b_i, [B, T, N]."""
        return (tf.abs(self.scale(state)) + self.TINY) * agent_q + self.shift(state)

    def importance(self, state: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Compute lambda of joint actions, [B, T, N].

        Args:
          state: [B, T, S].
          action: [B, T, N] int32.
        """
        chosen = tf.one_hot(action, self.n_actions)  # [B, T, N, A]
        shape = tf.concat([tf.shape(state)[:-1], [chosen.shape[-2] * self.n_actions]], 0)
        both = tf.concat([state, tf.reshape(chosen, shape)], -1)
        found = tf.zeros_like(action, tf.float32)
        for key, agents, actions in zip(self.keys, self.agents, self.actions, strict=True):
            head = tf.abs(key(state)) + self.TINY  # [B, T, 1]
            found += head * tf.sigmoid(agents(state)) * tf.sigmoid(actions(both))
        return found

    def call(
        self,
        agent_q: tf.Tensor,
        state: tf.Tensor,
        *,
        agent_max_q: tf.Tensor,
        action: tf.Tensor,
        **_: tf.Tensor,
    ) -> tf.Tensor:
        """Return q_tot, [B, T]."""
        own = self.own(agent_q, state)  # [B, T, N]
        advantage = tf.stop_gradient(own - self.own(agent_max_q, state))
        weight = self.importance(state, action)
        return tf.reduce_sum(own + (weight - 1.0) * advantage, -1)


class DuplexNetworks(MixedNetworks):
    """The agents and the duplex mixer."""

    mixer: DuplexMixer


class Qplex(ValueMixing):
    """QPLEX (Wang et al. 2021)."""

    settings = ValueMixing.settings | {
        "hypernet_embed",
        "duplex_kernels",
        "duplex_layers",
        "duplex_alpha",
    }
    inspected: ClassVar[Mapping[str, About]] = {
        "qplex/lambda": About(
            "Importance lambda of each agent at the replay batch's joint actions, mean over "
            "steps: how much its advantage counts",
            axes=("agent",),
        ),
        "qplex/lambda_least": About("The least lambda of each agent", axes=("agent",)),
        "qplex/lambda_greatest": About("The greatest lambda of each agent", axes=("agent",)),
    }
    live: DuplexNetworks
    target: DuplexNetworks

    def build(self) -> DuplexNetworks:
        """Make the agents' networks and the mixer."""
        return DuplexNetworks(agent=self.new_agents(), mixer=self.new_mixer())

    def squared_error(
        self, q_tot: tf.Tensor, target: tf.Tensor, q: tf.Tensor, batch: Episode
    ) -> tf.Tensor:
        """Compute (q_tot - target)^2, [B, T], whose gradient to Q'_i counts `duplex_alpha`
        where the advantage weights alone can remove the error.

        They can if the joint action is not greedy and y is not above V = sum_i max Q'_i. The
        agents then need not change. While lambda is not yet learned, their part of the
        gradient pushes a rising action down again as it comes near an agent's best one,
        because lambda A' is near 0 there. alpha = 1 is the published loss. alpha changes
        no team whose errors are 0.
        """
        alpha = self.config.duplex_alpha
        if alpha == 1:
            return super().squared_error(q_tot, target, q, batch)
        state, mixer = batch.state[:, :-1], self.live.mixer
        best = ops.legal_max(q, batch.legal[:, :-1])
        own = tf.reduce_sum(mixer.own(ops.gather_actions(q, batch.action), state), -1)
        bound = tf.stop_gradient(tf.reduce_sum(mixer.own(best, state), -1))
        full = (own >= bound) | (target > bound)
        weight = tf.where(full, 1.0, alpha)
        return tf.square(q_tot + (weight - 1.0) * (own - tf.stop_gradient(own)) - target)

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Return the mean, the least and the greatest lambda of each agent, [N]."""
        mixer, real = self.live.mixer, batch.mask[..., None] > 0
        found = mixer.importance(batch.state[:, :-1], batch.action)
        return {
            "qplex/lambda": ops.mean_over_steps(found, batch.mask),
            "qplex/lambda_least": tf.reduce_min(tf.where(real, found, found.dtype.max), [0, 1]),
            "qplex/lambda_greatest": tf.reduce_max(tf.where(real, found, 0.0), [0, 1]),
        }

    def new_mixer(self) -> DuplexMixer:
        """Make the duplex mixer."""
        return DuplexMixer(
            self.spec.n_agents,
            self.spec.n_actions,
            self.spec.state_size,
            self.config.hypernet_embed,
            self.config.duplex_kernels,
            self.config.duplex_layers,
        )
