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

from tfmix.config.schema import Config
from tfmix.envs.python import EnvError
from tfmix.envs.python.workers import worker
from tfmix.envs.python.workers.apart import (
    BROKEN,
    CLOSE_SECONDS,
    LOOK_SECONDS,
    REFUSED,
    SLOT,
    UNGUARDED,
    Failure,
    Hand,
    Progress,
    allow_files,
    new_memory,
    not_started,
    pickled,
)
from tfmix.envs.python.workers.rows import InProcess, check, room
from tfmix.errors import UserError
from tfmix.networks import in_numpy
from tfmix.networks.layout import AgentLayout
from tfmix.types import EnvSpec, Episode
from tfmix.utils.system import cores
from tfmix.utils.text import clean, tell

LOOKS = 4  # in the time that a step may take, at whether workers have made one


class Pool:
    """Environments in processes of their own, as many neighbouring rows in each.

    A worker plays its rows' episodes from reset to end by itself, with the
    team's weights in shared memory: nobody waits for anybody at every step.

    A worker that dies, hangs or whose environment raises is killed and
    replaced, and its unfinished rows are given up, see `lost`.

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
        self.lost: list[int] = []
        self._config, self._factory, self._name = config, factory, clean(config.env, 100)
        self._owner = [row * n_workers // self.n_envs for row in range(self.n_envs)]
        self._pending: set[int] = set()  # workers that play
        self._crew: dict[int, Hand] = {}
        self._by_file: dict[int, int] = {}
        self._poll = select.poll()
        self._n_workers = n_workers
        allow_files(n_workers)
        try:
            self._file, slots = new_memory(_pages(SLOT * n_workers))
        except OSError as error:
            raise not_started(n_workers, error) from error
        self._slots = [Progress(slots, number) for number in range(n_workers)]
        self._dismiss = weakref.finalize(self, _dismiss, self._crew, self._file, os.getpid())
        # multiprocessing's exit handler waits for all children, and later ones run earlier.
        atexit.register(self._dismiss)
        try:
            # All start now, and import what they need while the first one builds.
            for number in range(n_workers):
                self._start(number)
            self._crew[0].send(None)
            self.about: worker.About = self._answer(self._crew[0])
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
        layout = AgentLayout.of(spec, self._config)
        first = _pages(SLOT * self._n_workers)
        second = first + _pages(room(spec, self.n_envs))
        size = second + _pages(in_numpy.room(layout))
        cut_is_terminal = self._config.time_limit == "terminal"
        self._job = worker.Job(spec, self.n_envs, layout, (first, second), size, cut_is_terminal)
        try:
            os.ftruncate(self._file, size)
            self.rows, self._team = worker.views(self._job, mmap.mmap(self._file, size))
            for hand in self._crew.values():
                hand.send(self._job)
            for hand in list(self._crew.values()):
                self._answer(hand)
        except BaseException:
            self.close()
            raise

    def _own(self, number: int) -> list[int]:
        """Returns the rows of a worker."""
        return [row for row, owner in enumerate(self._owner) if owner == number]

    # A worker's life.

    def _start(self, number: int) -> Hand:
        arguments = self._factory, self._own(number)
        slot = self._slots[number], number
        try:
            hand = Hand(worker.work, arguments, self._file, slot, self._name)
        except OSError as error:
            raise not_started(self._n_workers, error) from error
        self._crew[number] = hand
        self._by_file[hand.pipe.fileno()] = number
        self._poll.register(hand.pipe, select.POLLIN)
        return hand

    def _answer(self, hand: Hand) -> Any:
        """Returns a worker's answer as it builds its environments.

        Raises:
          UserError: it cannot be built; the worker is ended.
        """
        answer = hand.wait(self._config.env_timeout_seconds)
        if not isinstance(answer, Failure):
            return answer
        self._end(hand)
        if answer.kind in (REFUSED, UNGUARDED):
            raise UserError(answer.text)
        raise UserError(f"{self._name}: the environment's process {answer.text}")

    def _end(self, hand: Hand) -> None:
        number = self._by_file.pop(hand.pipe.fileno())
        self._poll.unregister(hand.pipe)
        del self._crew[number]
        hand.end()

    def _replace(self, hand: Hand, failure: Failure) -> None:
        """Gives up a worker's unfinished rows and starts it anew.

        Raises:
          EnvError: another try would be of no use, or there were too many.
        """
        number, most = self._by_file[hand.pipe.fileno()], self._config.max_worker_restarts
        self._end(hand)
        if failure.kind == BROKEN:
            raise EnvError(failure.text)
        lost = [row for row in self._own(number) if self.rows.playing[row]]
        # What the team was told may be why it did what the environment cannot take.
        check(
            self.spec,
            self.agents,
            Episode(*(x[lost] for x in self.rows.episode)),
            self.rows.clock[lost],
        )
        self.rows.playing[lost] = False
        self.lost += lost
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
                f"and {len(lost)} unfinished episodes are played again"
            )
            hand = self._start(number)
            hand.send(self._job)
            answer = hand.wait(self._config.env_timeout_seconds)
            trouble = answer if isinstance(answer, Failure) else None
            if trouble:
                self._end(hand)

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
            self._crew[number].send(worker.PLAY)  # to a dead one nothing: `_wait` notices
        self._wait()

    def _wait(self) -> None:
        """Returns when nobody plays any more; who makes no step for too long is replaced."""
        seconds = self._config.env_timeout_seconds
        look = 1000 * min(seconds / LOOKS, LOOK_SECONDS)
        moved = dict.fromkeys(self._pending, (b"", time.monotonic()))  # clocks, and since when
        while self._pending:
            for file, _ in self._poll.poll(look):
                number = self._by_file[file]
                word = self._crew[number].listen()
                if isinstance(word, Failure):
                    self._replace(self._crew[number], word)
                else:
                    self._pending.discard(number)
            now = time.monotonic()
            for number in list(self._pending):
                clocks, hand = self.rows.clock[self._own(number)].tobytes(), self._crew[number]
                if clocks != moved[number][0]:
                    moved[number] = clocks, now
                elif now - moved[number][1] > seconds:
                    self._replace(hand, hand.hung(seconds))
                elif hand.has_ended() and not hand.pipe.poll():
                    # A process that it started holds its end of the pipe.
                    self._replace(hand, hand.death())

    def close(self) -> None:
        """Ends the workers; nothing happens the second time."""
        self._dismiss()
        atexit.unregister(self._dismiss)


def _pages(size: int) -> int:
    """Returns `size` in bytes, rounded up to whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _dismiss(crew: dict[int, Hand], file: int, owner: int) -> None:
    """Lets workers close their environments, and ends those that do not within seconds."""
    if os.getpid() != owner:
        return  # a copy of the parent: the workers are not its own
    for hand in crew.values():
        hand.pipe.close()
    deadline = time.monotonic() + CLOSE_SECONDS
    for hand in crew.values():
        hand.dismiss(deadline)
    crew.clear()
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
