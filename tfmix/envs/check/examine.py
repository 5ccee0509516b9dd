"""Builds an environment in this process, plays a random team in it and makes the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmix.config.schema import Config
from tfmix.envs.check.findings import Findings
from tfmix.envs.check.observer import SourceObserver
from tfmix.envs.check.play import EpisodeRunner, PlayedEpisode
from tfmix.envs.check.repeat import check_seed, measure_speed
from tfmix.envs.check.report import Report
from tfmix.envs.check.summary import summarize
from tfmix.envs.kinds import kind_of
from tfmix.envs.python import EnvError
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.envs.python.workers.progress import MEASURE, RESET, STEP, Progress
from tfmix.envs.python.workers.stepper import close_envs
from tfmix.envs.python.workers.worker import build_env
from tfmix.errors import UserError
from tfmix.utils.text import clean, of_error

PLAY_SECONDS = 5.0  # after that no further episode starts; two are always played
SPEED_SECONDS = 0.4


def check_here(
    factory: Callable[[], Any],
    config: Config,
    episodes: int,
    reporter: Progress | None = None,
    say: Callable[[Report], None] = lambda report: None,
    is_ours: bool = True,
) -> Report:
    """Make an environment, examine it and close it.

    Args:
      factory: makes the environment.
      config: the settings.
      episodes: largest number of episodes.
      reporter: reports what this process does; None if no process reads it.
      say: receives the present report before the first and after every episode.
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
    """Play episodes, repeat some, measure the speed, and return the report.

    Args:
      env: a Python environment.
      compiled: the graph environment that `env` steps, or None.
      config: the settings.
      episodes: largest number of episodes.
      reporter: reports what this process does.
      say: receives the present report before the first and after every episode.
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
    """Raise UserError if the first reset fails, as `TeamEnv` does."""
    reporter.begin(RESET)
    try:
        reporter.call(RESET, env.reset, 0)
    except (Exception, SystemExit, GeneratorExit) as error:
        text = f"{clean(env.spec.name, 100)}: reset() raised {of_error(error)}"
        raise UserError(text) from error


def _play(
    runner: EpisodeRunner, seed: int, count: int, say: Callable[[list[PlayedEpisode]], None]
) -> list[PlayedEpisode]:
    """Play up to `count` episodes, and keep the frames of the first."""
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
    """Measure the environment's speed and return it as text."""
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
