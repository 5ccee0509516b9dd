"""Whole-episode replay, uniform, in TF-Agents' buffer: one padded episode a row."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.types import EnvSpec, Episode
from tfmix.utils import memory
from tfmix.utils.quiet import quiet_import

_buffer = quiet_import("tf_agents.replay_buffers.tf_uniform_replay_buffer")

HOST = "cpu:*"
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
    """Shapes and types of an episode as the replay keeps it: in the smallest that hold it.

    None is int32 or bool, whose rows TensorFlow cannot write on a GPU.
    """
    action = next(k for k in (tf.uint8, tf.uint16, tf.int64) if spec.n_actions - 1 <= k.max)
    kinds = dict.fromkeys(("obs", "state"), tf.dtypes.as_dtype(number_type))
    kinds |= {**dict.fromkeys(("legal", "terminated", "mask"), tf.uint8), "action": action}
    return Episode(
        *(tf.TensorSpec(x.shape, kinds.get(x.name, x.dtype), x.name) for x in episode_spec(spec))
    )


def episode_bytes(kinds: Episode) -> int:
    """Memory of an episode of the shapes and types of `episode_spec` or `stored_spec`."""
    # Python's whole numbers: those of a shape would run over unseen.
    return sum(math.prod(x.shape) * x.dtype.size for x in kinds)


def predicted_bytes(
    spec: EnvSpec, n_envs: int, capacity_episodes: int, number_type: str = "float32"
) -> int:
    """Memory that an `EpisodeReplay` of these arguments takes."""
    episode = episode_bytes(stored_spec(spec, number_type)) + tf.int64.size  # and its number
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


class Plan(NamedTuple):
    """A run's replay before it is made: room in episodes, memory in bytes, and where it is."""

    episodes: int
    size: int
    device: str


def plan(config: Config, spec: EnvSpec) -> Plan:
    """What a run's replay will be: with a GPU there in its memory, unless it is a large one.

    Raises:
      UserError: as `capacity`.
    """
    episodes = capacity(config, spec)
    size = predicted_bytes(spec, config.n_envs, episodes, config.buffer_type)
    on_gpu = tf.config.list_physical_devices("GPU") and size <= config.gpu_buffer_gb * 1e9
    return Plan(max(episodes, config.n_envs), size, "gpu:0" if on_gpu else HOST)


def check(config: Config, spec: EnvSpec) -> None:
    """Raises UserError where there is no room for a run's replay; ahead of making it."""
    room = plan(config, spec)
    if room.device == HOST:
        check_room(spec, config.n_envs, room.episodes, config.buffer_type)


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
            check_room(spec, n_envs, capacity_episodes, number_type)
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
