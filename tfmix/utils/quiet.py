"""Hides the banners and warnings of dependencies."""

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

_FIRST_FREE = 3  # 0 to 2 are the standard streams, even if one of them is closed
_LOCK = threading.Lock()
_inside = 0  # how many calls of `quiet` are active in all threads
_silence = contextlib.ExitStack()  # undoes what the first of them did


def _flush() -> None:
    """Flush Python's buffers of the two streams, if they can be written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, gone, closed
            stream.flush()


def _put_back(fd: int, kept: int) -> None:
    """Make `fd` refer to the file of `kept`, and close `kept`."""
    os.dup2(kept, fd)
    os.close(kept)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Send file descriptors 1 and 2 to the null device; a closed one stays closed."""
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
    """Drop all output and warnings inside of the context, also those of C++ libraries.

    Exceptions pass, and they say what a user needs to know. Descriptors and warning filters
    belong to the process. If several threads use the context at a time, the first one to
    enter silences the process and the last one to leave undoes that.
    """
    global _inside
    with _LOCK:
        if not _inside:
            _silence.enter_context(_silenced())
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                _silence.close()


def quiet_import(name: str) -> ModuleType:
    """Import a module inside `quiet`."""
    if name in sys.modules:
        return sys.modules[name]
    with quiet():
        return importlib.import_module(name)
