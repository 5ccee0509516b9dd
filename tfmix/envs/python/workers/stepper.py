"""Plays the environments of one process, with the team, into `EpisodeBuffers`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.workers.buffers import EpisodeBuffers, make_buffers, nbytes, task_name
from tfmix.envs.python.workers.progress import CLOSE, RESET, STEP, WAIT, Progress
from tfmix.types import EnvSpec
from tfmix.utils.text import clean, of_error

NUMBERS = "buif"  # kinds of arrays that are of real numbers


class Stepper:
    """Plays the environments of some rows.

    The team acts for one environment at a time: of the products of a call the
    last bits depend on how many rows there are, and an episode is to be the
    same whoever else is played beside it.

    Args:
      rows: all rows.
      envs: environments by row.
      cut_is_terminal: a time limit counts as termination.
      told: what this process does.
    """

    def __init__(
        self,
        rows: EpisodeBuffers,
        envs: Mapping[int, Any],
        cut_is_terminal: bool,
        reporter: Progress,
    ):
        self.rows, self.envs, self.cut_is_terminal, self.reporter = (
            rows,
            envs,
            cut_is_terminal,
            reporter,
        )

    def play(self, team: Any) -> None:
        """Plays the episodes of those rows that are being played to their ends.

        Args:
          team: acts, as `tfmix.networks.in_numpy.NumpyTeam`.

        Raises:
          EnvError: an environment gives what its spec does not promise, or leaves
            the program.
        """
        for row in self.envs:
            if self.rows.playing[row]:
                name = task_name(self.envs[row].spec)
                try:
                    self._play(row, team)
                except (SystemExit, GeneratorExit) as error:  # would end the program in silence
                    what = "reset" if self.rows.clock[row] < 0 else "step"
                    raise EnvRaisedError(f"{name}: {what}() raised {of_error(error)}") from error
                self.reporter.refuse_copies(name)
        self.reporter.begin(WAIT)

    def _play(self, row: int, team: Any) -> None:
        rows, now = self.rows, slice(row, row + 1)
        obs, legal, action = (
            x[now] for x in (rows.episode.obs, rows.episode.legal, rows.episode.action)
        )
        explore_mask, exploration_scores = rows.explore_mask[now], rows.exploration_scores[now]
        policy_state: np.ndarray = np.zeros(
            [1, action.shape[-1], team.policy_state_size], np.float32
        )
        self.reporter.begin(RESET)
        self._reset(row)
        self.reporter.begin(STEP)
        t, over = 0, False
        while not over:
            action[:, t], policy_state = team.act(
                obs[:, t], legal[:, t], policy_state, explore_mask[:, t], exploration_scores[:, t]
            )
            over = self._step(row, t)
            t += 1
        rows.playing[row] = False

    def _reset(self, row: int) -> None:
        for x in self.rows.episode:
            x[row] = 0
        env = self.envs[row]
        given = self.reporter.call(RESET, env.reset, int(self.rows.seed[row]))
        self._look(row, 0, _values(env.spec, "reset", given, 3))
        self.rows.clock[row] = 0

    def _step(self, row: int, t: int) -> bool:
        """Plays step `t` of a row's episode and returns whether that was the last."""
        episode, env = self.rows.episode, self.envs[row]
        spec = env.spec
        given = self.reporter.call(STEP, env.step, episode.action[row, t].copy())
        *seen, reward, terminated, truncated, _ = _values(spec, "step", given, 7)
        t += 1
        self._look(row, t, seen)
        # `_flag` and `_number` judge; what most environments give needs no judge.
        if terminated is not True and terminated is not False:
            terminated = _flag(spec, "terminated", terminated, t)
        if truncated is not True and truncated is not False:
            truncated = _flag(spec, "truncated", truncated, t)
        cut = truncated or t >= spec.episode_limit
        if type(reward) is not float:
            reward = _number(spec, reward, t)
        episode.reward[row, t - 1] = reward
        episode.mask[row, t - 1] = 1.0
        episode.terminated[row, t - 1] = terminated or (cut and self.cut_is_terminal)
        self.rows.clock[row] = t
        return terminated or cut

    def _look(self, row: int, t: int, seen: Sequence[Any]) -> None:
        """Writes obs, state and legal; whether they are finite is looked at by `check`."""
        obs, state, legal = self.rows.episode[:3]
        self._write(row, t, "obs", obs[row, t], seen[0])
        self._write(row, t, "state", state[row, t], seen[1])
        self._write(row, t, "legal", legal[row, t], seen[2])

    def _write(self, row: int, t: int, name: str, place: np.ndarray, value: Any) -> None:
        """Writes `value` into `place` if it fits."""
        array = value if isinstance(value, np.ndarray) else _array(value)
        kind = array.dtype.kind
        if array.shape != place.shape:
            wrong = f"its shape is {list(array.shape)}"
        elif kind not in NUMBERS:
            wrong = f"it is of {array.dtype}: {_shown(value)}"
        elif kind != "b" and name == "legal" and not ((array == 0) | (array == 1)).all():
            wrong = f"it is {_shown(value)}, expected is 0 or 1 everywhere"
        else:
            place[...] = array
            return
        raise EnvError(
            f"{task_name(self.envs[row].spec)}: {name} at step {t} of the episode is not "
            f"{list(place.shape)} numbers: {wrong}"
        )

    def close(self) -> None:
        """Closes the environments; what that raises costs nothing, see `close_envs`."""
        envs = list(self.envs.values())
        close_envs(envs, task_name(envs[0].spec), self.reporter)


class InProcess:
    """Environments of this process with the face of `tfmix.envs.python.workers.pool.Pool`.

    What they raise is passed on.

    Args:
      envs: one a row.
      cut_is_terminal: a time limit counts as termination.
    """

    restarts = 0

    def __init__(self, envs: Sequence[Any], cut_is_terminal: bool):
        self.spec, self.agents, self.n_envs = envs[0].spec, agent_names(envs[0]), len(envs)
        self.rows_to_replay: list[int] = []
        self.rows = make_buffers(self.spec, self.n_envs, bytearray(nbytes(self.spec, self.n_envs)))
        reporter = Progress.of_this_process()
        self._stepper = Stepper(self.rows, dict(enumerate(envs)), cut_is_terminal, reporter)
        # Threads would cost more than the products of so few rows gain.
        self._libraries = ThreadpoolController()

    def play(self, team: Any) -> None:
        """Plays the rows that are being played to their ends, see `Stepper.play`."""
        with self._libraries.limit(limits=1, user_api="blas"):
            self._stepper.play(team)

    def close(self) -> None:
        """Closes the environments."""
        self._stepper.close()


def close_envs(envs: Iterable[Any], name: str, reporter: Progress) -> None:
    """Closes environments; the first that cannot be closed is reported in one line.

    Whatever a `close` raises, what was learned or found, and an error that came
    before, count more.
    """
    first: BaseException | None = None
    for env in envs:
        try:
            reporter.call(CLOSE, env.close)
        except (Exception, SystemExit, GeneratorExit) as error:
            first = first or error
    if first is not None:
        with contextlib.suppress(OSError):  # nobody reads it
            print(f"tfmix: {clean(name, 100)}: close() raised {of_error(first)}", file=sys.stderr)


def agent_names(env: Any) -> Sequence[Any]:
    """What the environment calls its agents; their indices where it does not say."""
    return getattr(env, "agent_names", None) or range(env.spec.n_agents)


def _values(spec: EnvSpec, what: str, given: Any, count: int) -> Any:
    """Returns what `reset` or `step` gave, `count` values."""
    if (type(given) is not tuple and not isinstance(given, tuple | list)) or len(given) != count:
        found = len(given) if isinstance(given, tuple | list) else type(given).__name__
        raise EnvError(f"{task_name(spec)}: {what}() must return {count} values, not {found}")
    return given


def _array(value: Any) -> np.ndarray:
    """Returns `value` as an array; one of objects if it is ragged or says no to NumPy."""
    try:
        return np.asarray(value)
    except Exception:
        return np.asarray(None)


def _shown(value: Any) -> str:
    """Returns `value` as it is written in Python, clean and short."""
    try:
        return clean(repr(value), 100)
    except Exception:  # of the environment's own class
        return clean(type(value).__name__, 100)


def _single(value: Any) -> Any:
    """Returns the one real number in `value`, None if it is anything else."""
    array = _array(value)
    return array.item() if array.size == 1 and array.dtype.kind in NUMBERS else None


def _flag(spec: EnvSpec, name: str, value: Any, t: int) -> bool:
    """Returns `terminated` or `truncated` as one bool."""
    found = _single(value)
    if found is None or found not in (0, 1):
        raise EnvError(
            f"{task_name(spec)}: {name} at step {t} of the episode is {_shown(value)}, "
            "expected is one True or False"
        )
    return bool(found)


def _number(spec: EnvSpec, reward: Any, t: int) -> float:
    """Returns the team's reward."""
    found = _single(reward)
    if found is None:
        raise EnvError(
            f"{task_name(spec)}: the reward at step {t} of the episode is not one number: it is "
            f"{_shown(reward)}"
        )
    return float(found)
