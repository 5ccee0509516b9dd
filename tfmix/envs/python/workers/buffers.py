"""Memory for the episodes that environments play, and the check of what was played."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfmix.envs.python import EnvError
from tfmix.types import EnvSpec, Episode
from tfmix.utils.text import clean

ALIGNMENT = 64  # bytes


class EpisodeBuffers(NamedTuple):
    """B rows, in one piece of memory that processes may share.

    Attributes:
      episode: padded episodes, zero behind their ends.
      explores: [B, T, N] bool, who takes a random legal action when.
      lottery: [B, T, N, A], drawn numbers; such an agent takes the action of
        the highest.
      seed: [B] int64, what the next reset is given.
      clock: [B] int64, steps played; -1 until the reset is done.
      playing: [B] bool, rows whose episode has not ended. Who has them played sets
        it, and the clock back.
    """

    episode: Episode
    explore_mask: np.ndarray
    exploration_scores: np.ndarray
    seed: np.ndarray
    clock: np.ndarray
    playing: np.ndarray


def _fields(spec: EnvSpec, count: int) -> Iterator[tuple[tuple[int, ...], type]]:
    """Shapes and types of the arrays of `EpisodeBuffers`, in their order."""
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


def _places(spec: EnvSpec, count: int) -> Iterator[tuple[int, tuple[int, ...], type]]:
    """Offset, shape and type of every array, and at last the end's offset."""
    offset = 0
    for shape, kind in _fields(spec, count):
        yield offset, shape, kind
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    yield offset, (), np.bool_


def nbytes(spec: EnvSpec, count: int) -> int:
    """Bytes that `count` rows need."""
    return max(offset for offset, *_ in _places(spec, count))


def make_buffers(spec: EnvSpec, count: int, memory: Any) -> EpisodeBuffers:
    """`count` rows in a buffer of `nbytes(spec, count)` bytes; what it holds is kept."""
    *places, _ = _places(spec, count)
    arrays = [np.ndarray(shape, kind, memory, offset) for offset, shape, kind in places]
    parts = len(Episode._fields)
    return EpisodeBuffers(Episode(*arrays[:parts]), *arrays[parts:])


def task_name(spec: EnvSpec) -> str:
    """Returns the task's name for an error."""
    return clean(spec.name, 100)


def check_episodes(
    spec: EnvSpec, agents: Sequence[Any], episode: Episode, clock: np.ndarray
) -> None:
    """Raises EnvError where a number is not finite or an agent could not act.

    Args:
      spec: the task's.
      agents: names of its N agents.
      episode: what was played so far, zero behind it.
      clock: [B], steps played.
    """
    # Behind a true end nobody acts; behind a cut the team's value is counted on.
    acts = np.arange(spec.episode_limit + 1) <= clock[:, None]  # [B, T+1]
    acts[:, 1:] &= episode.terminated == 0
    faults = []  # [B, T+1, ...], True where something is wrong
    for words, wrong in (
        ("{agent}'s observation is NaN or infinite", ~np.isfinite(episode.obs).all(-1)),
        ("the state is NaN or infinite", ~np.isfinite(episode.state).all(-1)),
        ("{agent} has no legal action", acts[..., None] & ~episode.legal.any(-1)),
        ("the reward is NaN or infinite", np.pad(~np.isfinite(episode.reward), [(0, 0), (1, 0)])),
    ):
        if wrong.any():
            _, t, *agent = min(np.argwhere(wrong).tolist(), key=lambda place: place[1])
            name = f"agent {clean(agents[agent[0]], 60)}" if agent else ""
            faults.append((t, words.format(agent=name)))
    if faults:
        t, words = min(faults)
        raise EnvError(f"{task_name(spec)}: {words} at step {t} of the episode")
