"""What every algorithm has: live and target networks, a way to act, a loss."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar, Literal

import tensorflow as tf

from tfmix import ops
from tfmix.config.schema import Config
from tfmix.networks import agent_spec
from tfmix.networks.agent import AgentTeam, next_policy_state, own_legal
from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.layers import Networks, reset_weights
from tfmix.types import EnvSpec, Episode

Metrics = dict[str, tf.Tensor]


class Algorithm(tf.Module, abc.ABC):
    """An algorithm for tasks of one shape.

    A subclass declares what it is in class attributes, so that nothing has to look for
    attributes of its networks or at the rank of their outputs.

    Attributes:
      settings: the settings that the subclass reads in addition to those that all
        algorithms share, see `settings_read`.
      has_mixer: whether `live.mixer` makes the team's value from the agents' values.
      critic: what else values joint actions. `joint`: `live.joint` has one value for a joint
        action, [B, T]. `counterfactual`: `live.joint` has one for each action of each
        agent, with the other agents' actions as chosen, [B, T, N, A]. `central`:
        `live.central_agent` and `live.central_mixer`. Otherwise `none`.
      value_per_agent: whether there is one TD error for each agent, [B, T, N], instead of
        one for the team, [B, T].
      spec: the task's shape.
      config: the settings.
      live: the networks that learn; `live.agent` is the decentralised policy.
      target: networks of the same shape, which the learner updates more slowly.
    """

    settings: ClassVar[frozenset[str]] = frozenset()
    has_mixer: ClassVar[bool] = False
    critic: ClassVar[Literal["none", "joint", "counterfactual", "central"]] = "none"
    value_per_agent: ClassVar[bool] = False
    live: Networks
    target: Networks

    def __init__(self, spec: EnvSpec, config: Config):
        super().__init__()
        self.spec, self.config = spec, config
        self.agent_spec = AgentSpec.of(spec, config)
        self.live, self.target = self.build(), self.build()

    @classmethod
    def settings_read(cls, config: Config) -> frozenset[str]:
        """Return the settings that this algorithm reads if they are those of `config`.

        Some settings matter only under others, such as `n_step` without `td_lambda`.
        """
        returns = {"gamma", "td_lambda", "q_lambda" if config.td_lambda > 0 else "n_step"}
        return cls.settings | returns | agent_spec.settings_read(config)

    @abc.abstractmethod
    def build(self) -> Networks:
        """Make the networks, `agent` among them."""

    @abc.abstractmethod
    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
        """Compute the loss of a batch of episodes, whose padding is zero.

        Returns:
          the loss, [] float, and its parts by name, [] float each.
        """

    def new_agents(self) -> AgentTeam:
        """Make the agents' networks."""
        return AgentTeam(self.agent_spec)

    def check_batch(self, batch: Episode) -> None:
        """Check that a batch has the task's shape.

        Raises:
          ValueError: it has not; the text names the field, its shape and the right one.
        """
        spec = self.spec
        ops.check_shapes(
            {"N": spec.n_agents, "A": spec.n_actions, "O": spec.obs_size, "S": spec.state_size},
            action=(batch.action, "B T N"),
            reward=(batch.reward, "B T"),
            terminated=(batch.terminated, "B T"),
            mask=(batch.mask, "B T"),
            obs=(batch.obs, "B T+1 N O"),
            state=(batch.state, "B T+1 S"),
            legal=(batch.legal, "B T+1 N A"),
        )

    def td_target(
        self, batch: Episode, next_value: tf.Tensor, chosen_value: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        """Compute the TD target y of the chosen actions' value, constant to the gradient.

        One step, y_t = r_t + gamma (1 - d_t) v_{t+1}, or by the settings n steps,
        TD(lambda) or Q(lambda), see `ops.n_step_return` and `ops.lambda_return`.

        Args:
          batch: episodes.
          next_value: [B, T], or [B, T, N] with `value_per_agent`: v_{t+1}, the target
            networks' value of the greedy joint action after step t.
          chosen_value: returns the target networks' value of the action chosen at step t,
            as `next_value`; it is called only for Q(lambda).

        Returns:
          the targets, as `next_value`.

        Raises:
          ValueError: `next_value` has another shape.
        """
        config = self.config
        axes = "B T N" if self.value_per_agent else "B T"
        ops.check_shapes(
            {"N": self.spec.n_agents}, reward=(batch.reward, "B T"), next_value=(next_value, axes)
        )
        reward, terminated, mask = (
            x[:, :, None] + tf.zeros_like(next_value) if self.value_per_agent else x
            for x in (batch.reward, batch.terminated, batch.mask)
        )
        discount = config.gamma * (1.0 - terminated)
        if config.td_lambda > 0:
            chosen = chosen_value() if config.q_lambda else None
            found = ops.lambda_return(reward, discount, mask, next_value, config.td_lambda, chosen)
        else:
            found = ops.n_step_return(reward, discount, mask, next_value, config.n_step)
        return tf.stop_gradient(found)

    def init_weights(self, seed: tf.Tensor) -> None:
        """Draw all weights from `seed` [2]; the target networks become a copy of the live ones."""
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
        """Choose the team's actions for one step, epsilon-greedy, each agent on its own values.

        Args:
          obs: [B, N, O].
          legal: [B, N, A] bool. Padding is never taken, whatever `legal` says. If nothing
            is legal for an agent, its action is 0.
          policy_state: [B, N, K], zeros at the start of an episode.
          epsilon: [] float, the probability of a random legal action.
          seed: [2] int.

        Returns:
          action [B, N] int32, q [B, N, A], the next policy state [B, N, K].

        Raises:
          ValueError: a shape is wrong.
        """
        q, features = self.live.agent(obs, policy_state)
        action = ops.select_actions(q, own_legal(self.agent_spec, legal), epsilon, seed)
        return action, q, next_policy_state(self.agent_spec, features, action)
