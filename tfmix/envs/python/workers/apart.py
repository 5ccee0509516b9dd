"""Processes that environments run in, apart from this one: both ends of them.

An environment is somebody else's code: it may hang, crash, leave the program,
fork or leave processes. In a process of its own none of that costs more than
the process. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import mmap
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import DupFd, ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmix import UNGUARDED, WORKER
from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.errors import UserError
from tfmix.utils.text import clean, of_error

# Kinds of failure. After the first three another try may go better; a BROKEN environment gives
# what its spec does not promise, a REFUSED one could not be built.
DIED, HUNG, RAISED, BROKEN, REFUSED = range(5)
# What a process is doing.
BUILD, RESET, STEP, MEASURE, CLOSE, WAIT = range(6)
STAGES = (
    "while it was built",
    "in reset()",
    "in step()",
    "while it was timed",
    "in close()",
    "while nothing was asked of it",
)
CALLS = ("building it", "reset()", "step()", "a call", "close()")
BUILD_LEASH = 10  # building or timing environments may take this many times as long as a step
CLOSE_SECONDS = 5.0
FAREWELL_SECONDS = 5.0
COPY_SECONDS = 0.1  # after a fork, for a copy that comes back; a later one is noticed later
LOOK_SECONDS = 1.0  # between looks at a process that says nothing
SLOT = 64  # bytes of a `Progress`
KEPT_OUTPUT = 1 << 20  # bytes of what an environment prints, until older output is dropped
TAIL = 1 << 14  # bytes of it that are looked at for an error
# A worker steps on one core; a library's threads would take the others' from them.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
FILES_EACH = 4  # that this process holds open for every process that it starts
FILES_ELSE = 128


_forks: list[None] = []  # one entry for every fork of this process
os.register_at_fork(after_in_parent=lambda: _forks.append(None))


class Failure(NamedTuple):
    """Why a process is of no use: the kind of failure, and what happened as a text."""

    kind: int
    text: str


class Progress:
    """What a process does now, in memory that it shares with its parent and its copies.

    Args:
      memory: a buffer that processes share.
      number: which of the slots of `SLOT` bytes in it.
    """

    def __init__(self, memory: Any, number: int = 0):
        slot: np.ndarray = np.ndarray([5], np.int64, memory, SLOT * number)
        self._slot, self._pid, self._forks = slot, os.getpid(), len(_forks)

    @classmethod
    def of_this_process(cls) -> Progress:
        """Makes one in new memory, which copies of this process share."""
        return cls(mmap.mmap(-1, SLOT))

    def clear(self) -> None:
        """Forgets everything, before another process uses the slot."""
        self._slot[:] = 0

    def begin(self, stage: int, episode: int = 0, step: int = 0) -> None:
        """Notes that a call into the environment begins."""
        self._slot[:4] = stage, self._slot[1] + 1, episode, step

    def now(self) -> tuple[int, int, int, int]:
        """Returns the stage, how many calls have begun, the episode and the step."""
        stage, count, episode, step = self._slot[:4].tolist()
        return stage, count, episode, step

    def call(self, stage: int, function: Callable[..., Any], *words: Any) -> Any:
        """Calls the environment's `function`; a copy of this process that comes back ends here.

        A copy has everything that this process has: it would play on, save and
        write as if it were this one.
        """
        try:
            return function(*words)
        except SystemExit:
            if os.getpid() != self._pid:  # a forked helper at its regular end
                os._exit(0)
            raise
        finally:
            if os.getpid() != self._pid:
                self._slot[4] = 1 + stage
                os._exit(1)

    def refuse_copies(self, name: str) -> None:
        """Raises EnvError if a copy of this process came back from the environment `name`."""
        if self._forks != len(_forks):
            self._forks, patience = len(_forks), time.monotonic() + COPY_SECONDS
            while not self._slot[4] and time.monotonic() < patience:
                time.sleep(0.001)
        if stage := int(self._slot[4]):
            raise EnvError(
                f"{name}: {CALLS[stage - 1]} returned twice: the environment forked and played on "
                "in the child"
            )


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


class WorkerHandle:
    """A process and its parent's end of the line.

    Args:
      work: a function of a module; called there with a `Line` and `arguments`.
      arguments: can be pickled.
      memory: file descriptor of shared memory; its first bytes are `Progress` slots.
      progress: the process's slot, and its number.
      name: of the environment, for errors.

    Attributes:
      pipe: for messages to the process.

    Raises:
      OSError: there are no more files or processes to be had.
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
                self._output = _new_output()
                undo.callback(os.close, self._output)
                self.process = context.Process(
                    target=_main,
                    args=(
                        theirs,
                        name,
                        _Files((memory, self._output)),
                        number,
                        str(Path.cwd()),
                        work,
                        arguments,
                    ),
                    name=f"environment {number}",
                )
                with _surroundings():
                    self.process.start()
            undo.pop_all()

    def send(self, message: Any) -> None:
        """Sends a message; to a dead process nothing, `listen` tells of that."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def listen(self) -> Any:
        """Returns its next message, which must be there or under way, or a Failure."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return self.death()

    def wait(self, seconds: float) -> Any:
        """Returns its next message, or a Failure.

        Args:
          seconds: that a call into the environment may take; building and
            timing it `BUILD_LEASH` times as long.
        """
        seen, since = self.progress.now(), time.monotonic()
        while not self.pipe.poll(min(seconds / 4, LOOK_SECONDS)):
            if self.has_ended() and not self.pipe.poll():
                return self.death()  # somebody that it started holds its end of the pipe
            if (now := self.progress.now()) != seen:
                seen, since = now, time.monotonic()
            leash = seconds * (BUILD_LEASH if seen[0] in (BUILD, MEASURE) else 1)
            if time.monotonic() - since > leash:
                return self.hung(leash)
        return self.listen()

    def hung(self, seconds: float) -> Failure:
        """Returns the failure of a process that made no progress for `seconds`."""
        stage = STAGES[self.progress.now()[0]]
        return Failure(HUNG, f"hung for {seconds:g} s {stage} (--env_timeout_seconds)")

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.exitcode is not None

    def death(self) -> Failure:
        """Returns how the process has ended, or ends within seconds."""
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
        """Returns the last line that the process wrote to standard error, clean and short.

        Where Python itself dies it writes stacks; then it is the line before them.
        """
        start = max(0, os.fstat(self._output).st_size - TAIL)
        tail = os.pread(self._output, TAIL, start).decode(errors="replace")
        lines = [line for line in tail.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return clean((fatal or lines or [""])[-1], 200)

    def _join(self, seconds: float) -> None:
        """Waits for the end of the process; what it forked may hold open what `join` waits for."""
        deadline = time.monotonic() + seconds
        while not self.has_ended() and (left := deadline - time.monotonic()) > 0:
            self.process.join(min(left, 0.05))

    def end(self) -> None:
        """Kills it with whatever its environments started, and waits for that."""
        self._kill_group()
        self.process.kill()
        while not self.has_ended():
            self.process.join(0.05)
        self._close()

    def shut_down(self, deadline: float) -> None:
        """Ends a process whose pipe is closed, with `end` if it is there at the deadline."""
        self._join(deadline - time.monotonic())
        if self.has_ended():
            self._kill_group()
            self._close()
        else:
            self.end()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)  # its own group, once it has one

    def _close(self) -> None:
        self.pipe.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1


class _Files:
    """File descriptors that a process inherits as it starts."""

    def __init__(self, files: tuple[int, ...]):
        self.files = files

    def __reduce__(self) -> Any:
        return _detached, tuple(map(DupFd, self.files))


def _detached(*files: Any) -> tuple[int, ...]:
    return tuple(file.detach() for file in files)


def new_memory(size: int) -> tuple[int, mmap.mmap]:
    """Makes memory for processes to share, without a name: a file descriptor, and it mapped.

    It is gone with the last process that holds it, whatever happens.
    """
    file = os.memfd_create("tfmix")
    try:
        os.ftruncate(file, size)
        return file, mmap.mmap(file, size)
    except BaseException:
        os.close(file)
        raise


def _new_output() -> int:
    """Makes a file without a name that everybody appends to."""
    file = os.memfd_create("output")
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def allow_files(processes: int) -> None:
    """Raises the limit of open files as far as the system allows for so many processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_EACH * processes + FILES_ELSE
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def not_started(processes: int, error: OSError) -> UserError:
    """Returns the error of a system that has no files or processes left."""
    return UserError(
        f"cannot start {processes} processes for environments: {error.strerror or error}; set a "
        "smaller --env_workers, or raise the system's limit (ulimit -n, ulimit -u)"
    )


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Sets what a process starts with: one thread a library, and no Ctrl-C until it is ready."""
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
    """Returns the factory for another process, None if it cannot go there."""
    try:
        found = bytes(ForkingPickler.dumps(factory))
    except Exception:  # whatever the user's own objects raise
        return None
    # What was typed into an interpreter is found by its name, but nowhere else.
    typed = not hasattr(sys.modules["__main__"], "__file__")
    return None if typed and b"__main__" in found else found


# The child's end.


def _main(
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
