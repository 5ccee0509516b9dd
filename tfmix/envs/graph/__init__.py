"""Environments as pure TensorFlow functions.

One is an object with `spec` and two methods over a leading batch axis B,
whose random numbers come from the seed [2] alone:

  reset(seed, batch) -> (state, Step)
  step(state, action [B, N], seed) -> (state, Step)

`state` is any nest of tensors. A finished environment may be stepped on; the
collector ignores what comes of it.
"""

from __future__ import annotations

from typing import Any

from tfmix.errors import UserError
from tfmix.utils import text

# What an argument may be at most. An environment builds tables of these numbers (of every
# two agents, of every cell) and parts of its graph (a turn of every body) before memory is
# predicted.
MOST_PARTICLES = 500
MOST_SQUEEZERS = 1000
MOST_BODIES = 100
MOST_SIDE = 100
MOST_STEPS = 1_000_000
MOST_REWARD = 1e9


def check_count(name: str, argument: str, value: Any, low: int = 1, high: int = MOST_STEPS) -> int:
    """Returns `value` if it is a whole number from `low` to `high`.

    Raises:
      UserError: it is not.
    """
    if type(value) is not int or not low <= value <= high:
        raise UserError(
            f"{name}: {argument}={shown(value)} must be a whole number from {low} to {high:,}"
        )
    return value


def check_number(name: str, argument: str, value: Any, low: float, high: float) -> float:
    """Returns `value` as a float if it is a number from `low` to `high`.

    Raises:
      UserError: it is not.
    """
    if type(value) not in (int, float) or not low <= value <= high:
        raise UserError(
            f"{name}: {argument}={shown(value)} must be a number between {low:,g} and {high:,g}"
        )
    return float(value)


def shown(value: Any) -> str:
    """Returns an argument's value for an error: quoted where it is text, cut where it is long."""
    return text.clean(repr(value) if isinstance(value, str) else value, 60)
