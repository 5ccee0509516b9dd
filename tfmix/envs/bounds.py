"""Bounds of the undiscounted return, of the environments for which they are exact.

This module imports no TensorFlow.
"""

from __future__ import annotations

from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.envs.graph.payoff import read_payoff
from tfmix.envs.registry import GRAPH
from tfmix.errors import UserError

# Games without a payoff in the registry; the tests compare them with their tables.
_FIXED = {"two_step": (0.0, 8.0), "matrix/qtran_21x21": (-40.0, 10.0)}
_ROUNDS = {"matrix_game": 1, "repeated_game": 25}  # default of max_cycles


def return_bounds(config: Config) -> tuple[float, float] | None:
    """Return the lowest and highest return that a run's environment allows, if it declares them.

    Args:
      config: the settings of the run.

    Returns:
      both bounds; None if the environment declares none, or they are equal.
    """
    if config.env in _FIXED:
        return _FIXED[config.env]
    _, builder, fixed = GRAPH.get(config.env, ("", "", {}))
    if builder not in _ROUNDS:
        return None
    try:
        given = {**fixed, **resolve.env_arguments(config)}
        table = read_payoff(config.env, given["payoff"])
        rounds = int(given.get("max_cycles", _ROUNDS[builder]))
    except (UserError, KeyError, TypeError, ValueError):
        return None  # a run.json that anybody may have written
    low, high = rounds * float(table.min()), rounds * float(table.max())
    return (low, high) if low < high else None
