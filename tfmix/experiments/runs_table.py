"""Run folders at a glance: `--mode=runs` and `tfmix.list_runs`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypedDict

from tfmix.config.wording import in_python
from tfmix.errors import UserError
from tfmix.experiments import find_runs
from tfmix.monitoring.metrics_csv import NotMetricsError, metrics_rows
from tfmix.runs import folders
from tfmix.utils import files, text
from tfmix.utils.text import nearest

RUNS = "runs"
DASH = "-"
COMMIT = 10  # characters of a commit that are printed
MOST_REASON = 100
SORT = "env,algo,seed,folder"


class RunRow(TypedDict):
    """Describes a run folder.

    state is `finished`, `running`, `failed`, `stopped` or `unreadable`; reason says why for
    the failed and the unreadable ones. env_steps and seconds are from the last row of
    metrics.csv, goal is the run's end in env steps. The greedy returns are means over an
    evaluation's episodes, None before the first one.
    """

    algo: str
    env: str
    seed: int | None
    state: str
    env_steps: int
    goal: int
    last: float | None
    best: float | None
    seconds: float
    commit: str
    folder: str
    reason: str


@in_python
def list_runs(
    runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = RUNS, sort: str = SORT
) -> list[RunRow]:
    """Return a row for each run folder.

    Args:
      runs: run folders, folders with runs below them, or globs; one or several.
      sort: columns, separated by commas; `-best` puts the greatest first. Rows without a value
        come last.

    Raises:
      UserError: no run is found, or there is no such column.
    """
    order = _order(sort)
    rows = [row_of(folder) for folder in find_runs.find(runs)]
    for name, is_reversed in reversed(order):
        known = [row for row in rows if row[name] is not None]  # type: ignore[literal-required]
        without = [row for row in rows if row[name] is None]  # type: ignore[literal-required]
        known.sort(key=_key(name), reverse=is_reversed)
        rows = known + without
    return rows


def _key(name: str) -> Callable[[RunRow], Any]:
    """Return what sorts rows by a column."""
    return lambda row: row[name]  # type: ignore[literal-required]  # a column


def _order(sort: str) -> list[tuple[str, bool]]:
    """Return the columns to sort by, each with whether the greatest comes first.

    Raises:
      UserError: there is no such column.
    """
    columns = list(RunRow.__annotations__)
    found = []
    for part in [part.strip() for part in sort.split(",") if part.strip()]:
        name = part.removeprefix("-")
        if name not in columns:
            close = nearest(name, columns)
            raise UserError(
                f"--sort={text.clean(sort, 60)}: there is no column {text.clean(name, 60)!r}{close}"
                f"; there are {', '.join(columns)}"
            )
        found.append((name, part.startswith("-")))
    return found


def row_of(folder: Path) -> RunRow:
    """Return the row of a run folder, which another process may be writing to."""
    row = RunRow(
        algo="",
        env="",
        seed=None,
        state="unreadable",
        env_steps=0,
        goal=0,
        last=None,
        best=None,
        seconds=0.0,
        commit="",
        folder=str(folder),
        reason="",
    )
    try:
        stored = folders.read(folder)
    except UserError as error:
        row["reason"] = text.clean(error, 300)
        return row
    config, about = stored.config, stored.about
    row["algo"], row["env"] = config.algo, config.env
    row["seed"], row["goal"] = config.seed, config.env_steps
    row["commit"] = text.clean(about.get("git_commit") or "", 60)
    with contextlib.suppress(OSError, NotMetricsError):
        _read_metrics(folder, row)
    row["state"], row["reason"] = _state(folder, row, about)
    return row


def _read_metrics(folder: Path, row: RunRow) -> None:
    """Fill in what metrics.csv says."""
    rows = metrics_rows(folder / "metrics.csv")
    header = next(rows)
    steps, seconds, greedy = map(header.index, ("env_steps", "seconds", "greedy_return"))
    for cells in rows:
        row["env_steps"], row["seconds"] = int(cells[steps]), float(cells[seconds])
        if cells[greedy]:
            row["last"] = newest = float(cells[greedy])
            row["best"] = newest if row["best"] is None else max(row["best"], newest)


def _state(folder: Path, row: RunRow, about: dict[str, Any]) -> tuple[str, str]:
    """Return the state of a run, and why it failed."""
    if is_locked(folder):
        return "running", ""
    if folders.is_finished(folder, row["goal"]):
        return "finished", ""
    if reason := about.get("failed"):
        return "failed", text.clean(reason, 300)
    return "stopped", ""


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in a run folder.

    The lock is taken for an instant, shared, so that others who look do not see it.
    """
    try:
        with files.open_regular(folder / folders.LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False


def as_text(rows: Iterable[RunRow]) -> str:
    """Return the rows as a table for a terminal, a summary last."""
    rows = list(rows)
    header = ("algo", "env", "seed", "state", "env steps", "last", "best", "time", "commit")
    page = [(*header, "folder"), *(_cells(row) for row in rows)]
    wide = [max(len(cells[part]) for cells in page) for part in range(len(header))]
    right = {2, 4, 5, 6, 7}  # numbers
    lines = []
    for cells in page:
        shown = [
            cells[part].rjust(wide[part]) if part in right else cells[part].ljust(wide[part])
            for part in range(len(header))
        ]
        lines.append("  ".join([*shown, cells[-1]]).rstrip())
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return "\n".join([*lines, f"{len(rows)} run{'s' * (len(rows) != 1)}: {counts}"])


def _cells(row: RunRow) -> tuple[str, ...]:
    """Return the cells of a row, safe to print."""
    last, best = (DASH if row[x] is None else f"{row[x]:,.2f}" for x in ("last", "best"))  # type: ignore[literal-required]
    reason = f": {text.clean(row['reason'], MOST_REASON)}" if row["reason"] else ""
    commit = row["commit"]
    short = commit[:COMMIT] + "+" * (commit.endswith("+") and len(commit) > COMMIT)
    return (
        text.clean(row["algo"], 30) or DASH,
        text.clean(row["env"], 60) or DASH,
        DASH if row["seed"] is None else str(row["seed"]),
        row["state"],
        f"{row['env_steps']:,} of {row['goal']:,}" if row["goal"] else DASH,
        last,
        best,
        _duration(row["seconds"]),
        short or DASH,
        text.clean(row["folder"], 300) + reason,
    )


def _duration(seconds: float) -> str:
    """Return a time as `1 h 02 min`, `3 min 20 s` or `12 s`."""
    if not 0 < seconds < 1e10:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
