"""What every algorithm has: live and target networks, a way to act, a loss."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import tensorflow as tf

from tfmix import ops
from tfmix.algos.settings import shared
from tfmix.config.schema import Config
from tfmix.networks.agent import AgentTeam, next_policy_state, own_legal
from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.layers import Networks, reset_weights
from tfmix.types import EnvSpec, Episode

Metrics = dict[str, tf.Tensor]


class About(NamedTuple):
    """What a number that the inspector shows is.

    Attributes:
      what: a sentence without its end.
      unit: of the number, in brackets after the sentence.
      axes: what each axis of the value counts, such as `agent`; none for one number.
    """

    what: str
    unit: str = ""
    axes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The description, with the unit."""
        return f"{self.what} ({self.unit})" if self.unit else self.what


class Views(NamedTuple):
    """What a team sees and values at T steps of B episodes.

    Attributes:
      state: [B, T, S].
      obs: [B, T, N, O].
      legal: [B, T, N, A] bool.
      q: [B, T, N, A], the agents' values.
      features: [B, T, N, H], the agents' features.
      central_q: [B, T, N, A], the central agents' values; `q` if there are none.
    """

    state: tf.Tensor
    obs: tf.Tensor
    legal: tf.Tensor
    q: tf.Tensor
    features: tf.Tensor
    central_q: tf.Tensor


class Terms(NamedTuple):
    """A loss and what it is made of.

    Attributes:
      loss: [] float.
      metrics: the loss and its parts by name, [] float each.
      q: [B, T, N, A], the agents' values.
      td_error: value of the joint action taken less its target, [B, T], or [B, T, N] with
        `value_per_agent`. Padding holds anything.
      parts: other tensors by name, which `inspect` reads.
    """

    loss: tf.Tensor
    metrics: Metrics
    q: tf.Tensor
    td_error: tf.Tensor
    parts: dict[str, tf.Tensor]


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
      judges: names of the values of `team_values` by which the greedy joint action should be
        the best of all joint actions (individual-global-max).
      inspected: what `inspect` returns, by tag of TensorBoard.
      spec: the task's shape.
      config: the settings.
      live: the networks that learn; `live.agent` is the decentralised policy.
      target: networks of the same shape, which the learner updates more slowly.
    """

    settings: ClassVar[frozenset[str]] = frozenset()
    has_mixer: ClassVar[bool] = False
    critic: ClassVar[Literal["none", "joint", "counterfactual", "central"]] = "none"
    value_per_agent: ClassVar[bool] = False
    judges: ClassVar[tuple[str, ...]] = ()
    inspected: ClassVar[Mapping[str, About]] = {}
    live: Networks
    target: Networks

    def __init__(self, spec: EnvSpec, config: Config):
        super().__init__()
        self.spec, self.config = spec, config
        self.agent_spec = AgentSpec.of(spec, config)
        self.live, self.target = self.build(), self.build()

    @classmethod
    def settings_read(cls, config: Config) -> frozenset[str]:
        """Return the settings that this algorithm reads if they are those of `config`."""
        return cls.settings | shared(config)

    @abc.abstractmethod
    def build(self) -> Networks:
        """Make the networks, `agent` among them."""

    @abc.abstractmethod
    def terms(self, batch: Episode) -> Terms:
        """Compute the loss of a batch of episodes, whose padding is zero, and its terms."""

    def loss(self, batch: Episode) -> tuple[tf.Tensor, Metrics]:
        """Compute the loss of a batch of episodes, whose padding is zero; see `terms`.

        Returns:
          the loss, [] float, and its parts by name, [] float each.
        """
        terms = self.terms(batch)
        return terms.loss, terms.metrics

    def inspect(self, batch: Episode, terms: Terms) -> dict[str, tf.Tensor]:
        """Compute what only this algorithm has to show of a batch; `inspected` says what it is.

        Args:
          batch: episodes, whose padding is zero.
          terms: of the batch.

        Returns:
          numbers [], series [K] or tables [K, L] by tag of TensorBoard.
        """
        return {}

    def views(self, batch: Episode) -> Views:
        """Unroll the agents over the T + 1 steps of episodes, and join what the team reads."""
        q, features = self.live.agent.unroll(batch.obs, batch.action)
        return Views(batch.state, batch.obs, batch.legal, q, features, q)

    @abc.abstractmethod
    def team_values(self, views: Views, action: tf.Tensor) -> dict[str, tf.Tensor]:
        """Value joint actions with all networks that value them.

        Args:
          views: of the live networks, at T steps.
          action: [B, T, N] int32.

        Returns:
          values by name, [B, T] each, first what the algorithm learns. Independent learners
          have none.
        """

    def values_and_slopes(
        self, views: Views, action: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor | None]:
        """Value joint actions as `team_values`, and differentiate the first value.

        Returns:
          values by name, [B, T] each; and the slopes dQ_tot/dQ_i at the joint actions,
          [B, T, N], or None if the first value does not mix the agents' values.
        """
        with tf.GradientTape() as tape:
            tape.watch(views.q)
            values = self.team_values(views, action)
        first = next(iter(values.values()), None)
        slopes: Any = None if first is None else tape.gradient(first, views.q)
        return values, None if slopes is None else ops.gather_actions(slopes, action)

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
