"""Whole-episode replay, uniform, in TF-Agents' buffer: one padded episode a row."""

from __future__ import annotations

import math

import tensorflow as tf

from tfmix import memory
from tfmix.config import Config, UserError
from tfmix.quiet import quiet_import
from tfmix.types import EnvSpec, Episode

_buffer = quiet_import("tf_agents.replay_buffers.tf_uniform_replay_buffer")

NOT_UINT8 = (
    "an observation or state is no whole number from 0 to 255, and --buffer_type=uint8 "
    "cannot hold it; choose float32 or float16"
)


def episode_spec(spec: EnvSpec) -> Episode:
    """Shapes and types of one episode of a task, without the batch axis."""
    t, n, a = spec.episode_limit, spec.n_agents, spec.n_actions
    return Episode(
        obs=tf.TensorSpec([t + 1, n, spec.obs_size], tf.float32, "obs"),
        state=tf.TensorSpec([t + 1, spec.state_size], tf.float32, "state"),
        legal=tf.TensorSpec([t + 1, n, a], tf.bool, "legal"),
        action=tf.TensorSpec([t, n], tf.int32, "action"),
        reward=tf.TensorSpec([t], tf.float32, "reward"),
        terminated=tf.TensorSpec([t], tf.float32, "terminated"),
        mask=tf.TensorSpec([t], tf.float32, "mask"),
    )


def stored_spec(spec: EnvSpec, number_type: str) -> Episode:
    """Shapes and types of an episode as the replay keeps it."""
    episode = episode_spec(spec)
    kind = tf.dtypes.as_dtype(number_type)
    obs, state = (tf.TensorSpec(x.shape, kind, x.name) for x in (episode.obs, episode.state))
    return episode._replace(obs=obs, state=state)


def predicted_bytes(
    spec: EnvSpec, n_envs: int, capacity_episodes: int, number_type: str = "float32"
) -> int:
    """Memory that an `EpisodeReplay` of these arguments takes."""
    # Python's whole numbers: those of a shape would run over unseen.
    sizes = (math.prod(x.shape) * x.dtype.size for x in stored_spec(spec, number_type))
    episode = sum(sizes) + tf.int64.size  # and its number
    return episode * n_envs * math.ceil(capacity_episodes / n_envs)


def capacity(config: Config, spec: EnvSpec) -> int:
    """Episodes that a run's replay holds: --buffer_episodes, or what --buffer_gb has room for.

    Raises:
      UserError: --buffer_gb does not hold a batch, or an episode of each environment.
    """
    if not config.buffer_gb:
        return config.buffer_episodes
    added = predicted_bytes(spec, config.n_envs, config.n_envs, config.buffer_type)
    room = int(config.buffer_gb * 1e9 / added) * config.n_envs
    least = max(config.batch_episodes, config.n_envs)
    if room < min(least, config.buffer_episodes):
        needed = math.ceil(least / config.n_envs) * added / 1e9
        raise UserError(
            f"--buffer_gb={config.buffer_gb:g} holds {room:,} episodes of {spec.name}, and "
            f"{least:,} are needed: set {needed:.2g} or more"
        )
    return min(room, config.buffer_episodes)


def check_room(
    spec: EnvSpec, n_envs: int, capacity_episodes: int, number_type: str = "float32"
) -> None:
    """Raises UserError where the machine has no room for an `EpisodeReplay` of these arguments."""
    memory.check_room(
        predicted_bytes(spec, n_envs, capacity_episodes, number_type),
        f"a replay of {max(capacity_episodes, n_envs):,} episodes",
        "set a smaller --buffer_episodes, or --buffer_type to float16 or uint8"
        if capacity_episodes > n_envs
        else "set a smaller --n_envs",
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

    Attributes:
      can_hold: (episode) -> [] bool, compiled, see `_can_hold`.

    Raises:
      UserError: the machine has not that much memory left.
    """

    def __init__(
        self, spec: EnvSpec, n_envs: int, capacity_episodes: int, number_type: str = "float32"
    ):
        self._number_type = tf.dtypes.as_dtype(number_type)
        check_room(spec, n_envs, capacity_episodes, number_type)
        super().__init__(
            stored_spec(spec, number_type),
            batch_size=n_envs,
            max_length=math.ceil(capacity_episodes / n_envs),
        )
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
        kept = {}
        for name in ("obs", "state"):
            x = getattr(episode, name)
            kept[name] = tf.cast(x, self._number_type)
            if self._number_type == tf.uint8:
                tf.debugging.assert_equal(tf.cast(kept[name], x.dtype), x, NOT_UINT8)
        super()._add_batch(episode._replace(**kept))

    def newest(self) -> Episode:
        """The n_envs episodes that were added last, as they are stored."""
        return self._as_float(self._data_table.read(self._get_rows_for_id(self._get_last_id())))

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
        return self._as_float(self._data_table.read(rows))

    @staticmethod
    def _as_float(stored: Episode) -> Episode:
        """Observations and states as the learner reads them."""
        return stored._replace(
            obs=tf.cast(stored.obs, tf.float32), state=tf.cast(stored.state, tf.float32)
        )
