"""Steps environments and returns whole padded episodes.

Both lanes take a callable that acts and know no network:

  act(obs [B, N, O], legal [B, N, A], carry [B, N, K], epsilon, seed [2])
    -> (action [B, N], q, carry [B, N, K])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.envs.graph import GraphEnv
from tfmix.types import Episode

Act = Callable[..., tuple[Any, Any, Any]]


class GraphCollector:
    """Episodes of an environment in the graph, compiled.

    Args:
      env: the environment.
      act: the policy.
      carry_size: K.
      cut_is_terminal: a time limit counts as termination.

    Attributes:
      collect: (seed, first_episode, epsilon, batch) -> Episode, see `_collect`.
    """

    compiled = True

    def __init__(self, env: GraphEnv, act: Act, carry_size: int, cut_is_terminal: bool):
        self.env, self.spec, self.act = env, env.spec, act
        self.carry_size, self.cut_is_terminal = carry_size, cut_is_terminal
        self.collect = tf.function(self._collect, jit_compile=True)

    def _collect(
        self, seed: tf.Tensor, first_episode: tf.Tensor, epsilon: tf.Tensor, batch: int
    ) -> Episode:
        """Plays `batch` episodes side by side.

        Args:
          seed: [2] int, the run's seed and the stream (training, evaluation).
          first_episode: [] int64, the number of the first of these episodes;
            with `seed` it decides everything that is random.
          epsilon: [] float, the chance of a random action.
          batch: B, a Python int; each value compiles once.
        """
        spec, limit = self.spec, self.spec.episode_limit
        fold = tf.random.experimental.stateless_fold_in
        seed = fold(seed, first_episode)
        env_state, now = self.env.reset(fold(seed, -1), batch)
        with_last = [
            tf.TensorArray(x.dtype, limit, element_shape=x.shape)
            for x in (now.obs, now.state, now.legal)
        ]
        per_step = [tf.TensorArray(tf.int32, limit, element_shape=[batch, spec.n_agents])] + [
            tf.TensorArray(tf.float32, limit, element_shape=[batch]) for _ in range(3)
        ]

        def play(t, alive, carry, env_state, now, rows):
            seeds = tf.random.experimental.stateless_split(fold(seed, t), 2)
            action, _, carry = self.act(now.obs, now.legal, carry, epsilon, seeds[0])
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
            rows = [array.write(t, x) for array, x in zip(rows, record, strict=True)]
            # Rows behind the end are written too, and looked at by nobody.
            alive = alive & ~after.terminated & ~after.truncated
            return t + 1, alive, carry, env_state, after, rows

        start = (
            0,
            tf.fill([batch], True),
            tf.zeros([batch, spec.n_agents, self.carry_size]),
            env_state,
            now,
            with_last + per_step,
        )
        _, _, _, _, last, rows = tf.while_loop(
            lambda t, *_: t < limit, play, start, maximum_iterations=limit
        )
        rows = [array.stack() for array in rows]
        with_last = [
            tf.concat([x, y[None]], 0)
            for x, y in zip(rows[:3], (last.obs, last.state, last.legal), strict=True)
        ]

        def batch_first(x: tf.Tensor) -> tf.Tensor:
            return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])

        return Episode(*(batch_first(x) for x in with_last + rows[3:]))

    def close(self) -> None:
        """Nothing to close."""


class PythonCollector:
    """Episodes of environments in Python, stepped one after the other.

    Every environment is reset with a seed made of the run's seed and the
    episode's number; the team acts for all environments in one compiled call.

    Args:
      envs: at least one environment of `tfmix.envs.python`.
      act: the policy.
      carry_size: K.
      cut_is_terminal: a time limit counts as termination.
    """

    compiled = False

    def __init__(self, envs: list[Any], act: Act, carry_size: int, cut_is_terminal: bool):
        self.envs, self.spec = envs, envs[0].spec
        self.act = tf.function(act, jit_compile=True)
        self.carry_size, self.cut_is_terminal = carry_size, cut_is_terminal

    def collect(self, seed: Any, first_episode: Any, epsilon: Any, batch: int) -> Episode:
        """As `GraphCollector.collect`; more episodes than environments come in turns."""
        turns = []
        for start in range(0, batch, len(self.envs)):
            count = min(len(self.envs), batch - start)
            turns.append(self._turn(np.asarray(seed), int(first_episode) + start, epsilon, count))
        return Episode(*(np.concatenate(parts)[:batch] for parts in zip(*turns, strict=True)))

    def _turn(self, seed: np.ndarray, first_episode: int, epsilon: Any, count: int) -> Episode:
        spec, n = self.spec, len(self.envs)
        rows = empty_episodes(spec, n)
        carry = tf.zeros([n, spec.n_agents, self.carry_size])
        alive = np.arange(n) < count
        for i in np.flatnonzero(alive):
            words = np.random.SeedSequence([*map(int, seed), first_episode + int(i)])
            start = self.envs[i].reset(int(words.generate_state(1)[0] >> 1))
            rows.obs[i, 0], rows.state[i, 0], rows.legal[i, 0] = start
        draw = tf.random.experimental.stateless_fold_in(seed, first_episode)
        for t in range(spec.episode_limit):
            action, _, carry = self.act(
                tf.constant(rows.obs[:, t]),
                tf.constant(rows.legal[:, t]),
                carry,
                tf.cast(epsilon, tf.float32),
                tf.random.experimental.stateless_fold_in(draw, t),
            )
            rows.action[:, t] = action.numpy()
            for i in np.flatnonzero(alive):
                obs, state, legal, reward, terminated, truncated, _ = self.envs[i].step(
                    rows.action[i, t]
                )
                rows.obs[i, t + 1], rows.state[i, t + 1], rows.legal[i, t + 1] = obs, state, legal
                rows.reward[i, t], rows.mask[i, t] = reward, 1.0
                rows.terminated[i, t] = terminated or (truncated and self.cut_is_terminal)
                alive[i] = not (terminated or truncated)
            if not alive.any():
                break
        return Episode(*(x[:count] for x in rows))

    def close(self) -> None:
        """Closes every environment."""
        for env in self.envs:
            env.close()


def empty_episodes(spec: Any, batch: int) -> Episode:
    """Padding for `batch` episodes of a task, as NumPy arrays."""
    t, n = spec.episode_limit, spec.n_agents
    return Episode(
        obs=np.zeros([batch, t + 1, n, spec.obs_size], np.float32),
        state=np.zeros([batch, t + 1, spec.state_size], np.float32),
        legal=np.zeros([batch, t + 1, n, spec.n_actions], bool),
        action=np.zeros([batch, t, n], np.int32),
        reward=np.zeros([batch, t], np.float32),
        terminated=np.zeros([batch, t], np.float32),
        mask=np.zeros([batch, t], np.float32),
    )


def returns(episode: Episode) -> Any:
    """The undiscounted return of each episode, [B]."""
    return (
        (episode.reward * episode.mask).sum(-1)
        if isinstance(episode.reward, np.ndarray)
        else tf.reduce_sum(episode.reward * episode.mask, -1)
    )
