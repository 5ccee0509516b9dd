"""Whole-episode replay, uniform, in TF-Agents' buffer: one padded episode a row."""

from __future__ import annotations

import math

import tensorflow as tf

from tfmix.errors import UserError
from tfmix.training.replay_size import HOST, check_memory, episode_spec, stored_spec
from tfmix.types import EnvSpec, Episode
from tfmix.utils.quiet import quiet_import

_buffer = quiet_import("tf_agents.replay_buffers.tf_uniform_replay_buffer")
NOT_UINT8 = (
    "an observation or state is no whole number from 0 to 255, and --buffer_type=uint8 "
    "cannot hold it; choose float32 or float16"
)


class EpisodeReplay(_buffer.TFUniformReplayBuffer):  # type: ignore[name-defined]
    """First in, first out; `sample` draws with replacement.

    TF-Agents' own `get_next` draws from TensorFlow's hidden random state,
    which no checkpoint holds; `sample` draws from a seed, so that a resumed
    run sees the same batches.

    Args:
      spec: the task's shape.
      n_envs: episodes added at a time.
      capacity_episodes: room, rounded up to a multiple of n_envs.
      number_type: of the observations and states that are stored: float32,
        float16, or uint8 for whole numbers from 0 to 255.
      device: where it is kept, see `plan`.

    Attributes:
      can_hold: (episode) -> [] bool, compiled, see `_can_hold`.

    Raises:
      UserError: the machine has not that much memory left.
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
        self._learned, self._stored = episode_spec(spec), stored_spec(spec, number_type)
        if device == HOST:
            check_memory(spec, n_envs, capacity_episodes, number_type)
        rows = math.ceil(capacity_episodes / n_envs)
        try:
            super().__init__(self._stored, batch_size=n_envs, max_length=rows, device=device)
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                "the GPU has no room for the replay: set a smaller --gpu_buffer_gb, and it is "
                "kept in the host's memory"
            ) from error
        self.can_hold = tf.function(self._can_hold, jit_compile=True, autograph=False)

    def _can_hold(self, episode: Episode) -> tf.Tensor:
        """Whether all numbers of real steps are finite, in the replay's number type too, [] bool.

        Of uint8 `add_batch` itself sees to it.
        """
        widest = (self._number_type if self._number_type.is_floating else tf.float32).max
        real = episode.mask > 0  # [B, T]
        seen = tf.concat([tf.ones_like(real[:, :1]), real], 1)  # [B, T+1]
        # NaN is not below anything either. Rows first, then the mask: half the time.
        obs = tf.reduce_all(tf.abs(episode.obs) <= widest, [2, 3])
        state = tf.reduce_all(tf.abs(episode.state) <= widest, 2)
        reward = tf.abs(episode.reward) <= tf.float32.max
        return tf.reduce_all(obs & state | ~seen) & tf.reduce_all(reward | ~real)

    def _add_batch(self, episode: Episode) -> None:
        """What `add_batch` does: stores n_envs episodes, over the oldest where it is full.

        Raises:
          tf.errors.InvalidArgumentError: an observation or state that uint8 cannot hold.
        """
        kept = Episode(*(tf.cast(x, s.dtype) for x, s in zip(episode, self._stored, strict=True)))
        if self._number_type == tf.uint8:
            for x, small in ((episode.obs, kept.obs), (episode.state, kept.state)):
                tf.debugging.assert_equal(tf.cast(small, x.dtype), x, NOT_UINT8)
        super()._add_batch(kept)

    def newest(self) -> Episode:
        """The n_envs episodes that were added last, as they are stored."""
        return self._as_learned(self._data_table.read(self._get_rows_for_id(self._get_last_id())))

    def sample(self, seed: tf.Tensor, batch_episodes: int) -> Episode:
        """Draws episodes uniformly; the replay must hold at least one.

        Args:
          seed: [2] int.
          batch_episodes: B.
        """
        filled = self.num_frames() // self._batch_size  # episodes of each environment
        draw = tf.random.stateless_uniform(
            [batch_episodes], seed, 0, filled * self._batch_size, tf.int64
        )
        rows = draw // filled * self._max_length + draw % filled
        return self._as_learned(self._data_table.read(rows))

    def _as_learned(self, stored: Episode) -> Episode:
        """Episodes in the types that the learner reads."""
        return Episode(*(tf.cast(x, s.dtype) for x, s in zip(stored, self._learned, strict=True)))
