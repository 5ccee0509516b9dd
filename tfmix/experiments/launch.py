"""Becomes a command that runs on one core and is told to stop when its parent is gone.

  python launch.py CORE PARENT COMMAND...      (CORE: a number, or - for any)

A script of its own, because what it sets for itself cannot safely be set
between fork and exec by a parent that has threads. It imports nothing of tfmix.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(core: str, parent: str, *command: str) -> None:
    """Sets what is to be set, as far as this system has it, and becomes `command`."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no such thing here
        os.sched_setaffinity(0, {int(core)})
    if sys.platform == "linux":
        # A parent that is killed cannot tell: the system does, and the run saves.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the benchmark that started this run is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
