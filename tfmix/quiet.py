"""Keeps dependencies' banners and warnings off the user's screen."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what is printed and warned about inside, C++ libraries' words included.

    Python's exceptions pass, and carry what a user needs to know.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {fd: os.dup(fd) for fd in (1, 2)}
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for fd in kept:
                os.dup2(sink.fileno(), fd)
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, copy in kept.items():
            os.dup2(copy, fd)
            os.close(copy)


def quiet_import(name: str) -> ModuleType:
    """Imports a module inside `quiet`."""
    if name in sys.modules:
        return sys.modules[name]
    with quiet():
        return importlib.import_module(name)
