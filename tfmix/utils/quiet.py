"""Keeps dependencies' banners and warnings off the user's screen."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType

_FIRST_FREE = 3  # 0 to 2 are the standard streams, also where one of them is closed
_LOCK = threading.Lock()
_silences = 0  # threads, and calls in a thread, that are inside `quiet`
_silence = contextlib.ExitStack()  # undoes what the first of them did


def _flush() -> None:
    """Write out what Python holds back for the two streams, if it can be written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, gone, closed
            stream.flush()


def _put_back(fd: int, kept: int) -> None:
    """Has `fd` lead to what `kept` leads to, and closes `kept`."""
    os.dup2(kept, fd)
    os.close(kept)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Send file descriptors 1 and 2 to the null device; one that is closed stays closed."""
    with contextlib.ExitStack() as undo, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _flush()
        sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        undo.callback(os.close, sink)
        for fd in (1, 2):
            try:
                kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
            except OSError:
                continue
            undo.callback(_put_back, fd, kept)
            os.dup2(sink, fd)
        undo.callback(_flush)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed and warned about inside, C++ libraries' text included.

    Python's exceptions pass, and carry what a user needs to know. Descriptors
    and warning filters belong to the process: several threads may be inside at
    a time, the first one in silences the process and the last one out undoes it.
    """
    global _silences
    with _LOCK:
        if not _silences:
            _silence.enter_context(_silenced())
        _silences += 1
    try:
        yield
    finally:
        with _LOCK:
            _silences -= 1
            if not _silences:
                _silence.close()


def quiet_import(name: str) -> ModuleType:
    """Import a module inside `quiet`."""
    if name in sys.modules:
        return sys.modules[name]
    with quiet():
        return importlib.import_module(name)
