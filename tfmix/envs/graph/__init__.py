"""Graph environments: pure TensorFlow functions, compiled into the training loop.

Each one follows the protocol `tfmix.types.GraphEnv` and is marked `built_in`.
"""

from __future__ import annotations

from typing import Any

from tfmix.errors import UserError
from tfmix.utils import text

# Largest allowed arguments. An environment builds tables of these sizes (for every pair of
# agents, for every cell) and parts of its graph (a turn of every body) before the memory of a
# training is predicted.
MOST_PARTICLES = 500
MOST_SQUEEZERS = 1000
MOST_BODIES = 100
MOST_SIDE = 100
MOST_STEPS = 1_000_000
MOST_REWARD = 1e9


def check_count(name: str, argument: str, value: Any, low: int = 1, high: int = MOST_STEPS) -> int:
    """Return `value` if it is a whole number from `low` to `high`.

    Raises:
      UserError: it is not.
    """
    if type(value) is not int or not low <= value <= high:
        raise UserError(
            f"{name}: {argument}={shown(value)} must be a whole number from {low} to {high:,}"
        )
    return value


def check_number(name: str, argument: str, value: Any, low: float, high: float) -> float:
    """Return `value` as a float if it is a number from `low` to `high`.

    Raises:
      UserError: it is not.
    """
    if type(value) not in (int, float) or not low <= value <= high:
        raise UserError(
            f"{name}: {argument}={shown(value)} must be a number between {low:,g} and {high:,g}"
        )
    return float(value)


def shown(value: Any) -> str:
    """Return an argument's value for an error message: text in quotes, long values cut."""
    return text.clean(repr(value) if isinstance(value, str) else value, 60)
