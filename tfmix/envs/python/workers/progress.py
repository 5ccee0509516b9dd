"""Reports what a process does, and why one failed.

An environment is third-party code: it may hang, crash, exit, fork or leave
processes. In a separate process none of that costs more than the process.
Nothing here imports TensorFlow.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfmix.envs.python import EnvError

# Kinds of failure. After the first three another try may succeed; a BROKEN environment violates
# its interface, a REFUSED one cannot be built.
DIED, HUNG, RAISED, BROKEN, REFUSED = range(5)
# Stages of a process.
BUILD, RESET, STEP, MEASURE, CLOSE, WAIT = range(6)
STAGES = (
    "while it was built",
    "in reset()",
    "in step()",
    "while it was timed",
    "in close()",
    "while nothing was asked of it",
)
CALLS = ("building it", "reset()", "step()", "a call", "close()")
COPY_SECONDS = (
    0.1  # wait after a fork for a copy that returns; a later one is found at a later call
)
SLOT = 64  # bytes of a `Progress`

_forks: list[None] = []  # one entry for every fork of this process
os.register_at_fork(after_in_parent=lambda: _forks.append(None))


class Failure(NamedTuple):
    """Says why a process is unusable: the kind of failure, and what happened as text."""

    kind: int
    text: str


class Progress:
    """Report what a process does, in memory shared with its parent and its forked copies.

    Args:
      memory: a shared buffer.
      number: index of the slot of `SLOT` bytes in it.
    """

    def __init__(self, memory: Any, number: int = 0):
        slot: np.ndarray = np.ndarray([5], np.int64, memory, SLOT * number)
        self._slot, self._pid, self._forks = slot, os.getpid(), len(_forks)

    @classmethod
    def of_this_process(cls) -> Progress:
        """Make a `Progress` in new memory, which forked copies of this process share."""
        return cls(mmap.mmap(-1, SLOT))

    def clear(self) -> None:
        """Clear the slot before another process uses it."""
        self._slot[:] = 0

    def begin(self, stage: int, episode: int = 0, step: int = 0) -> None:
        """Note that a call into the environment begins."""
        self._slot[:4] = stage, self._slot[1] + 1, episode, step

    def now(self) -> tuple[int, int, int, int]:
        """Return the stage, how many calls have begun, the episode and the step."""
        stage, count, episode, step = self._slot[:4].tolist()
        return stage, count, episode, step

    def call(self, stage: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the environment; end a forked copy that returns from it.

        Such a copy has all that this process has: it would play on and write
        files as if it were this one.
        """
        try:
            return function(*arguments)
        except SystemExit:
            if os.getpid() != self._pid:  # a forked child that exits regularly
                os._exit(0)
            raise
        finally:
            if os.getpid() != self._pid:
                self._slot[4] = 1 + stage
                os._exit(1)

    def refuse_copies(self, name: str) -> None:
        """Raise EnvError if a forked copy of this process returned from the environment `name`."""
        if self._forks != len(_forks):
            self._forks, patience = len(_forks), time.monotonic() + COPY_SECONDS
            while not self._slot[4] and time.monotonic() < patience:
                time.sleep(0.001)
        if stage := int(self._slot[4]):
            raise EnvError(
                f"{name}: {CALLS[stage - 1]} returned twice: the environment forked and played on "
                "in the child; end the child with os._exit()"
            )
