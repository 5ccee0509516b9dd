"""metrics.csv: written row by row, read, and cut back when a run resumes."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from tfmix.utils import files
from tfmix.utils.text import tell

# The first columns of metrics.csv, in this order; the algorithm's follow.
COLUMNS = ("env_steps", "episodes", "updates", "seconds", "train_return", "greedy_return")
WHOLE_COLUMNS = 3  # the first of them are whole numbers
MOST_LINE = 1 << 16  # characters of a line of metrics.csv, which has some 300


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
