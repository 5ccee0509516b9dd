"""Profiles some updates of a training: where the time goes, and a trace for TensorBoard."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmix.config.values import Window
from tfmix.errors import UserError
from tfmix.training.phases import Phases
from tfmix.training.trainer import Trainer
from tfmix.utils.text import counted, of_error, show, tell

# What a training does, in the order in which it is printed.
PHASES = ("collect", "store", "sample", "update", "evaluate", "inspect", "log", "save")
COMPILED = ("collect", "store", "sample", "update", "evaluate", "inspect")
# The trace ends after so many seconds of profiled training: one of minutes takes gigabytes.
TRACE_SECONDS = 10.0
# A first call that takes so many times the mean of the others is counted as compilation.
COMPILING = 3.0
PLUGIN = "tensorboard_plugin_profile"


@dataclasses.dataclass
class Calls:
    """The calls of a phase: how many, their seconds together, and the seconds of the first."""

    count: int = 0
    seconds: float = 0.0
    first: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a call."""
        if not self.count:
            self.first = seconds
        self.count, self.seconds = self.count + 1, self.seconds + seconds

    def compiling(self) -> float:
        """Return the seconds that the first call took longer than the mean of the others.

        It is 0 if there is no other call, or if the first one is like the others.
        """
        if self.count < 2:
            return 0.0
        mean = (self.seconds - self.first) / (self.count - 1)
        return self.first - mean if self.first > COMPILING * mean else 0.0


class Profile:
    """Profile of the updates of a window; the run's result is the same without it.

    A compiled call of the loop does many updates. Inside the window, its steps are separate
    calls (`Phases`), and the time of each ends when its results are there. Before and after,
    the loop is as without a profile, and stops at the window's first update. The window ends
    where the update after its last one begins: an evaluation, a row of metrics and a
    checkpoint belong to the update before them.

    Args:
      trainer: the trainer; its `run_iterations` is replaced until `close`.
      window: the first and the last update.
      folder: the run folder, in which the trace is written.

    Raises:
      UserError: the run has done the last of these updates already.
    """

    def __init__(self, trainer: Trainer, window: Window, folder: Path):
        done = int(trainer.counters.updates)
        if done >= window.last:
            raise UserError(
                f"--profile={window}: the run has done {counted(done, 'update')} already; name "
                "later ones"
            )
        self.trainer, self.window, self.folder = trainer, window, folder
        self.calls = {name: Calls() for name in PHASES}
        self._compiled: set[str] = set()  # what was called before the window
        self.active, self.seconds = False, 0.0
        self._loop, trainer.run_iterations = trainer.run_iterations, self._iterations
        self._phases = Phases(trainer, self.timing)
        self._began, self._start = 0.0, self._counts()
        self._trace, self._closed = "", False
        self._tracing = False

    def _counts(self) -> tuple[int, int]:
        """Return the run's updates and env steps."""
        return int(self.trainer.counters.updates), self.trainer.env_steps()

    def _iterations(self, iterations: Any, updates: Any) -> tuple[Any, Any]:
        """Do what the trainer's own `run_iterations` does, up to the window's ends."""
        done, first, last = int(self.trainer.counters.updates), self.window.first, self.window.last
        if done < first - 1:
            most = min(int(iterations), self._collections_before(first))
            left = min(int(updates), first - 1 - done)
            return self._loop(tf.constant(most), tf.constant(left, tf.int64))
        if done >= last:
            self.close()
            return self._loop(iterations, updates)
        if not self.active:
            self._begin()
        result = self._phases.run(int(iterations), min(int(updates), last - done))
        if self._tracing and time.monotonic() - self._began > TRACE_SECONDS:
            self._stop_trace()
        return result

    def _collections_before(self, update: int) -> int:
        """Return how many collections come before the one from which `update` learns."""
        config, counters = self.trainer.config, self.trainer.counters
        episodes = config.batch_episodes + (update - 1) / (config.updates_per_episode or 1)
        left = math.ceil((episodes - int(counters.episodes)) / config.n_envs)
        return max(left, 0 if self.trainer.owes_updates() else 1)

    @contextlib.contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Count the time of what is done inside as `name`, if the window has begun."""
        if not self.active:
            yield
            self._compiled.add(name)
            return
        update = int(self.trainer.counters.updates) + 1
        began = time.monotonic()
        with tf.profiler.experimental.Trace(name, step_num=update):
            yield
            tf.test.experimental.sync_devices()
        self.calls.setdefault(name, Calls()).add(time.monotonic() - began)

    def _begin(self) -> None:
        """Start the trace and the clock."""
        try:
            tf.profiler.experimental.start(str(self.folder))
            self._tracing = True
        except (tf.errors.OpError, OSError) as error:
            self._trace = f"no trace: {of_error(error, 200)}"
        self._start, self._began, self.active = self._counts(), time.monotonic(), True

    def _stop_trace(self) -> None:
        """Write the trace."""
        self._tracing = False
        began = time.monotonic()
        try:
            tf.profiler.experimental.stop()
            files = sorted((self.folder / "plugins" / "profile").glob("*/*.xplane.pb"))
            self._trace = f"trace    {files[-1]}" if files else "no trace: nothing was written"
        except (tf.errors.OpError, OSError) as error:
            self._trace = f"no trace: {of_error(error, 200)}"
        self._began += time.monotonic() - began  # writing it is not the run's time

    def close(self) -> None:
        """End the window, write the trace and print the screen; a second call does nothing."""
        if self._closed:
            return
        self._closed, self.trainer.run_iterations = True, self._loop
        if not self.active:
            done, _ = self._counts()
            tell(
                f"tfmix: --profile={self.window}: the run ended after {counted(done, 'update')}, "
                "before the first of these"
            )
            return
        tf.test.experimental.sync_devices()
        self.seconds = time.monotonic() - self._began
        if self._tracing:
            self._stop_trace()
        self.active = False
        show(self.screen())

    def screen(self) -> str:
        """Return where the time of the window went, as text."""
        updates, env_steps = self._counts()
        done, steps = updates - self._start[0], env_steps - self._start[1]
        compiling = {name: calls.compiling() for name, calls in self.calls.items()}
        rows = [
            (name, calls.seconds - compiling[name], calls.count)
            for name, calls in self.calls.items()
        ]
        rows.append(("compile", sum(compiling.values()), 0))
        rows.append(
            ("other", max(self.seconds - sum(x.seconds for x in self.calls.values()), 0), 0)
        )
        lines = [
            f"profile of updates {self._start[0] + 1:,} to {updates:,}: "
            f"{counted(done, 'update')}, {steps:,} env steps, {self.seconds:.2f} s",
            f"  {'':<9} {'seconds':>9} {'share':>7} {'calls':>8} {'ms a call':>10}",
        ]
        lines += [self._line(*row) for row in rows]
        lines.append(
            "  The steps of the loop ran as separate calls, each until its results were there."
        )
        once = [name for name in COMPILED if self.calls[name].count == 1]
        if once := [name for name in once if name not in self._compiled]:
            lines.append(f"  Called once, perhaps with compilation: {', '.join(once)}.")
        lines.append(self._trace)
        if self._trace.startswith("trace"):
            lines.append(self._how_to_see())
        return "\n".join(lines)

    def _line(self, name: str, seconds: float, count: int) -> str:
        """Return a row of the table."""
        share = seconds / self.seconds if self.seconds else 0.0
        line = f"  {name:<9} {seconds:>9.3f} {share:>7.1%}"
        if count:
            line += f" {count:>8,} {1000 * seconds / count:>10.2f}"
        return line

    def _how_to_see(self) -> str:
        """Return the line that says how to look at the trace."""
        shown = f"tensorboard --logdir {shlex.quote(str(self.folder))}, Profile"
        if importlib.util.find_spec(PLUGIN):
            return f"see it   {shown}"
        return f"see it   pip install tensorboard-plugin-profile; {shown}"
