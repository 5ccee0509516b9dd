"""Turns Ctrl-C and SIGTERM into a flag that a loop polls."""

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
# The exit code of a process that Ctrl-C ended, as shells report it.
INTERRUPTED = 128 + signal.SIGINT
# Two SIGINT within this time count as one: a terminal may send it, and a parent that passes it on.
ONE_PRESS_SECONDS = 0.3
# After a second Ctrl-C, Python code must run again within this time; otherwise the process ends.
PATIENCE_SECONDS = 1.0
STOPPING = (
    "tfmix: stopping after about two seconds of work at most (while it compiles, after that) "
    "and saving; Ctrl-C again ends without saving"
)
# Whether tfmix is the whole program and not imported by a script or notebook; main.py sets it.
# Then a second Ctrl-C may end the process, and the exit code reports a SIGTERM.
owns_process = False


class Stop:
    """Flag that Ctrl-C and SIGTERM set; a call returns whether one has arrived.

    Python runs signal handlers only between two instructions of the main thread, and
    counts several signals during a long call into TensorFlow as one. A second thread
    therefore listens too: it answers at once and sees every signal.

    Args:
      answer: what that thread prints at the first signal; empty for nothing.

    Attributes:
      number: the first signal, 0 before there is one.
    """

    def __init__(self, answer: str = ""):
        self.number = 0
        self._answer, self._first_time = answer, 0.0
        self._deadline: float | None = None  # when Python code must have run again
        self._asked_twice = self._ended = False

    def __call__(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.number != 0

    def handle(self, number: int, frame: Any) -> None:
        """Handle a signal in the main thread: raise KeyboardInterrupt at a second Ctrl-C."""
        self.number = self.number or number
        if self._asked_twice and not self._ended:
            self._ended = True
            raise KeyboardInterrupt

    def listen(self, receiver: socket.socket) -> None:
        """Read one byte for each signal from `receiver` until its other end is closed."""
        while True:
            left = self._deadline and max(self._deadline - time.monotonic(), 0.0)
            if not select.select([receiver], [], [], left)[0]:
                self._deadline = None
                self._end_process()
            elif numbers := receiver.recv(64):
                for number in filter(CAUGHT.__contains__, numbers):
                    self._count_signal(number)
            else:
                return

    def _count_signal(self, number: int) -> None:
        """Record a signal: the first asks to stop, a later Ctrl-C to stop without saving."""
        now = time.monotonic()
        if not self._first_time:
            self._first_time, self.number = now, number
            if self._answer:
                tell(self._answer)
        elif (
            number == signal.SIGINT
            and now - self._first_time > ONE_PRESS_SECONDS
            and not self._asked_twice  # the signal that is sent below arrives here too
        ):
            self._asked_twice, self._deadline = True, now + PATIENCE_SECONDS
            # A signal to the main thread interrupts whatever call it waits in.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _end_process(self) -> None:
        """End a process whose main thread is in a long call.

        This damages nothing: files are written under other names and then renamed,
        locks end with the process, and workers end after it.
        """
        if owns_process and not self._ended:
            screen = Lossy(sys.__stderr__)
            screen.write(f"{SHOW_CURSOR if screen.isatty() else ''}tfmix: interrupted\n")
            screen.flush()
            os._exit(INTERRUPTED)

    def end(self) -> None:
        """Stop raising KeyboardInterrupt."""
        self._ended = True


@contextmanager
def stop_on_signal(answer: str = "") -> Iterator[Stop]:
    """Turn Ctrl-C and SIGTERM into a flag, inside of the context, that a loop polls.

    A second Ctrl-C raises KeyboardInterrupt. In other threads than the main one signals
    cannot be caught, and the context changes nothing.

    Args:
      answer: printed at once at the first signal, whatever the process does.
    """
    stop = Stop(answer)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        old = {number: signal.signal(number, stop.handle) for number in CAUGHT}
        old_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=stop.listen, args=[receiver], daemon=True)
        thread.start()
        try:
            yield stop
        finally:
            stop.end()
            signal.set_wakeup_fd(old_fd)
            sender.shutdown(socket.SHUT_RDWR)
            thread.join()
            for number, handler in old.items():
                # None: the old handler was not installed from Python, which cannot restore it.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def raise_again(number: int) -> None:
    """Raise a SIGTERM that stopped a training again, for the script that called tfmix.

    Everything is saved by then. If tfmix is the whole program, its exit code reports the
    signal instead.

    Args:
      number: the signal that arrived, 0 for none.
    """
    if number == signal.SIGTERM and not owns_process:
        signal.raise_signal(signal.SIGTERM)
