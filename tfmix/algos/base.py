"""What every algorithm has: live and target networks, a way to act, a loss."""

from __future__ import annotations

import abc
from collections.abc import Callable

import tensorflow as tf

from tfmix import ops
from tfmix.config.schema import Config
from tfmix.networks.agent import AgentTeam, next_policy_state, own_legal
from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.layers import Networks, reset_weights
from tfmix.types import EnvSpec, Episode

Metrics = dict[str, tf.Tensor]


class Algorithm(tf.Module, abc.ABC):
    """An algorithm for tasks of one shape.

    Attributes:
      spec: the task's shape.
      config: the settings.
      live: the networks that learn; `live.agent` is the decentralised policy.
      target: the same networks, which the learner lets follow.
    """

    def __init__(self, spec: EnvSpec, config: Config):
        super().__init__()
        self.spec, self.config = spec, config
        self.agent_spec = AgentSpec.of(spec, config)
        self.live, self.target = self.build(), self.build()

    @abc.abstractmethod
    def build(self) -> Networks:
        """Makes the networks, `agent` among them."""

    @abc.abstractmethod
    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
        """The loss of a batch of episodes, whose padding is zero, and its parts by name."""

    def new_agents(self) -> AgentTeam:
        """The agents' networks."""
        return AgentTeam(self.agent_spec)

    def td_target(
        self, batch: Episode, next_value: tf.Tensor, chosen_value: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        """What a value of the taken actions is drawn to, constant to the gradient.

        One step, y_t = r_t + gamma (1 - d_t) v_{t+1}, or by the settings n steps,
        TD(lambda) or Q(lambda), see `ops.n_step_return` and `ops.lambda_return`.

        Args:
          batch: episodes.
          next_value: [B, T] or, one value an agent, [B, T, N]: v_{t+1}, the target
            networks' value of the greedy joint action behind step t.
          taken_value: gives the target networks' value of the action taken at
            step t, as `next_value`; called where Q(lambda) asks for it.

        Returns:
          as `next_value`.
        """
        config = self.config
        reward, terminated, mask = (
            x if next_value.shape.rank == 2 else x[..., None] + tf.zeros_like(next_value)
            for x in (batch.reward, batch.terminated, batch.mask)
        )
        discount = config.gamma * (1.0 - terminated)
        if config.td_lambda > 0:
            found = ops.lambda_return(
                reward,
                discount,
                mask,
                next_value,
                config.td_lambda,
                chosen_value() if config.q_lambda else None,
            )
        else:
            found = ops.n_step_return(reward, discount, mask, next_value, config.n_step)
        return tf.stop_gradient(found)

    def reset(self, seed: tf.Tensor) -> None:
        """Draws all weights anew from `seed` [2]; the target starts as a copy."""
        reset_weights(self.live, seed)
        for target, live in zip(self.target.variables, self.live.variables, strict=True):
            target.assign(live)

    def act(
        self,
        obs: tf.Tensor,
        legal: tf.Tensor,
        policy_state: tf.Tensor,
        epsilon: tf.Tensor | float = 0.0,
        seed: tf.Tensor | tuple[int, int] = (0, 0),
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One step of the team's decentralised policy.

        Args:
          obs: [B, N, O].
          legal: [B, N, A] bool; actions that are not an agent's own are never taken.
            Where nothing is legal the answer is 0.
          carry: [B, N, K], zeros at the start of an episode.
          epsilon: [] float, the chance of a random legal action.
          seed: [2] int.

        Returns:
          action [B, N] int32, q [B, N, A], carry [B, N, K].
        """
        q, hidden = self.live.agent(obs, policy_state)
        action = ops.select_actions(q, own_legal(self.agent_spec, legal), epsilon, seed)
        return action, q, next_policy_state(self.agent_spec, hidden, action)
