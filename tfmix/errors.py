"""What a user is told in one line, and the exit code of a run that was stopped."""

from __future__ import annotations

# main.py's exit code for a training or benchmark that Ctrl-C or SIGTERM stopped, all saved. A code
# apart from 130 and 143, which a shell reports for a process that a signal ended: there, what came
# after the last checkpoint is lost.
STOPPED = 3


class UserError(Exception):
    """A wrong request: one line that says what is wrong and what to do."""


class RunFailedError(RuntimeError):
    """A run that was rightly asked for and could not go on."""


class StoppedError(RunFailedError):
    """A benchmark that Ctrl-C or SIGTERM stopped; what its runs learned is saved."""
