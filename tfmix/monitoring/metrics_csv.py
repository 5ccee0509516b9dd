"""metrics.csv and evaluations.csv: runs append rows, readers read them, resumes cut some off."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmix.errors import RunFailedError
from tfmix.utils import files
from tfmix.utils.text import tell

# The first columns of metrics.csv, in this order; those of the algorithm follow.
COLUMNS = ("env_steps", "episodes", "updates", "seconds", "train_return", "greedy_return")
# What an evaluation adds: the spread over its episodes. Quartiles interpolate linearly.
SPREAD = ("greedy_return_std", "greedy_return_q25", "greedy_return_q50", "greedy_return_q75")
LENGTHS = ("train_length", "greedy_length")
MOST_LINE = 1 << 16  # characters of a line of metrics.csv, which has some 300


class Layout(NamedTuple):
    """How a file of rows begins.

    Attributes:
      first: the first columns, in this order; others follow.
      whole: how many of them are whole numbers; the next one is a number, never empty.
    """

    first: tuple[str, ...]
    whole: int


METRICS = Layout(COLUMNS, 3)
# evaluations.csv has a row for each episode of an evaluation; those of metrics follow.
EVALUATIONS = Layout(("env_steps", "episode", "return", "length"), 2)


class MetricsFile:
    """Writes metrics.csv or evaluations.csv; cells of missing values are empty.

    Args:
      path: the file. If it exists, rows are appended under its header.
      columns: the header of a new file.
      layout: how the header begins.

    Raises:
      OSError: it is not a regular file, is a hard link, or cannot be written.
    """

    def __init__(self, path: Path, columns: list[str], layout: Layout = METRICS):
        handle = files.open_own(path, os.O_WRONLY | os.O_APPEND)
        self._file = os.fdopen(handle, "a", newline="", encoding="utf-8")
        exists = os.fstat(handle).st_size > 0
        if exists:
            with contextlib.closing(metrics_rows(path, layout)) as rows:
                columns = next(rows, columns)
        self._writer = csv.DictWriter(self._file, columns, extrasaction="ignore")
        if not exists:
            self._writer.writeheader()
            self._file.flush()  # what is held back would be written at the end, into any folder

    def write(self, row: dict[str, Any]) -> None:
        """Add a row and flush it."""
        self.write_all([row])

    def write_all(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows and flush them together."""
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NotMetricsError(ValueError):
    """Says that a file is not a metrics.csv."""


def metrics_rows(path: Path, layout: Layout = METRICS) -> Generator[list[str], None, None]:
    """Yield the header of a file of rows, then its complete rows, one in memory at a time.

    Lines that are not rows, such as an incomplete last line, are skipped.

    Raises:
      NotMetricsError: it has no header, or a line of more than `MOST_LINE` characters.
      OSError: it cannot be read, or is not a regular file.
    """
    with files.open_regular(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
        reader = csv.reader(_lines(file))
        try:
            header = next(reader, [])
            if tuple(header[: len(layout.first)]) != layout.first:
                raise NotMetricsError("it has no header")
            yield header
            for cells in reader:
                if len(cells) == len(header) and _is_row(cells, layout.whole):
                    yield cells
        except csv.Error as error:
            raise NotMetricsError(str(error)) from error


def read_columns(path: Path, layout: Layout = METRICS) -> dict[str, np.ndarray]:
    """Return the columns of a file of rows by name, [rows] each.

    The first ones (`layout.whole`) are int64, the others float64 with NaN in empty cells.

    Raises:
      NotMetricsError: it has no header, or a line that is too long.
      OSError: it cannot be read, or is not a regular file.
    """
    header, *rows = metrics_rows(path, layout)
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {
        name: np.asarray([int(cell) for cell in column], np.int64)
        if number < layout.whole
        else np.asarray([float(cell or "nan") for cell in column], np.float64)
        for number, (name, column) in enumerate(zip(header, columns, strict=True))
    }


def _lines(file: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines; raise NotMetricsError if one has more than `MOST_LINE` characters."""
    while line := file.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise NotMetricsError("a line is too long")
        yield line


def _is_row(cells: list[str], whole_columns: int) -> bool:
    """Return whether the first cells are integers and a number, and the rest numbers or empty."""
    try:
        whole = [int(cell) for cell in cells[:whole_columns]]
        float(cells[whole_columns])
        for cell in cells:
            float(cell or 0)
    except ValueError:
        return False
    return all(0 <= number < 2**63 for number in whole)


def cut_metrics(path: Path, env_steps: int, layout: Layout = METRICS) -> None:
    """Drop the rows of a file after `env_steps`, and lines that are not rows.

    A file without its header is renamed, metrics.csv to metrics.damaged.csv, and a message
    says so.

    Raises:
      OSError: it is not a regular file, or cannot be written.
    """
    try:
        found = os.lstat(path)
        if not found.st_size and not files.kind_of(found):
            path.unlink()  # stopped before its first line was written
            return
        with (
            contextlib.closing(metrics_rows(path, layout)) as rows,
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


def read_metrics(folder: Path) -> dict[str, np.ndarray]:
    """Return the columns of a run folder's metrics.csv, as `read_columns`.

    Raises:
      RunFailedError: the file is missing or damaged.
    """
    path = folder / "metrics.csv"
    try:
        return read_columns(path)
    except (OSError, NotMetricsError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunFailedError(f"cannot read {path}: {reason}") from error
