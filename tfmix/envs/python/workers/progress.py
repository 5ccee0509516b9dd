"""What a process does now, why it failed, and the memory slot that says so.

An environment is somebody else's code: it may hang, crash, leave the program,
fork or leave processes. In a process of its own none of that costs more than
the process. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfmix.envs.python import EnvError

# Kinds of failure. After the first three another try may go better; a BROKEN environment gives
# what its spec does not promise, a REFUSED one could not be built.
DIED, HUNG, RAISED, BROKEN, REFUSED = range(5)
# What a process is doing.
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
COPY_SECONDS = 0.1  # after a fork, for a copy that comes back; a later one is noticed later
SLOT = 64  # bytes of a `Progress`
_forks: list[None] = []  # one entry for every fork of this process
os.register_at_fork(after_in_parent=lambda: _forks.append(None))


class Failure(NamedTuple):
    """Why a process is of no use: the kind of failure, and what happened as a text."""

    kind: int
    text: str


class Progress:
    """What a process does now, in memory that it shares with its parent and its copies.

    Args:
      memory: a buffer that processes share.
      number: which of the slots of `SLOT` bytes in it.
    """

    def __init__(self, memory: Any, number: int = 0):
        slot: np.ndarray = np.ndarray([5], np.int64, memory, SLOT * number)
        self._slot, self._pid, self._forks = slot, os.getpid(), len(_forks)

    @classmethod
    def of_this_process(cls) -> Progress:
        """Makes one in new memory, which copies of this process share."""
        return cls(mmap.mmap(-1, SLOT))

    def clear(self) -> None:
        """Forgets everything, before another process uses the slot."""
        self._slot[:] = 0

    def begin(self, stage: int, episode: int = 0, step: int = 0) -> None:
        """Notes that a call into the environment begins."""
        self._slot[:4] = stage, self._slot[1] + 1, episode, step

    def now(self) -> tuple[int, int, int, int]:
        """Returns the stage, how many calls have begun, the episode and the step."""
        stage, count, episode, step = self._slot[:4].tolist()
        return stage, count, episode, step

    def call(self, stage: int, function: Callable[..., Any], *words: Any) -> Any:
        """Calls the environment's `function`; a copy of this process that comes back ends here.

        A copy has everything that this process has: it would play on, save and
        write as if it were this one.
        """
        try:
            return function(*words)
        except SystemExit:
            if os.getpid() != self._pid:  # a forked helper at its regular end
                os._exit(0)
            raise
        finally:
            if os.getpid() != self._pid:
                self._slot[4] = 1 + stage
                os._exit(1)

    def refuse_copies(self, name: str) -> None:
        """Raises EnvError if a copy of this process came back from the environment `name`."""
        if self._forks != len(_forks):
            self._forks, patience = len(_forks), time.monotonic() + COPY_SECONDS
            while not self._slot[4] and time.monotonic() < patience:
                time.sleep(0.001)
        if stage := int(self._slot[4]):
            raise EnvError(
                f"{name}: {CALLS[stage - 1]} returned twice: the environment forked and played on "
                "in the child"
            )
