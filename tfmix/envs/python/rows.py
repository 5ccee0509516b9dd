"""Episodes that are being played, a row each, by environments and the team together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from tfmix.envs.python import EnvError
from tfmix.types import EnvSpec, Episode

ALIGNMENT = 64  # bytes


class Rows(NamedTuple):
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
    explores: np.ndarray
    lottery: np.ndarray
    seed: np.ndarray
    clock: np.ndarray
    playing: np.ndarray


def _fields(spec: EnvSpec, count: int) -> Iterator[tuple[tuple[int, ...], type]]:
    """Shapes and types of the arrays of `Rows`, in their order."""
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


def room(spec: EnvSpec, count: int) -> int:
    """Bytes that `count` rows need."""
    return max(offset for offset, *_ in _places(spec, count))


def make_rows(spec: EnvSpec, count: int, memory: Any) -> Rows:
    """`count` rows in a buffer of `room(spec, count)` bytes; what it holds is kept."""
    *places, _ = _places(spec, count)
    arrays = [np.ndarray(shape, kind, memory, offset) for offset, shape, kind in places]
    parts = len(Episode._fields)
    return Rows(Episode(*arrays[:parts]), *arrays[parts:])


class Stepper:
    """Plays the environments of some rows.

    The team acts for one environment at a time: of the products of a call the
    last bits depend on how many rows there are, and an episode is to be the
    same whoever else is played beside it.

    Args:
      rows: all rows.
      envs: environments by row.
      cut_is_terminal: a time limit counts as termination.
    """

    def __init__(self, rows: Rows, envs: Mapping[int, Any], cut_is_terminal: bool):
        self.rows, self.envs, self.cut_is_terminal = rows, envs, cut_is_terminal

    def play(self, team: Any) -> None:
        """Plays the episodes of those rows that are being played to their ends.

        Args:
          team: acts, as `tfmix.networks.in_numpy.NumpyTeam`.

        Raises:
          EnvError: an environment gives what its spec does not promise.
        """
        for row in self.envs:
            if self.rows.playing[row]:
                self._play(row, team)

    def _play(self, row: int, team: Any) -> None:
        rows, now = self.rows, slice(row, row + 1)
        obs, legal, action = (
            x[now] for x in (rows.episode.obs, rows.episode.legal, rows.episode.action)
        )
        explores, lottery = rows.explores[now], rows.lottery[now]
        carry: np.ndarray = np.zeros([1, action.shape[-1], team.carry_size], np.float32)
        self._reset(row)
        t = 0
        while rows.playing[row]:
            action[:, t], carry = team.act(
                obs[:, t], legal[:, t], carry, explores[:, t], lottery[:, t]
            )
            self._step(row)
            t += 1

    def _reset(self, row: int) -> None:
        for x in self.rows.episode:
            x[row] = 0
        given = self.envs[row].reset(int(self.rows.seed[row]))
        self._look(row, 0, _values(self.envs[row].spec, "reset", given, 3))
        self.rows.clock[row] = 0

    def _step(self, row: int) -> None:
        episode, clock, spec = self.rows.episode, self.rows.clock, self.envs[row].spec
        t = int(clock[row])
        given = self.envs[row].step(episode.action[row, t].copy())
        *seen, reward, terminated, truncated, _ = _values(spec, "step", given, 7)
        self._look(row, t + 1, seen)
        cut = bool(truncated) or t + 1 >= spec.episode_limit
        episode.reward[row, t] = _number(spec, reward, t + 1)
        episode.mask[row, t] = 1.0
        episode.terminated[row, t] = bool(terminated) or (cut and self.cut_is_terminal)
        clock[row] = t + 1
        self.rows.playing[row] = not (terminated or cut)

    def _look(self, row: int, t: int, seen: Sequence[Any]) -> None:
        """Writes obs, state and legal; numbers themselves are looked at by `check`."""
        for name, value in zip(("obs", "state", "legal"), seen, strict=True):
            place = getattr(self.rows.episode, name)[row, t]
            try:
                if np.shape(value) != place.shape:
                    raise ValueError(f"its shape is {list(np.shape(value))}")
                place[...] = value
            except (ValueError, TypeError) as error:
                raise EnvError(
                    f"{self.envs[row].spec.name}: {name} at step {t} of the episode is not "
                    f"{list(place.shape)} numbers: {error}"
                ) from error

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs.values():
            env.close()


class InProcess:
    """Environments of this process with the face of `tfmix.envs.python.pool.Pool`.

    What they raise is passed on.

    Args:
      envs: one a row.
      cut_is_terminal: a time limit counts as termination.
    """

    restarts = 0

    def __init__(self, envs: Sequence[Any], cut_is_terminal: bool):
        self.spec, self.agents, self.n_envs = envs[0].spec, names_of(envs[0]), len(envs)
        self.lost: list[int] = []
        self.rows = make_rows(self.spec, self.n_envs, bytearray(room(self.spec, self.n_envs)))
        self._stepper = Stepper(self.rows, dict(enumerate(envs)), cut_is_terminal)
        # Threads would cost more than the products of so few rows gain.
        self._libraries = ThreadpoolController()

    def play(self, team: Any) -> None:
        """Plays the rows that are being played to their ends, see `Stepper.play`."""
        with self._libraries.limit(limits=1, user_api="blas"):
            self._stepper.play(team)

    def close(self) -> None:
        """Closes the environments."""
        self._stepper.close()


def _values(spec: EnvSpec, what: str, given: Any, count: int) -> Any:
    """What `reset` or `step` gave, `count` values."""
    if not isinstance(given, tuple | list) or len(given) != count:
        found = len(given) if isinstance(given, tuple | list) else type(given).__name__
        raise EnvError(f"{spec.name}: {what}() must return {count} values, not {found}")
    return given


def _number(spec: EnvSpec, reward: Any, t: int) -> float:
    """The team's reward."""
    try:
        return float(reward)
    except (ValueError, TypeError) as error:
        raise EnvError(
            f"{spec.name}: the reward at step {t} of the episode is not one number: {error}"
        ) from error


def check(spec: EnvSpec, agents: Sequence[Any], episode: Episode, clock: np.ndarray) -> None:
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
            name = f"agent {agents[agent[0]]}" if agent else ""
            faults.append((t, words.format(agent=name)))
    if faults:
        t, words = min(faults)
        raise EnvError(f"{spec.name}: {words} at step {t} of the episode")


def names_of(env: Any) -> Sequence[Any]:
    """What the environment calls its agents; their indices where it does not say."""
    return getattr(env, "agent_names", None) or range(env.spec.n_agents)
