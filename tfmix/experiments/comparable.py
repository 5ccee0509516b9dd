"""Whether the curves of runs may be compared: what must be equal on a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tfmix.experiments.curves import Group, RunCurves, Tasks
from tfmix.types import TEAM_REWARD
from tfmix.utils import text

MOST_VALUE = 60  # characters of a value in a message


def _hardware(run: RunCurves) -> str:
    """Return the machine that a run was trained on."""
    found = run.about.get("hardware")
    found = found if isinstance(found, dict) else {}
    return ", ".join(str(found.get(name, "unknown")) for name in ("system", "device", "cores"))


# What must be equal: its name in a message, and how it is read from a run.
_EQUAL: dict[str, Callable[[RunCurves], Any]] = {
    "the environment's version": lambda run: run.spec.version,
    "the team's reward": lambda run: TEAM_REWARD[run.spec.team_reward],
    "the longest episode": lambda run: run.spec.episode_limit,
    "--time_limit": lambda run: run.config.time_limit,
    "--eval_episodes": lambda run: run.config.eval_episodes,
    "--eval_period_env_steps": lambda run: run.config.eval_period_env_steps,
    "--updates_per_episode": lambda run: run.config.updates_per_episode,
}


def differences(tasks: Tasks, x: str) -> list[str]:
    """Return what makes the curves of each task incomparable, one text per reason; often none.

    An environment's version also says how the environment defines its metrics.

    Args:
      tasks: the runs by task.
      x: the axis; times are compared on one machine alone.
    """
    facts = dict(_EQUAL)
    if x == "seconds":
        facts["the machine"] = _hardware
    found = []
    for groups in tasks.values():
        runs = [run for group in groups for run in group.runs]
        for name, fact in facts.items():
            found += _difference(name, fact, runs)
        found += _twice(groups)
    return found


def _difference(name: str, fact: Callable[[RunCurves], Any], runs: list[RunCurves]) -> list[str]:
    """Return a text if a fact differs between runs of a task, with an example of each value."""
    values: dict[Any, RunCurves] = {}
    for run in runs:
        values.setdefault(fact(run), run)
    if len(values) < 2:
        return []
    examples = (
        f"{text.clean(value, MOST_VALUE)} ({text.clean(run.folder, 200)})"
        for value, run in values.items()
    )
    return [f"runs on {text.clean(runs[0].task, 200)} differ in {name}: {', '.join(examples)}"]


def _twice(groups: Iterable[Group]) -> list[str]:
    """Return a text for the first two runs of a group with the same seed, which are one run."""
    for group in groups:
        seeds: dict[int, RunCurves] = {}
        for run in group.runs:
            other = seeds.setdefault(run.config.seed, run)
            if other is not run:
                return [
                    f"{text.clean(other.folder, 200)} and {text.clean(run.folder, 200)} have the "
                    f"same settings and seed {run.config.seed}, and would count twice"
                ]
    return []
