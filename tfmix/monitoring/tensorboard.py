"""TensorBoard's events: a run writes them, a resume cuts some off."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from pathlib import Path
from typing import Any

from tfmix.utils import files

# Largest record of TensorBoard's files that is read; they have about 80 bytes. TensorFlow's
# reader allocates as many bytes as a record claims to have.
MOST_RECORD = 1 << 26
# TensorBoard's tags of metrics; see `tag_of` for those that are not named here.
TAGS = {
    "train_return": "return/train",
    "greedy_return": "return/greedy",
    "greedy_return_std": "return/greedy_std",
    "greedy_return_q25": "return/greedy_q25",
    "greedy_return_q50": "return/greedy_q50",
    "greedy_return_q75": "return/greedy_q75",
    "train_length": "episode/train_length",
    "greedy_length": "episode/greedy_length",
    "epsilon": "run/epsilon",
    "buffer_episodes": "run/buffer_episodes",
    "env_steps_per_second": "run/env_steps_per_second",
    "learning_rate": "run/learning_rate",
    "worker_restarts": "run/worker_restarts",
    "episodes": "run/episodes",
    "updates": "run/updates",
    "seconds": "run/seconds",
}


def tag_of(name: str) -> str:
    """Return TensorBoard's tag of a column of metrics.csv.

    Metrics of the environment, `train_<name>` and `greedy_<name>`, are under `episode/`, those
    of the algorithm under `learner/`.
    """
    group = "episode" if name.startswith(("train_", "greedy_")) else "learner"
    return TAGS.get(name, f"{group}/{name}")


def _whole_records(path: Path) -> int:
    """Count the intact records at the start of one of TensorBoard's files.

    A record is its length (8 bytes), a checksum (4), its bytes and another checksum.
    The count ends before a record that is empty, too long or incomplete.
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
    """Drop the events after `env_steps`, and broken ends, from TensorBoard's files in `folder`.

    Raises:
      OSError: a file is not a regular one, or cannot be written.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    for path in sorted(folder.glob("events.out.tfevents.*")):
        # No more than were counted: the reader would trust the length of the next record.
        records = tf.data.TFRecordDataset(str(path)).take(_whole_records(path))
        spare = folder / ".cut"  # a name that TensorBoard does not look at
        files.remove(spare)
        with (
            tf.io.TFRecordWriter(str(spare)) as writer,
            contextlib.suppress(tf.errors.DataLossError),
        ):
            # The error means the incomplete end of a file whose process was killed.
            for record in records:
                found = record.numpy()
                with contextlib.suppress(DecodeError):  # a record that is not an event
                    if tf.compat.v1.Event.FromString(found).step <= env_steps:
                        writer.write(found)
        spare.replace(path)


class TensorBoard:
    """Writes scalars by env steps into a new events file of the run folder."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._tf = tf
        # TensorFlow would empty an existing file of the same name, also through a link.
        suffix = f".{secrets.token_hex(8)}.v2"
        self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)

    def write(self, env_steps: int, row: dict[str, Any]) -> None:
        """Add the values of `row`."""
        with self._writer.as_default(step=env_steps):
            for name, value in row.items():
                if name != "env_steps" and value is not None:
                    self._tf.summary.scalar(tag_of(name), value)

    def close(self) -> None:
        """Flush and close the events file."""
        self._writer.close()
