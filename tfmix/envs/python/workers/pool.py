"""Worker processes that play episodes into shared memory, and the parent's side of them."""

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
from tfmix.envs.python.workers.child import LOOK_SECONDS
from tfmix.envs.python.workers.handle import CLOSE_SECONDS, WorkerHandle, pickled
from tfmix.envs.python.workers.progress import BROKEN, REFUSED, SLOT, Failure, Progress
from tfmix.envs.python.workers.resources import allow_files, new_memory, not_started
from tfmix.envs.python.workers.stepper import InProcess
from tfmix.errors import UserError
from tfmix.networks import in_numpy
from tfmix.networks.agent_spec import AgentSpec
from tfmix.types import EnvSpec, Episode
from tfmix.utils.system import cores
from tfmix.utils.text import clean, tell

POLLS_PER_TIMEOUT = 4  # in the time that a step may take, at whether workers have made one


class Pool:
    """Environments in processes of their own, as many neighbouring rows in each.

    A worker plays its rows' episodes from reset to end by itself, with the
    team's weights in shared memory: nobody waits for anybody at every step.

    A worker that dies, hangs or whose environment raises is killed and
    replaced, and its unfinished rows are given up, see `rows_to_replay`.

    The first worker builds the first environment and says what it is; this
    process never builds one. The others build theirs after `open`.

    Args:
      factory: makes an environment; pickled.
      config: the settings.
      n_workers: processes.

    Attributes:
      about: what is played, see `tfmix.envs.python.workers.worker.About`; its `spec` is
        None if `factory` makes an environment of the graph, which no pool plays.
      spec: the same as `about.spec`.
      agents: names of the agents.
      n_envs: rows.
      rows: the rows, after `open`.
      lost: rows given up since somebody last looked; to be played again.
      restarts: workers that were replaced.

    Raises:
      UserError: a worker cannot be started or cannot build its environments.
    """

    rows: Any
    spec: Any

    def __init__(self, factory: bytes, config: Config, n_workers: int):
        self.n_envs, self.restarts = config.n_envs, 0
        self.rows_to_replay: list[int] = []
        self._config, self._factory, self._name = config, factory, clean(config.env, 100)
        self._owner = [row * n_workers // self.n_envs for row in range(self.n_envs)]
        self._pending: set[int] = set()  # workers that play
        self._handles: dict[int, WorkerHandle] = {}
        self._by_file: dict[int, int] = {}
        self._poll = select.poll()
        self._n_workers = n_workers
        allow_files(n_workers)
        try:
            self._file, slots = new_memory(_pages(SLOT * n_workers))
        except OSError as error:
            raise not_started(n_workers, error) from error
        self._slots = [Progress(slots, number) for number in range(n_workers)]
        self._shut_down = weakref.finalize(self, _shut_down, self._handles, self._file, os.getpid())
        # multiprocessing's exit handler waits for all children, and later ones run earlier.
        atexit.register(self._shut_down)
        try:
            # All start now, and import what they need while the first one builds.
            for number in range(n_workers):
                self._start(number)
            self._handles[0].send(None)
            self.about: worker.About = self._answer(self._handles[0])
        except BaseException:
            self.close()
            raise
        self.spec, self.agents = self.about.spec, self.about.agents
        if self.spec is not None:
            self._name = clean(self.spec.name, 100)

    def open(self) -> None:
        """Has all environments built.

        Raises:
          UserError: as the class.
        """
        spec: EnvSpec = self.spec
        agent_spec = AgentSpec.of(spec, self._config)
        first = _pages(SLOT * self._n_workers)
        second = first + _pages(nbytes(spec, self.n_envs))
        size = second + _pages(in_numpy.nbytes(agent_spec))
        cut_is_terminal = self._config.time_limit == "terminal"
        self._job = worker.Job(
            spec, self.n_envs, agent_spec, (first, second), size, cut_is_terminal
        )
        try:
            os.ftruncate(self._file, size)
            self.rows, self._team = worker.map_memory(self._job, mmap.mmap(self._file, size))
            for handle in self._handles.values():
                handle.send(self._job)
            for handle in list(self._handles.values()):
                self._answer(handle)
        except BaseException:
            self.close()
            raise

    def _rows_of(self, number: int) -> list[int]:
        """Returns the rows of a worker."""
        return [row for row, owner in enumerate(self._owner) if owner == number]

    # A worker's life.

    def _start(self, number: int) -> WorkerHandle:
        arguments = self._factory, self._rows_of(number)
        slot = self._slots[number], number
        try:
            handle = WorkerHandle(worker.run_worker, arguments, self._file, slot, self._name)
        except OSError as error:
            raise not_started(self._n_workers, error) from error
        self._handles[number] = handle
        self._by_file[handle.pipe.fileno()] = number
        self._poll.register(handle.pipe, select.POLLIN)
        return handle

    def _answer(self, handle: WorkerHandle) -> Any:
        """Returns a worker's answer as it builds its environments.

        Raises:
          UserError: it cannot be built; the worker is ended.
        """
        answer = handle.wait(self._config.env_timeout_seconds)
        if not isinstance(answer, Failure):
            return answer
        self._end(handle)
        if answer.kind in (REFUSED, UNGUARDED):
            raise UserError(answer.text)
        raise UserError(f"{self._name}: the environment's process {answer.text}")

    def _end(self, handle: WorkerHandle) -> None:
        number = self._by_file.pop(handle.pipe.fileno())
        self._poll.unregister(handle.pipe)
        del self._handles[number]
        handle.end()

    def _replace(self, handle: WorkerHandle, failure: Failure) -> None:
        """Gives up a worker's unfinished rows and starts it anew.

        Raises:
          EnvError: another try would be of no use, or there were too many.
        """
        number, most = self._by_file[handle.pipe.fileno()], self._config.max_worker_restarts
        self._end(handle)
        if failure.kind == BROKEN:
            raise EnvError(failure.text)
        rows_to_replay = [row for row in self._rows_of(number) if self.rows.playing[row]]
        # What the team was told may be why it did what the environment cannot take.
        check_episodes(
            self.spec,
            self.agents,
            Episode(*(x[rows_to_replay] for x in self.rows.episode)),
            self.rows.clock[rows_to_replay],
        )
        self.rows.playing[rows_to_replay] = False
        self.rows_to_replay += rows_to_replay
        self._pending.discard(number)
        trouble: Failure | None = failure
        while trouble:
            what = f"{self._name}: the environment's worker {trouble.text}"
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
            trouble = answer if isinstance(answer, Failure) else None
            if trouble:
                self._end(handle)

    # What the collector asks for.

    def play(self, team: in_numpy.NumpyTeam) -> None:
        """Has the rows that are being played played to their ends, or to where they are lost.

        Raises:
          EnvError: an environment broke its word, or workers failed too often.
        """
        for own, given in zip(self._team.weights, team.weights, strict=True):
            np.copyto(own, given)
        self._pending = {self._owner[row] for row in self.rows.playing.nonzero()[0].tolist()}
        for number in self._pending:
            self._handles[number].send(worker.PLAY)  # to a dead one nothing: `_wait` notices
        self._wait()

    def _wait(self) -> None:
        """Returns when nobody plays any more; who makes no step for too long is replaced."""
        seconds = self._config.env_timeout_seconds
        look = 1000 * min(seconds / POLLS_PER_TIMEOUT, LOOK_SECONDS)
        moved = dict.fromkeys(self._pending, (b"", time.monotonic()))  # clocks, and since when
        while self._pending:
            for file, _ in self._poll.poll(look):
                number = self._by_file[file]
                word = self._handles[number].listen()
                if isinstance(word, Failure):
                    self._replace(self._handles[number], word)
                else:
                    self._pending.discard(number)
            now = time.monotonic()
            for number in list(self._pending):
                clocks, handle = (
                    self.rows.clock[self._rows_of(number)].tobytes(),
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
        """Ends the workers; nothing happens the second time."""
        self._shut_down()
        atexit.unregister(self._shut_down)


def _pages(size: int) -> int:
    """Returns `size` in bytes, rounded up to whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _shut_down(handles: dict[int, WorkerHandle], file: int, owner: int) -> None:
    """Lets workers close their environments, and ends those that do not within seconds."""
    if os.getpid() != owner:
        return  # a copy of the parent: the workers are not its own
    for handle in handles.values():
        handle.pipe.close()
    deadline = time.monotonic() + CLOSE_SECONDS
    for handle in handles.values():
        handle.shut_down(deadline)
    handles.clear()
    os.close(file)


def workers_of(config: Config) -> int:
    """Returns how many workers the settings ask for."""
    if config.env_workers >= 0:
        return min(config.env_workers, config.n_envs)
    return min(cores(), config.n_envs)


def start(factory: Callable[[], Any] | None, config: Config) -> Pool | None:
    """Starts worker processes for environments; None if they are to be stepped in this process.

    Args:
      factory: makes an environment; None if there is one that was made already.
      config: the settings.

    Raises:
      UserError: see `Pool`.
    """
    n_workers = workers_of(config)
    if factory is None or not n_workers:
        return None
    if parcel := pickled(factory):
        return Pool(parcel, config, n_workers)
    tell(
        f"tfmix: {clean(config.env, 100)} cannot be built in other processes (a lambda or a local "
        "name?): its environments are built and stepped in this one"
    )
    return None


def in_process(envs: Sequence[Any], config: Config) -> InProcess:
    """Returns what plays environments in this process."""
    return InProcess(envs, config.time_limit == "terminal")
