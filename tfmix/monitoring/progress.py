"""The progress of a run in the terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import IO, Any, cast

from tfmix.utils.text import Lossy, tell


class Progress:
    """Shows a progress bar on a terminal, and otherwise prints a line now and then.

    Args:
      total_env_steps: env steps of the whole run.
      done_env_steps: env steps done before this start.
      every_seconds: time between lines without a terminal.
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
        """Show the env steps done and the newest row of metrics."""
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
    """Make rich's bar with the share done, a description and the time left, on standard error.

    Without a terminal it is disabled and shows nothing. What cannot be written is
    dropped, also by `console.print`.
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
    """Return the middle of the progress line."""
    parts = [f"{row['env_steps_per_second']:,.0f} env steps/s"]
    for name, label in (("train_return", "return"), ("greedy_return", "greedy")):
        if row.get(name) is not None:
            parts.append(f"{label} {row[name]:.1f}")
    parts.append(f"epsilon {row['epsilon']:.2f}")
    if row.get("loss") is not None:
        parts.append(f"loss {row['loss']:.3g}")
    return ", ".join(parts)
