"""Summarizes what was inferred about an environment, and from what."""

from __future__ import annotations

import math

import numpy as np

from tfmix.envs.check.findings import listed
from tfmix.envs.check.play import EpisodeRunner, PlayedEpisode
from tfmix.envs.metrics import choose, names_of
from tfmix.envs.python.adapters.pymarl import PymarlTeam
from tfmix.envs.python.adapters.rules import agent_label
from tfmix.envs.python.adapters.team import TeamEnv
from tfmix.types import TEAM_REWARD


def summarize(
    runner: EpisodeRunner, limit_from: str, time_limit: str, played: list[PlayedEpisode]
) -> dict[str, str]:
    """Return the rows of the report, except for the speed.

    Args:
      runner: has played the episodes.
      limit_from: where the episode limit comes from.
      time_limit: the setting of that name.
      played: the episodes.
    """
    whole = [e for e in played if e.over != "broken"]
    return {
        "agents": _agents(runner),
        "observations": _observations(runner),
        "actions": _actions(runner, sum(len(e.actions) for e in played)),
        "state": _state(runner),
        "reward": _reward(runner),
        "episodes": _lengths(whole, runner.spec.episode_limit, limit_from),
        "ends": _ends(whole, time_limit),
        "deaths": _deaths(runner, whole),
        "metrics": _metrics(runner, whole),
        "random team": _returns(whole),
    }


def _is_pymarl(runner: EpisodeRunner) -> bool:
    return runner.observer is not None and isinstance(runner.env._env, PymarlTeam)


def _agents(runner: EpisodeRunner) -> str:
    names = runner.env.agent_names if runner.observer else []
    if not all(isinstance(name, str) for name in names):
        names = []
    return str(runner.spec.n_agents) + (f": {listed(names, 8)}" if names else "")


def _each(sizes: list[int], what: str) -> str:
    if len(set(sizes)) == 1:
        return f"{sizes[0]} {what} each"
    return f"{listed(list(map(str, sizes)), 8)} {what}, padded to {max(sizes)}"


def _observations(runner: EpisodeRunner) -> str:
    if not isinstance(runner.env, TeamEnv):
        return f"{runner.spec.obs_size} numbers each; {runner.obs}"
    shapes = {
        str(list(s.shape)) for s in runner.env.spaces.visible.values() if len(s.shape or ()) > 1
    }
    flat = f", flattened from {listed(sorted(shapes))}" if shapes else ""
    return f"{_each(runner.env.spaces.sizes, 'numbers')}{flat}; {runner.obs}"


def _actions(runner: EpisodeRunner, env_steps: int) -> str:
    each = _each(list(runner.spec.agent_n_actions), "actions")
    if _is_pymarl(runner):
        masks = "masks from get_avail_actions()"
    elif runner.observer is None:
        masks = "masks from legal"
    elif runner.observer.masks:
        masks = f"masks from action_mask of the {' and the '.join(sorted(runner.observer.masks))}"
    else:
        return f"{each}; no masks"
    share = runner.masked / max(1, env_steps)
    forbid = f"forbid something in {share:.0%} of steps" if share else "never forbid anything"
    return f"{each}; {masks}, which {forbid}"


def _state(runner: EpisodeRunner) -> str:
    if runner.observer is None:
        where = "its own"
    elif not runner.env.has_state:
        where = "the concatenated observations (it has no state())"
    else:
        where = "from get_state()" if _is_pymarl(runner) else "from state()"
    return f"{runner.spec.state_size} numbers, {where}; {runner.state}"


def _reward(runner: EpisodeRunner) -> str:
    rule, observer = runner.spec.team_reward, runner.observer
    if rule == "team":
        return f"one number for the team; {runner.reward} per step"
    how = f"{TEAM_REWARD[rule]} (--team_reward={rule}); {runner.reward} per step"
    if observer is None or runner.reward.low == runner.reward.high:
        return how
    if observer.unlike:
        share = observer.unlike / (observer.unlike + observer.alike)
        return f"{how}; agents received different numbers in {share:.2%} of steps"
    same = "all agents always received the same number"
    return f"{how}; {same}" + (", --team_reward=one counts it once" if rule != "one" else "")


def _lengths(whole: list[PlayedEpisode], limit: int, limit_from: str) -> str:
    lengths = sorted({len(e.rewards) for e in whole}) or [0]
    span = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    return f"{len(whole)} of {span} env steps; at most {limit:,} ({limit_from})"


def _ends(whole: list[PlayedEpisode], time_limit: str) -> str:
    ended = sum(e.over == "terminated" for e in whole)
    cut = sum(e.over == "truncated" for e in whole)
    text = f"{ended} terminated, {cut} truncated"
    if cut:
        counts = "counts" if time_limit == "bootstrap" else "does not count"
        text += f"; after a truncation the future {counts} (--time_limit={time_limit})"
    return text


def _deaths(runner: EpisodeRunner, whole: list[PlayedEpisode]) -> str:
    if runner.observer is not None and not _is_pymarl(runner):
        left, how = {agent_label(agent): n for agent, n in runner.observer.left.items()}, ""
    else:
        found = [int(i) for e in whole for i in e.left]
        left = {f"agent {i}": found.count(i) for i in sorted(set(found))}
        how = " (left with one action until the end)"
    if not left:
        return "none before the end"
    return f"{listed([f'{a} in {n}' for a, n in left.items()], 8)} of {len(whole)} episodes{how}"


def _metrics(runner: EpisodeRunner, whole: list[PlayedEpisode]) -> str:
    """Return the names of the metrics, with their means and who lacks them."""
    names, others = names_of(runner.env), ""
    if getattr(runner.env, "finds_metrics", False):
        names, others = choose(name for e in whole for name in e.metrics)
    shown = []
    for name in names:
        found = [e.metrics[name] for e in whole if math.isfinite(e.metrics.get(name, math.nan))]
        mean = f"mean {sum(found) / len(found):.4g}" if found else "no number"
        lacking = f" in {len(found)} of {len(whole)} episodes" if len(found) < len(whole) else ""
        shown.append(f"{name} ({mean}{lacking})")
    return (", ".join(shown) or "none") + (f"; {others}" if others else "")


def _returns(whole: list[PlayedEpisode]) -> str:
    if not whole:
        return "no whole episode"
    found = [sum(e.rewards) for e in whole]
    return f"mean return {np.mean(found):.4g}, from {min(found):.4g} to {max(found):.4g}"
