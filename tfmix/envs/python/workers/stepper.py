"""Plays the environments of one process with the team, into `EpisodeBuffers`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from tfmix.envs.metrics import MOST_METRICS, read_metrics
from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.adapters.reading import brief, flag, number
from tfmix.envs.python.workers.buffers import EpisodeBuffers, make_buffers, nbytes, task_name
from tfmix.envs.python.workers.progress import CLOSE, RESET, STEP, WAIT, Progress
from tfmix.types import EnvSpec
from tfmix.utils.text import clean, of_error, tell

NUMBER_KINDS = "buif"  # NumPy's kinds of real numbers
MAX_SHOWN = 100  # letters of a value in an error


class Stepper:
    """Plays the environments of some rows.

    The team acts for one environment at a time: batched matrix products round
    differently for different batch sizes, and an episode must not depend on
    which other environments are played with it.

    Args:
      buffers: the buffers of all rows.
      envs: the environments by row.
      cut_is_terminal: whether a time limit counts as termination.
      reporter: reports what this process does.
      metric_names: names of the metrics of an episode.

    Attributes:
      late: names of numbers that infos had and that are not metrics, unless the environment
        says which are; the caller empties it.
    """

    def __init__(
        self,
        buffers: EpisodeBuffers,
        envs: Mapping[int, Any],
        cut_is_terminal: bool,
        reporter: Progress,
        metric_names: Sequence[str] = (),
    ):
        self.metric_names, self.late = metric_names, set[str]()
        self.buffers, self.envs = buffers, envs
        self.cut_is_terminal, self.reporter = cut_is_terminal, reporter

    def play(self, team: Any) -> None:
        """Play the rows that are marked as playing to the end of their episodes.

        Args:
          team: acts, a `tfmix.networks.in_numpy.NumpyTeam`.

        Raises:
          EnvError: an environment violates its interface, or exits.
        """
        for row in self.envs:
            if self.buffers.playing[row]:
                name = task_name(self.envs[row].spec)
                try:
                    self._play(row, team)
                except (SystemExit, GeneratorExit) as error:  # they would end the process silently
                    what = "reset" if self.buffers.clock[row] < 0 else "step"
                    raise EnvRaisedError(f"{name}: {what}() raised {of_error(error)}") from error
                self.reporter.refuse_copies(name)
        self.reporter.begin(WAIT)

    def _play(self, row: int, team: Any) -> None:
        buffers, at = self.buffers, slice(row, row + 1)
        obs, legal, action = (
            x[at] for x in (buffers.episode.obs, buffers.episode.legal, buffers.episode.action)
        )
        explore_mask, exploration_scores = buffers.explore_mask[at], buffers.exploration_scores[at]
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
        buffers.playing[row] = False

    def _reset(self, row: int) -> None:
        for x in self.buffers.episode:
            x[row] = 0
        self.buffers.metrics[row] = np.nan
        env = self.envs[row]
        given = self.reporter.call(RESET, env.reset, int(self.buffers.seed[row]))
        self._write_views(row, 0, _require(env.spec, "reset", given, 3))
        self.buffers.clock[row] = 0

    def _step(self, row: int, t: int) -> bool:
        """Play step `t` of a row's episode and return whether it was the last."""
        episode, env = self.buffers.episode, self.envs[row]
        spec = env.spec
        given = self.reporter.call(STEP, env.step, episode.action[row, t].copy())
        *views, reward, terminated, truncated, info = _require(spec, "step", given, 7)
        t += 1
        self._write_views(row, t, views)
        # Most environments return plain bools and floats, for which the slower checks are skipped.
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
        self.buffers.clock[row] = t
        if terminated or cut:
            self._measure(row, info)
        return terminated or cut

    def _measure(self, row: int, info: Any) -> None:
        """Write the metrics of a row's episode, whose last step has given `info`."""
        found = read_metrics(info, agent_names(self.envs[row]))
        self.buffers.metrics[row] = [found.get(name, np.nan) for name in self.metric_names]
        if getattr(self.envs[row], "finds_metrics", False):
            self.late |= set(found).difference(self.metric_names)

    def _write_views(self, row: int, t: int, views: Sequence[Any]) -> None:
        """Write obs, state and legal; `check_episodes` looks for NaN and infinity later."""
        obs, state, legal = self.buffers.episode[:3]
        self._write(row, t, "obs", obs[row, t], views[0])
        self._write(row, t, "state", state[row, t], views[1])
        self._write(row, t, "legal", legal[row, t], views[2])

    def _write(self, row: int, t: int, name: str, place: np.ndarray, value: Any) -> None:
        """Write `value` into `place`, or raise EnvError if it does not fit."""
        array = value if isinstance(value, np.ndarray) else _array(value)
        kind = array.dtype.kind
        if array.shape != place.shape:
            wrong = f"its shape is {list(array.shape)}"
        elif kind not in NUMBER_KINDS:
            wrong = f"it is of {array.dtype}: {brief(value, MAX_SHOWN)}"
        elif kind != "b" and name == "legal" and not ((array == 0) | (array == 1)).all():
            wrong = f"it is {brief(value, MAX_SHOWN)}, expected 0 or 1 everywhere"
        else:
            place[...] = array
            return
        raise EnvError(
            f"{task_name(self.envs[row].spec)}: {name} at step {t} of the episode is not "
            f"{list(place.shape)} numbers: {wrong}"
        )

    def close(self) -> None:
        """Close the environments, see `close_envs`."""
        envs = list(self.envs.values())
        close_envs(envs, task_name(envs[0].spec), self.reporter)


class InProcess:
    """A `VectorEnv` of environments in this process, which passes on their exceptions.

    Args:
      envs: the environments, one for each row.
      cut_is_terminal: whether a time limit counts as termination.
    """

    restarts = 0

    def __init__(
        self, envs: Sequence[Any], cut_is_terminal: bool, metric_names: Sequence[str] = ()
    ):
        self.metric_names, self._reported = metric_names, set(metric_names)
        self.spec, self.agents, self.n_envs = envs[0].spec, agent_names(envs[0]), len(envs)
        self.rows_to_replay: list[int] = []
        self.buffers = make_buffers(
            self.spec,
            self.n_envs,
            bytearray(nbytes(self.spec, self.n_envs, len(metric_names))),
            len(metric_names),
        )
        reporter = Progress.of_this_process()
        self._stepper = Stepper(
            self.buffers, dict(enumerate(envs)), cut_is_terminal, reporter, metric_names
        )
        # Threads cost more time than they save in matrix products this small.
        self._libraries = ThreadpoolController()

    def play(self, team: Any) -> None:
        """Play the rows that are marked as playing, see `Stepper.play`."""
        with self._libraries.limit(limits=1, user_api="blas"):
            self._stepper.play(team)
        report_late(task_name(self.spec), self._stepper.late, self._reported)
        self._stepper.late.clear()

    def close(self) -> None:
        """Close the environments."""
        self._stepper.close()


def report_late(name: str, late: Iterable[str], reported: set[str]) -> None:
    """Print once which numbers of an info are not metrics, because they came too late.

    Args:
      name: the environment's name.
      late: names of such numbers.
      reported: names that are not printed; the new ones are added.
    """
    if new := sorted(set(late) - reported)[:MOST_METRICS]:
        reported.update(late)
        few = ", ".join(new[:5]) + (", ..." if len(new) > 5 else "")
        tell(
            f"tfmix: {name}: its info has {few}, which the episode before the training had not: "
            "left out of the metrics; metric_names of the environment declares them"
        )


def close_envs(envs: Iterable[Any], name: str, reporter: Progress) -> None:
    """Close environments and report the first exception of a `close` in one line.

    It is not raised: what was learned, and an earlier exception, matter more.
    """
    failure: BaseException | None = None
    for env in envs:
        try:
            reporter.call(CLOSE, env.close)
        except (Exception, SystemExit, GeneratorExit) as error:
            failure = failure or error
    if failure is not None:
        with contextlib.suppress(OSError):  # standard error is closed
            print(f"tfmix: {clean(name, 100)}: close() raised {of_error(failure)}", file=sys.stderr)


def agent_names(env: Any) -> Sequence[Any]:
    """Return the environment's names of its agents, or their indices if it has none."""
    return getattr(env, "agent_names", None) or range(env.spec.n_agents)


def _require(spec: EnvSpec, what: str, given: Any, count: int) -> Any:
    """Return `given` if it is a tuple or list of `count` values."""
    if (type(given) is not tuple and not isinstance(given, tuple | list)) or len(given) != count:
        found = len(given) if isinstance(given, tuple | list) else type(given).__name__
        raise EnvError(f"{task_name(spec)}: {what}() must return {count} values, not {found}")
    return given


def _array(value: Any) -> np.ndarray:
    """Return `value` as an array; one of objects if NumPy cannot read it."""
    try:
        return np.asarray(value)
    except Exception:
        return np.asarray(None)


def _flag(spec: EnvSpec, name: str, value: Any, t: int) -> bool:
    """Return `terminated` or `truncated` as one bool, or raise EnvError."""
    found = flag(value)
    if found is None:
        raise EnvError(
            f"{task_name(spec)}: {name} at step {t} of the episode is {brief(value, MAX_SHOWN)}, "
            "expected one True or False"
        )
    return found


def _number(spec: EnvSpec, reward: Any, t: int) -> float:
    """Return the team's reward as a float, or raise EnvError."""
    found = number(reward)
    if found is None:
        raise EnvError(
            f"{task_name(spec)}: the reward at step {t} of the episode is not one number: it is "
            f"{brief(reward, MAX_SHOWN)}"
        )
    return found
