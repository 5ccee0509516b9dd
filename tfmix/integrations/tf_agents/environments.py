"""Wraps environments as TF-Agents environments, for TF-Agents' drivers and metrics.

An observation is a dictionary: obs [N, O] float32, legal [N, A] bool and
state [S] float32, of which a policy may use the first two only. An action is
[N] int32. The discount is 0 at a step that terminates the episode, else 1; it is 1
at a step that a time limit truncates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.training.seeds import Stream
from tfmix.types import EnvSpec, GraphEnv, Step
from tfmix.utils.quiet import quiet_import

_py_environment = quiet_import("tf_agents.environments.py_environment")
_tf_environment = quiet_import("tf_agents.environments.tf_environment")
_tensor_spec = quiet_import("tf_agents.specs.tensor_spec")
_time_step = quiet_import("tf_agents.trajectories.time_step")

_FIRST, _MID, _LAST = (int(getattr(_time_step.StepType, name)) for name in ("FIRST", "MID", "LAST"))


def time_step_spec(spec: EnvSpec) -> Any:
    """Return the specs of a task's steps, as TF-Agents' `TimeStep` of tensor specs."""
    n, a = spec.n_agents, spec.n_actions
    return _time_step.time_step_spec(
        {
            "obs": tf.TensorSpec([n, spec.obs_size], tf.float32, "obs"),
            "legal": tf.TensorSpec([n, a], tf.bool, "legal"),
            "state": tf.TensorSpec([spec.state_size], tf.float32, "state"),
        }
    )


def action_spec(spec: EnvSpec) -> Any:
    """Return the spec of one action per agent, [N] int32 from 0 to A - 1."""
    return _tensor_spec.BoundedTensorSpec(
        [spec.n_agents], tf.int32, 0, spec.n_actions - 1, "action"
    )


class GraphTFEnvironment(_tf_environment.TFEnvironment):  # type: ignore[name-defined]  # no types
    """Batch of environments in the graph; an environment whose episode is over starts the next.

    Args:
      env: the environment.
      batch_size: B, the number of parallel environments.
      seed: decides all random numbers, together with the count of calls.
    """

    def __init__(self, env: GraphEnv, batch_size: int = 1, seed: int = 0):
        self.env, self.spec = env, env.spec
        super().__init__(time_step_spec(env.spec), action_spec(env.spec), batch_size)
        self._seed = tf.Variable(
            [seed, Stream.TF_AGENTS_ENVIRONMENT], dtype=tf.int32, trainable=False
        )
        self._calls = tf.Variable(0, dtype=tf.int64, trainable=False)
        # All environments begin at an end, so that the first call starts an episode.
        state, step = env.reset(tf.zeros([2], tf.int32), batch_size)
        over = self._frame(step, tf.fill([batch_size], _LAST))
        self._kept = tf.nest.map_structure(lambda x: tf.Variable(x, trainable=False), (state, over))

    @staticmethod
    def _frame(step: Step, step_type: tf.Tensor) -> Any:
        """Return a step as TF-Agents' `TimeStep`."""
        return _time_step.TimeStep(
            step_type=step_type,
            reward=step.reward,
            discount=tf.where(step.terminated, 0.0, 1.0),
            observation={"obs": step.obs, "legal": step.legal, "state": step.state},
        )

    def _keep(self, state: Any, frame: Any) -> Any:
        """Store the environments' state and their last frame; return the frame."""
        tf.nest.map_structure(lambda old, new: old.assign(new), self._kept, (state, frame))
        return frame

    def _draw(self) -> tf.Tensor:
        """Return the next call's seeds for a reset and for a step, [2, 2]."""
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._calls.assign_add(1))
        return tf.random.experimental.stateless_split(seed, 2)

    def _start(self, seed: tf.Tensor) -> tuple[Any, Any]:
        """Start an episode in all environments; return their state and first frame."""
        state, step = self.env.reset(seed, self.batch_size)
        return state, self._frame(step, tf.fill([self.batch_size], _FIRST))

    def _current_time_step(self) -> Any:
        return tf.cond(
            self._calls > 0,
            lambda: tf.nest.map_structure(tf.identity, self._kept[1]),
            self._reset,
        )

    def _reset(self) -> Any:
        return self._keep(*self._start(self._draw()[0]))

    def _step(self, action: tf.Tensor) -> Any:
        action = tf.ensure_shape(action, [self.batch_size, self.spec.n_agents])
        seeds = self._draw()
        state, frame = tf.nest.map_structure(tf.identity, self._kept)
        anew = frame.is_last()  # [B]; these environments ignore their action
        state, step = self.env.step(state, action, seeds[1])
        over = step.terminated | step.truncated
        went = state, self._frame(step, tf.where(over, _LAST, _MID))

        def pick(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
            return tf.where(tf.reshape(anew, [-1] + [1] * (new.shape.rank - 1)), new, old)

        return self._keep(*tf.nest.map_structure(pick, self._start(seeds[0]), went))


class TeamPyEnvironment(_py_environment.PyEnvironment):  # type: ignore[name-defined]  # no types
    """Environment of `tfmix.envs.python`, for TF-Agents' `TFPyEnvironment`.

    Args:
      env: the environment; `close` closes it.
      seed: decides the seed of every reset, together with the episode's number.
    """

    def __init__(self, env: Any, seed: int = 0):
        super().__init__(handle_auto_reset=True)
        self.env, self.spec = env, env.spec
        self._seed, self._episodes = seed, 0
        self._info: dict[str, Any] = {}

    def observation_spec(self) -> Any:
        """Return the observations' specs, see `time_step_spec`."""
        return _tensor_spec.to_nest_array_spec(time_step_spec(self.spec).observation)

    def action_spec(self) -> Any:
        """Return the actions' spec, see this module's `action_spec`."""
        return _tensor_spec.to_nest_array_spec(action_spec(self.spec))

    def get_info(self) -> dict[str, Any]:
        """Return what the environment reported with the last step; empty after a reset."""
        return self._info

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _reset(self) -> Any:
        seeds = np.random.SeedSequence([self._seed, self._episodes]).generate_state(1)
        self._episodes, self._info = self._episodes + 1, {}
        return self._frame(_FIRST, *self.env.reset(int(seeds[0] >> 1)))

    def _step(self, action: np.ndarray) -> Any:
        obs, state, legal, reward, terminated, truncated, self._info = self.env.step(action)
        step_type = _LAST if terminated or truncated else _MID
        return self._frame(step_type, obs, state, legal, reward, 0.0 if terminated else 1.0)

    @staticmethod
    def _frame(
        step_type: int,
        obs: np.ndarray,
        state: np.ndarray,
        legal: np.ndarray,
        reward: float = 0.0,
        discount: float = 1.0,
    ) -> Any:
        """Return a step as TF-Agents' `TimeStep`."""
        return _time_step.TimeStep(
            step_type=np.asarray(step_type, np.int32),
            reward=np.asarray(reward, np.float32),
            discount=np.asarray(discount, np.float32),
            observation={"obs": obs, "legal": legal, "state": state},
        )
