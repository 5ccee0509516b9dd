"""Converts whole padded episodes to TF-Agents' trajectories, and back.

A trajectory has T+1 frames: one for each step of the episode and one for its last
observation, whose `step_type` is LAST. The reward and the discount of a frame follow
its action. The discount is 0 at a step that terminates the episode, else 1.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmix.integrations.tf_agents.environments import action_spec, time_step_spec
from tfmix.types import EnvSpec, Episode
from tfmix.utils.quiet import quiet_import

_Trajectory = quiet_import("tf_agents.trajectories.trajectory").Trajectory
_StepType = quiet_import("tf_agents.trajectories.time_step").StepType
FIRST, MID, LAST = (int(getattr(_StepType, name)) for name in ("FIRST", "MID", "LAST"))


def trajectory_spec(spec: EnvSpec) -> Any:
    """Return the shapes and types of one frame, those of `JointPolicy.trajectory_spec`."""
    step = time_step_spec(spec)
    return _Trajectory(
        step_type=step.step_type,
        observation=step.observation,
        action=action_spec(spec),
        policy_info=(),
        next_step_type=step.step_type,
        reward=step.reward,
        discount=step.discount,
    )


def trajectory_from_episodes(episode: Episode) -> Any:
    """Write whole episodes as frames of TF-Agents.

    Frames after an episode's end have the step types of its last frame. Their
    `is_boundary` is true, so that no loss of TF-Agents counts them.

    Args:
      episode: padded episodes, [B, ...].

    Returns:
      a trajectory, [B, T+1, ...].
    """
    real = episode.mask > 0  # [B, T]
    none = tf.zeros_like(real[:, :1])
    after = tf.concat([real[:, 1:], none], 1)  # another step follows
    following = tf.where(after, MID, LAST)
    first = tf.fill(tf.shape(none), FIRST)
    step_type = tf.where(real, tf.concat([first, following[:, :-1]], 1), LAST)
    last = tf.fill(tf.shape(none), LAST)

    def pad(x: tf.Tensor) -> tf.Tensor:
        return tf.concat([x, tf.zeros_like(x[:, :1])], 1)

    return _Trajectory(
        step_type=tf.concat([step_type, last], 1),
        observation={"obs": episode.obs, "legal": episode.legal, "state": episode.state},
        action=pad(episode.action),
        policy_info=(),
        next_step_type=tf.concat([tf.where(real, following, FIRST), first], 1),
        reward=pad(episode.reward),
        discount=1 - pad(episode.terminated),
    )


def episodes_from_trajectory(trajectory: Any, cut_is_terminal: bool = False) -> Episode:
    """Read whole episodes from frames of TF-Agents.

    Args:
      trajectory: [B, T+1, ...]. Every row starts with an episode's first frame
        and holds the frame of its last observation; the frames after that are
        not read. A discount counts only as 0 or not.
      cut_is_terminal: a time limit counts as termination.

    Returns:
      the episodes; their padding holds whatever follows their ends in the trajectory.

    Raises:
      tf.errors.InvalidArgumentError: a row is not a whole episode.
    """
    step_type, next_type = trajectory.step_type, trajectory.next_step_type[:, :-1]
    lasts = next_type == LAST  # [B, T]
    real = tf.cumsum(tf.cast(lasts, tf.int32), 1, exclusive=True) == 0
    fits = (next_type == step_type[:, 1:]) & (next_type != FIRST)
    whole = tf.debugging.Assert(
        tf.reduce_all(step_type[:, 0] == FIRST) & tf.reduce_all(fits | ~real),
        ["every row must be one whole episode, FIRST frame to LAST; step_type:", step_type],
    )
    with tf.control_dependencies([whole]):  # a graph must check before it learns from it
        real = tf.identity(real)
    worthless = lasts if cut_is_terminal else lasts & (trajectory.discount[:, :-1] == 0)
    return Episode(
        obs=trajectory.observation["obs"],
        state=trajectory.observation["state"],
        legal=trajectory.observation["legal"],
        action=trajectory.action[:, :-1],
        reward=trajectory.reward[:, :-1],
        terminated=tf.cast(real & worthless, tf.float32),
        mask=tf.cast(real, tf.float32),
    )
