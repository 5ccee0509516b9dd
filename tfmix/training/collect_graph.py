"""Collects whole padded episodes of environments in the graph, with `Algorithm.act`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.envs.kinds import Kind, kind_of
from tfmix.envs.metrics import names_of
from tfmix.errors import UserError
from tfmix.types import Episode, GraphEnv, Played, Step
from tfmix.utils.text import clean

Act = Callable[..., tuple[Any, ...]]
FOLD = tf.random.experimental.stateless_fold_in
# More episodes than this are split into groups, which are played in parallel if there are cores.
GROUP_EPISODES = 64


class GraphCollector:
    """Compiled collector of whole episodes of an environment in the graph.

    Args:
      env: the environment.
      act: the policy, see `Algorithm.act`.
      policy_state_size: K.
      cut_is_terminal: count a time limit as termination.
      metric_names: names of the metrics; None for all that the environment has. One that it
        does not have is NaN.

    Attributes:
      play: (seed, first_episode, epsilon, batch) -> Played, see `_play`.
      collect: (the same) -> Episode, those of `play`.
      play_group: (the same) -> Played, those of one group, one compiled program.

    Raises:
      UserError: the environment's `metric_names` are not names.
    """

    compiled, restarts = True, 0

    def __init__(
        self,
        env: GraphEnv,
        act: Act,
        policy_state_size: int,
        cut_is_terminal: bool,
        metric_names: Sequence[str] | None = None,
    ):
        self._own_metrics = names_of(env)
        self.metric_names: Sequence[str] = (
            self._own_metrics if metric_names is None else tuple(metric_names)
        )
        self.env, self.spec, self.act = env, env.spec, act
        self.policy_state_size, self.cut_is_terminal = policy_state_size, cut_is_terminal
        # AutoGraph takes seconds, and only an environment of the user may need it.
        autograph = kind_of(env) is not Kind.BUILT_IN
        self.play_group = tf.function(self._play_group, jit_compile=True, autograph=autograph)
        self.play = tf.function(self._play, autograph=False)
        self.collect = tf.function(self._collect, autograph=False)

    def _collect(
        self, seed: tf.Tensor, first_episode: tf.Tensor, epsilon: tf.Tensor, batch: int
    ) -> Episode:
        """Play as `_play` and return the episodes."""
        episode: Episode = self._play(seed, first_episode, epsilon, batch).episode
        return episode

    def _play(
        self, seed: tf.Tensor, first_episode: tf.Tensor, epsilon: tf.Tensor, batch: int
    ) -> Played:
        """Play `batch` episodes.

        Args:
          seed: [2] int, the run's seed and the stream (training, evaluation).
          first_episode: [] int64, the number of the first of these episodes.
            All randomness depends on it and on `seed`.
          epsilon: [] float, the probability of a random action.
          batch: B, a Python int; each value compiles once.
        """
        # The groups do not depend on the number of cores, because the random numbers
        # depend on the groups.
        count = 1 if tf.config.list_physical_devices("GPU") else math.ceil(batch / GROUP_EPISODES)
        groups = np.array_split(np.arange(batch), count)
        played = [
            self.play_group(seed, first_episode + int(group[0]), epsilon, len(group))
            for group in groups
        ]
        if count == 1:
            return played[0]
        episodes, metrics = zip(*played, strict=True)
        joined = Episode(*(tf.concat(x, 0) for x in zip(*episodes, strict=True)))
        return Played(joined, tf.concat(metrics, 0))

    def _play_group(
        self, seed: tf.Tensor, first_episode: tf.Tensor, epsilon: tf.Tensor, batch: int
    ) -> Played:
        """Play `batch` episodes in parallel; the arguments are those of `_play`."""
        spec, limit = self.spec, self.spec.episode_limit
        seed = FOLD(seed, first_episode)
        env_state, now = self.env.reset(FOLD(seed, -1), batch)
        with_last = [
            tf.TensorArray(x.dtype, limit, element_shape=x.shape)
            for x in (now.obs, now.state, now.legal)
        ]
        per_step = [tf.TensorArray(tf.int32, limit, element_shape=[batch, spec.n_agents])] + [
            tf.TensorArray(tf.float32, limit, element_shape=[batch]) for _ in range(3)
        ]

        def play(
            t: Any,
            alive: tf.Tensor,
            policy_state: tf.Tensor,
            env_state: Any,
            now: Step,
            metrics: tf.Tensor,
            arrays: list[tf.TensorArray],
        ) -> tuple[Any, ...]:
            seeds = tf.random.experimental.stateless_split(FOLD(seed, t), 2)
            action, _, policy_state = self.act(now.obs, now.legal, policy_state, epsilon, seeds[0])
            env_state, after = self.env.step(env_state, action, seeds[1])
            over = after.terminated
            if self.cut_is_terminal:
                over = over | after.truncated
            record = (
                now.obs,
                now.state,
                now.legal,
                action,
                tf.where(alive, after.reward, tf.zeros([batch])),
                tf.cast(alive & over, tf.float32),
                tf.cast(alive, tf.float32),
            )
            # Steps after an episode's end are written too; their mask is 0.
            arrays = [array.write(t, x) for array, x in zip(arrays, record, strict=True)]
            if self.metric_names:
                metrics = tf.where(alive[:, None], self._metrics(after, batch), metrics)
            after = after._replace(metrics=())
            alive = alive & ~after.terminated & ~after.truncated
            return t + 1, alive, policy_state, env_state, after, metrics, arrays

        start = (
            0,
            tf.fill([batch], True),
            tf.zeros([batch, spec.n_agents, self.policy_state_size]),
            env_state,
            now._replace(metrics=()),
            tf.fill([batch, len(self.metric_names)], float("nan")),
            with_last + per_step,
        )
        _, _, _, _, last, metrics, written = tf.while_loop(
            lambda t, *_: t < limit, play, start, maximum_iterations=limit
        )
        steps = [array.stack() for array in written]
        views = [
            tf.concat([x, y[None]], 0)
            for x, y in zip(steps[:3], (last.obs, last.state, last.legal), strict=True)
        ]

        def batch_first(x: tf.Tensor) -> tf.Tensor:
            return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])

        return Played(Episode(*(batch_first(x) for x in views + steps[3:])), metrics)

    def _metrics(self, step: Step, batch: int) -> tf.Tensor:
        """Return the metrics of a step in the order of `metric_names`, [B, M].

        Raises:
          UserError: the environment has `metric_names` and no such tensor.
        """
        found, count = step.metrics, len(self._own_metrics)
        fits = tf.is_tensor(found) and found.shape.is_compatible_with([batch, count])
        if count and not fits:
            shape = found.shape if tf.is_tensor(found) else "no tensor"
            raise UserError(
                f"{clean(self.spec.name, 100)}: metrics of a step is {shape}, not [{batch}, "
                f"{count}] as metric_names says"
            )
        own = {name: found[:, i] for i, name in enumerate(self._own_metrics)}
        missing = tf.fill([batch], float("nan"))
        columns = [own.get(name, missing) for name in self.metric_names]
        return tf.cast(tf.stack(columns, 1), tf.float32)

    def states_of(self, seed: tf.Tensor, first_episode: tf.Tensor, action: np.ndarray) -> list[Any]:
        """Step the environment through episodes that `collect` played, and return its states.

        Args:
          seed: as in `collect`.
          first_episode: likewise.
          action: [B, T, N] int32, of all episodes of one call of `collect`. B is at most
            `GROUP_EPISODES`: the random numbers depend on the group.

        Returns:
          T + 1 states of the environment, each with the leading axis B. Those after an
          episode's end mean nothing.
        """
        autograph, batch = kind_of(self.env) is not Kind.BUILT_IN, len(action)

        # Compiled as `play_group` is: XLA draws other random numbers than TensorFlow.
        @tf.function(jit_compile=True, autograph=autograph)
        def reset() -> Any:
            state, _ = self.env.reset(FOLD(FOLD(seed, first_episode), -1), batch)
            return state

        @tf.function(jit_compile=True, autograph=autograph)
        def step(state: Any, action: tf.Tensor, t: tf.Tensor) -> Any:
            episodes = FOLD(FOLD(seed, first_episode), t)
            seeds = tf.random.experimental.stateless_split(episodes, 2)
            state, _ = self.env.step(state, action, seeds[1])
            return state

        states = [reset()]
        for t in range(action.shape[1]):
            states.append(step(states[-1], tf.constant(action[:, t]), tf.constant(t)))
        return states

    def close(self) -> None:
        """Do nothing: an environment in the graph holds no resources."""
