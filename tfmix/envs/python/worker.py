"""A process that plays some of the rows. What runs here imports no TensorFlow."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from tfmix import WORKER
from tfmix.config import UserError
from tfmix.envs.python import EnvError, EnvRaisedError
from tfmix.envs.python.rows import Stepper, make_rows
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.networks.layout import AgentLayout
from tfmix.types import EnvSpec

PLAY, PLAYED, READY, FAILED = range(4)  # bytes to and from the parent
# Kinds of failure. After the first three another try may go better; a BROKEN environment gives
# what its spec does not promise, a REFUSED one could not be built.
DIED, HUNG, RAISED, BROKEN, REFUSED = range(5)
FAREWELL_SECONDS = 5.0


def work(
    pipe: Connection,
    memory: Any,
    spec: EnvSpec,
    count: int,
    weights: Any,
    layout: AgentLayout,
    own: Sequence[int],
    factory: bytes,
    folder: str,
    cut_is_terminal: bool,
) -> None:
    """Builds the environments of the rows `own` and obeys until the pipe closes.

    Args:
      pipe: PLAY comes and, when this worker's rows are played, PLAYED goes back.
      memory: of the rows.
      spec: what every environment's must be.
      count: of all rows.
      weights: memory of the team's weights.
      layout: of the team's networks.
      own: this worker's rows.
      factory: pickled; makes an environment.
      folder: the current directory.
      cut_is_terminal: a time limit counts as termination.
    """
    _leave_home()
    fd = pipe.fileno()
    stepper: Stepper | None = None
    try:
        os.chdir(folder)
        rows, team = make_rows(spec, count, memory), NumpyTeam(layout, weights)
        stepper = Stepper(rows, _build(factory, spec, own), cut_is_terminal)
        os.write(fd, bytes([READY]))
        while os.read(fd, 1):
            stepper.play(team)
            os.write(fd, bytes([PLAYED]))
    except BrokenPipeError:
        pass  # nobody is left to tell
    except (Exception, SystemExit) as error:
        with contextlib.suppress(OSError):
            os.write(fd, bytes([FAILED]))
            pipe.send(_failure(error, stepper is None))
    if stepper is not None:
        with contextlib.suppress(Exception):
            stepper.close()


def _leave_home() -> None:
    """Makes the worker the parent's alone to stop.

    A session of its own keeps Ctrl-C at the terminal from it and from whatever
    its environments start, and lets the parent kill them all together.
    """
    os.environ.pop(WORKER, None)
    os.setsid()
    # Functions, not SIG_IGN: what the environments start would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    """Ends this process, hanging or not, some seconds behind its parent's end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        time.sleep(FAREWELL_SECONDS)
        os.killpg(0, signal.SIGKILL)


def _build(factory: bytes, spec: EnvSpec, own: Sequence[int]) -> dict[int, Any]:
    """An environment for each row."""
    make = pickle.loads(factory)
    envs = {row: make() for row in own}
    for env in envs.values():
        if env.spec != spec:
            raise UserError(f"{spec.name} is not the same when it is built again: {env.spec}")
    return envs


def _failure(error: BaseException, building: bool) -> tuple[int, str]:
    """Kind and words, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, EnvError) and not isinstance(error, EnvRaisedError):
        return (REFUSED if building else BROKEN), text
    if not isinstance(error, UserError | EnvError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return (REFUSED, text) if building else (RAISED, f"failed: {text}")
