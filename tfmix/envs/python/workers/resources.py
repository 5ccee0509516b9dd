"""Shared memory, inherited files and system limits of processes."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
from multiprocessing.reduction import DupFd
from typing import Any

from tfmix.errors import UserError

FILES_EACH = 4  # files that this process holds open for each process that it starts
FILES_ELSE = 128


class InheritedFiles:
    """File descriptors that a process inherits when it starts."""

    def __init__(self, files: tuple[int, ...]):
        self.files = files

    def __reduce__(self) -> Any:
        return _detached, tuple(map(DupFd, self.files))


def _detached(*files: Any) -> tuple[int, ...]:
    return tuple(file.detach() for file in files)


def new_memory(size: int) -> tuple[int, mmap.mmap]:
    """Make shared memory without a name; return its file descriptor and its mapping.

    The system frees it when the last process that holds it ends, however it ends.
    """
    file = os.memfd_create("tfmix")
    try:
        os.ftruncate(file, size)
        return file, mmap.mmap(file, size)
    except BaseException:
        os.close(file)
        raise


def new_output() -> int:
    """Make a file without a name to which all processes append."""
    file = os.memfd_create("output")
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def allow_files(processes: int) -> None:
    """Raise the limit of open files to what so many processes need, if the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_EACH * processes + FILES_ELSE
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def not_started(processes: int, error: OSError) -> UserError:
    """Return the error for a system that has no files or processes left."""
    return UserError(
        f"cannot start {processes} processes for environments: {error.strerror or error}; set a "
        "smaller --env_workers, or raise the system's limit (ulimit -n, ulimit -u)"
    )
