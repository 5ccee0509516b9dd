"""Writes a folder whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfmix.utils import files


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_or_nothing(spare: Path, final: Path) -> Iterator[None]:
    """Let a folder be written as `spare`, then flushes it and renames it to `final`.

    What is there by either name is removed, and of a link the link alone.

    Raises:
      OSError: it cannot be written (TensorFlow's own errors included); `spare`
        is gone, and `final` is as it was.
    """
    import tensorflow as tf  # here: what only looks for checkpoints starts without it

    try:
        files.remove(spare)  # of a process that was killed
        spare.mkdir(parents=True)
        yield
        for path in (*spare.rglob("*"), spare):
            _flush(path)
        replaced = spare.with_name(f"{spare.name}-replaced")
        files.remove(replaced)
        with contextlib.suppress(FileNotFoundError):
            final.rename(replaced)  # to delete it takes longer, and there is none meanwhile
        spare.rename(final)
        _flush(final.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, tf.errors.OpError) as error:
        with contextlib.suppress(OSError):
            files.remove(spare)  # its disk space is for what is still to be written
        if isinstance(error, OSError):
            raise
        first = str(error.message).partition("\n")[0]
        raise OSError(None, first.rpartition("; ")[2]) from error  # without the file's name
