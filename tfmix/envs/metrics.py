"""Metrics that environments report for an episode: their names, and how an info is read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.envs.python.adapters import reading
from tfmix.errors import UserError
from tfmix.utils.text import clean

MOST_METRICS = 32
MOST_NAME = 60  # characters of a name
MOST_ENTRIES = 1_000  # of an info, those that are looked at
# Columns of metrics.csv and evaluations.csv have these names, without `train_` or `greedy_`.
RESERVED = frozenset(
    {"return", "return_std", "return_q25", "return_q50", "return_q75", "length", "episode"}
    | {"env_steps"}
)
# Entries of infos that control an episode and do not measure it.
CONTROL = frozenset({*reading.MASK_KEYS, "episode_limit", "TimeLimit.truncated"})
SCALARS = (bool, int, float, np.bool_, np.number, np.ndarray)


def check_names(names: Any) -> tuple[str, ...]:
    """Return names of metrics.

    Raises:
      ValueError: they are not a list or tuple of at most `MOST_METRICS` different names.
    """
    if not isinstance(names, list | tuple) or len(names) > MOST_METRICS:
        raise ValueError(f"it is not a list of at most {MOST_METRICS} names")
    for name in names:
        if not isinstance(name, str) or not name or clean(name, MOST_NAME) != name:
            raise ValueError(
                f"{reading.brief(name)} is not a name of 1 to {MOST_NAME} printable characters"
            )
        if name in RESERVED | CONTROL:
            raise ValueError(f"{name!r} is the name of something else")
    if len(set(names)) < len(names):
        raise ValueError("a name comes twice")
    return tuple(names)


def declared(layers: Iterable[Any], name: str) -> tuple[str, ...] | None:
    """Return the `metric_names` that an environment declares.

    Args:
      layers: the environment, and those that it wraps.
      name: the environment's name, for the error.

    Returns:
      the first that is there, or None.

    Raises:
      UserError: they are not names of metrics, see `check_names`.
    """
    found = (getattr(layer, "metric_names", None) for layer in layers)
    names = next((one for one in found if one is not None), None)
    try:
        return None if names is None else check_names(names)
    except ValueError as error:
        raise UserError(f"{clean(name, 100)}: metric_names: {error}") from error


def names_of(env: Any) -> tuple[str, ...]:
    """Return the names of the metrics of an environment; raise UserError as `declared`."""
    return declared([env], env.spec.name) or ()


def choose(found: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """Choose from the names that an info has.

    Returns:
      at most `MOST_METRICS` names, sorted; and a sentence about the others, or nothing.
    """
    usable = sorted(set(found) - RESERVED)
    kept, others = usable[:MOST_METRICS], usable[MOST_METRICS:] + sorted(set(found) & RESERVED)
    if not others:
        return tuple(kept), ""
    few = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return tuple(kept), (
        f"has more in its info than is kept: not {few} (at most {MOST_METRICS} metrics; return, "
        "length, episode and env_steps are names of something else); metric_names chooses"
    )


def read_metrics(info: Any, agents: Sequence[Any]) -> dict[str, float]:
    """Read the numbers in the info of an episode's last step.

    Args:
      info: the team's info by name, or infos by agent, or both in one.
      agents: the names of the agents. Numbers in their infos are averaged over the agents
        that have them.

    Returns:
      numbers by name, NaN for those that are not finite or beyond float32. What is not a number
      is left out; so is all of an info that cannot be read.
    """
    by_name: dict[str, list[float]] = {}
    team: dict[str, float] = {}
    try:
        known = set(agents)
        for key, value in itertools.islice(info.items(), MOST_ENTRIES):
            if isinstance(value, Mapping):
                inner = value.items() if key in known else ()
                for name, number in _numbers(itertools.islice(inner, MOST_ENTRIES)):
                    by_name.setdefault(name, []).append(number)
            else:
                team.update(_numbers([(key, value)]))
    except Exception:  # a third party's info, or a key that has no hash
        return {}
    return {**{name: _mean(numbers) for name, numbers in by_name.items()}, **team}


def _numbers(items: Iterable[tuple[Any, Any]]) -> Iterable[tuple[str, float]]:
    """Yield the entries that are single numbers, with names that can be printed."""
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, SCALARS):
            continue
        name, number = clean(key, MOST_NAME), reading.number(value)
        if name and name not in CONTROL and number is not None:
            fits = math.isfinite(number) and abs(number) <= reading.MAX_FLOAT32
            yield name, number if fits else math.nan


def _mean(numbers: list[float]) -> float:
    """Return the mean of those that are not NaN; NaN if there are none."""
    known = [number for number in numbers if not math.isnan(number)]
    return sum(known) / len(known) if known else math.nan
