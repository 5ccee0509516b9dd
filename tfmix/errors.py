"""Defines the errors that are reported in one line, and the exit code of a stopped run."""

from __future__ import annotations

# main.py's exit code for a training or benchmark that Ctrl-C or SIGTERM stopped and that saved
# everything. It differs from 130 and 143, which a shell reports for a process that a signal ended
# and that lost everything after its last checkpoint.
STOPPED = 3


class UserError(Exception):
    """Wrong request; its message is one line that says what is wrong and what to do."""


class RunFailedError(RuntimeError):
    """Failure of a run whose request was right."""


class StoppedError(RunFailedError):
    """Stop of a benchmark by Ctrl-C or SIGTERM; its runs have saved everything."""
