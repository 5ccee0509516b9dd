"""What a person sees of a run: progress, TensorBoard, metrics.csv."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import struct
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from tfmix.utils import files
from tfmix.utils.text import Lossy, tell

# The first columns of metrics.csv, in this order; the algorithm's follow.
COLUMNS = ("env_steps", "episodes", "updates", "seconds", "train_return", "greedy_return")
WHOLE_COLUMNS = 3  # the first of them are whole numbers
MOST_LINE = 1 << 16  # characters of a line of metrics.csv, which has some 300
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


class MetricsFile:
    """metrics.csv: one row a report, empty cells where a row has nothing to say.

    Args:
      path: the file; an existing one is appended to.
      columns: header of a new file.

    Raises:
      OSError: it is no regular file, is a hard link, or cannot be written.
    """

    def __init__(self, path: Path, columns: list[str]):
        handle = files.open_own(path, os.O_WRONLY | os.O_APPEND)
        self._file = os.fdopen(handle, "a", newline="", encoding="utf-8")
        exists = os.fstat(handle).st_size > 0
        if exists:
            with contextlib.closing(metrics_rows(path)) as rows:
                columns = next(rows, columns)
        self._writer = csv.DictWriter(self._file, columns, extrasaction="ignore")
        if not exists:
            self._writer.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row and flushes it."""
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class NotMetricsError(ValueError):
    """A file that is no metrics.csv."""


def metrics_rows(path: Path) -> Generator[list[str], None, None]:
    """Yields the header of a metrics.csv, then its whole rows, one in memory at a time.

    What is no row is left out, such as a last line cut short.

    Raises:
      NotMetricsError: it has no header, or a line of more than `MOST_LINE` characters.
      OSError: it cannot be read, or is no regular file.
    """
    with files.open_regular(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
        reader = csv.reader(_lines(file))
        try:
            header = next(reader, [])
            if tuple(header[: len(COLUMNS)]) != COLUMNS:
                raise NotMetricsError("it has no header")
            yield header
            for cells in reader:
                if len(cells) == len(header) and _is_row(cells):
                    yield cells
        except csv.Error as error:
            raise NotMetricsError(str(error)) from error


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    """Yields lines; raises NotMetricsError where one has more than `MOST_LINE` characters."""
    while line := file.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise NotMetricsError("a line is too long")
        yield line


def _is_row(cells: list[str]) -> bool:
    """Whether all cells are numbers or empty, the first ones whole numbers and seconds."""
    try:
        whole = [int(cell) for cell in cells[:WHOLE_COLUMNS]]
        float(cells[WHOLE_COLUMNS])
        for cell in cells:
            float(cell or 0)
    except ValueError:
        return False
    return all(0 <= number < 2**63 for number in whole)


def cut_metrics(path: Path, env_steps: int) -> None:
    """Drops the rows of metrics.csv after `env_steps`, and lines that are none.

    A file without its header is set aside beside it, and a line says so.

    Raises:
      OSError: it is no regular file, or cannot be written.
    """
    try:
        found = os.lstat(path)
        if not found.st_size and not files.kind_of(found):
            path.unlink()  # stopped before its first line was written
            return
        with (
            contextlib.closing(metrics_rows(path)) as rows,
            files.replacing(path, path.with_suffix(".tmp")) as raw,
        ):
            file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
            writer = csv.writer(file)
            writer.writerow(next(rows))
            writer.writerows(row for row in rows if int(row[0]) <= env_steps)
            file.detach()  # flushes
    except FileNotFoundError:
        return
    except NotMetricsError:
        aside = path.with_suffix(".damaged.csv")
        path.replace(aside)
        tell(f"tfmix: {path} is damaged and set aside as {aside.name}")


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


class Progress:
    """A progress bar on a terminal; elsewhere a line now and then.

    Args:
      total_env_steps: the end.
      done_env_steps: where this start begins.
      every_seconds: distance between lines where there is no terminal.
    """

    def __init__(self, total_env_steps: int, done_env_steps: int, every_seconds: float = 10.0):
        self._total, self._start, self._began = total_env_steps, done_env_steps, time.monotonic()
        self._every, self._last = every_seconds, 0.0
        self._bar = progress_bar()
        self._task = self._bar.add_task(
            "compiling", total=total_env_steps, completed=done_env_steps
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, env_steps: int, row: dict[str, Any]) -> None:
        """Shows where the run is."""
        now = time.monotonic()
        text = describe(row)
        if not self._bar.disable:
            self._bar.update(self._task, completed=min(env_steps, self._total), description=text)
        elif now - self._last >= self._every or env_steps >= self._total:
            self._last = now
            pace = (env_steps - self._start) / max(now - self._began, 1e-9)
            left = max(self._total - env_steps, 0) / max(pace, 1e-9)
            tell(f"{env_steps:,} of {self._total:,} env steps, {text}, {left:.0f} s left")


def progress_bar() -> Any:
    """Makes rich's bar with share done, description and time left, on standard error.

    If that is no terminal it is disabled and shows nothing. What cannot be
    written is dropped, also by `console.print`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    console = Console(file=cast(IO[str], Lossy(sys.stderr)))
    return Progress(
        BarColumn(None),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TextColumn("left"),
        Left(compact=True),
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )


def describe(row: dict[str, Any]) -> str:
    """The middle of the progress line."""
    parts = [f"{row['env_steps_per_second']:,.0f} env steps/s"]
    for name, label in (("train_return", "return"), ("greedy_return", "greedy")):
        if row.get(name) is not None:
            parts.append(f"{label} {row[name]:.1f}")
    parts.append(f"epsilon {row['epsilon']:.2f}")
    if row.get("loss") is not None:
        parts.append(f"loss {row['loss']:.3g}")
    return ", ".join(parts)


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
