"""Writes a folder atomically: completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfmix.utils import files


def _flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_or_nothing(spare: Path, final: Path) -> Iterator[None]:
    """Create a folder `spare` to write into, then flush it and rename it to `final`.

    Anything that has one of these names is replaced. If it is a link, the link is removed
    and not its target.

    Args:
      spare: the folder that the caller fills.
      final: its name afterwards.

    Raises:
      OSError: the folder cannot be written (TensorFlow's errors included). After this and any
        other exception `spare` is removed, and `final` is unchanged.
    """
    import tensorflow as tf  # here, because looking for checkpoints needs no TensorFlow

    try:
        files.remove(spare)  # a killed process may have left it
        spare.mkdir(parents=True)
        yield
        for path in (*spare.rglob("*"), spare):
            _flush(path)
        replaced = spare.with_name(f"{spare.name}-replaced")
        files.remove(replaced)
        with contextlib.suppress(FileNotFoundError):
            final.rename(replaced)  # deleting takes longer, and `final` must not be missing long
        spare.rename(final)
        _flush(final.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException as error:
        with contextlib.suppress(OSError):
            files.remove(spare)  # frees the disk for what is still to be written
        if not isinstance(error, tf.errors.OpError):
            raise
        line = str(error.message).partition("\n")[0]
        raise OSError(None, line.rpartition("; ")[2]) from error  # the reason, not the file's name
