"""The progress of a run in the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, cast

from tfmix.utils.text import Lossy, is_muted, tell

# Without a terminal, something that took less the last time begins without a line.
SILENT_SECONDS = 2.0


class Progress:
    """Show a progress bar on a terminal, and otherwise prints a line every few seconds.

    The time that is left is predicted from the pace since `pace_begins`, and without
    the time inside `waiting`: compiling happens once.

    Args:
      total_env_steps: env steps of the whole run.
      done_env_steps: env steps done before this start.
      every_seconds: time between lines without a terminal.
    """

    def __init__(
        self,
        total_env_steps: int,
        done_env_steps: int,
        every_seconds: float = 10.0,
    ):
        self._total, self._done = total_env_steps, done_env_steps
        self._began = self._last = time.monotonic()
        self._every = every_seconds
        self._waited = 0.0  # seconds inside `waiting`
        self._took: dict[str, float] = {}  # the last time of each thing that is waited for
        self._row: dict[str, Any] = {}
        self.pace_begins(done_env_steps)
        self._bar = progress_bar()
        self._task = self._bar.add_task(
            "starting", total=total_env_steps, completed=done_env_steps, counts="", left=""
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

    def pace_begins(self, env_steps: int) -> None:
        """Predict the end from what comes after this moment."""
        self._paced = env_steps, self._working_seconds()

    def _working_seconds(self) -> float:
        return time.monotonic() - self._began - self._waited

    @contextlib.contextmanager
    def waiting(self, what: str, once: bool = False) -> Iterator[None]:
        """Show what the run is busy with while no env steps are done.

        Args:
          what: such as `compiling`.
          once: the pace of the rest does not include it.
        """
        self._show(f"{what} ...")
        if not self._on_terminal() and self._took.get(what, SILENT_SECONDS) >= SILENT_SECONDS:
            self._tell(f"{what} ...")
        began = time.monotonic()
        try:
            yield
        finally:
            self._took[what] = time.monotonic() - began
            self._waited += self._took[what] if once else 0.0
            self._show()

    def advance(self, env_steps: int, updates: int) -> None:
        """Show how far the run is."""
        self._done, self._row = env_steps, {**self._row, "updates": updates}
        self._show()
        if not self._on_terminal() and time.monotonic() - self._last >= self._every:
            self._line()

    def update(self, env_steps: int, row: dict[str, Any]) -> None:
        """Show a row of metrics."""
        self._row = row
        self.advance(env_steps, row.get("updates", 0))
        if not self._on_terminal() and env_steps >= self._total:
            self._line()

    def seconds_left(self) -> float | None:
        """Predict the seconds to the end; None before there is a pace."""
        start, seconds = self._paced
        done, spent = self._done - start, self._working_seconds() - seconds
        if done <= 0 or spent <= 0:
            return None
        return max(self._total - self._done, 0) * spent / done

    def _on_terminal(self) -> bool:
        return not self._bar.disable

    def _show(self, busy: str = "") -> None:
        """Redraw the bar."""
        if self._on_terminal():
            self._bar.update(
                self._task,
                completed=min(self._done, self._total),
                description=busy or describe(self._row),
                counts=_counts(self._done, self._total),
                left=_left(self.seconds_left()),
            )

    def _line(self) -> None:
        """Print how far the run is."""
        elapsed = f"{_clock(time.monotonic() - self._began)} elapsed"
        parts = [f"{self._done:,} of {self._total:,} env steps", describe(self._row), elapsed]
        parts.append(_left(self.seconds_left()))
        self._tell(", ".join(part for part in parts if part))

    def _tell(self, line: str) -> None:
        """Print a line, and count the time to the next one from here."""
        self._last = time.monotonic()
        tell(line)


def _counts(done: int, total: int) -> str:
    return f"{_short(done)}/{_short(total)}"


def _short(number: int) -> str:
    """Return a number of env steps in few letters: 3,500 or 1.25M."""
    return f"{number / 1e6:.3g}M" if number >= 1_000_000 else f"{number:,}"


def _clock(seconds: float) -> str:
    """Return a time as 42 s, 3:05 min or 2:03:04 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{_clock(seconds)} left"


def progress_bar() -> Any:
    """Make rich's bar with share done, description and time, on standard error.

    If that is not a terminal, or nothing is to be printed, it is disabled and shows nothing. What
    cannot be written is dropped, also by `console.print`, and everything if nothing is to be
    printed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.table import Column

    shrinking = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    console = Console(file=cast(IO[str], Lossy(sys.stderr)), quiet=is_muted())
    return Progress(
        BarColumn(12),
        TaskProgressColumn(),
        TextColumn("{task.fields[counts]}", table_column=Column(no_wrap=True)),
        TextColumn("{task.description}", table_column=shrinking),
        Elapsed(),
        TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
        disable=is_muted() or not console.is_terminal,
    )


def describe(row: dict[str, Any]) -> str:
    """Return the middle of the progress line."""
    parts = []
    if row.get("updates") is not None:
        parts.append(f"{row['updates']:,} updates")
    if row.get("env_steps_per_second") is not None:
        parts.append(f"{row['env_steps_per_second']:,.0f} env steps/s")
    for name, label in (("train_return", "return"), ("greedy_return", "greedy")):
        if row.get(name) is not None:
            parts.append(f"{label} {row[name]:.1f}")
    if row.get("epsilon") is not None:
        parts.append(f"epsilon {row['epsilon']:.2f}")
    if row.get("loss") is not None:
        parts.append(f"loss {row['loss']:.3g}")
    return ", ".join(parts)
