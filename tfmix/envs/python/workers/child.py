"""Runs the child's side of a process that steps environments. Nothing here imports TensorFlow."""

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

FAREWELL_SECONDS = 5.0  # from the end of the parent to the end of the child
POLL_SECONDS = 1.0  # between checks of a process that sends nothing
MAX_OUTPUT = 1 << 20  # bytes of an environment's output; then older output is dropped


class ParentGoneError(BaseException):
    """The parent of this process has ended or has closed its end of the pipe."""


class ParentLink:
    """A child's connection to its parent.

    Attributes:
      name: name of the environment, for errors.
      memory: file descriptor of the shared memory.
      progress: reports what this process does.
      is_built: whether its environments are built; an error before that is a wrong request.
      on_exit: closed at the end, after a failure is reported.
    """

    def __init__(self, pipe: Connection, name: str, memory: int, progress: Progress):
        self._pipe, self.name, self.memory, self.progress = pipe, name, memory, progress
        self.is_built, self.on_exit = False, contextlib.ExitStack()

    def send(self, message: Any) -> None:
        """Send an object that can be pickled."""
        try:
            self._pipe.send(message)
        except OSError:
            raise ParentGoneError from None

    def receive(self) -> Any:
        """Return the parent's next message."""
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            raise ParentGoneError from None


def main(
    pipe: Connection,
    name: str,
    files: tuple[int, ...],
    number: int,
    folder: str,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Run `work` in this child process and send an exception from it as a `Failure`.

    Args:
      pipe: connection to the parent.
      name: name of the environment, for errors.
      files: file descriptors of the shared memory and of the file for standard error.
      number: index of this process's `Progress` slot.
      folder: the current directory.
      work: called with a `ParentLink` and the arguments.
      arguments: passed to `work`.
    """
    memory, output = files
    _isolate(output)
    slots = mmap.mmap(memory, SLOT * (number + 1))
    link = ParentLink(pipe, name, memory, Progress(slots, number))
    with contextlib.suppress(ParentGoneError), link.on_exit:
        try:
            os.chdir(folder)
            work(link, *arguments)
        except ParentGoneError:
            pass  # there is no one to report to
        except (
            BaseException
        ) as error:  # Ctrl-C does not arrive here: every exception is the environment's
            link.send(_failure(error, link))


def _failure(error: BaseException, link: ParentLink) -> Failure:
    """Return the kind of failure that an exception from an environment means."""
    is_ours = isinstance(error, UserError | EnvError)
    said = clean(error) if is_ours else of_error(error)
    if not link.is_built:
        call = CALLS[link.progress.now()[0]]
        return Failure(REFUSED, said if is_ours else f"{link.name}: {call} raised {said}")
    if isinstance(error, EnvError) and not isinstance(error, EnvRaisedError):
        return Failure(BROKEN, said)
    return Failure(RAISED, f"failed: {said}")


def _isolate(output: int) -> None:
    """Let only the parent stop this process, and keep its output from the terminal.

    In a separate session neither this process nor what its environments start
    receives Ctrl-C from the terminal, and the parent can kill them together.
    """
    os.environ.pop(WORKER, None)
    os.setsid()
    # Functions, since processes that the environments start would inherit SIG_IGN.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    os.dup2(output, 2)
    atexit.register(_end_group, os.getpid())  # registered first, so that it runs last
    threading.Thread(target=_watch_parent, args=(output,), daemon=True).start()


def _end_group(pid: int) -> None:
    """End the processes that the environments have left, and this process."""
    if os.getpid() == pid:
        os.killpg(0, signal.SIGKILL)


def _watch_parent(output: int) -> None:
    """Limit the output, and end this process some seconds after its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while not wait([parent.sentinel], POLL_SECONDS):
        if os.fstat(output).st_size > MAX_OUTPUT:
            os.ftruncate(output, 0)
    time.sleep(FAREWELL_SECONDS)
    os.killpg(0, signal.SIGKILL)
