"""Reads the names and observation sizes of an environment's agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmix.types import AgentShape
from tfmix.utils import text

MOST_NAME = 60  # characters of an agent's name


def default_shapes(n_agents: int, obs_size: int) -> tuple[AgentShape, ...]:
    """Return the shapes of agents that have no names: `agent_0`, `agent_1` and so on."""
    return tuple(AgentShape(f"agent_{i}", obs_size) for i in range(n_agents))


def _listed(env: Any, name: str) -> list[Any]:
    """Return an attribute as a list; empty if there is none or it is not a sequence."""
    found = getattr(env, name, None)
    return list(found) if isinstance(found, Sequence) else []


def agent_shapes(env: Any) -> tuple[AgentShape, ...]:
    """Return the names and observation sizes of an environment's agents, in their order.

    Agents get the names of `default_shapes` if the environment names them by numbers, gives
    two of them one name, or does not name them.

    Args:
      env: has a `spec`, and may have `agent_names` and `agent_obs_sizes`, N each.
    """
    spec = env.spec
    shapes = default_shapes(spec.n_agents, spec.obs_size)
    names = _listed(env, "agent_names")
    cleaned = [text.clean(name, MOST_NAME) for name in names]
    named = all(isinstance(name, str) for name in names) and all(cleaned)
    if named and len(set(cleaned)) == spec.n_agents == len(cleaned):
        shapes = tuple(
            shape._replace(name=name) for shape, name in zip(shapes, cleaned, strict=True)
        )
    sizes = _listed(env, "agent_obs_sizes")
    fits = all(isinstance(size, int) and 0 <= size <= spec.obs_size for size in sizes)
    if fits and len(sizes) == spec.n_agents:
        shapes = tuple(
            shape._replace(obs_size=size) for shape, size in zip(shapes, sizes, strict=True)
        )
    return shapes
