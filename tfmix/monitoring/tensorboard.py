"""TensorBoard's events: a run writes them and describes itself; a resume cuts some off."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmix.monitoring.layout import layout
from tfmix.utils import files
from tfmix.utils.text import tell

# Largest record of TensorBoard's files that is read; most have some 80 bytes, an inspection 20 kB.
# TensorFlow's reader allocates as many bytes as a record claims to have.
MOST_RECORD = 1 << 26
# The end of the name of the file that describes a run.
DESCRIPTION = ".about.v2"
MOST_GRAPH = 1 << 23  # bytes of the drawn graph
# TensorBoard's tags of metrics; see `tag_of` for those that are not named here.
TAGS = {
    "train_return": "return/train",
    "greedy_return": "return/greedy",
    "greedy_return_std": "return/greedy_std",
    "greedy_return_q25": "return/greedy_q25",
    "greedy_return_q50": "return/greedy_q50",
    "greedy_return_q75": "return/greedy_q75",
    "best_greedy_return": "return/greedy_best",
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

# HParams shows these settings before others, and these scalars.
SHOWN_FIRST = ("algo", "env", "seed", "learning_rate")
METRICS = {"return/greedy": "greedy return", "return/greedy_best": "best greedy return"}
# What TensorBoard shows beside the columns of metrics.csv.
ONLY_HERE = ("env_steps_per_second", "best_greedy_return")


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


class Description(NamedTuple):
    """What TensorBoard shows of a run beside its scalars.

    Attributes:
      texts: Markdown by tag.
      hparams: the settings by which HParams compares runs: text, numbers or bools.
      graph: a `GraphDef`, of one update.
      tags: the tags of the run's scalars, which the custom scalars arrange.
    """

    texts: dict[str, str]
    hparams: dict[str, Any]
    graph: Any
    tags: tuple[str, ...]


def is_described(folder: Path) -> bool:
    """Return whether `write_description` has written into `folder`."""
    return any(folder.glob(f"events.out.tfevents.*{DESCRIPTION}"))


def write_description(folder: Path, found: Description) -> None:
    """Write what TensorBoard shows of a run beside its scalars, at step 0, into its own file.

    `cut_events` keeps it. A graph that is too large is left out, and a line says so.
    """
    import tensorflow as tf
    from tensorboard.plugins.custom_scalar import summary

    # Runs with the same id would be one row, their mean.
    trial = f"{folder.name} in {folder.parent}"
    protos = [summary.pb(layout(found.tags)), *_hparams(found.hparams, trial)]
    suffix = f".{secrets.token_hex(8)}{DESCRIPTION}"
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)
    with contextlib.closing(writer), writer.as_default(step=0):
        for tag, text in found.texts.items():
            tf.summary.text(tag, text)
        for proto in protos:
            tf.summary.experimental.write_raw_pb(proto.SerializeToString())
        if (size := found.graph.ByteSize()) <= MOST_GRAPH:
            tf.summary.graph(found.graph)
        else:
            tell(f"tfmix: the graph of the update has {size:,} bytes and is left out")


def _hparams(values: dict[str, Any], trial: str) -> tuple[Any, Any]:
    """Return the summaries of HParams: what all runs compare, and this run's values."""
    from tensorboard.plugins.hparams import api, api_pb2, summary

    kinds = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
    settings = [
        api_pb2.HParamInfo(
            name=name,
            type=kinds.get(type(value), api_pb2.DATA_TYPE_FLOAT64),
            differs=name in SHOWN_FIRST,
        )
        for name, value in values.items()
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=shown)
        for tag, shown in METRICS.items()
    ]
    return summary.experiment_pb(settings, metrics), api.hparams_pb(values, trial)


class TensorBoard:
    """Writes scalars by env steps into a new events file of the run folder."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._tf = tf
        # TensorFlow would empty an existing file of the same name, also through a link.
        suffix = f".{secrets.token_hex(8)}.v2"
        self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)
        self._described: set[str] = set()  # tags whose description this file has

    def write(self, env_steps: int, row: dict[str, Any]) -> None:
        """Add the values of `row`."""
        with self._writer.as_default(step=env_steps):
            for name, value in row.items():
                if name != "env_steps" and value is not None:
                    self._tf.summary.scalar(tag_of(name), value)

    def write_inspection(
        self,
        env_steps: int,
        scalars: Mapping[str, tuple[float, str]],
        histograms: Mapping[str, tuple[np.ndarray, str]],
        images: Mapping[str, tuple[np.ndarray, str]],
    ) -> None:
        """Add values with their descriptions, by tag.

        Args:
          env_steps: of the run.
          scalars: numbers.
          histograms: arrays; what is not finite is left out.
          images: pictures [H, W, 3] uint8.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        def once(tag: str, about: str) -> str | None:
            new = tag not in self._described
            self._described.add(tag)
            return about if new else None

        # One event for all of them: `tf.summary.scalar` takes a millisecond for each.
        joined = Summary()
        for tag, (value, about) in scalars.items():
            joined.value.extend(scalar_pb(tag, value, once(tag, about)).value)
        for tag, (values, about) in histograms.items():
            finite = values[np.isfinite(values)]
            joined.value.extend(histogram_pb(tag, finite, 30, once(tag, about)).value)
        with self._writer.as_default(step=env_steps):
            self._tf.summary.experimental.write_raw_pb(joined.SerializeToString())
            for tag, (pixels, about) in images.items():
                self._tf.summary.image(tag, pixels[None], description=once(tag, about))

    def close(self) -> None:
        """Flush and close the events file."""
        self._writer.close()
