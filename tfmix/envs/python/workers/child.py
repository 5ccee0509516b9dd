"""The child's side of a process that steps environments. Nothing here imports TensorFlow."""

from __future__ import annotations

import atexit
import contextlib
import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tfmix import WORKER
from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.workers.progress import (
    BROKEN,
    CALLS,
    RAISED,
    REFUSED,
    SLOT,
    Failure,
    Progress,
)
from tfmix.errors import UserError
from tfmix.utils.text import clean, of_error

FAREWELL_SECONDS = 5.0
LOOK_SECONDS = 1.0  # between looks at a process that says nothing
KEPT_OUTPUT = 1 << 20  # bytes of what an environment prints, until older output is dropped


class LeftError(BaseException):
    """The parent of this process is gone, or has closed its end."""


class Line:
    """A child's end of the line to its parent.

    Attributes:
      name: of the environment, for errors.
      memory: file descriptor of the memory that the processes share.
      progress: what this process does now.
      plays: whether its environments are built; what they raise before is a wrong request.
      last: is closed at the end, after a failure is reported.
    """

    def __init__(self, pipe: Connection, name: str, memory: int, progress: Progress):
        self._pipe, self.name, self.memory, self.progress = pipe, name, memory, progress
        self.plays, self.last = False, contextlib.ExitStack()

    def send(self, message: Any) -> None:
        """Sends an object that can be pickled."""
        try:
            self._pipe.send(message)
        except OSError:
            raise LeftError from None

    def receive(self) -> Any:
        """Returns the parent's next message."""
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            raise LeftError from None


def main(
    pipe: Connection,
    name: str,
    files: tuple[int, ...],
    number: int,
    folder: str,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Runs `work` in a child and sends what it raises as a `Failure`.

    Args:
      pipe: to the parent.
      name: of the environment, for errors.
      files: descriptors of the shared memory and of the file for standard error.
      number: of the slot of this process.
      folder: the current directory.
      work: called with a `Line` and the arguments.
      arguments: see `work`.
    """
    memory, output = files
    _leave_home(output)
    slots = mmap.mmap(memory, SLOT * (number + 1))
    line = Line(pipe, name, memory, Progress(slots, number))
    with contextlib.suppress(LeftError), line.last:
        try:
            os.chdir(folder)
            work(line, *arguments)
        except LeftError:
            pass  # nobody is left to tell
        except BaseException as error:  # no Ctrl-C comes here: it is all the environment's
            line.send(_failure(error, line))


def _failure(error: BaseException, line: Line) -> Failure:
    """Returns what an error of an environment means."""
    is_ours = isinstance(error, UserError | EnvError)
    said = clean(error) if is_ours else of_error(error)
    if not line.plays:
        call = CALLS[line.progress.now()[0]]
        return Failure(REFUSED, said if is_ours else f"{line.name}: {call} raised {said}")
    if isinstance(error, EnvError) and not isinstance(error, EnvRaisedError):
        return Failure(BROKEN, said)
    return Failure(RAISED, f"failed: {said}")


def _leave_home(output: int) -> None:
    """Makes this process its parent's alone to stop, and keeps its output from the terminal.

    A session of its own keeps Ctrl-C at the terminal from it and from whatever
    its environments start, and lets the parent kill them all together.
    """
    os.environ.pop(WORKER, None)
    os.setsid()
    # Functions, not SIG_IGN: what the environments start would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    os.dup2(output, 2)
    atexit.register(_end_group, os.getpid())  # the first, so that it runs after all others
    threading.Thread(target=_keep_watch, args=(output,), daemon=True).start()


def _end_group(pid: int) -> None:
    """Ends what the environments have started and left, and this process."""
    if os.getpid() == pid:
        os.killpg(0, signal.SIGKILL)


def _keep_watch(output: int) -> None:
    """Keeps the output short, and ends this process some seconds after its parent's end."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while not wait([parent.sentinel], LOOK_SECONDS):
        if os.fstat(output).st_size > KEPT_OUTPUT:
            os.ftruncate(output, 0)
    time.sleep(FAREWELL_SECONDS)
    os.killpg(0, signal.SIGKILL)
