"""Environments: `graph` compiles into the loop, `python` is stepped from outside.

This module knows their names and imports no TensorFlow.
"""

from __future__ import annotations

from typing import Any

from tfmix.config import UserError, nearest

# name: (module, builder, arguments that the name fixes)
GRAPH: dict[str, tuple[str, str, dict[str, Any]]] = {
    "two_step": ("tfmix.envs.graph.matrix", "two_step", {}),
    "matrix/qtran": (
        "tfmix.envs.graph.matrix",
        "matrix_game",
        {"payoff": [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]},
    ),
    "matrix/custom": ("tfmix.envs.graph.matrix", "matrix_game", {}),
    "mpe/simple_spread": ("tfmix.envs.graph.mpe", "SimpleSpread", {}),
}

# prefix: (module, builder, what stands behind the prefix)
PYTHON: dict[str, tuple[str, str, str]] = {
    "pettingzoo": (
        "tfmix.envs.python.pettingzoo",
        "PettingZooEnv",
        "<module path of a ParallelEnv>, such as pettingzoo/pettingzoo.mpe.simple_spread_v3",
    ),
}


def is_graph(name: str) -> bool:
    """Whether `name` is an environment in the graph.

    Raises:
      UserError: `name` is no environment at all.
    """
    if name in GRAPH:
        return True
    prefix, slash, rest = name.partition("/")
    if prefix in PYTHON and slash and rest:
        return False
    if prefix in PYTHON:
        raise UserError(f"--env={name}: write {prefix}/{PYTHON[prefix][2]}")
    raise UserError(f"there is no environment {name!r}{nearest(name, [*GRAPH, *PYTHON])}")
