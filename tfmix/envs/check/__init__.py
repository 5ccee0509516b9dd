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
from tfmix.envs.check import play
from tfmix.envs.check.findings import Findings, listed
from tfmix.envs.check.report import Report
from tfmix.envs.check.source import Watch
from tfmix.envs.python import own
from tfmix.envs.python.common import build
from tfmix.envs.python.pymarl import PymarlTeam
from tfmix.envs.python.team import TeamEnv
from tfmix.types import TEAM_REWARD

EPISODES = 20
PLAY_SECONDS = 8.0  # of episodes; two are always played
SPEED_SECONDS = 0.4


def check_env(env: Any = None, episodes: int = EPISODES, **settings: Any) -> Report:
    """Plays a random team in an environment and lists what it is and what is wrong with it.

    Args:
      env: a name of `--mode=list`, or an environment or a factory of yours in
        any interface of docs/environments.md.
      episodes: most episodes to play; fewer where they take long.
      **settings: settings of docs/settings.md by name; those of environments
        count (env_arg, team_reward, time_limit, episode_limit), seed and n_envs.

    Returns:
      what was found; print it to read it.

    Raises:
      UserError: an environment that cannot be made or started.
    """
    if env is not None and not isinstance(env, str):
        settings["env"] = f"custom/{getattr(env, '__name__', type(env).__name__)}"
    elif env is not None:
        settings["env"] = env
    chosen = config.resolve(settings)
    made = _make(chosen) if env is None or isinstance(env, str) else _adapt(env, chosen)
    compiled: Any = None
    if "batch" in inspect.signature(made.reset).parameters:
        from tfmix.envs.check import graph

        compiled, made = made, graph.Stepped(made)
    try:
        return _Doctor(made, compiled, chosen, episodes).report()
    finally:
        made.close()


def _make(chosen: Config) -> Any:
    if envs.is_graph(chosen.env):
        return envs.make_graph(chosen.env, chosen)
    return envs.build_python(chosen.env, chosen)


def _adapt(env: Any, chosen: Config) -> Any:
    """An environment or a factory of the user's own, adapted."""
    name = chosen.env
    is_made = not isinstance(env, type) and hasattr(env, "reset") and hasattr(env, "step")
    made = env if is_made else build(name, env)
    return own.adapt(made, name, chosen.team_reward, chosen.episode_limit)


class _Doctor:
    """One environment's examination."""

    def __init__(self, env: Any, compiled: Any, chosen: Config, episodes: int):
        self.env, self.spec, self.compiled, self.chosen = env, env.spec, compiled, chosen
        self.findings, self.watch = Findings(), None
        self.source = env._env if isinstance(env, TeamEnv) else None
        limit_from, must_end = "its spec", True
        if self.source is not None:
            self.watch = env._env = Watch(self.source, env.spec, self.findings)
            limit_from = env.limit_from
            must_end = limit_from != "--episode_limit" and getattr(self.source, "own_clock", True)
        else:
            self._try_reset()
        self.limit_from = limit_from
        self.player = play.Player(env, self.watch, self.findings, chosen.seed, must_end, limit_from)
        self.episodes = self._play(episodes)

    def _try_reset(self) -> None:
        """Raises UserError where the first reset fails."""
        try:
            self.env.reset(0)
        except Exception as error:
            text = f"{self.spec.name}: reset() raised {type(error).__name__}: {error}"
            raise UserError(text) from error

    def _play(self, count: int) -> list[play.Episode]:
        seeds = np.random.SeedSequence(self.chosen.seed).generate_state(count) >> 1
        begin, played = time.perf_counter(), []
        for i in range(count):
            if i > 1 and time.perf_counter() - begin > PLAY_SECONDS:
                break
            played.append(self.player.play(int(seeds[i]), keep=i == 0))
        return played

    def report(self) -> Report:
        """What was found."""
        whole = [e for e in self.episodes if e.over != "broken"]
        rows = {
            "agents": self._agents(),
            "observations": self._observations(),
            "actions": self._actions(),
            "state": self._state(),
            "reward": self._reward(),
            "episodes": self._ends(whole),
            "agents leave": self._deaths(whole),
            "random team": _returns(whole),
        }
        if self.episodes[0].over != "broken":
            self.player.check_seed(self.episodes[0], self.episodes[1:])
        rows["speed"] = self._speed()
        return Report(
            name=self.spec.name,
            version=self.spec.version,
            rows=rows,
            violations=list(self.findings.violations.values()),
            warnings=list(self.findings.warnings.values()),
            episodes=len(self.episodes),
            env_steps=sum(len(e.rewards) for e in self.episodes),
        )

    def _agents(self) -> str:
        if self.source is None or isinstance(self.source, PymarlTeam):
            return str(self.spec.n_agents)
        return f"{self.spec.n_agents}: {listed(list(map(str, self.source.possible_agents)), 8)}"

    def _observations(self) -> str:
        sizes = self.env._sizes if isinstance(self.env, TeamEnv) else [self.spec.obs_size]
        shapes = {str(list(s.shape)) for s in self._seen_spaces() if len(s.shape or ()) > 1}
        flat = f", flattened from {listed(sorted(shapes))}" if shapes else ""
        return f"{_each(sizes, 'numbers')}{flat}; {self.player.obs}"

    def _seen_spaces(self) -> list[Any]:
        return list(self.env._spaces.values()) if isinstance(self.env, TeamEnv) else []

    def _actions(self) -> str:
        each = _each(list(self.spec.agent_n_actions), "actions")
        if isinstance(self.source, PymarlTeam):
            where = "masks of get_avail_actions()"
        elif self.watch is not None:
            where = f"masks of the {' and the '.join(sorted(self.watch.masks))}'s action_mask"
        else:
            where = "masks of legal"
        if self.watch is not None and not self.watch.masks:
            return f"{each}; no masks"
        steps = sum(len(e.rewards) for e in self.episodes)
        return f"{each}; {where} forbid some in {_of(self.player.masked, steps)}"

    def _state(self) -> str:
        if self.source is None:
            where = "its own"
        elif not self.env._has_state:
            where = "the observations side by side, for there is no state()"
        else:
            where = "of get_state()" if isinstance(self.source, PymarlTeam) else "of state()"
        return f"{self.spec.state_size} numbers, {where}; {self.player.state}"

    def _reward(self) -> str:
        spec, watch = self.spec, self.watch
        if spec.team_reward == "team":
            how = "one number for the team by itself, --team_reward changes nothing"
        else:
            how = f"{TEAM_REWARD[spec.team_reward]} (--team_reward={spec.team_reward})"
        if watch is not None and spec.team_reward != "team":
            steps = watch.alike + watch.unlike
            if watch.unlike:
                how += f"; agents received different numbers in {_of(watch.unlike, steps)}"
            else:
                how += "; all agents received the same in every step"
        return f"{how}; {self.player.reward} a step"

    def _ends(self, whole: list[play.Episode]) -> str:
        ended = sum(e.over == "terminated" for e in whole)
        cut = sum(e.over == "truncated" for e in whole)
        counts = "counts" if self.chosen.time_limit == "bootstrap" else "does not count"
        lengths = sorted(len(e.rewards) for e in whole) or [0]
        return (
            f"{self.spec.episode_limit:,} env steps at most ({self.limit_from}), "
            f"{lengths[0]:,} to {lengths[-1]:,} seen; {ended} terminated, {cut} cut by the clock, "
            f"behind which the future {counts} (--time_limit={self.chosen.time_limit})"
        )

    def _deaths(self, whole: list[play.Episode]) -> str:
        if self.watch is not None and not isinstance(self.source, PymarlTeam):
            left = {str(a): n for a, n in self.watch.left.items()}
            how = "before the end"
        else:
            one = [i for e in whole for i in e.left]
            left = {str(i): one.count(i) for i in sorted(set(one))}
            how = "before the end: one action is left to them"
        if not left:
            return "none before the end"
        return (
            f"{listed([f'{a} in {n}' for a, n in left.items()], 8)} of {len(whole)} episodes {how}"
        )

    def _speed(self) -> str:
        if self.compiled is not None:
            from tfmix.envs.check import graph

            return graph.speed(self.compiled, self.chosen, SPEED_SECONDS, self.findings)
        if self.source is not None:
            self.env._env = self.source
        found = play.speed(self.env, self.chosen.seed, SPEED_SECONDS)
        if found is None:
            return "not measured, it broke"
        return f"{found:,.0f} env steps a second, one environment in this process"


def _each(sizes: list[int], what: str) -> str:
    """Sizes of all agents in words."""
    if len(set(sizes)) == 1:
        return f"{sizes[0]} {what} each"
    return f"{listed(list(map(str, sizes)), 8)} {what}, padded to {max(sizes)}"


def _of(count: int, steps: int) -> str:
    return f"{count:,} of {steps:,} steps"


def _returns(whole: list[play.Episode]) -> str:
    if not whole:
        return "no whole episode"
    found = [sum(e.rewards) for e in whole]
    return f"return {np.mean(found):.4g} in the mean, from {min(found):.4g} to {max(found):.4g}"
