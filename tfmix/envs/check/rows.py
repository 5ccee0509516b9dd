"""What was inferred of an environment and why, in words."""

from __future__ import annotations

import numpy as np

from tfmix.envs.check.findings import listed
from tfmix.envs.check.play import Episode, EpisodeRunner
from tfmix.envs.python.adapters.pymarl import PymarlTeam
from tfmix.envs.python.adapters.rules import called
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.types import TEAM_REWARD


def rows(
    player: EpisodeRunner, limit_from: str, time_limit: str, played: list[Episode]
) -> dict[str, str]:
    """The report's rows but for the speed.

    Args:
      player: has played.
      limit_from: who said how long an episode can be.
      time_limit: the setting.
      played: its episodes.
    """
    whole = [e for e in played if e.over != "broken"]
    return {
        "agents": _agents(player),
        "observations": _observations(player),
        "actions": _actions(player, sum(len(e.actions) for e in played)),
        "state": _state(player),
        "reward": _reward(player),
        "episodes": _lengths(whole, player.spec.episode_limit, limit_from),
        "ends": _ends(whole, time_limit),
        "deaths": _deaths(player, whole),
        "random team": _returns(whole),
    }


def _is_pymarl(player: EpisodeRunner) -> bool:
    return player.watch is not None and isinstance(player.env._env, PymarlTeam)


def _agents(player: EpisodeRunner) -> str:
    names = player.env.agent_names if player.watch else []
    if not all(isinstance(name, str) for name in names):
        names = []
    return str(player.spec.n_agents) + (f": {listed(names, 8)}" if names else "")


def _each(sizes: list[int], what: str) -> str:
    if len(set(sizes)) == 1:
        return f"{sizes[0]} {what} each"
    return f"{listed(list(map(str, sizes)), 8)} {what}, padded to {max(sizes)}"


def _observations(player: EpisodeRunner) -> str:
    if not isinstance(player.env, TeamEnv):
        return f"{player.spec.obs_size} numbers each; {player.obs}"
    shapes = {
        str(list(s.shape)) for s in player.env.spaces.visible.values() if len(s.shape or ()) > 1
    }
    flat = f", flattened from {listed(sorted(shapes))}" if shapes else ""
    return f"{_each(player.env.spaces.sizes, 'numbers')}{flat}; {player.obs}"


def _actions(player: EpisodeRunner, env_steps: int) -> str:
    each = _each(list(player.spec.agent_n_actions), "actions")
    if _is_pymarl(player):
        masks = "masks from get_avail_actions()"
    elif player.watch is None:
        masks = "masks from legal"
    elif player.watch.masks:
        masks = f"masks from action_mask of the {' and the '.join(sorted(player.watch.masks))}"
    else:
        return f"{each}; no masks"
    share = player.masked / max(1, env_steps)
    forbid = f"forbid something in {share:.0%} of steps" if share else "never forbid anything"
    return f"{each}; {masks}, which {forbid}"


def _state(player: EpisodeRunner) -> str:
    if player.watch is None:
        where = "its own"
    elif not player.env.has_state:
        where = "the observations side by side (no state() of its own)"
    else:
        where = "from get_state()" if _is_pymarl(player) else "from state()"
    return f"{player.spec.state_size} numbers, {where}; {player.state}"


def _reward(player: EpisodeRunner) -> str:
    rule, watch = player.spec.team_reward, player.watch
    if rule == "team":
        return f"one number for the team by itself; {player.reward} per step"
    how = f"{TEAM_REWARD[rule]} (--team_reward={rule}); {player.reward} per step"
    if watch is None or player.reward.low == player.reward.high:
        return how
    if watch.unlike:
        share = watch.unlike / (watch.unlike + watch.alike)
        return f"{how}; agents received different numbers in {share:.2%} of steps"
    same = "all agents always received the same number"
    return f"{how}; {same}" + (", --team_reward=one counts it once" if rule != "one" else "")


def _lengths(whole: list[Episode], limit: int, limit_from: str) -> str:
    lengths = sorted({len(e.rewards) for e in whole}) or [0]
    span = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    return f"{len(whole)} of {span} env steps; at most {limit:,} ({limit_from})"


def _ends(whole: list[Episode], time_limit: str) -> str:
    ended = sum(e.over == "terminated" for e in whole)
    cut = sum(e.over == "truncated" for e in whole)
    text = f"{ended} terminated, {cut} cut by the clock"
    if cut:
        counts = "counts" if time_limit == "bootstrap" else "does not count"
        text += f", the future behind it {counts} (--time_limit={time_limit})"
    return text


def _deaths(player: EpisodeRunner, whole: list[Episode]) -> str:
    if player.watch is not None and not _is_pymarl(player):
        left, how = {called(agent): n for agent, n in player.watch.left.items()}, ""
    else:
        found = [int(i) for e in whole for i in e.left]
        left = {f"agent {i}": found.count(i) for i in sorted(set(found))}
        how = " (left with one action until the end)"
    if not left:
        return "none before the end"
    return f"{listed([f'{a} in {n}' for a, n in left.items()], 8)} of {len(whole)} episodes{how}"


def _returns(whole: list[Episode]) -> str:
    if not whole:
        return "no whole episode"
    found = [sum(e.rewards) for e in whole]
    return f"mean return {np.mean(found):.4g}, from {min(found):.4g} to {max(found):.4g}"
