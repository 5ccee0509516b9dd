"""Runs in a worker process: builds and plays some of the environments, without TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tfmix.envs.agents import agent_shapes
from tfmix.envs.kinds import Kind, kind_of
from tfmix.envs.metrics import MOST_METRICS, names_of
from tfmix.envs.python import EnvError
from tfmix.envs.python.workers.buffers import EpisodeBuffers, make_buffers
from tfmix.envs.python.workers.child import ParentLink
from tfmix.envs.python.workers.progress import BUILD, RESET, STEP, Progress
from tfmix.envs.python.workers.stepper import Stepper, agent_names, close_envs
from tfmix.errors import UserError
from tfmix.networks.agent_spec import AgentSpec
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.types import AgentShape, EnvSpec
from tfmix.utils.text import clean

PLAY, READY = range(2)  # messages to and from the parent


class About(NamedTuple):
    """Describes the first environment that a worker builds.

    Attributes:
      spec: the shape of the task; None for a graph environment.
      agents: names of the agents.
      notices: what a user should know before a training, one sentence per entry.
      metric_names: names of the metrics of an episode.
      shapes: the agents' names and observation sizes, for run.json.
    """

    spec: EnvSpec | None
    agents: Sequence[Any] = ()
    notices: Sequence[str] = ()
    metric_names: Sequence[str] = ()
    shapes: Sequence[AgentShape] = ()


class Job(NamedTuple):
    """Tells a worker what to play and where the shared memory holds what.

    Attributes:
      spec: the shape of the task, which every environment must have.
      n_envs: number of rows in the buffers.
      agent_spec: shape of the team's networks.
      offsets: offsets of the buffers and of the weights in the shared memory.
      size: bytes of the shared memory.
      cut_is_terminal: whether a time limit counts as termination.
      metric_names: names of the metrics of an episode.
    """

    spec: EnvSpec
    n_envs: int
    agent_spec: AgentSpec
    offsets: tuple[int, int]
    size: int
    cut_is_terminal: bool
    metric_names: Sequence[str] = ()


def run_worker(link: ParentLink, factory: bytes, rows: Sequence[int]) -> None:
    """Build the environments of `rows` and play them on request, until the pipe is closed.

    The parent sends None if it wants an `About` of the first environment, then a
    `Job`; this worker answers READY. After each PLAY it answers once its rows are
    played, with the names of metrics that came too late, see `Stepper.late`.

    Args:
      link: connection to the parent.
      factory: makes an environment; pickled.
      rows: this worker's rows of the buffers.
    """
    reporter, name = link.progress, link.name
    envs: list[Any] = []
    link.on_exit.callback(close_envs, envs, name, reporter)
    job = link.receive()
    make = reporter.call(BUILD, pickle.loads, factory)
    if job is None:
        envs.append(build_env(make, name, reporter))
        link.send(describe_env(envs[0], name, reporter))
        job = link.receive()
    for _ in rows[len(envs) :]:
        envs.append(build_env(make, name, reporter))
    for env in envs:
        if (spec := as_env_spec(env.spec)) != job.spec:
            raise UserError(
                f"{name} has another shape when it is built again, {spec}: build the same "
                "environment every time"
            )
    buffers, team = map_memory(job, mmap.mmap(link.memory, job.size))
    by_row = dict(zip(rows, envs, strict=True))
    stepper = Stepper(buffers, by_row, job.cut_is_terminal, reporter, job.metric_names)
    link.is_built = True
    link.send(READY)
    while link.receive() == PLAY:
        stepper.play(team)
        link.send(sorted(stepper.late)[:MOST_METRICS])
        stepper.late.clear()


def map_memory(job: Job, memory: Any) -> tuple[EpisodeBuffers, NumpyTeam]:
    """Return the buffers and the team that the shared memory holds."""
    view = memoryview(memory)
    buffers = make_buffers(job.spec, job.n_envs, view[job.offsets[0] :], len(job.metric_names))
    return buffers, NumpyTeam(job.agent_spec, view[job.offsets[1] :])


def build_env(make: Callable[[], Any], name: str, reporter: Progress) -> Any:
    """Build an environment.

    Raises:
      UserError: a forked copy of this process returned too.
    """
    reporter.begin(BUILD)
    env = reporter.call(BUILD, make)
    try:
        reporter.refuse_copies(name)
    except EnvError as error:
        raise UserError(str(error)) from error
    return env


def describe_env(env: Any, name: str, reporter: Progress) -> About:
    """Rehearse the first environment, if its adapter can, and describe it.

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
    agents = [_printable(agent) for agent in agent_names(env)]
    return About(as_env_spec(env.spec), agents, notices, names_of(env), agent_shapes(env))


def as_env_spec(spec: EnvSpec) -> EnvSpec:
    """Return `spec` as a plain EnvSpec; a subclass would make the parent import its module."""
    return EnvSpec(**{f.name: getattr(spec, f.name) for f in dataclasses.fields(EnvSpec)})


def _printable(agent: Any) -> Any:
    """Return an agent's name as a number or a short text."""
    return agent if type(agent) is int else clean(agent, 60)


@contextlib.contextmanager
def _reporting_calls(env: Any, reporter: Progress) -> Iterator[None]:
    """Report every reset and step of an adapted environment, as a context."""

    def reporting(stage: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            reporter.begin(stage)
            return reporter.call(stage, function, *arguments)

        return call

    env.reset, env.step = reporting(RESET, env.reset), reporting(STEP, env.step)
    try:
        yield
    finally:
        del env.reset, env.step
