"""Buffers for the episodes that environments play, and the check of played episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfmix.envs.python import EnvError
from tfmix.types import EnvSpec, Episode
from tfmix.utils.text import clean

ALIGNMENT = 64  # bytes


class EpisodeBuffers(NamedTuple):
    """Episodes of B environments, one row each, in memory that processes may share.

    Attributes:
      episode: padded episodes, zero after their ends.
      explore_mask: [B, T, N] bool, which agents take a random legal action at
        which step.
      exploration_scores: [B, T, N, A], random numbers; an exploring agent takes
        the legal action with the highest one.
      seed: [B] int64, the seed of the next reset.
      clock: [B] int64, steps played; -1 until the reset is done.
      playing: [B] bool, True while the episode of a row is running. The caller
        sets it, and sets `clock` to -1, before `play`.
      metrics: [B, M] float32, the environment's metrics of the episode; NaN until its end.
    """

    episode: Episode[np.ndarray]
    explore_mask: np.ndarray
    exploration_scores: np.ndarray
    seed: np.ndarray
    clock: np.ndarray
    playing: np.ndarray
    metrics: np.ndarray


def _fields(spec: EnvSpec, count: int, metrics: int) -> Iterator[tuple[tuple[int, ...], type]]:
    """Yield the shape and type of each array of `EpisodeBuffers`, in order."""
    b, t, n = count, spec.episode_limit, spec.n_agents
    yield (b, t + 1, n, spec.obs_size), np.float32
    yield (b, t + 1, spec.state_size), np.float32
    yield (b, t + 1, n, spec.n_actions), np.bool_
    yield (b, t, n), np.int32
    for _ in ("reward", "terminated", "mask"):
        yield (b, t), np.float32
    yield (b, t, n), np.bool_
    yield (b, t, n, spec.n_actions), np.float32
    yield (b,), np.int64
    yield (b,), np.int64
    yield (b,), np.bool_
    yield (b, metrics), np.float32


def _places(spec: EnvSpec, count: int, metrics: int) -> Iterator[tuple[int, tuple[int, ...], type]]:
    """Yield the offset, shape and type of each array, and at last the offset of the end."""
    offset = 0
    for shape, kind in _fields(spec, count, metrics):
        yield offset, shape, kind
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    yield offset, (), np.bool_


def nbytes(spec: EnvSpec, count: int, metrics: int = 0) -> int:
    """Return the bytes that the buffers of `count` environments with so many metrics need."""
    return max(offset for offset, *_ in _places(spec, count, metrics))


def make_buffers(spec: EnvSpec, count: int, memory: Any, metrics: int = 0) -> EpisodeBuffers:
    """Map the buffers of `count` environments onto `nbytes` bytes, uncleared."""
    *places, _ = _places(spec, count, metrics)
    arrays = [np.ndarray(shape, kind, memory, offset) for offset, shape, kind in places]
    parts = len(Episode._fields)
    return EpisodeBuffers(Episode(*arrays[:parts]), *arrays[parts:])


def task_name(spec: EnvSpec) -> str:
    """Return the task's name for an error message."""
    return clean(spec.name, 100)


def check_episodes(
    spec: EnvSpec, agents: Sequence[Any], episode: Episode[np.ndarray], clock: np.ndarray
) -> None:
    """Raise EnvError if a number is not finite or an agent had no legal action.

    Args:
      spec: the shape of the task.
      agents: names of the N agents.
      episode: the steps that are played, and zeros after them.
      clock: [B], steps played.
    """
    # After termination no agent acts; after truncation the value of the last step counts.
    acts = np.arange(spec.episode_limit + 1) <= clock[:, None]  # [B, T+1]
    acts[:, 1:] &= episode.terminated == 0
    faults = []  # [B, T+1, ...], True where something is wrong
    for message, wrong in (
        ("{agent}'s observation is NaN or infinite", ~np.isfinite(episode.obs).all(-1)),
        ("the state is NaN or infinite", ~np.isfinite(episode.state).all(-1)),
        ("{agent} has no legal action", acts[..., None] & ~episode.legal.any(-1)),
        ("the reward is NaN or infinite", np.pad(~np.isfinite(episode.reward), [(0, 0), (1, 0)])),
    ):
        if wrong.any():
            _, t, *agent = min(np.argwhere(wrong).tolist(), key=lambda index: index[1])
            name = f"agent {clean(agents[agent[0]], 60)}" if agent else ""
            faults.append((t, message.format(agent=name)))
    if faults:
        t, message = min(faults)
        raise EnvError(f"{task_name(spec)}: {message} at step {t} of the episode")
