"""Plans the replay before it takes any memory: shapes, size and device."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.types import EnvSpec, Episode
from tfmix.utils import memory, text

HOST = "cpu:*"


def episode_spec(spec: EnvSpec) -> Episode[tf.TensorSpec]:
    """Return shapes and types of one episode of a task, without the batch axis."""
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


def stored_spec(spec: EnvSpec, number_type: str) -> Episode[tf.TensorSpec]:
    """Return shapes and types of an episode in the replay: the smallest types that hold it.

    None is int32 or bool, because TensorFlow cannot write their rows on a GPU.
    """
    action = next(k for k in (tf.uint8, tf.uint16, tf.int64) if spec.n_actions - 1 <= k.max)
    kinds = dict.fromkeys(("obs", "state"), tf.dtypes.as_dtype(number_type))
    kinds |= {**dict.fromkeys(("legal", "terminated", "mask"), tf.uint8), "action": action}
    return Episode(
        *(tf.TensorSpec(x.shape, kinds.get(x.name, x.dtype), x.name) for x in episode_spec(spec))
    )


def episode_bytes(kinds: Episode[tf.TensorSpec]) -> int:
    """Return the bytes of an episode with the types of `episode_spec` or `stored_spec`."""
    # Python's integers do not overflow; NumPy's do, silently.
    return sum(math.prod(x.shape) * x.dtype.size for x in kinds)


def predicted_bytes(
    spec: EnvSpec, n_envs: int, capacity_episodes: int, number_type: str = "float32"
) -> int:
    """Return the bytes that an `EpisodeReplay` with these arguments takes."""
    episode = episode_bytes(stored_spec(spec, number_type)) + tf.int64.size  # its number
    return episode * n_envs * math.ceil(capacity_episodes / n_envs)


def capacity(config: Config, spec: EnvSpec) -> int:
    """Return how many episodes a run's replay holds: --buffer_episodes, or what --buffer_gb holds.

    Raises:
      UserError: --buffer_gb is too small for a batch or for an episode of each environment.
    """
    if not config.buffer_gb:
        return config.buffer_episodes
    added = predicted_bytes(spec, config.n_envs, config.n_envs, config.buffer_type)
    fitting = int(config.buffer_gb * 1e9 / added) * config.n_envs
    least = max(config.batch_episodes, config.n_envs)
    if fitting < min(least, config.buffer_episodes):
        needed = math.ceil(least / config.n_envs) * added / 1e9
        raise UserError(
            f"--buffer_gb={config.buffer_gb:g} holds {fitting:,} episodes of {spec.name}, and "
            f"{least:,} are needed: set {needed:.2g} or more"
        )
    return min(fitting, config.buffer_episodes)


class ReplayPlan(NamedTuple):
    """Plan of a run's replay, made before any memory is taken.

    Attributes:
      episodes: its capacity.
      size: its size in bytes.
      device: the device that keeps it.
    """

    episodes: int
    size: int
    device: str


def plan_replay(config: Config, spec: EnvSpec) -> ReplayPlan:
    """Plan a run's replay: a GPU keeps it up to --gpu_buffer_gb, the host's memory a larger one.

    Raises:
      UserError: as `capacity`, or the machine has less memory than it needs.
    """
    episodes = max(capacity(config, spec), config.n_envs)
    size = predicted_bytes(spec, config.n_envs, episodes, config.buffer_type)
    if tf.config.list_physical_devices("GPU") and size <= config.gpu_buffer_gb * 1e9:
        return ReplayPlan(episodes, size, "gpu:0")
    check_replay_memory(spec, config.n_envs, episodes, config.buffer_type)
    return ReplayPlan(episodes, size, HOST)


def check_replay_memory(
    spec: EnvSpec, n_envs: int, capacity_episodes: int, number_type: str = "float32"
) -> None:
    """Raise UserError if the host's memory cannot hold an `EpisodeReplay` with these arguments."""
    memory.check_memory(
        predicted_bytes(spec, n_envs, capacity_episodes, number_type),
        f"a replay of {text.counted(max(capacity_episodes, n_envs), 'episode')}",
        "set a smaller --buffer_episodes, or --buffer_type to float16 or uint8"
        if capacity_episodes > n_envs
        else "set a smaller --n_envs",
    )
