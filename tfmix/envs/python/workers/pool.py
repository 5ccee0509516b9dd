"""Worker processes that play episodes into shared memory, and the pool that manages them."""

from __future__ import annotations

import atexit
import mmap
import os
import select
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmix import UNGUARDED
from tfmix.config.schema import Config
from tfmix.envs.python import EnvError
from tfmix.envs.python.workers import worker
from tfmix.envs.python.workers.buffers import check_episodes, nbytes
from tfmix.envs.python.workers.child import POLL_SECONDS
from tfmix.envs.python.workers.handle import CLOSE_SECONDS, WorkerHandle, pickled
from tfmix.envs.python.workers.progress import BROKEN, REFUSED, SLOT, Failure, Progress
from tfmix.envs.python.workers.resources import allow_files, new_memory, not_started
from tfmix.envs.python.workers.stepper import InProcess, report_late
from tfmix.errors import UserError
from tfmix.networks import in_numpy
from tfmix.networks.agent_spec import AgentSpec
from tfmix.types import EnvSpec, Episode
from tfmix.utils.system import cores
from tfmix.utils.text import clean, tell

POLLS_PER_TIMEOUT = 4  # checks of the workers' progress within env_timeout_seconds


class Pool:
    """A `VectorEnv` of environments in worker processes, each with some adjacent rows.

    A worker plays the episodes of its rows from reset to end by itself, with the
    team's weights in shared memory, so processes do not wait for each other at
    every step.

    A worker that dies, hangs or whose environment raises is killed and replaced,
    and its unfinished rows are added to `rows_to_replay`.

    The first worker builds the first environment and describes it; this process
    never builds one. The other environments are built by `open`.

    Args:
      factory: makes an environment; pickled.
      config: the settings.
      n_workers: processes.

    Attributes:
      about: describes the task, see `tfmix.envs.python.workers.worker.About`; its `spec`
        is None if `factory` makes a graph environment, which no pool plays.
      spec: the same as `about.spec`.
      agents: names of the agents.
      metric_names: names of the metrics of an episode; `open` gives them to the workers.
      n_envs: number of environments.
      buffers: the episodes that are played, after `open`.
      rows_to_replay: rows that were lost with their worker; the caller empties the
        list and plays them again.
      restarts: workers that were replaced.

    Raises:
      UserError: a worker cannot be started or cannot build its environments.
    """

    buffers: Any
    spec: Any

    def __init__(self, factory: bytes, config: Config, n_workers: int):
        self.n_envs, self.restarts = config.n_envs, 0
        self.rows_to_replay: list[int] = []
        self._config, self._factory, self._name = config, factory, clean(config.env, 100)
        self._owner = [row * n_workers // self.n_envs for row in range(self.n_envs)]
        self._pending: set[int] = set()  # workers that are playing
        self._handles: dict[int, WorkerHandle] = {}
        self._number_by_file: dict[int, int] = {}
        self._poll = select.poll()
        self._n_workers = n_workers
        allow_files(n_workers)
        try:
            self._file, slots = new_memory(_pages(SLOT * n_workers))
        except OSError as error:
            raise not_started(n_workers, error) from error
        self._slots = [Progress(slots, number) for number in range(n_workers)]
        self._shut_down = weakref.finalize(self, _shut_down, self._handles, self._file, os.getpid())
        # Exit handlers run last in, first out, and multiprocessing's waits for all children.
        atexit.register(self._shut_down)
        try:
            # All workers start at once, and import what they need while the first one builds.
            for number in range(n_workers):
                self._start(number)
            self._handles[0].send(None)
            self.about: worker.About = self._wait_for_answer(self._handles[0])
        except BaseException:
            self.close()
            raise
        self.spec, self.agents = self.about.spec, self.about.agents
        self.metric_names: Sequence[str] = tuple(self.about.metric_names)
        self._reported: set[str] = set()
        if self.spec is not None:
            self._name = clean(self.spec.name, 100)

    def open(self) -> None:
        """Let the workers build all environments.

        Raises:
          UserError: a worker cannot build its environments.
        """
        spec: EnvSpec = self.spec
        agent_spec = AgentSpec.of(spec, self._config)
        buffers_at = _pages(SLOT * self._n_workers)
        weights_at = buffers_at + _pages(nbytes(spec, self.n_envs, len(self.metric_names)))
        size = weights_at + _pages(in_numpy.nbytes(agent_spec))
        cut_is_terminal = self._config.time_limit == "terminal"
        self._job = worker.Job(
            spec,
            self.n_envs,
            agent_spec,
            (buffers_at, weights_at),
            size,
            cut_is_terminal,
            self.metric_names,
        )
        try:
            os.ftruncate(self._file, size)
            self.buffers, self._team = worker.map_memory(self._job, mmap.mmap(self._file, size))
            for handle in self._handles.values():
                handle.send(self._job)
            for handle in list(self._handles.values()):
                self._wait_for_answer(handle)
        except BaseException:
            self.close()
            raise

    def _rows_of(self, number: int) -> list[int]:
        """Return the rows of a worker in the buffers."""
        return [row for row, owner in enumerate(self._owner) if owner == number]

    # Start, failure and replacement of a worker.

    def _start(self, number: int) -> WorkerHandle:
        arguments = self._factory, self._rows_of(number)
        slot = self._slots[number], number
        try:
            handle = WorkerHandle(worker.run_worker, arguments, self._file, slot, self._name)
        except OSError as error:
            raise not_started(self._n_workers, error) from error
        self._handles[number] = handle
        self._number_by_file[handle.pipe.fileno()] = number
        self._poll.register(handle.pipe, select.POLLIN)
        return handle

    def _wait_for_answer(self, handle: WorkerHandle) -> Any:
        """Wait for the answer of a worker that builds its environments.

        Raises:
          UserError: an environment cannot be built; the worker is ended.
        """
        answer = handle.wait(self._config.env_timeout_seconds)
        if not isinstance(answer, Failure):
            return answer
        self._end(handle)
        if answer.kind in (REFUSED, UNGUARDED):
            raise UserError(answer.text)
        raise UserError(f"{self._name}: the environment's process {answer.text}")

    def _end(self, handle: WorkerHandle) -> None:
        number = self._number_by_file.pop(handle.pipe.fileno())
        self._poll.unregister(handle.pipe)
        del self._handles[number]
        handle.end()

    def _replace(self, handle: WorkerHandle, failure: Failure) -> None:
        """Start a new worker for one that failed, and mark its unfinished rows for replay.

        Raises:
          EnvError: another try cannot succeed, or workers failed too often.
        """
        number, most = self._number_by_file[handle.pipe.fileno()], self._config.max_worker_restarts
        self._end(handle)
        if failure.kind == BROKEN:
            raise EnvError(failure.text)
        rows_to_replay = [row for row in self._rows_of(number) if self.buffers.playing[row]]
        # A NaN observation may have caused the failure; then the NaN is reported instead.
        check_episodes(
            self.spec,
            self.agents,
            Episode(*(x[rows_to_replay] for x in self.buffers.episode)),
            self.buffers.clock[rows_to_replay],
        )
        self.buffers.playing[rows_to_replay] = False
        self.rows_to_replay += rows_to_replay
        self._pending.discard(number)
        problem: Failure | None = failure
        while problem:
            what = f"{self._name}: the environment's worker {problem.text}"
            if self.restarts >= most:
                times = f"{most + 1} times" if most else "once"
                raise EnvError(f"{what}; a worker has failed {times} (--max_worker_restarts)")
            self.restarts += 1
            tell(
                f"tfmix: {what}; it is replaced ({self.restarts} of at most {most} times) "
                f"and {len(rows_to_replay)} unfinished episodes are played again"
            )
            handle = self._start(number)
            handle.send(self._job)
            answer = handle.wait(self._config.env_timeout_seconds)
            problem = answer if isinstance(answer, Failure) else None
            if problem:
                self._end(handle)

    # The interface of a `VectorEnv`.

    def play(self, team: in_numpy.NumpyTeam) -> None:
        """Let the workers play the rows that are marked as playing to the end of their episodes.

        Raises:
          EnvError: an environment violates its interface, or workers failed too often.
        """
        for shared, given in zip(self._team.weights, team.weights, strict=True):
            np.copyto(shared, given)
        self._pending = {self._owner[row] for row in self.buffers.playing.nonzero()[0].tolist()}
        for number in self._pending:
            self._handles[number].send(worker.PLAY)  # `_wait` finds a dead worker
        self._wait()

    def _wait(self) -> None:
        """Wait until all workers are done; replace those that make no step in time."""
        seconds = self._config.env_timeout_seconds
        look = 1000 * min(seconds / POLLS_PER_TIMEOUT, POLL_SECONDS)
        moved = dict.fromkeys(self._pending, (b"", time.monotonic()))  # clocks, and since when
        while self._pending:
            for file, _ in self._poll.poll(look):
                number = self._number_by_file[file]
                message = self._handles[number].receive()
                if isinstance(message, Failure):
                    self._replace(self._handles[number], message)
                else:
                    self._pending.discard(number)
                    report_late(self._name, message, self._reported)
            now = time.monotonic()
            for number in list(self._pending):
                clocks, handle = (
                    self.buffers.clock[self._rows_of(number)].tobytes(),
                    self._handles[number],
                )
                if clocks != moved[number][0]:
                    moved[number] = clocks, now
                elif now - moved[number][1] > seconds:
                    self._replace(handle, handle.hung(seconds))
                elif handle.has_ended() and not handle.pipe.poll():
                    # A process that it started holds its end of the pipe.
                    self._replace(handle, handle.death())

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        self._shut_down()
        atexit.unregister(self._shut_down)


def _pages(size: int) -> int:
    """Return `size` in bytes, rounded up to whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _shut_down(handles: dict[int, WorkerHandle], file: int, owner: int) -> None:
    """Let workers close their environments, and kill those that take too long."""
    if os.getpid() != owner:
        return  # a forked copy of the parent, which did not start these workers
    for handle in handles.values():
        handle.pipe.close()
    deadline = time.monotonic() + CLOSE_SECONDS
    for handle in handles.values():
        handle.shut_down(deadline)
    handles.clear()
    os.close(file)


def count_workers(config: Config) -> int:
    """Return how many workers the settings ask for."""
    if config.env_workers >= 0:
        return min(config.env_workers, config.n_envs)
    return min(cores(), config.n_envs)


def start(factory: Callable[[], Any] | None, config: Config) -> Pool | None:
    """Start worker processes for environments; return None if this process steps them.

    Args:
      factory: makes an environment; None if it was given as an object.
      config: the settings.

    Raises:
      UserError: a worker cannot be started or cannot build its environment.
    """
    n_workers = count_workers(config)
    if factory is None or not n_workers:
        return None
    if parcel := pickled(factory):
        return Pool(parcel, config, n_workers)
    tell(
        f"tfmix: {clean(config.env, 100)} cannot be built in other processes (a lambda or a local "
        "name?): its environments are built and stepped in this one"
    )
    return None


def in_process(envs: Sequence[Any], config: Config, metric_names: Sequence[str] = ()) -> InProcess:
    """Return a `VectorEnv` that plays environments in this process."""
    return InProcess(envs, config.time_limit == "terminal", metric_names)
