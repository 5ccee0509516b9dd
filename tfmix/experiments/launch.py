"""Runs a command on one core; the command gets SIGTERM when its parent process ends.

  python launch.py CORE PARENT COMMAND...      (CORE: a number, or - for any)

This is a separate script because a parent with threads cannot safely make these settings
between fork and exec. It imports nothing of tfmix.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(core: str, parent: str, *command: str) -> None:
    """Set core and death signal, if this system has them, and become `command`."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no such thing here
        os.sched_setaffinity(0, {int(core)})
    if sys.platform == "linux":
        # A killed parent cannot stop its runs. The system signals them, and they save.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the benchmark that started this run is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
