"""Environments as pure TensorFlow functions.

One is an object with `spec` and two methods over a leading batch axis B,
whose random numbers come from the seed [2] alone:

  reset(seed, batch) -> (state, Step)
  step(state, action [B, N], seed) -> (state, Step)

`state` is any nest of tensors. A finished environment may be stepped on; the
collector ignores what comes of it.
"""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from tfmix.config import UserError
from tfmix.types import EnvSpec, Step

State = Any


class GraphEnv(Protocol):
    """What the collector needs of an environment in the graph."""

    spec: EnvSpec

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[State, Step]:
        """Starts `batch` episodes."""
        ...

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> tuple[State, Step]:
        """Steps every environment once."""
        ...


def check_count(name: str, argument: str, value: Any, low: int = 1, high: int = 1_000_000) -> int:
    """`value` if it is a whole number from `low` to `high`.

    Raises:
      UserError: it is not.
    """
    if type(value) is not int or not low <= value <= high:
        raise UserError(
            f"{name}: {argument}={value!r} must be a whole number from {low} to {high:,}"
        )
    return value
