"""Opens a task: its shape, and what builds its collector."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tfmix import envs
from tfmix.config.schema import Config
from tfmix.envs.kinds import Kind, kind_of
from tfmix.envs.python.adapters import custom
from tfmix.envs.python.workers import pool
from tfmix.envs.python.workers.progress import RESET, Progress
from tfmix.envs.python.workers.worker import build_env
from tfmix.errors import UserError
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.collect_python import PythonCollector
from tfmix.training.playing import check_playing
from tfmix.training.replay_size import check
from tfmix.types import EnvSpec
from tfmix.utils.text import clean, tell


def open_env(settings: Config, env: Any = None) -> tuple[EnvSpec, Callable[..., Any]]:
    """The task's shape, and what builds its collector from an algorithm.

    Args:
      settings: with the environment's name and arguments.
      env: None, or an environment or a factory of the user's instead of the
        name, in any interface of docs/environments.md.

    Raises:
      UserError: no such environment, or more memory than there is.
    """
    factory: Callable[[], Any] | None = None
    first: Any = None
    if env is None and envs.is_graph(settings.env):
        first = envs.make_graph(settings.env, settings)
    elif env is None:
        factory = functools.partial(envs.make_python, settings.env, settings)
    elif custom.is_instance(env):
        first = custom.adapt(env, settings.env, settings.team_reward, settings.episode_limit)
    else:
        names = (settings.env, settings.team_reward, settings.episode_limit)
        factory = functools.partial(custom.make_from_factory, env, *names)
    crew = pool.start(factory, settings)
    if crew is not None and crew.spec is None:  # of the graph, which this process compiles
        crew.close()
        crew = None
    if crew is None:
        return _open_here(settings, first, factory)
    try:
        _check_memory(settings, crew.spec)
        _tell_notices(crew.spec, crew.about.notices)
        crew.open()
    except BaseException:
        crew.close()
        raise
    return crew.spec, _collects(crew)


def _open_here(
    settings: Config, first: Any, factory: Callable[[], Any] | None
) -> tuple[EnvSpec, Callable[..., Any]]:
    """Opens environments that this process steps or compiles; as `open_env`.

    Args:
      settings: as `open_env`.
      first: an environment; None if `factory` makes it.
      factory: makes an environment; None if there is `first` alone.
    """
    reporter = Progress.of_this_process()
    if factory is not None:
        factory = functools.partial(build_env, factory, settings.env, reporter)
        first = factory()
    _check_memory(settings, first.spec)
    if kind_of(first).in_graph:
        cut = settings.time_limit == "terminal"
        return first.spec, lambda algorithm: GraphCollector(
            first, algorithm.act, algorithm.agent_spec.policy_state_size, cut
        )
    if kind_of(first) is Kind.ADAPTED:
        _tell_notices(first.spec, reporter.call(RESET, first.rehearse))
    if factory is None and settings.n_envs > 1:
        raise UserError(
            f"one environment was given and n_envs={settings.n_envs}: give a factory, or n_envs=1"
        )
    others = [factory() for _ in range(settings.n_envs - 1)] if factory else []
    return first.spec, _collects(pool.in_process([first, *others], settings))


def _check_memory(settings: Config, spec: EnvSpec) -> None:
    """Raises UserError if the task needs more memory than there is, before more is built."""
    check(settings, spec)  # an EpisodeReplay checks too
    check_playing(spec, settings.eval_episodes)


def _tell_notices(spec: EnvSpec, notices: Iterable[str]) -> None:
    """Prints what the rehearsal of an environment found worth knowing."""
    for notice in notices:
        tell(f"tfmix: {clean(spec.name, 100)} {clean(notice)}")


def _collects(vector_env: Any) -> Callable[..., Any]:
    """Returns what builds the collector of an `InProcess` or a `Pool` from an algorithm."""
    return lambda algorithm: PythonCollector(vector_env, lambda: NumpyTeam.of(algorithm.live.agent))


class MissingEnv:
    """Stands for the user's own environment, which no run folder holds or may import."""

    compiled = False

    def __init__(self, folder: Path, name: str, *_: Any):
        self.folder, self.name = folder, name

    def collect(self, *_: Any) -> Any:
        """Raises UserError: there is nothing to play in."""
        envs.check_import(self.name, self.folder)
        raise UserError(
            f"{self.folder} was trained on an environment of your own: give it with env=..."
        )

    def close(self) -> None:
        """Nothing to close."""
