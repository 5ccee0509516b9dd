"""Makes a TF-Agents agent of an algorithm and its learner."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmix.algos.base import Algorithm
from tfmix.integrations.tf_agents.policy import Epsilon, JointPolicy
from tfmix.integrations.tf_agents.trajectories import episodes_from_trajectory
from tfmix.training.learner import Learner
from tfmix.utils.quiet import quiet_import

_tf_agent = quiet_import("tf_agents.agents.tf_agent")

NOTHING_OBSERVED = (
    "standardise_rewards needs the collected rewards: give agent.observe to the driver, "
    "observers=[replay.add_batch, agent.observe]"
)


class ValueDecompositionAgent(_tf_agent.TFAgent):  # type: ignore[name-defined]  # no types
    """TF-Agents agent of any algorithm, for TF-Agents' drivers and replay buffers.

    `train` takes rows of T+1 frames, see `episodes_from_trajectory`; an
    `EpisodeReplayBuffer` returns such rows. `initialize` copies the live networks to
    the targets. With `standardise_rewards` the learner shifts and scales rewards by
    the statistics of those that `observe` received: let every driver that collects
    call it, `observers=[replay.add_batch, agent.observe]`. The schedules of `Config`
    are not used, because TF-Agents' loops count environment steps themselves: give a
    callable if epsilon or the learning rate should change.

    Args:
      algorithm: the algorithm, whose weights `Algorithm.init_weights` has drawn.
      learner: the learner of this algorithm; None makes one.
      epsilon: the epsilon of the collect policy; None takes `epsilon_end` of the settings.
      learning_rate: a number, a variable or a callable; None takes that of the
        settings.
      seed: the seed of the collect policy.
      train_step_counter: an integer variable that counts updates; None makes one.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        learner: Learner | None = None,
        epsilon: Epsilon | None = None,
        learning_rate: Epsilon | None = None,
        seed: int = 0,
        train_step_counter: tf.Variable | None = None,
    ):
        config = algorithm.config
        policy = JointPolicy(algorithm)
        if train_step_counter is None:
            train_step_counter = tf.Variable(0, dtype=tf.int64, trainable=False)
        super().__init__(
            policy.time_step_spec,
            policy.action_spec,
            policy,
            JointPolicy(algorithm, config.epsilon_end if epsilon is None else epsilon, seed),
            train_sequence_length=algorithm.spec.episode_limit + 1,
            train_step_counter=train_step_counter,
        )
        self.algorithm, self.updates = algorithm, train_step_counter
        self.learner = Learner(algorithm) if learner is None else learner
        self._learning_rate = config.learning_rate if learning_rate is None else learning_rate

    def _initialize(self) -> None:
        live, target = self.algorithm.live.variables, self.algorithm.target.variables
        for target_weight, live_weight in zip(target, live, strict=True):
            target_weight.assign(live_weight)

    def observe(self, trajectory: Any) -> tf.Tensor:
        """Count collected rewards, the only ones that `standardise_rewards` reads.

        Give each collected frame once, as a driver does with its observers.

        Args:
          trajectory: frames of TF-Agents, [B, ...] or [B, T, ...]. Those that lead from
            an episode's end to the next start have no reward and do not count.

        Returns:
          the count of all rewards that it received, [] float64.
        """
        scale, real = self.learner.reward_scale, ~trajectory.is_boundary()
        scale.observe(trajectory.reward, tf.cast(real, tf.float32))
        return scale.count.read_value()

    def _train(self, experience: Any, weights: Any = None) -> Any:
        """Do one update; the LossInfo's `extra` is the learner's `UpdateResult`.

        Raises:
          ValueError: rows are not T+1 frames long, or there are weights.
          tf.errors.InvalidArgumentError: a row is not a whole episode, or the settings
            standardise rewards and `observe` received none.
        """
        frames, needed = experience.step_type.shape[1], self.train_sequence_length
        if frames != needed:
            raise ValueError(f"train needs rows of {needed} frames (T+1), these have {frames}")
        if weights is not None:
            raise ValueError("train takes no weights: all episodes count the same")
        config = self.algorithm.config
        rate = self._learning_rate() if callable(self._learning_rate) else self._learning_rate
        episodes = episodes_from_trajectory(experience, config.time_limit == "terminal")
        checks = [episodes.mask]  # it exists only if the rows are whole
        if config.standardise_rewards:
            count = self.learner.reward_scale.count
            checks.append(tf.debugging.assert_positive(count, NOTHING_OBSERVED))
        with tf.control_dependencies(checks):  # in a graph too
            result = self.learner.update(
                episodes, tf.cast(self.updates, tf.int64), tf.cast(rate, tf.float32)
            )
            self.updates.assign_add(1)
        return _tf_agent.LossInfo(result.metrics["loss"], result)
