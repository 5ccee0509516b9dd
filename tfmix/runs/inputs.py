"""Reads observations and masks of legal actions that a caller gives to a policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmix.errors import UserError
from tfmix.serving.checks import to_array
from tfmix.types import EnvSpec


def refuse_agents(wrong: np.ndarray, fault: str) -> None:
    """Raise UserError with the first agent for which `wrong` [B, N] is True, and its fault."""
    if wrong.any():
        episode, agent = np.argwhere(wrong)[0]
        place = f" of episode {episode}" if len(wrong) > 1 else ""
        raise UserError(f"agent {agent}{place} {fault}")


def read_obs(spec: EnvSpec, obs: Any) -> np.ndarray:
    """Return a caller's observations as [B, N, O] float32.

    Raises:
      UserError: they have another shape or are not finite numbers.
    """
    found = to_array("obs", obs, "biuf", "numbers")
    with np.errstate(over="ignore"):  # too large numbers become infinite and are refused below
        found = found.astype(np.float32)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[1:] != (spec.n_agents, spec.obs_size):
        raise UserError(
            f"obs has shape {list(found.shape)}, not [B, {spec.n_agents}, {spec.obs_size}]"
        )
    refuse_agents(~np.isfinite(found).all(-1), "has an observation that is NaN or infinite")
    return found


def read_legal(spec: EnvSpec, legal: Any, batch: int) -> np.ndarray:
    """Return a caller's mask without actions that an agent does not have, [B, N, A] bool.

    Raises:
      UserError: it has another shape, other values than true and false (or 1 and 0),
        or leaves an agent without an action.
    """
    own, shape = np.asarray(spec.own_actions), (batch, spec.n_agents, spec.n_actions)
    wanted = "true or false (or 1 or 0) for each action"
    mask = own if legal is None else to_array("legal", legal, "biuf", wanted)
    if mask.shape not in (shape, shape[1:]):
        raise UserError(f"legal has shape {list(mask.shape)}, not {list(shape)}")
    mask = np.broadcast_to(mask, shape)
    odd = (mask != 0) & (mask != 1)
    if odd.any():
        found = mask[odd][0]
        refuse_agents(
            odd.any(-1), f"has a mask of legal actions with {found} in it: it takes {wanted}"
        )
    allowed = mask.astype(bool) & own
    refuse_agents(~allowed.any(-1), "cannot act: none of its own actions is legal")
    return allowed
