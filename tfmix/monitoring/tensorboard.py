"""TensorBoard's events: written, and cut back when a run resumes."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from pathlib import Path
from typing import Any

from tfmix.utils import files

# Of a record in TensorBoard's files, which takes some 80 bytes; TensorFlow's reader
# takes as much memory as the record says that it has.
MOST_RECORD = 1 << 26
# Where TensorBoard shows a metric; what is not named here goes under `learner/`.
TAGS = {
    "train_return": "return/train",
    "greedy_return": "return/greedy",
    "epsilon": "run/epsilon",
    "buffer_episodes": "run/buffer_episodes",
    "env_steps_per_second": "run/env_steps_per_second",
    "learning_rate": "run/learning_rate",
    "worker_restarts": "run/worker_restarts",
    "episodes": "run/episodes",
    "updates": "run/updates",
    "seconds": "run/seconds",
}


def _whole_records(path: Path) -> int:
    """Counts the records at the start of one of TensorBoard's files that may be read.

    A record is its length (8 bytes) and a checksum (4), its bytes and another
    checksum. The count ends before one that is empty, too long or cut short.
    """
    with files.open_regular(path) as file:
        left, count = os.fstat(file.fileno()).st_size, 0
        while len(head := file.read(8)) == 8:
            (length,) = struct.unpack("<Q", head)
            left -= length + 16
            if not 0 < length <= MOST_RECORD or left < 0:
                break
            file.seek(length + 8, os.SEEK_CUR)
            count += 1
    return count


def cut_events(folder: Path, env_steps: int) -> None:
    """Drops what TensorBoard's files in `folder` hold after `env_steps`, broken ends too.

    Raises:
      OSError: a file is no regular one, or cannot be written.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    for path in sorted(folder.glob("events.out.tfevents.*")):
        # No more than were counted: the reader believes the length of what follows.
        records = tf.data.TFRecordDataset(str(path)).take(_whole_records(path))
        spare = folder / ".cut"  # a name that TensorBoard does not look at
        files.remove(spare)
        with (
            tf.io.TFRecordWriter(str(spare)) as writer,
            contextlib.suppress(tf.errors.DataLossError),
        ):
            # The error: the end of the file of a process that was killed.
            for record in records:
                found = record.numpy()
                with contextlib.suppress(DecodeError):  # a record that is no event
                    if tf.compat.v1.Event.FromString(found).step <= env_steps:
                        writer.write(found)
        spare.replace(path)


class TensorBoard:
    """Scalars against env steps in a new events file of the run folder."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._tf = tf
        # TensorFlow empties a file that has the name already, through a link too.
        suffix = f".{secrets.token_hex(8)}.v2"
        self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)

    def write(self, env_steps: int, row: dict[str, Any]) -> None:
        """Adds what `row` holds."""
        with self._writer.as_default(step=env_steps):
            for name, value in row.items():
                if name != "env_steps" and value is not None:
                    self._tf.summary.scalar(TAGS.get(name, f"learner/{name}"), value)

    def close(self) -> None:
        """Flushes and closes the events file."""
        self._writer.close()
