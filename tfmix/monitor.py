"""What a person sees of a run: progress, TensorBoard, metrics.csv."""

from __future__ import annotations

import contextlib
import csv
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from tfmix.text import Lossy, tell

# The first columns of metrics.csv, in this order; the algorithm's follow.
COLUMNS = ("env_steps", "episodes", "updates", "seconds", "train_return", "greedy_return")
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
    """

    def __init__(self, path: Path, columns: list[str]):
        exists = path.exists()
        self._file = path.open("a", newline="")
        if exists:
            with path.open(newline="") as file:
                columns = next(csv.reader(file))
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


def read_metrics(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the whole rows of a metrics.csv; a last line cut short is left out.

    Of a file that is no metrics.csv at all both are empty.
    """
    try:
        with path.open(newline="", errors="replace") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except csv.Error:
        return [], []
    if tuple(header[: len(COLUMNS)]) != COLUMNS:
        return [], []
    return header, [r for r in rows if len(r) == len(header) and _is_row(r)]


def _is_row(cells: list[str]) -> bool:
    """Whether all cells are numbers or empty; the first, env steps, is a whole number."""
    try:
        int(cells[0])
        for cell in cells:
            float(cell or 0)
    except ValueError:
        return False
    return True


def cut_metrics(path: Path, env_steps: int) -> None:
    """Drops the rows of metrics.csv behind `env_steps`, and lines that are none.

    A file without its header is set aside beside it, and a line says so.
    """
    if not path.exists():
        return
    header, rows = read_metrics(path)
    if not header:
        if path.stat().st_size:
            aside = path.with_suffix(".damaged.csv")
            path.replace(aside)
            tell(f"tfmix: {path} is damaged and set aside as {aside.name}")
        else:
            path.unlink()  # stopped before its first line was written
        return
    kept = [r for r in rows if int(r[0]) <= env_steps]
    spare = path.with_suffix(".tmp")
    with spare.open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    spare.replace(path)


def cut_events(folder: Path, env_steps: int) -> None:
    """Drops what TensorBoard's files in `folder` hold behind `env_steps`, broken ends too."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    for path in sorted(folder.glob("events.out.tfevents.*")):
        records: list[bytes] = []
        with contextlib.suppress(tf.errors.DataLossError):  # the end of a killed process's file
            for record in tf.data.TFRecordDataset(str(path)):
                records.append(record.numpy())
        kept = []
        for found in records:
            with contextlib.suppress(DecodeError):  # a record that is no event
                if tf.compat.v1.Event.FromString(found).step <= env_steps:
                    kept.append(found)
        spare = folder / ".cut"  # a name that TensorBoard does not look at
        with tf.io.TFRecordWriter(str(spare)) as writer:
            for record in kept:
                writer.write(record)
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
    """Scalars against env steps in the run folder's events file."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._tf = tf
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, env_steps: int, row: dict[str, Any]) -> None:
        """Adds what `row` holds."""
        with self._writer.as_default(step=env_steps):
            for name, value in row.items():
                if name != "env_steps" and value is not None:
                    self._tf.summary.scalar(TAGS.get(name, f"learner/{name}"), value)

    def close(self) -> None:
        """Flushes and closes the events file."""
        self._writer.close()
