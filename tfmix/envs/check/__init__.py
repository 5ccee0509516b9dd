"""Checks an environment: plays a random team in it and reports what is wrong.

This imports no TensorFlow, unless the environment is a graph environment.
"""

from __future__ import annotations

import dataclasses
import functools
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmix import UNGUARDED, envs
from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.envs.check.findings import Findings
from tfmix.envs.check.observer import SourceObserver
from tfmix.envs.check.play import EpisodeRunner, PlayedEpisode
from tfmix.envs.check.repeat import check_seed, measure_speed
from tfmix.envs.check.report import Report
from tfmix.envs.check.summary import summarize
from tfmix.envs.kinds import kind_of
from tfmix.envs.python import EnvError
from tfmix.envs.python.adapters import custom
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.envs.python.workers.child import ParentLink
from tfmix.envs.python.workers.handle import CLOSE_SECONDS, WorkerHandle, pickled
from tfmix.envs.python.workers.progress import (
    BUILD,
    HUNG,
    MEASURE,
    REFUSED,
    RESET,
    SLOT,
    STEP,
    Failure,
    Progress,
)
from tfmix.envs.python.workers.resources import allow_files, new_memory, not_started
from tfmix.envs.python.workers.stepper import close_envs
from tfmix.envs.python.workers.worker import build_env
from tfmix.errors import UserError
from tfmix.utils.quiet import quiet_import
from tfmix.utils.text import clean, of_error

EPISODES = 20
PLAY_SECONDS = 5.0  # after that no further episode starts; two are always played
SPEED_SECONDS = 0.4


def check_env(env: Any = None, episodes: int = EPISODES, **settings: Any) -> Report:
    """Plays a random team in an environment, and reports what it is and what is wrong with it.

    The environment runs in a separate process, so that a hang, a crash or an exit
    is a finding. The calling process checks environments that are given as objects,
    graph environments of tfmix, factories that cannot be pickled and, with
    env_workers=0, all environments; there a hang lasts and a crash ends the
    program.

    Args:
      env: a name of `--mode=list`, or your environment (it is left open) or factory
        of environments, in any interface of docs/environments.md.
      episodes: largest number of episodes to play, at least one; slow environments
        play fewer.
      **settings: settings of docs/settings.md by name: env_arg, team_reward,
        time_limit, episode_limit, seed, n_envs, env_timeout_seconds, and
        env_workers, of which only 0 makes a difference.

    Returns:
      what was found; print it to read it.

    Raises:
      UserError: the environment cannot be made or started.
    """
    is_name = env is None or isinstance(env, str)
    if not is_name:
        settings["env"] = custom.name_for(env)
    elif env is not None:
        settings["env"] = env
    config, episodes = resolve.resolve(settings), max(1, episodes)
    names = (config.env, config.team_reward, config.episode_limit)
    if is_name and envs.is_graph(config.env):
        return _check(functools.partial(_make_graph, config), config, episodes)
    if is_name:
        factory = functools.partial(envs.make_python, config.env, config)
    elif custom.is_instance(env):
        return _check(lambda: custom.adapt(env, *names), config, episodes, is_ours=False)
    else:
        factory = functools.partial(custom.make_from_factory, env, *names)
    parcel = pickled(factory) if config.env_workers else None
    report = _check_in_process(parcel, config, episodes) if parcel else None
    return report or _check(factory, config, episodes)


def _make_graph(config: Config) -> Any:
    """Makes a graph environment of tfmix."""
    quiet_import("tensorflow")
    return envs.make_graph(config.env, config)


def _check(
    factory: Callable[[], Any],
    config: Config,
    episodes: int,
    reporter: Progress | None = None,
    say: Callable[[Report], None] = lambda report: None,
    is_ours: bool = True,
) -> Report:
    """Makes an environment, examines it and closes it.

    Args:
      factory: makes the environment.
      config: the settings.
      episodes: largest number of episodes.
      reporter: reports what this process does; None if no process reads it.
      say: receives the report so far before the first and after every episode.
      is_ours: whether to close the environment.
    """
    reporter = reporter or Progress.of_this_process()
    made, compiled = build_env(factory, config.env, reporter), None
    try:
        if kind_of(made).in_graph:
            from tfmix.envs.check import graph

            compiled, made = made, graph.GraphEnvAsPython(made)
        return _examine(made, compiled, config, episodes, reporter, say)
    finally:
        if is_ours:
            close_envs([made], config.env, reporter)


# In a separate process.


def _check_in_process(parcel: bytes, config: Config, episodes: int) -> Report | None:
    """Checks an environment in a separate process.

    Returns:
      the report; None if the process cannot import the user's script, because the
      script checks or trains as soon as it is imported.

    Raises:
      UserError: the environment cannot be made or started.
    """
    allow_files(1)
    try:
        file, slots = new_memory(SLOT)
        progress = Progress(slots)
        handle = WorkerHandle(
            _work, (parcel, config, episodes), file, (progress, 0), clean(config.env, 100)
        )
    except OSError as error:
        raise not_started(1, error) from error
    report: Report | None = None
    try:
        while True:
            answer = handle.wait(config.env_timeout_seconds)
            if isinstance(answer, Failure):
                return _interrupted_report(report, answer, progress, config)
            done, report = answer
            if done:
                handle.pipe.close()
                handle.shut_down(time.monotonic() + CLOSE_SECONDS)
                return report
    finally:
        handle.end()


def _work(link: ParentLink, parcel: bytes, config: Config, episodes: int) -> None:
    """Checks an environment in this child; sends (is complete, report) after every episode."""

    def say(report: Report) -> None:
        link.is_built = True
        link.send((False, report))

    factory = link.progress.call(BUILD, pickle.loads, parcel)
    link.send((True, _check(factory, config, episodes, link.progress, say)))


def _interrupted_report(
    report: Report | None, failure: Failure, progress: Progress, config: Config
) -> Report | None:
    """Returns the report of an environment that hung or ended its process.

    Raises:
      UserError: it did so before there was a report.
    """
    if failure.kind == UNGUARDED:
        return None
    if report is None:
        text = f"{clean(config.env, 100)}: the environment's process {failure.text}"
        raise UserError(failure.text if failure.kind == REFUSED else text)
    findings = Findings()
    stage, _, episode, step = progress.now()
    if stage in (RESET, STEP):
        findings.episode, findings.step = episode, step
    findings.add("hung" if failure.kind == HUNG else "died", text=failure.text)
    return dataclasses.replace(
        report, violations=[*report.violations, *findings.all(warnings=False)]
    )


class ReportingRunner(EpisodeRunner):
    """An `EpisodeRunner` that reports every call, and records an exit as a finding.

    Args:
      reporter: reports what this process does.
      *arguments: arguments of `EpisodeRunner`.
    """

    def __init__(self, reporter: Progress, *arguments: Any):
        super().__init__(*arguments)
        self._reporter = reporter

    def _call(self, episode: PlayedEpisode, what: str, *arguments: Any) -> Any:
        stage = RESET if what == "reset" else STEP
        self._reporter.begin(stage, self.findings.episode, self.findings.step)
        try:
            given = self._reporter.call(stage, super()._call, episode, what, *arguments)
            self._reporter.refuse_copies(self.spec.name)
        except (SystemExit, GeneratorExit) as error:
            text = f"{what}() raised {of_error(error, 200)}"
        except EnvError as error:
            text = clean(error).removeprefix(f"{self.spec.name}: ")
        else:
            return given
        episode.over = "broken"
        self.findings.add("raised", what=what, text=text)
        return None


def _examine(
    env: Any,
    compiled: Any,
    config: Config,
    episodes: int,
    reporter: Progress,
    say: Callable[[Report], None],
) -> Report:
    """Plays episodes, repeats some, measures the speed, and returns the report.

    Args:
      env: a Python environment.
      compiled: the graph environment that `env` steps, or None.
      config: the settings.
      episodes: largest number of episodes.
      reporter: reports what this process does.
      say: receives the report so far before the first and after every episode.
    """
    findings, observer, limit_from, must_end = Findings(), None, "its spec", True
    if isinstance(env, TeamEnv):
        limit_from, must_end = env.limit_from, env.must_end
        observer = SourceObserver(env, findings)
    else:
        _try_reset(env, reporter)
    runner = ReportingRunner(reporter, env, observer, findings, config.seed, limit_from, must_end)

    def shown(played: list[PlayedEpisode]) -> dict[str, str]:
        return summarize(runner, limit_from, config.time_limit, played)

    def report(
        played: list[PlayedEpisode], shown: dict[str, str], speed: str = "not measured"
    ) -> Report:
        env_steps = sum(len(episode.rewards) for episode in played)
        return Report(
            name=env.spec.name,
            version=env.spec.version if observer else f"version {env.spec.version}",
            rows={**shown, "speed": speed},
            violations=findings.all(warnings=False),
            warnings=findings.all(warnings=True),
            played=f"{len(played):,} episode{'s' * (len(played) != 1)}, {env_steps:,} env steps",
        )

    played = _play(runner, config.seed, episodes, lambda played: say(report(played, shown(played))))
    summary = shown(played)  # repeated episodes do not count
    if played[0].over != "broken":
        check_seed(runner, played[0], played[1:])
    if observer is not None:
        observer.detach()
    return report(played, summary, _speed(env, compiled, config, findings, reporter))


def _try_reset(env: Any, reporter: Progress) -> None:
    """Raises UserError if the first reset fails, as `TeamEnv` does."""
    reporter.begin(RESET)
    try:
        reporter.call(RESET, env.reset, 0)
    except (Exception, SystemExit, GeneratorExit) as error:
        text = f"{clean(env.spec.name, 100)}: reset() raised {of_error(error)}"
        raise UserError(text) from error


def _play(
    runner: EpisodeRunner, seed: int, count: int, say: Callable[[list[PlayedEpisode]], None]
) -> list[PlayedEpisode]:
    """Plays up to `count` episodes, and keeps the frames of the first."""
    seeds = np.random.SeedSequence(seed).generate_state(count) >> 1
    begin = time.perf_counter()
    played: list[PlayedEpisode] = []
    say(played)
    while len(played) < count:
        if len(played) > 1 and time.perf_counter() - begin > PLAY_SECONDS:
            break
        played.append(runner.play(int(seeds[len(played)]), keep=not played))
        say(played)
    return played


def _speed(env: Any, compiled: Any, config: Config, findings: Findings, reporter: Progress) -> str:
    """Measures the environment's speed and returns it as text."""
    reporter.begin(MEASURE)
    if compiled is not None:
        from tfmix.envs.check import graph

        return graph.measure_speed(compiled, config, SPEED_SECONDS, findings)
    try:
        found = reporter.call(MEASURE, measure_speed, env, config.seed, SPEED_SECONDS)
    except (SystemExit, GeneratorExit):  # it is a finding already
        found = None
    if found is None:
        return "not measured, it broke"
    return f"{found:,.0f} env steps a second (one environment in this process)"
