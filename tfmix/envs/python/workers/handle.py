"""Starts, talks to and ends a process that steps environments: the parent's side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from tfmix import UNGUARDED, WORKER
from tfmix.envs.python.workers.child import POLL_SECONDS, main
from tfmix.envs.python.workers.progress import BUILD, DIED, HUNG, MEASURE, STAGES, Failure, Progress
from tfmix.envs.python.workers.resources import InheritedFiles, new_output
from tfmix.utils.text import clean

BUILD_FACTOR = 10  # building or timing environments may take this many times as long as a step
CLOSE_SECONDS = 5.0
TAIL = 1 << 14  # bytes of the output that are searched for an error
# A worker steps on one core; threads of a library would take the cores of other workers.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerHandle:
    """A child process and the parent's connection to it.

    Args:
      work: a module's function; called there with a `ParentLink` and `arguments`.
      arguments: arguments that can be pickled.
      memory: file descriptor of shared memory that begins with `Progress` slots.
      progress: the process's slot, and its index.
      name: name of the environment, for errors.

    Attributes:
      pipe: connection for messages to the process.

    Raises:
      OSError: the system has no files or processes left.
    """

    def __init__(
        self,
        work: Callable[..., None],
        arguments: tuple[Any, ...],
        memory: int,
        progress: tuple[Progress, int],
        name: str,
    ):
        context = multiprocessing.get_context("spawn")
        self.progress, number = progress
        self.progress.clear()
        with contextlib.ExitStack() as undo:
            self.pipe, theirs = context.Pipe()
            undo.callback(self.pipe.close)
            with theirs:
                self._output = new_output()
                undo.callback(os.close, self._output)
                self.process = context.Process(
                    target=main,
                    args=(
                        theirs,
                        name,
                        InheritedFiles((memory, self._output)),
                        number,
                        str(Path.cwd()),
                        work,
                        arguments,
                    ),
                    name=f"environment {number}",
                )
                with _start_conditions():
                    self.process.start()
            undo.pop_all()

    def send(self, message: Any) -> None:
        """Send a message; a process that has ended gets nothing, and `receive` reports that."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def receive(self) -> Any:
        """Return the next message, which must have arrived or be under way, or a Failure."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return self.death()

    def wait(self, seconds: float) -> Any:
        """Wait for the next message and return it, or a Failure.

        Args:
          seconds: time that a call into the environment may take; building and
            timing it may take `BUILD_FACTOR` times as long.
        """
        seen, since = self.progress.now(), time.monotonic()
        while not self.pipe.poll(min(seconds / 4, POLL_SECONDS)):
            if self.has_ended() and not self.pipe.poll():
                return self.death()  # a process that it started holds its end of the pipe
            if (now := self.progress.now()) != seen:
                seen, since = now, time.monotonic()
            limit = seconds * (BUILD_FACTOR if seen[0] in (BUILD, MEASURE) else 1)
            if time.monotonic() - since > limit:
                return self.hung(limit)
        return self.receive()

    def hung(self, seconds: float) -> Failure:
        """Return the failure of a process that made no progress for `seconds`."""
        stage = STAGES[self.progress.now()[0]]
        return Failure(HUNG, f"hung for {seconds:g} s {stage} (--env_timeout_seconds)")

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.exitcode is not None

    def death(self) -> Failure:
        """Return the failure of a process that has ended or is about to end."""
        self._join(CLOSE_SECONDS)
        code, stage = self.process.exitcode or 0, STAGES[self.progress.now()[0]]
        if code == UNGUARDED:
            return Failure(
                UNGUARDED,
                "the script trains as soon as it is imported, and worker processes import it: put "
                'what it does under `if __name__ == "__main__":`, or set env_workers=0',
            )
        how = f"ended by itself (exit code {code})"
        if code < 0:
            how = f"died ({signal.Signals(-code).name})"
        last = self.last_output()
        return Failure(DIED, f"{how} {stage}" + (f"; its last output: {last}" if last else ""))

    def last_output(self) -> str:
        """Return the last line that the process wrote to standard error, clean and short.

        If Python itself crashes, it is the line before the stacks that Python writes.
        """
        start = max(0, os.fstat(self._output).st_size - TAIL)
        tail = os.pread(self._output, TAIL, start).decode(errors="replace")
        lines = [line for line in tail.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return clean((fatal or lines or [""])[-1], 200)

    def _join(self, seconds: float) -> None:
        """Wait for the end of the process; a plain `join` would also wait for what it forked."""
        deadline = time.monotonic() + seconds
        while not self.has_ended() and (left := deadline - time.monotonic()) > 0:
            self.process.join(min(left, 0.05))

    def end(self) -> None:
        """Kill the process and all that its environments started, and wait for its end."""
        self._kill_group()
        self.process.kill()
        while not self.has_ended():
            self.process.join(0.05)
        self._close()

    def shut_down(self, deadline: float) -> None:
        """Wait for the end of a process whose pipe is closed; kill it at the deadline."""
        self._join(deadline - time.monotonic())
        if self.has_ended():
            self._kill_group()
            self._close()
        else:
            self.end()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)  # its group, once it has called setsid

    def _close(self) -> None:
        self.pipe.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1


@contextlib.contextmanager
def _start_conditions() -> Iterator[None]:
    """Set what a new process inherits: one thread per library, and no Ctrl-C until it is ready."""
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


def pickled(factory: Callable[..., Any]) -> bytes | None:
    """Return the pickled factory for another process, or None if it cannot be unpickled there."""
    try:
        found = bytes(ForkingPickler.dumps(factory))
    except Exception:  # the user's objects may raise any exception
        return None
    # A function typed into an interpreter pickles by name, and no other process has that name.
    typed = not hasattr(sys.modules["__main__"], "__file__")
    return None if typed and b"__main__" in found else found
