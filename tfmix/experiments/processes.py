"""Runs the processes of a grid, as many at a time as there are cores."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tfmix.errors import STOPPED, RunFailedError
from tfmix.experiments.grid import RunSpec, is_finished
from tfmix.experiments.screen import Screen
from tfmix.utils import files, text
from tfmix.utils.signals import stop_on_signal

MAIN = Path(__file__).resolve().parents[1] / "__main__.py"
LAUNCH = Path(__file__).resolve().parent / "launch.py"
POLL_SECONDS = 0.2
LOG_END = 1 << 16  # bytes at the end of a log that are searched for its last line


class Process(Protocol):
    """What a running run offers."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""

    def stop(self) -> None:
        """Ask it to save and end."""

    def kill(self) -> None:
        """End it at once and wait for its end."""


class RunProcess:
    """A process of tfmix's command line that trains a run or resumes it.

    It is in a new session, so that Ctrl-C at the terminal reaches only the benchmark,
    which then asks every run once to save and end.

    Args:
      cell: the run.
      core: the core it may use, None for any.
      lock: a file descriptor that stays open as long as the process runs.
    """

    def __init__(self, cell: RunSpec, core: int | None, lock: int):
        flags = list(cell.flags)
        if (cell.folder / "run.json").exists():
            flags = ["--mode=resume", f"--run_dir={cell.folder}", f"--env={cell.config.env}"]
            flags.append(f"--env_steps={cell.config.env_steps}")  # its end, or a later one
        command = [sys.executable, str(MAIN), "--debug", *flags]  # the log holds tracebacks
        place = ["-" if core is None else str(core), str(os.getpid())]
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = files.open_own(cell.log, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise RunFailedError(f"{cell.log} cannot be written: {error.strerror}") from error
        with os.fdopen(handle, "a") as log:
            print("$", shlex.join(command), file=log, flush=True)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(LAUNCH), *place, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
                # Several runs share a GPU only if none takes all of its memory.
                env={"TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ},
            )

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and its children at once and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def slots(jobs: int | None) -> list[int | None]:
    """Return a core for each of the runs at a time; None if cores cannot be chosen."""
    cores: list[int | None] = [None] * (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        cores = [*sorted(os.sched_getaffinity(0))]
    return [cores[i % len(cores)] for i in range(jobs or len(cores))]


def run_all(
    todo: Sequence[RunSpec],
    cores: Sequence[int | None],
    start: Callable[[RunSpec, int | None], Process],
    screen: Screen,
) -> dict[Path, str]:
    """Run `todo`, each run on one of `cores`, until all have ended or Ctrl-C or SIGTERM.

    A signal asks the running ones to save and end, and waits for them. A second Ctrl-C
    ends them at once.

    Returns:
      the reason for each run that failed, by its folder.
    """
    waiting, free = deque(todo), deque(cores)
    running: dict[RunSpec, tuple[Process, int | None]] = {}
    failed: dict[Path, str] = {}
    asked = False
    with screen, stop_on_signal() as should_stop:
        try:
            while running or (waiting and not should_stop()):
                while waiting and free and not should_stop():
                    cell, core = waiting.popleft(), free.popleft()
                    screen.started(cell, core)
                    running[cell] = (start(cell, core), core)
                if should_stop() and not asked:
                    asked = True
                    screen.stopping(len(running))
                    for process, _ in running.values():
                        process.stop()
                time.sleep(POLL_SECONDS)
                for cell, (process, core) in list(running.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del running[cell]
                    free.append(core)
                    reason = _reason(cell, code, asked)
                    if reason:
                        failed[cell.folder] = reason
                    screen.ended(cell, reason, len(waiting) + len(running))
                screen.update(running)
        except KeyboardInterrupt:
            screen.line("ending at once")
        finally:
            for process, _ in running.values():
                process.kill()
    return failed


def _reason(cell: RunSpec, code: int, asked: bool) -> str:
    """Return why a run that has ended counts as failed; empty if it does not."""
    last = last_line(cell.log)
    if code == STOPPED:
        other = "stopped by a signal that did not come from here; what it learned is saved"
        return "" if asked else other
    if code > 0:
        return last or f"exit code {code}"
    if asked or (code == 0 and is_finished(cell)):
        return ""
    if code == 0:
        return "ended before its end, with exit code 0"
    name = signal.strsignal(-code) or f"signal {-code}"
    return f"ended by the system ({name})" + (f"; its last line: {last}" if last else "")


def last_line(log: Path) -> str:
    """Return the last line of a log after the command that started the run, safe to print."""
    with files.open_regular(log) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - LOG_END, 0))
        lines = [line.strip() for line in file.read(LOG_END).decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return "" if last.startswith("$ ") else text.clean(last.removeprefix("tfmix: "))
