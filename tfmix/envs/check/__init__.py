"""Checks an environment: plays a random team in it and reports what is wrong.

This imports no TensorFlow, unless the environment is a graph environment.
"""

from __future__ import annotations

import functools
from typing import Any

from tfmix import envs
from tfmix.config import resolve
from tfmix.config.schema import FIELDS, Config
from tfmix.config.wording import in_python
from tfmix.envs.check.examine import check_here
from tfmix.envs.check.isolated import check_in_process
from tfmix.envs.check.report import Report
from tfmix.envs.python.adapters import custom
from tfmix.envs.python.workers.handle import pickled
from tfmix.errors import UserError
from tfmix.utils.quiet import quiet_import

EPISODES = 20
# The settings that it reads.
SETTINGS = (
    "env_arg",
    "team_reward",
    "time_limit",
    "episode_limit",
    "seed",
    "n_envs",
    "env_workers",
    "env_timeout_seconds",
)


@in_python
def check_env(env: Any = None, episodes: int = EPISODES, **settings: Any) -> Report:
    """Play a random team in an environment, and report what it is and what is wrong with it.

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
    for name in settings:
        if name in FIELDS and name not in SETTINGS:
            raise UserError(f"--{name} has no effect here: --mode=check_env does not read it")
    is_name = env is None or isinstance(env, str)
    if not is_name:
        settings["env"] = custom.name_for(env)
    elif env is not None:
        settings["env"] = env
    config, episodes = resolve.resolve(settings), max(1, episodes)
    names = (config.env, config.team_reward, config.episode_limit)
    if is_name and envs.is_graph(config.env):
        return check_here(functools.partial(_make_graph, config), config, episodes)
    if is_name:
        factory = functools.partial(envs.make_python, config.env, config)
    elif custom.is_instance(env):
        return check_here(lambda: custom.adapt(env, *names), config, episodes, is_ours=False)
    else:
        factory = functools.partial(custom.make_from_factory, env, *names)
    parcel = pickled(factory) if config.env_workers else None
    report = check_in_process(parcel, config, episodes) if parcel else None
    return report or check_here(factory, config, episodes)


def _make_graph(config: Config) -> Any:
    """Make a graph environment of tfmix."""
    quiet_import("tensorflow")
    return envs.make_graph(config.env, config)
