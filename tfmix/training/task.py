"""Opens a run's task: the environment's shape, its collector, the plan of its replay."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tfmix import envs
from tfmix.algos.base import Algorithm
from tfmix.config.schema import Config
from tfmix.envs.agents import agent_shapes
from tfmix.envs.kinds import Kind, kind_of
from tfmix.envs.metrics import names_of
from tfmix.envs.python.adapters import custom
from tfmix.envs.python.workers import pool
from tfmix.envs.python.workers.progress import RESET, Progress
from tfmix.envs.python.workers.worker import build_env
from tfmix.errors import UserError
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.collect_python import PythonCollector
from tfmix.training.playing import check_playing_memory
from tfmix.training.replay_size import ReplayPlan, plan_replay
from tfmix.types import AgentShape, Collector, EnvSpec, Episode, Played, VectorEnv
from tfmix.utils.text import clean, tell


@dataclasses.dataclass(frozen=True)
class Task:
    """Opened environment of a run, with the plan of its replay.

    Attributes:
      config: the settings.
      spec: the environment's shape.
      replay: the replay's capacity and device; None for a task that is only played.
      metric_names: names of the environment's metrics of an episode.
      agents: names and observation sizes of the agents; empty if they are not known.
      make_collector: (algorithm) -> the `GraphCollector` or `PythonCollector` that
        plays episodes with it.
    """

    config: Config
    spec: EnvSpec
    replay: ReplayPlan | None
    make_collector: Callable[[Algorithm], Collector]
    metric_names: Sequence[str] = ()
    agents: Sequence[AgentShape] = ()


def open_task(
    config: Config,
    env: Any = None,
    to_train: bool = True,
    metric_names: Sequence[str] | None = None,
) -> Task:
    """Open an environment to train or to play in.

    Args:
      config: the settings, with the environment's name and arguments.
      env: an environment of the user or a factory of such, in any interface of
        docs/environments.md; None for the environment that `config` names.
      to_train: plan the replay too, before more environments are built.
      metric_names: names of the metrics; None for those that the environment reports.

    Raises:
      UserError: no such environment, or the task needs more memory than is available.
    """
    factory: Callable[[], Any] | None = None
    first_env: Any = None
    if env is None and envs.is_graph(config.env):
        first_env = envs.make_graph(config.env, config)
    elif env is None:
        factory = functools.partial(envs.make_python, config.env, config)
    elif custom.is_instance(env):
        first_env = custom.adapt(env, config.env, config.team_reward, config.episode_limit)
    else:
        names = (config.env, config.team_reward, config.episode_limit)
        factory = functools.partial(custom.make_from_factory, env, *names)
    workers = pool.start(factory, config)
    if workers is not None and workers.spec is None:  # a graph environment: compiled here
        workers.close()
        workers = None
    if workers is None:
        return _open_in_process(config, first_env, factory, to_train, metric_names)
    if metric_names is not None:
        workers.metric_names = metric_names
    try:
        replay = _plan_memory(config, workers.spec, to_train)
        _report_notices(workers.spec, workers.about.notices)
        workers.open()
    except BaseException:
        workers.close()
        raise
    make_collector = _python_collector_of(workers, factory)
    shapes = workers.about.shapes
    return Task(config, workers.spec, replay, make_collector, workers.metric_names, shapes)


def _open_in_process(
    config: Config,
    first_env: Any,
    factory: Callable[[], Any] | None,
    to_train: bool,
    metric_names: Sequence[str] | None,
) -> Task:
    """Open environments that this process steps or compiles.

    Args:
      config: the settings.
      first_env: an environment; None if `factory` makes it.
      factory: makes an environment; None if `first_env` is the only one.
      to_train: plan the replay too.
      metric_names: as in `open_task`.

    Raises:
      UserError: as `open_task`, or one environment was given and n_envs is larger.
    """
    reporter = Progress.of_this_process()
    given, one_more = first_env, factory
    if factory is not None:
        factory = functools.partial(build_env, factory, config.env, reporter)
        first_env = factory()
    replay = _plan_memory(config, first_env.spec, to_train)
    if kind_of(first_env).in_graph:
        cut_is_terminal = config.time_limit == "terminal"
        names = names_of(first_env) if metric_names is None else metric_names
        return Task(
            config,
            first_env.spec,
            replay,
            lambda algorithm: GraphCollector(
                first_env,
                algorithm.act,
                algorithm.agent_spec.policy_state_size,
                cut_is_terminal,
                names,
            ),
            names,
            agent_shapes(first_env),
        )
    if kind_of(first_env) is Kind.ADAPTED:
        _report_notices(first_env.spec, reporter.call(RESET, first_env.rehearse))
    if factory is None and config.n_envs > 1:
        raise UserError(
            f"one environment was given and n_envs={config.n_envs}: give a factory, such as the "
            "environment's class, or set n_envs=1"
        )
    others = [factory() for _ in range(config.n_envs - 1)] if factory else []
    names = names_of(first_env) if metric_names is None else metric_names
    in_process = pool.in_process([first_env, *others], config, names)
    one_more = one_more or (lambda: given)
    make_collector = _python_collector_of(in_process, one_more)
    shapes = agent_shapes(first_env)
    return Task(config, first_env.spec, replay, make_collector, names, shapes)


def _plan_memory(config: Config, spec: EnvSpec, to_train: bool) -> ReplayPlan | None:
    """Plan the replay; raise UserError if the task needs more memory than is available."""
    replay = plan_replay(config, spec) if to_train else None
    check_playing_memory(spec, config.eval_episodes)
    return replay


def _report_notices(spec: EnvSpec, notices: Iterable[str]) -> None:
    """Print the notices that the rehearsal of an environment gave."""
    for notice in notices:
        tell(f"tfmix: {clean(spec.name, 100)} {clean(notice)}")


def _python_collector_of(
    vector_env: VectorEnv, one_more: Callable[[], Any] | None
) -> Callable[[Algorithm], Collector]:
    """Return a function from an algorithm to the collector of these environments."""
    return lambda algorithm: PythonCollector(
        vector_env, lambda: NumpyTeam.of(algorithm.live.agent), one_more
    )


def task_without_env(
    config: Config, spec: EnvSpec, folder: Path, to_train: bool, metric_names: Sequence[str] = ()
) -> Task:
    """Return the task of a run folder whose environment is the user's and was not given.

    Its collector raises UserError when it is asked to play.

    Args:
      config: the settings.
      spec: the environment's shape.
      folder: the run folder.
      to_train: plan the replay too.
      metric_names: names of the environment's metrics of an episode.
    """
    replay = plan_replay(config, spec) if to_train else None
    missing = _MissingEnv(folder, config.env, spec, metric_names)
    return Task(config, spec, replay, lambda _: missing, metric_names)


class _MissingEnv:
    """Collector without an environment: the run folder does not hold it and may not import it."""

    compiled, restarts = False, 0

    def __init__(self, folder: Path, name: str, spec: EnvSpec, metric_names: Sequence[str]):
        self.folder, self.name, self.spec = folder, name, spec
        self.metric_names = metric_names

    def collect(self, *_: Any) -> Episode[Any]:
        """Raise UserError as `play`."""
        return self.play().episode

    def play(self, *_: Any) -> Played:
        """Raise UserError, because there is no environment to play in."""
        envs.check_import(self.name, self.folder)
        raise UserError(f"{self.folder} was trained on your own environment: pass it with env=...")

    def close(self) -> None:
        """Do nothing: no environment is open."""
