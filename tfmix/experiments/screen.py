"""The progress of a benchmark, on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from tfmix.experiments.grid import RunSpec
from tfmix.experiments.table import Row, row_of
from tfmix.monitoring.progress import progress_bar

LOOK_SECONDS = 2.0  # between two looks for the bar
LINE_SECONDS = 30.0  # between two lines of a run if there is no bar


class Screen:
    """Prints a line when a run starts or ends, and on a terminal a bar over all env steps.

    Without a terminal each run that works has a line every `LINE_SECONDS`.

    Args:
      cells: all runs of the grid.
      todo: those that are not finished.
    """

    def __init__(self, cells: Sequence[RunSpec], todo: Sequence[RunSpec]):
        self._bar = progress_bar()
        self._done = {cell: cell.config.env_steps for cell in cells}
        self._done.update({cell: _done(cell, row_of(cell)) for cell in todo})
        self._task = self._bar.add_task(
            "of all env steps,",
            total=sum(cell.config.env_steps for cell in cells),
            completed=sum(self._done.values()),
            counts="",
            left="",
        )
        self._looked = time.monotonic()

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._bar.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def started(self, cell: RunSpec, core: int | None) -> None:
        """Say that a run starts or continues."""
        done = self._done[cell]
        since = f" from {done:,} env steps" if done else ""
        self.line(f"start     {cell}{since}" + ("" if core is None else f", core {core}"))

    def ended(self, cell: RunSpec, reason: str, left: int) -> None:
        """Say that a run has ended, and the `reason` if it failed."""
        row = row_of(cell, reason)
        if reason:
            text = f"failed    {cell}: {reason} ({cell.log})"
        elif row["status"] == "finished":
            text = f"finished  {cell}: greedy return {row['last_greedy_return']:.2f}, "
            text += f"{row['seconds']:.0f} s"
        else:
            text = f"stopped   {cell} at {row['env_steps']:,} env steps"
        self.line(f"{text}; {left} left")

    def stopping(self, running: int) -> None:
        """Say that the running runs were asked to end."""
        runs = "1 run saves and ends" if running == 1 else f"{running} runs save and end"
        self.line(f"stopping: {runs}; Ctrl-C again ends them at once")

    def update(self, running: Iterable[RunSpec]) -> None:
        """Read the runs' progress at times, and move the bar or print a line for each run."""
        has_bar = not self._bar.disable
        if time.monotonic() - self._looked < (LOOK_SECONDS if has_bar else LINE_SECONDS):
            return
        self._looked = time.monotonic()
        for cell in running:
            row = row_of(cell)
            self._done[cell] = _done(cell, row)
            if not has_bar:
                self.line(f"running   {cell}: {_progress(cell, row)}")
        self._bar.update(self._task, completed=sum(self._done.values()))


def _progress(cell: RunSpec, row: Row) -> str:
    """Return the env steps done and total of a run, and its last greedy return."""
    newest = row["last_greedy_return"]
    gain = "no evaluation yet" if newest is None else f"greedy return {newest:.2f}"
    return f"{_done(cell, row):,} of {cell.config.env_steps:,} env steps, {gain}"


def _done(cell: RunSpec, row: Row) -> int:
    """Return the env steps that a run has done, at most its goal."""
    return min(row["env_steps"], cell.config.env_steps)
