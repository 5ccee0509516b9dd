"""Adapts StarCraft II (SMAC, SMACv2) and Google Research Football.

These adapters follow the games' published interfaces and are tested against
stand-ins; they have not been run with the games themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmix.envs.python.adapters import pymarl
from tfmix.envs.python.adapters.common import SeededGlobalRandom, build, load_module, version_of
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.errors import UserError

STARCRAFT = "and StarCraft II with the maps in ~/StarCraftII, or in the folder SC2PATH"
# How to install each game.
NEEDS = {
    "smac": f"pip install git+https://github.com/oxwhirl/smac.git, {STARCRAFT}",
    "smacv2": f"pip install git+https://github.com/oxwhirl/smacv2.git, {STARCRAFT}",
    "gfootball": "pip install gfootball, and what its engine is built with "
    "(https://github.com/google-research/football)",
}
# SMACv2's races: two common units, and a rarer third that cannot be a whole team.
RACES = {
    "terran": ("marine", "marauder", "medivac"),
    "protoss": ("stalker", "zealot", "colossus"),
    "zerg": ("zergling", "hydralisk", "baneling"),
}
# Number of attackers in football's academy scenarios; the game plays the keeper.
ACADEMY = {
    "academy_pass_and_shoot_with_keeper": 2,
    "academy_run_pass_and_shoot_with_keeper": 2,
    "academy_3_vs_1_with_keeper": 3,
    "academy_counterattack_easy": 4,
    "academy_counterattack_hard": 4,
}


def _package(name: str, module: str) -> Any:
    """Import a module of a game's package.

    Raises:
      UserError: the package is missing, with what to install, or it cannot be
        imported.
    """
    package = module.split(".")[0]
    try:
        return load_module(name, module)
    except UserError as error:
        lost = error.__cause__
        if isinstance(lost, ModuleNotFoundError) and lost.name == package:
            raise UserError(f"{name} needs the package {package}: {NEEDS[package]}") from error
        raise


def smac(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """Make the StarCraft Multi-Agent Challenge on the map `target` (Samvelyan et al. 2019).

    Arguments are passed to `StarCraft2Env`. The game draws from the seed with
    which the first episode of a run launched it, so single episodes cannot be
    repeated. At its time limit SMAC terminates an episode, unless
    `--env_arg=continuing_episode=true`.

    Raises:
      UserError: SMAC is missing, there is no such map, or the game does not start.
    """
    make = _package(name, "smac.env").StarCraft2Env
    env = build(name, make, **{"map_name": target, **arguments})
    return pymarl.as_team(env, name, team_reward, episode_limit)


def teams(target: str, n_units: int, n_enemies: int) -> dict[str, Any]:
    """Return SMACv2's teams and start positions for a map's race (Ellis et al. 2023).

    Raises:
      UserError: the map's name has none of the races.
    """
    race = next((units for word, units in RACES.items() if word in target), None)
    if race is None:
        raise UserError(
            f"smacv2/{target} names none of {', '.join(RACES)}: "
            "give --env_arg=capability_config=..."
        )
    return {
        "n_units": n_units,
        "n_enemies": n_enemies,
        "team_gen": {
            "dist_type": "weighted_teams",
            "unit_types": list(race),
            "exception_unit_types": [race[2]],
            "weights": [0.45, 0.45, 0.1],
            "observe": True,
        },
        "start_positions": {
            "dist_type": "surrounded_and_reflect",
            "p": 0.5,
            "map_x": 32,
            "map_y": 32,
        },
    }


def smacv2(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """Make SMACv2 on the map `target`, such as 10gen_terran.

    `n_units` and `n_enemies` (5 each) or a whole `capability_config` define the
    teams; other arguments are passed to its `StarCraft2Env`, with sights and
    ranges as in its published examples. Its generators of teams and start
    positions take no seed.

    Raises:
      UserError: SMACv2 is missing, there is no such map, or the game does not start.
    """
    make = _package(name, "smacv2.env.starcraft2.wrapper").StarCraftCapabilityEnvWrapper
    given = {
        "map_name": target,
        "conic_fov": False,
        "use_unit_ranges": True,
        "min_attack_range": 2,
        "obs_own_pos": True,
        **arguments,
    }
    n_units = given.pop("n_units", 5)
    n_enemies = given.pop("n_enemies", n_units)
    if "capability_config" not in given:
        given["capability_config"] = teams(target, n_units, n_enemies)
    return pymarl.as_team(build(name, make, **given), name, team_reward, episode_limit)


class FootballTeam:
    """Google Research Football with PettingZoo's parallel interface, an agent per left player.

    All agents have the same actions. The game has no state. An episode is
    truncated when the raw observation's `steps_left` is 0.

    Args:
      env: result of `gfootball.env.create_environment`.
      n_agents: N.
    """

    limit_from = "game_duration of the scenario"

    def __init__(self, env: Any, n_agents: int):
        self.env, self.possible_agents = env, list(range(n_agents))
        self.agents: list[int] = []
        self.episode_limit = int(env.unwrapped._config.ScenarioConfig().game_duration)
        self._random = SeededGlobalRandom()  # every reset draws the engine's seed from `random`

    def action_space(self, agent: int) -> Any:
        """Return the game's action space, 19 actions by default."""
        from gymnasium import spaces

        return spaces.Discrete(int(self.env.action_space.nvec[agent]))

    def observation_space(self, agent: int) -> Any:
        """Return the space of the agent's row of the observations."""
        from gymnasium import spaces

        shape = self.env.observation_space.shape[1:]
        return spaces.Box(-np.inf, np.inf, shape, np.float32)

    def reset(self, seed: int) -> tuple[dict[int, Any], dict[Any, Any]]:
        """Start an episode."""
        self._random.seed(seed)
        with self._random:
            given = self.env.reset()
        self.agents = list(self.possible_agents)
        return dict(enumerate(given[0] if isinstance(given, tuple) else given)), {}

    def step(self, actions: Mapping[int, int]) -> tuple[Any, ...]:
        """Play a step; there is one reward for each player."""
        with self._random:
            rows, rewards, *ends, info = self.env.step([actions[a] for a in self.possible_agents])
        done = any(ends)
        cut = done and self.env.unwrapped.observation()[0]["steps_left"] == 0
        if done:
            self.agents = []
        over, cuts = (dict.fromkeys(self.possible_agents, f) for f in (done and not cut, cut))
        return dict(enumerate(rows)), dict(enumerate(rewards)), over, cuts, dict(info)

    def close(self) -> None:
        """Close the game."""
        self.env.close()


def football(
    target: str, name: str, team_reward: str, episode_limit: int, arguments: dict[str, Any]
) -> TeamEnv:
    """Make Google Research Football's scenario `target` (Kurach et al. 2020).

    `n_agents` left players are the team; in the academy's scenarios the default is
    the attackers. Other arguments are passed to `create_environment`. By default
    `rewards` is `scoring`, with which all players receive the score, and
    `representation` is `simple115v2`.

    Raises:
      UserError: the game is missing, the number of agents is unknown, or there is
        no such scenario.
    """
    create = _package(name, "gfootball.env").create_environment
    given = {"representation": "simple115v2", "rewards": "scoring", **arguments}
    n_agents = given.pop("n_agents", ACADEMY.get(target))
    if type(n_agents) is not int or n_agents < 2:
        raise UserError(
            f"{name} needs the number of agents, 2 or more, such as --env_arg=n_agents=3"
        )
    given["number_of_left_players_agent_controls"] = n_agents
    env = build(name, create, env_name=target, **given)
    team = build(name, FootballTeam, env, n_agents)
    return TeamEnv(team, name, team_reward, episode_limit, version_of(target, "gfootball"))
