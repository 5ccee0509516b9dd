"""A process that plays some of the rows. What runs here imports no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tfmix.envs.kinds import Kind, kind_of
from tfmix.envs.python import EnvError
from tfmix.envs.python.workers.buffers import EpisodeBuffers, make_buffers
from tfmix.envs.python.workers.child import Line
from tfmix.envs.python.workers.progress import BUILD, RESET, STEP, Progress
from tfmix.envs.python.workers.stepper import Stepper, agent_names, close_envs
from tfmix.errors import UserError
from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.types import EnvSpec
from tfmix.utils.text import clean

PLAY, PLAYED, READY = range(3)  # messages to and from the parent


class About(NamedTuple):
    """What the first environment is.

    Attributes:
      spec: what is played; None if it is an environment of the graph.
      agents: names of the agents.
      notices: what a user should know before a training, a sentence each.
    """

    spec: EnvSpec | None
    agents: Sequence[Any] = ()
    notices: Sequence[str] = ()


class Job(NamedTuple):
    """What a worker does.

    Attributes:
      spec: what every environment's must be.
      n_envs: rows in all.
      agent_spec: of the team's networks.
      at: offsets of the rows and of the weights in the shared memory.
      size: bytes of the shared memory.
      cut_is_terminal: a time limit counts as termination.
    """

    spec: EnvSpec
    n_envs: int
    agent_spec: AgentSpec
    at: tuple[int, int]
    size: int
    cut_is_terminal: bool


def run_worker(line: Line, factory: bytes, own: Sequence[int]) -> None:
    """Builds the environments of the rows `own` and obeys until the line is closed.

    A `Job` comes, or None first, which asks for an `About` of the first
    environment before. READY goes back. Then PLAY comes and, when this worker's
    rows are played, PLAYED goes back.

    Args:
      line: to the parent.
      factory: pickled; makes an environment.
      own: this worker's rows.
    """
    reporter, name = line.progress, line.name
    envs: list[Any] = []
    line.last.callback(close_envs, envs, name, reporter)
    job = line.receive()
    make = reporter.call(BUILD, pickle.loads, factory)
    if job is None:
        envs.append(build_env(make, name, reporter))
        line.send(describe_env(envs[0], name, reporter))
        job = line.receive()
    for _ in own[len(envs) :]:
        envs.append(build_env(make, name, reporter))
    for env in envs:
        if (spec := as_env_spec(env.spec)) != job.spec:
            raise UserError(f"{name} is not the same when it is built again: {spec}")
    rows, team = map_memory(job, mmap.mmap(line.memory, job.size))
    stepper = Stepper(rows, dict(zip(own, envs, strict=True)), job.cut_is_terminal, reporter)
    line.plays = True
    line.send(READY)
    while line.receive() == PLAY:
        stepper.play(team)
        line.send(PLAYED)


def map_memory(job: Job, memory: Any) -> tuple[EpisodeBuffers, NumpyTeam]:
    """Returns the rows and the team that lie in the shared memory."""
    view = memoryview(memory)
    rows = make_buffers(job.spec, job.n_envs, view[job.at[0] :])
    return rows, NumpyTeam(job.agent_spec, view[job.at[1] :])


def build_env(make: Callable[[], Any], name: str, reporter: Progress) -> Any:
    """Builds an environment.

    Raises:
      UserError: it forked and came back twice.
    """
    reporter.begin(BUILD)
    env = reporter.call(BUILD, make)
    try:
        reporter.refuse_copies(name)
    except EnvError as error:
        raise UserError(str(error)) from error
    return env


def describe_env(env: Any, name: str, reporter: Progress) -> About:
    """Starts episodes of the first environment and returns what it is.

    Raises:
      UserError: it cannot be played.
    """
    kind = kind_of(env)
    if kind.in_graph:
        return About(None)
    notices: Sequence[str] = ()
    if kind is Kind.ADAPTED:
        with _reporting_calls(env, reporter):
            notices = env.rehearse()
        reporter.refuse_copies(name)
        reporter.begin(BUILD)
    return About(as_env_spec(env.spec), [_printable(agent) for agent in agent_names(env)], notices)


def as_env_spec(spec: EnvSpec) -> EnvSpec:
    """Returns `spec` as an EnvSpec itself; a subclass would have the parent import its module."""
    return EnvSpec(**{f.name: getattr(spec, f.name) for f in dataclasses.fields(EnvSpec)})


def _printable(agent: Any) -> Any:
    """Returns an agent's name as a number or a short text."""
    return agent if type(agent) is int else clean(agent, 60)


@contextlib.contextmanager
def _reporting_calls(env: Any, reporter: Progress) -> Iterator[None]:
    """Notes every reset and step of a `TeamEnv` inside."""

    def noted(stage: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            reporter.begin(stage)
            return reporter.call(stage, function, *words)

        return call

    env.reset, env.step = noted(RESET, env.reset), noted(STEP, env.step)
    try:
        yield
    finally:
        del env.reset, env.step
