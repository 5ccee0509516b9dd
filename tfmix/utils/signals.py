"""Ctrl-C and SIGTERM as a question that a loop asks."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfmix.utils.text import Lossy, tell

CAUGHT = (signal.SIGTERM, signal.SIGINT)
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it
# The process ends with it, as a shell says it of one that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT
# Two SIGINT within this time are one: a terminal and a program that passes it on both send it.
ONE_PRESS_SECONDS = 0.3
# A second Ctrl-C waits that long for Python code to run again before the process is ended.
PATIENCE_SECONDS = 1.0
STOPPING = (
    "tfmix: stopping after about two seconds of work at most (while it compiles, after that) "
    "and saving; Ctrl-C again ends without saving"
)
# Whether tfmix is the whole program, and not a guest in somebody's script or notebook: main.py
# sets it. Then a second Ctrl-C may end the process, and the exit code reports a SIGTERM.
owns_process = False


class Stop:
    """What was heard of Ctrl-C and SIGTERM; called, whether anything was.

    Python runs a signal's handler between two instructions of its main thread
    alone, and counts the signals of a long call into TensorFlow once. A thread
    therefore listens beside it: it answers at once, and sees each signal.

    Args:
      answer: what the thread prints at the first signal; empty for nothing.

    Attributes:
      number: the first signal, 0 before it.
    """

    def __init__(self, answer: str = ""):
        self.number = 0
        self._answer, self._first = answer, 0.0
        self._deadline: float | None = None  # when Python code must have run again
        self._unsaved = self._deaf = False

    def __call__(self) -> bool:
        """Whether a signal asked to stop."""
        return self.number != 0

    def handle(self, number: int, frame: Any) -> None:
        """Is the handler in the main thread: raises KeyboardInterrupt at a second Ctrl-C."""
        self.number = self.number or number
        if self._unsaved and not self._deaf:
            self._deaf = True
            raise KeyboardInterrupt

    def listen(self, ear: socket.socket) -> None:
        """Read a byte a signal from `ear` until its other end is closed."""
        while True:
            left = self._deadline and max(self._deadline - time.monotonic(), 0.0)
            if not select.select([ear], [], [], left)[0]:
                self._deadline = None
                self._give_up()
            elif numbers := ear.recv(64):
                for number in filter(CAUGHT.__contains__, numbers):
                    self._hear(number)
            else:
                return

    def _hear(self, number: int) -> None:
        """Count a signal: the first asks to stop, a Ctrl-C after it to stop unsaved."""
        now = time.monotonic()
        if not self._first:
            self._first, self.number = now, number
            if self._answer:
                tell(self._answer)
        elif (
            number == signal.SIGINT
            and now - self._first > ONE_PRESS_SECONDS
            and not self._unsaved  # the signal that is sent below is heard here too
        ):
            self._unsaved, self._deadline = True, now + PATIENCE_SECONDS
            # A signal to that thread, so that it wakes up where it waits.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _give_up(self) -> None:
        """End a process whose main thread is deep in a call that takes long.

        Nothing is torn: files are written under other names and then renamed,
        locks end with the process, and workers end after it.
        """
        if owns_process and not self._deaf:
            screen = Lossy(sys.__stderr__)
            screen.write(f"{SHOW_CURSOR if screen.isatty() else ''}tfmix: interrupted\n")
            screen.flush()
            os._exit(INTERRUPTED)

    def end(self) -> None:
        """Raise nothing any more."""
        self._deaf = True


@contextmanager
def stop_on_signal(answer: str = "") -> Iterator[Stop]:
    """Turn Ctrl-C and SIGTERM into a question that a loop asks between its parts.

    A second Ctrl-C interrupts. Outside of the main thread signals cannot be
    caught, and nothing is changed.

    Args:
      answer: printed at the first signal, at once, whatever the process does.
    """
    stop = Stop(answer)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    ear, mouth = socket.socketpair()
    with ear, mouth:
        mouth.setblocking(False)
        old = {number: signal.signal(number, stop.handle) for number in CAUGHT}
        old_fd = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=stop.listen, args=[ear], daemon=True)
        thread.start()
        try:
            yield stop
        finally:
            stop.end()
            signal.set_wakeup_fd(old_fd)
            mouth.shutdown(socket.SHUT_RDWR)
            thread.join()
            for number, handler in old.items():
                # None: one that was not installed from Python, and cannot be from there.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def raise_again(number: int) -> None:
    """Has a SIGTERM that stopped a training do what it would have done to the calling script.

    All is saved by then. Where tfmix is the whole program its exit code reports the signal.

    Args:
      number: the signal that was heard, 0 for none.
    """
    if number == signal.SIGTERM and not owns_process:
        signal.raise_signal(signal.SIGTERM)
