"""The doctor for environments: plays a random team and says what it sees.

No TensorFlow here, unless the environment is one of the graph.
"""

from __future__ import annotations

import inspect
import time
from typing import Any

import numpy as np

from tfmix import config, envs
from tfmix.config import Config, UserError
from tfmix.envs.check.findings import Findings
from tfmix.envs.check.play import Episode, Player
from tfmix.envs.check.repeat import check_seed, speed
from tfmix.envs.check.report import Report
from tfmix.envs.check.rows import rows
from tfmix.envs.check.source import Witness
from tfmix.envs.python import own
from tfmix.envs.python.team import TeamEnv
from tfmix.quiet import quiet_import

EPISODES = 20
PLAY_SECONDS = 5.0  # then no further episode is started; two are always played
SPEED_SECONDS = 0.4


def check_env(env: Any = None, episodes: int = EPISODES, **settings: Any) -> Report:
    """Plays a random team in an environment: what it is, and what is wrong with it.

    Args:
      env: a name of `--mode=list`, or an environment (it is left open) or a
        factory of yours in any interface of docs/environments.md.
      episodes: most episodes to play, at least one; fewer where they take long.
      **settings: settings of docs/settings.md by name. Those of environments
        count (env_arg, team_reward, time_limit, episode_limit), seed and n_envs.

    Returns:
      what was found; print it to read it.

    Raises:
      UserError: an environment that cannot be made or started.
    """
    is_name = env is None or isinstance(env, str)
    if not is_name:
        settings["env"] = own.name_of(env)
    elif env is not None:
        settings["env"] = env
    chosen = config.resolve(settings)
    is_made = own.is_made(env)
    if is_name:
        made = _make(chosen)
    else:
        take = own.adapt if is_made else own.call
        made = take(env, chosen.env, chosen.team_reward, chosen.episode_limit)
    in_graph: Any = None
    if "batch" in inspect.signature(made.reset).parameters:
        from tfmix.envs.check import graph

        in_graph, made = made, graph.Stepped(made)
    try:
        return _examine(made, in_graph, chosen, max(1, episodes))
    finally:
        if not is_made:
            made.close()


def _make(chosen: Config) -> Any:
    """The environment of a name."""
    if not envs.is_graph(chosen.env):
        return envs.make_python(chosen.env, chosen)
    quiet_import("tensorflow")
    return envs.make_graph(chosen.env, chosen)


def _examine(env: Any, in_graph: Any, chosen: Config, episodes: int) -> Report:
    """Plays, plays again, measures, and tells.

    Args:
      env: an environment of the Python lane.
      in_graph: the environment of the graph that `env` steps, or None.
      chosen: the settings.
      episodes: most episodes.
    """
    findings, watch, limit_from, must_end = Findings(), None, "its spec", True
    if isinstance(env, TeamEnv):
        limit_from, must_end = env.limit_from, env.must_end
        watch = Witness(env, findings)
    else:
        _try_reset(env)
    player = Player(env, watch, findings, chosen.seed, limit_from, must_end)
    played = _play(player, chosen.seed, episodes)
    told = rows(player, limit_from, chosen.time_limit, played)
    if played[0].over != "broken":
        check_seed(player, played[0], played[1:])
    if watch is not None:
        watch.detach()
    told["speed"] = _speed(env, in_graph, chosen, findings)
    env_steps = sum(len(episode.rewards) for episode in played)
    return Report(
        name=env.spec.name,
        version=env.spec.version if watch else f"version {env.spec.version}",
        rows=told,
        violations=findings.all(warnings=False),
        warnings=findings.all(warnings=True),
        played=f"{len(played):,} episode{'s' * (len(played) > 1)}, {env_steps:,} env steps",
    )


def _try_reset(env: Any) -> None:
    """Raises UserError where the first reset fails, as `TeamEnv` does."""
    try:
        env.reset(0)
    except Exception as error:
        text = f"{env.spec.name}: reset() raised {type(error).__name__}: {error}"
        raise UserError(text) from error


def _play(player: Player, seed: int, count: int) -> list[Episode]:
    """Up to `count` episodes; the frames of the first are kept."""
    seeds = np.random.SeedSequence(seed).generate_state(count) >> 1
    begin = time.perf_counter()
    played: list[Episode] = []
    while len(played) < count:
        if len(played) > 1 and time.perf_counter() - begin > PLAY_SECONDS:
            break
        played.append(player.play(int(seeds[len(played)]), keep=not played))
    return played


def _speed(env: Any, in_graph: Any, chosen: Config, findings: Findings) -> str:
    """How fast it is, in words."""
    if in_graph is not None:
        from tfmix.envs.check import graph

        return graph.speed(in_graph, chosen, SPEED_SECONDS, findings)
    found = speed(env, chosen.seed, SPEED_SECONDS)
    if found is None:
        return "not measured, it broke"
    return f"{found:,.0f} env steps a second (one environment in this process)"
