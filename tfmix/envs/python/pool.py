"""Worker processes that play episodes into shared memory, and the parent's hand over them."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import select
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmix import UNGUARDED, WORKER
from tfmix.config import Config, UserError, cores
from tfmix.envs.python import EnvError, worker
from tfmix.envs.python.rows import InProcess, check, make_rows, names_of, room
from tfmix.networks import in_numpy
from tfmix.networks.layout import AgentLayout
from tfmix.text import tell
from tfmix.types import Episode

LOOKS = 4  # in the time that a step may take, at whether workers have made one
BUILD_LEASH = 10  # building environments may take this many times as long as a step
CLOSE_SECONDS = 5.0
# A worker steps on one core; a library's threads would take the others' from them.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Failure(NamedTuple):
    """Why a worker is of no use: the kind, see `tfmix.envs.python.worker`, and what happened."""

    kind: int
    words: str


class Hand(NamedTuple):
    """A worker process and the parent's end of its pipe."""

    number: int
    process: BaseProcess
    pipe: Connection

    def listen(self) -> int | Failure:
        """Its next word, which must be there or under way."""
        try:
            if not (word := os.read(self.pipe.fileno(), 1)):
                raise EOFError
            return Failure(*self.pipe.recv()) if word[0] == worker.FAILED else word[0]
        except (EOFError, OSError):
            self.process.join(CLOSE_SECONDS)
            code = self.process.exitcode or 0
            if code < 0:
                return Failure(worker.DIED, f"died ({signal.Signals(-code).name})")
            return Failure(worker.DIED, f"ended by itself (exit code {code})")

    def end(self) -> None:
        """Kills it with whatever its environments started, and waits for that."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)  # its own group, once it has one
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Pool:
    """Environments in processes of their own, as many neighbouring rows in each.

    A worker plays its rows' episodes from reset to end by itself, with the
    team's weights in shared memory: nobody waits for anybody at every step.

    A worker that dies, hangs or whose environment raises is killed and
    replaced, and its unfinished rows are given up, see `lost`.

    Args:
      factory: makes an environment; pickled.
      first: an environment that it made, to be told what they are.
      config: the settings.
      n_workers: processes.

    Attributes:
      spec: what is played.
      agents: names of the agents.
      n_envs: rows.
      rows: the rows.
      lost: rows given up since somebody last looked; to be played again.
      restarts: workers that were replaced.

    Raises:
      UserError: a worker cannot be started or cannot build its environments.
    """

    def __init__(self, factory: bytes, first: Any, config: Config, n_workers: int):
        self.spec, self.agents, self.n_envs = first.spec, names_of(first), config.n_envs
        self.restarts = 0
        self.lost: list[int] = []
        self._config, self._factory = config, factory
        self._owner = [row * n_workers // self.n_envs for row in range(self.n_envs)]
        self._context = multiprocessing.get_context("spawn")
        # Their files are unlinked at once: nothing is left of them, whatever happens.
        self._memory = self._context.RawArray("B", room(self.spec, self.n_envs))
        self.rows = make_rows(self.spec, self.n_envs, self._memory)
        self._layout = AgentLayout.of(self.spec, config)
        self._weights = self._context.RawArray("B", in_numpy.room(self._layout))
        self._team = in_numpy.NumpyTeam(self._layout, self._weights)
        self._pending: set[int] = set()  # workers that play
        self._crew: dict[int, Hand] = {}
        self._by_file: dict[int, int] = {}
        self._poll = select.poll()
        self._dismiss = weakref.finalize(self, _dismiss, self._crew, os.getpid())
        # multiprocessing's exit handler waits for all children, and later ones run earlier.
        atexit.register(self._dismiss)
        try:
            for number in range(n_workers):
                self._start(number)
            for hand in list(self._crew.values()):
                if failure := self._ready(hand):
                    raise self._refusal(hand, failure)
        except BaseException:
            self.close()
            raise

    def _own(self, number: int) -> list[int]:
        """The rows of a worker."""
        return [row for row, owner in enumerate(self._owner) if owner == number]

    # A worker's life.

    def _start(self, number: int) -> Hand:
        pipe, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker.work,
            args=(
                theirs,
                self._memory,
                self.spec,
                self.n_envs,
                self._weights,
                self._layout,
                self._own(number),
                self._factory,
                str(Path.cwd()),
                self._config.time_limit == "terminal",
            ),
            name=f"environments {number}",
        )
        with _surroundings():
            process.start()
        theirs.close()
        hand = self._crew[number] = Hand(number, process, pipe)
        self._by_file[pipe.fileno()] = number
        self._poll.register(pipe, select.POLLIN)
        return hand

    def _ready(self, hand: Hand) -> Failure | None:
        """Waits until a worker has built its environments."""
        leash = BUILD_LEASH * self._config.env_timeout_seconds
        if not hand.pipe.poll(leash):
            return Failure(worker.HUNG, f"was not ready after {leash:g} s")
        word = hand.listen()
        return word if isinstance(word, Failure) else None

    def _refusal(self, hand: Hand, failure: Failure) -> UserError:
        """What is wrong with environments that cannot be built; their worker is ended."""
        code = hand.process.exitcode
        self._end(hand)
        if code == UNGUARDED:
            return UserError(
                "the script trains as soon as it is imported, and worker processes import it: put "
                'what it does under `if __name__ == "__main__":`, or set env_workers=0'
            )
        if failure.kind == worker.REFUSED:
            return UserError(failure.words)
        return UserError(f"{self.spec.name}: a worker {failure.words} as it built its environments")

    def _end(self, hand: Hand) -> None:
        self._poll.unregister(hand.pipe)
        del self._by_file[hand.pipe.fileno()], self._crew[hand.number]
        hand.end()

    def _replace(self, hand: Hand, failure: Failure) -> None:
        """Gives up a worker's unfinished rows and starts it anew.

        Raises:
          EnvError: another try would be of no use, or there were too many.
        """
        number, most = hand.number, self._config.max_worker_restarts
        self._end(hand)
        if failure.kind == worker.BROKEN:
            raise EnvError(failure.words)
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
            what = f"{self.spec.name}: the environment's worker {trouble.words}"
            if self.restarts >= most:
                times = f"{most + 1} times" if most else "once"
                raise EnvError(f"{what}; a worker has failed {times} (--max_worker_restarts)")
            self.restarts += 1
            tell(
                f"tfmix: {what}; it is replaced ({self.restarts} of at most {most} times) "
                f"and {len(lost)} unfinished episodes are played again"
            )
            hand = self._start(number)
            if trouble := self._ready(hand):
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
            with contextlib.suppress(OSError):  # dead: `_wait` is told so
                os.write(self._crew[number].pipe.fileno(), bytes([worker.PLAY]))
        self._wait()

    def _wait(self) -> None:
        """Returns when nobody plays any more; who makes no step for too long is replaced."""
        seconds = self._config.env_timeout_seconds
        moved = dict.fromkeys(self._pending, (b"", time.monotonic()))  # clocks, and since when
        while self._pending:
            for file, _ in self._poll.poll(1000 * seconds / LOOKS):
                hand = self._crew[self._by_file[file]]
                word = hand.listen()
                if isinstance(word, Failure):
                    self._replace(hand, word)
                else:
                    self._pending.discard(hand.number)
            now = time.monotonic()
            for number in list(self._pending):
                clocks = self.rows.clock[self._own(number)].tobytes()
                if clocks != moved[number][0]:
                    moved[number] = clocks, now
                elif now - moved[number][1] > seconds:
                    hung = Failure(worker.HUNG, f"hung for {seconds:g} s (--env_timeout_seconds)")
                    self._replace(self._crew[number], hung)

    def close(self) -> None:
        """Ends the workers; nothing happens the second time."""
        self._dismiss()
        atexit.unregister(self._dismiss)


def _dismiss(crew: dict[int, Hand], owner: int) -> None:
    """Lets workers close their environments, and ends those that do not within seconds."""
    if os.getpid() != owner:
        return  # a copy of the parent: the workers are not its own
    for hand in crew.values():
        hand.pipe.close()
    deadline = time.monotonic() + CLOSE_SECONDS
    for hand in crew.values():
        hand.process.join(max(deadline - time.monotonic(), 0.0))
        if hand.process.exitcode is None:
            hand.end()
    crew.clear()


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What a worker starts with: one thread a library, and no Ctrl-C until it knows of it."""
    changes = {**dict.fromkeys(ONE_THREAD, "1"), WORKER: "1"}
    before = {name: os.environ.get(name) for name in changes}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def workers_of(config: Config) -> int:
    """How many workers the settings ask for."""
    if config.env_workers >= 0:
        return min(config.env_workers, config.n_envs)
    return min(cores(), config.n_envs)


def pickled(factory: Callable[[], Any]) -> bytes | None:
    """The factory for another process, None where it cannot go there."""
    try:
        found = bytes(ForkingPickler.dumps(factory))
    except Exception:  # whatever the user's own objects raise
        return None
    # What was typed into an interpreter is found by its name, but nowhere else.
    typed = not hasattr(sys.modules["__main__"], "__file__")
    return None if typed and b"__main__" in found else found


def open_lane(factory: Callable[[], Any] | None, first: Any, config: Config) -> InProcess | Pool:
    """What plays `n_envs` environments: worker processes, or this one.

    Args:
      factory: makes an environment; None where there is only `first`.
      first: an environment that is there already.
      config: the settings.

    Raises:
      UserError: see `Pool`.
    """
    cut_is_terminal = config.time_limit == "terminal"
    if factory is None:
        return InProcess([first], cut_is_terminal)
    if n_workers := workers_of(config):
        if parcel := pickled(factory):
            first.close()
            return Pool(parcel, first, config, n_workers)
        tell(
            f"tfmix: {first.spec.name} cannot be built in other processes (a lambda or a local "
            "name?): its environments are stepped in this one"
        )
    others = [factory() for _ in range(config.n_envs - 1)]
    return InProcess([first, *others], cut_is_terminal)
