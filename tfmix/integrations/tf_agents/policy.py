"""Makes a TF-Agents policy of a team's decentralised policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from tfmix.algos.base import Algorithm
from tfmix.integrations.tf_agents.environments import action_spec, time_step_spec
from tfmix.networks.agent import own_legal
from tfmix.training.seeds import Stream
from tfmix.utils.quiet import quiet_import

_tf_policy = quiet_import("tf_agents.policies.tf_policy")
_policy_step = quiet_import("tf_agents.trajectories.policy_step")
_distributions = quiet_import("tensorflow_probability").distributions

Epsilon: TypeAlias = float | tf.Variable | Callable[[], Any]


def _assert_for_all(time_step: Any, fits: tf.Tensor, fault: str) -> None:
    """Raise an error that names the agents which have a fault and must act.

    Args:
      time_step: steps of B episodes.
      fits: [B, N] bool, False for an agent that has the fault.
      fault: its description.

    Raises:
      tf.errors.InvalidArgumentError: an agent has it in a step that is not an episode's last.
    """
    fits |= time_step.is_last()[:, None]
    places = ["rows of the batch and agents that have", fault, tf.where(~fits)]
    tf.debugging.Assert(tf.reduce_all(fits), places)


class JointPolicy(_tf_policy.TFPolicy):  # type: ignore[name-defined]  # no types
    """TF-Agents policy of all agents of a team, each of which acts on its own observation.

    Observations and actions are those of `tfmix.integrations.tf_agents.environments`. The
    policy state [B, N, K] is that of `Algorithm.act`, zero at an episode's start.
    The variables are those of the agents' network, without the mixer's.

    The policy never takes an action that an agent does not have, even if `legal` allows
    it. An agent cannot act if its observation has NaN or infinity, or if none of its
    actions is legal; that is an error, in a `tf.function` too. In a `tf.function` with
    jit_compile TensorFlow drops the check. An episode's last step is not checked,
    because no action follows it.

    Args:
      algorithm: the algorithm whose live agents act.
      epsilon: the probability of a random legal action: a number, a variable or a
        callable; 0 is greedy.
      seed: decides all random numbers, together with the count of calls. If `action`
        receives a seed, [] or [2] int, that seed alone decides.
    """

    def __init__(self, algorithm: Algorithm, epsilon: Epsilon = 0.0, seed: int = 0):
        spec, agent_spec = algorithm.spec, algorithm.agent_spec
        super().__init__(
            time_step_spec(spec),
            action_spec(spec),
            policy_state_spec=tf.TensorSpec(
                [spec.n_agents, agent_spec.policy_state_size], tf.float32
            ),
            automatic_state_reset=False,  # TF-Agents' own traces a function at every call
        )
        self._network, self._act, self._agent_spec = algorithm.live.agent, algorithm.act, agent_spec
        self._epsilon = epsilon
        self._seed = tf.Variable([seed, Stream.TF_AGENTS_POLICY], dtype=tf.int32, trainable=False)
        self._calls = tf.Variable(0, dtype=tf.int64, trainable=False)

    def _draw(self, seed: Any) -> tf.Tensor:
        """Return a stateless seed, [2]."""
        if seed is None:
            return tf.random.experimental.stateless_fold_in(self._seed, self._calls.assign_add(1))
        seed = tf.cast(seed, tf.int32)
        return tf.stack([seed, Stream.TF_AGENTS_POLICY]) if seed.shape.rank == 0 else seed

    def _action(self, time_step: Any, policy_state: Any, seed: Any = None) -> Any:
        """Choose epsilon-greedy actions.

        Raises:
          TypeError: there is no policy state; `get_initial_state` makes the first.
          tf.errors.InvalidArgumentError: an agent cannot act, see the class.
        """
        return self._choose(
            time_step,
            policy_state,
            self._epsilon() if callable(self._epsilon) else self._epsilon,
            self._draw(seed),
        )

    def _choose(self, time_step: Any, policy_state: Any, epsilon: Any, seed: Any) -> Any:
        """Choose actions; as `_action`, with a number as epsilon and a stateless seed."""
        if isinstance(policy_state, tuple):  # TF-Agents fills it in if there is none
            raise TypeError("a JointPolicy needs a policy_state: get_initial_state(batch_size)")
        policy_state = tf.where(
            time_step.is_first()[:, None, None], tf.zeros_like(policy_state), policy_state
        )
        seen = time_step.observation
        legal = own_legal(self._agent_spec, seen["legal"])
        sees = tf.reduce_all(tf.math.is_finite(seen["obs"]), -1)
        _assert_for_all(time_step, sees, "an observation that is NaN or infinite")
        _assert_for_all(time_step, tf.reduce_any(legal, -1), "none of its own actions legal")
        action, _, policy_state = self._act(seen["obs"], seen["legal"], policy_state, epsilon, seed)
        return _policy_step.PolicyStep(action, policy_state)

    def _distribution(self, time_step: Any, policy_state: Any) -> Any:
        """Return the distribution that has the greedy actions with probability 1.

        Raises:
          NotImplementedError: the policy explores. Agents may read their last action,
            so that the next policy state depends on the draw.
        """
        if not isinstance(self._epsilon, int | float) or self._epsilon > 0:
            raise NotImplementedError(
                "only a JointPolicy with epsilon=0 has a distribution; draw from action() instead"
            )
        step = self._choose(time_step, policy_state, 0.0, self._seed)
        return step._replace(action=_distributions.Deterministic(step.action))
