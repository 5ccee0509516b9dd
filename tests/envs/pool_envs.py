"""Environments that worker processes of `test_pool.py` build; no TensorFlow here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tfmix.types import EnvSpec

LIMIT = 6
BUILD = -1  # as `at`
BIG = "\x1b[2J" + "x" * 5_000_000


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def start_child():
    """Leaves a process in the group of this one, which holds its standard output."""
    subprocess.Popen(["sleep", CHILD_SECONDS])


def scream():
    print("a board on fire", file=sys.stderr)
    os.abort()


CHILD_SECONDS = "1234.5"
# What an environment may do in place of an answer.
FAULTS = {
    "abort": scream,
    "child": start_child,
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "fork": os.fork,
    "hang": lambda: time.sleep(60),
    "os._exit": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(0),
}
RAISED = {
    "raise": ValueError("off the\nboard"),
    "big": ValueError(BIG),
    "interrupt": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "pipe": BrokenPipeError(),
    "end of file": EOFError(),
    "unspeakable": UnspeakableError(),
}


def strike(fault):
    """Does what `fault` says, or nothing if that is no fault of this kind."""
    FAULTS.get(fault, lambda: None)()
    if fault in RAISED:
        raise RAISED[fault]


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Walk:
    """Two agents add noise and their actions; episodes of 2 to 6 steps.

    Args:
      fault: what goes wrong, for the one whose file `once` it can make.
      at: steps of the episode before it does; 0 is the reset, BUILD the constructor.
      once: a file that is there once it has gone wrong; empty: always.
    """

    spec = EnvSpec("walk", 2, 3, 2, 4, LIMIT, (3, 3))
    agent_names = ["left", "right"]

    def __init__(self, fault="", at=2, once=""):
        self.fault, self.at, self.once = fault, at, once
        if fault == "build":
            raise RuntimeError("no board\nto walk on")
        if self.at == BUILD:
            strike(fault)

    def look(self):
        obs = np.stack([self.place, self.noise.random(2)]).astype(np.float32)
        state = np.asarray([*self.place, self.length, 0], np.float32)
        legal = np.asarray([[True, True, self.clock % 2 == 0]] * 2)
        if self.fault and self.clock == self.at and self.strikes():
            if self.fault == "nan":
                obs[1, 0] = np.nan
            if self.fault == "shape":
                obs = obs[:1]
            if self.fault == "tensorflow":
                state[3] = "tensorflow" in sys.modules
                state[:3] = [int(os.environ[n]) for n in THREADS]
            if self.fault == "legal":
                legal[0] = False
        return obs, state, legal

    def strikes(self):
        if not self.once:
            return True
        try:
            Path(self.once).open("x").close()
        except FileExistsError:
            return False
        return True

    def misbehave(self):
        if self.clock == self.at and (self.fault in {**FAULTS, **RAISED}) and self.strikes():
            strike(self.fault)

    def reset(self, seed):
        self.noise = np.random.default_rng(seed)
        self.place, self.clock = self.noise.random(2), 0
        self.length = int(self.noise.integers(2, LIMIT + 1))
        self.misbehave()
        return self.look()

    def step(self, action):
        assert self.clock < self.length, "stepped behind the end"
        self.clock += 1
        self.misbehave()
        self.place = self.place + action + self.noise.random(2)
        over, even = self.clock >= self.length, self.length % 2 == 0
        reward = float(self.place.sum())
        if self.fault == "reward" and self.clock == self.at:
            reward = np.inf
        return (*self.look(), reward, over and even, over and not even, {})

    def close(self):
        if self.fault == "close":
            raise OSError("the board is locked")


def pid_of(directory):
    """A `Walk` that leaves a file named after its process."""
    (Path(directory) / str(os.getpid())).touch()
    return Walk()


class Rehearsed(Walk):
    """A `Walk` that starts episodes before a training, as `TeamEnv` does."""

    def rehearse(self):
        self.reset(0)
        return True


class Odd(Walk):
    """A `Walk` that gives one thing that is not of the kind that it should be."""

    def __init__(self, name="", value=None):
        super().__init__()
        self.name, self.value = name, value

    def step(self, action):
        names = ("obs", "state", "legal", "reward", "terminated", "truncated", "info")
        given = dict(zip(names, super().step(action), strict=True))
        if self.name:
            given[self.name] = self.value
        return tuple(given.values())


class Worsening(Walk):
    """A `Walk` with NaN in its first episodes that hangs in its third."""

    episode = 0

    def reset(self, seed):
        self.episode += 1
        self.fault = "hang" if self.episode == 4 else "nan"  # one reset comes before the play
        return super().reset(seed)
