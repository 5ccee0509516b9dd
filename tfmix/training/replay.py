"""Keeps whole episodes in a ring of plain variables, one padded episode a row."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfmix.errors import UserError
from tfmix.training.replay_size import HOST, check_replay_memory, episode_spec, stored_spec
from tfmix.types import EnvSpec, Episode

NOT_UINT8 = (
    "an observation or state is not a whole number from 0 to 255, and --buffer_type=uint8 "
    "cannot hold it; choose float32 or float16"
)


class EpisodeReplay:
    """Replay of whole episodes, sampled uniformly with replacement.

    When it is full, new episodes replace the oldest. Environment i owns the rows from
    i * length to (i + 1) * length - 1 and fills them cyclically; length is
    `capacity_episodes / n_envs`, rounded up. A draw depends on a seed alone, so that
    a resumed run sees the same batches. All methods work from Python and inside of a
    `tf.function`.

    Args:
      spec: the task's shape.
      n_envs: episodes added at a time.
      capacity_episodes: episodes it can hold, rounded up to a multiple of n_envs.
      number_type: the type of stored observations and states: float32, float16,
        or uint8 for whole numbers from 0 to 255.
      device: the device that keeps it, see `replay_size.plan_replay`.

    Attributes:
      stored: the episodes as an `Episode` of variables, one episode a row.
      can_hold: (episode) -> [] bool, compiled, see `_can_hold`.

    Raises:
      UserError: the machine has less memory than the replay needs.
    """

    def __init__(
        self,
        spec: EnvSpec,
        n_envs: int,
        capacity_episodes: int,
        number_type: str = "float32",
        device: str = HOST,
    ):
        self._number_type = tf.dtypes.as_dtype(number_type)
        self._learned, self._kept = episode_spec(spec), stored_spec(spec, number_type)
        self._n_envs, self._length = n_envs, math.ceil(capacity_episodes / n_envs)
        self._first_rows: np.ndarray = np.arange(n_envs, dtype=np.int64) * self._length
        self._device = device
        if device == HOST:
            check_replay_memory(spec, n_envs, capacity_episodes, number_type)
        rows = n_envs * self._length
        try:
            with tf.device(device):
                self.stored = Episode(
                    *(_variable(tf.zeros([rows, *x.shape], x.dtype), x.name) for x in self._kept)
                )
                # The number of the `add_batch` that stored each row, and of the last one.
                self._numbers = _variable(tf.zeros([rows], tf.int64), "number")
                self._last = _variable(tf.constant(-1, tf.int64), "last")
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                "the GPU's memory cannot hold the replay: set a smaller --gpu_buffer_gb to keep "
                "the replay in the host's memory"
            ) from error
        self.can_hold = tf.function(self._can_hold, jit_compile=True, autograph=False)

    def variables(self) -> list[tf.Variable]:
        """Return all variables: those of `stored`, the rows' numbers, the last number.

        Checkpoints name them by their place in this list.
        """
        return [*self.stored, self._numbers, self._last]

    def clear(self) -> None:
        """Forget all episodes; their memory stays taken."""
        self._last.assign(-1)

    def num_episodes(self) -> tf.Tensor:
        """Count the episodes it holds, [] int64."""
        return self._filled() * self._n_envs

    def _filled(self) -> tf.Tensor:
        """Count the episodes of each environment, [] int64."""
        return tf.minimum(self._last + 1, self._length)

    def _can_hold(self, episode: Episode) -> tf.Tensor:
        """Return whether the replay's type can hold all numbers of real steps, [] bool.

        NaN, infinity and what becomes infinite in float16 cannot be held. That uint8 holds
        whole numbers from 0 to 255 is checked by `add_batch`.
        """
        widest = (self._number_type if self._number_type.is_floating else tf.float32).max
        real = episode.mask > 0  # [B, T]
        seen = tf.concat([tf.ones_like(real[:, :1]), real], 1)  # [B, T+1]
        # A comparison with NaN is false. Reducing before masking takes half the time.
        obs = tf.reduce_all(tf.abs(episode.obs) <= widest, [2, 3])
        state = tf.reduce_all(tf.abs(episode.state) <= widest, 2)
        reward = tf.abs(episode.reward) <= tf.float32.max
        return tf.reduce_all(obs & state | ~seen) & tf.reduce_all(reward | ~real)

    def add_batch(self, episode: Episode) -> None:
        """Store n_envs episodes, one of each environment; a full replay overwrites the oldest.

        Raises:
          tf.errors.InvalidArgumentError: an observation or state that uint8 cannot hold.
        """
        kept = Episode(*(self._narrow(x, s) for x, s in zip(episode, self._kept, strict=True)))
        if self._number_type == tf.uint8:
            for x, small in ((episode.obs, kept.obs), (episode.state, kept.state)):
                tf.debugging.assert_equal(tf.cast(small, x.dtype), x, NOT_UINT8)
        with tf.device(self._device):
            number = self._last.assign_add(1).read_value()
            rows = self._first_rows + number % self._length
            for variable, x in zip(self.stored, kept, strict=True):
                variable.scatter_update(tf.IndexedSlices(x, rows))
            self._numbers.scatter_update(tf.IndexedSlices(tf.fill([self._n_envs], number), rows))

    def _narrow(self, x: tf.Tensor, kept: tf.TensorSpec) -> tf.Tensor:
        """Cast a field of n_envs episodes to the type that is stored."""
        return tf.ensure_shape(tf.cast(x, kept.dtype), [self._n_envs, *kept.shape])

    def newest(self) -> Episode:
        """Return the n_envs episodes that were added last, with the numbers that were stored."""
        return self.read(self._last % self._length + self._first_rows)

    def sample(self, seed: tf.Tensor, batch_episodes: int) -> Episode:
        """Draw episodes uniformly; the replay must hold at least one.

        Args:
          seed: [2] int.
          batch_episodes: B.
        """
        return self.read(self.draw_rows(seed, batch_episodes))

    def draw_rows(self, seed: tf.Tensor, batch_episodes: int) -> tf.Tensor:
        """Draw the rows that `sample` reads, [B] int64."""
        filled = self._filled()
        draw = tf.random.stateless_uniform(
            [batch_episodes], seed, 0, filled * self._n_envs, tf.int64
        )
        return draw // filled * self._length + draw % filled

    def rows_in_order(self) -> tf.Tensor:
        """Return the rows that hold an episode, the oldest first, [E] int64."""
        last = self._last.read_value()
        numbers = tf.range(last + 1 - self._filled(), last + 1)
        return tf.reshape(numbers[:, None] % self._length + self._first_rows, [-1])

    def numbers(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the number of the `add_batch`, from 0, that stored each of these rows, int64."""
        return self._numbers.sparse_read(rows)

    def read(self, rows: tf.Tensor) -> Episode:
        """Return the episodes of these rows, [B] int64, in the types that the learner reads."""
        stored = zip(self.stored, self._learned, strict=True)
        return Episode(*(tf.cast(x.sparse_read(rows), s.dtype) for x, s in stored))


def _variable(value: tf.Tensor, name: str) -> tf.Variable:
    """Make a variable that no optimiser trains; it takes over the memory of `value`."""
    return tf.Variable(value, trainable=False, name=name)
