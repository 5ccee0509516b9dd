"""Environments as pure TensorFlow functions.

One is an object with `spec` and two methods over a leading batch axis B,
whose random numbers come from the seed [2] alone:

  reset(seed, batch) -> (state, Step)
  step(state, action [B, N], seed) -> (state, Step)

`state` is any nest of tensors. A finished environment may be stepped on; the
collector ignores what comes of it.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Protocol

import tensorflow as tf

from tfmix.config import UserError, nearest
from tfmix.types import EnvSpec, Step

State = Any


class GraphEnv(Protocol):
    """What the collector needs of an environment in the graph."""

    spec: EnvSpec

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[State, Step]: ...

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> tuple[State, Step]: ...


def make(name: str, arguments: dict[str, Any], team_reward: str) -> GraphEnv:
    """Builds an environment of `tfmix.envs.GRAPH`.

    Raises:
      UserError: an argument that the environment does not take.
    """
    from tfmix.envs import GRAPH

    module, function, fixed = GRAPH[name]
    build = getattr(importlib.import_module(module), function)
    taken = [p for p in inspect.signature(build).parameters if p not in ("name", "team_reward")]
    for argument in arguments:
        if argument not in taken or argument in fixed:
            known = [p for p in taken if p not in fixed]
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(
                f"{name} has no argument {argument!r}{nearest(argument, known)}; {takes}"
            )
    missing = [
        p.name
        for p in inspect.signature(build).parameters.values()
        if p.default is p.empty and p.name not in (*arguments, *fixed, "name", "team_reward")
    ]
    if missing:
        raise UserError(f"{name} needs --env_arg={missing[0]}=...")
    return build(name=name, team_reward=team_reward, **fixed, **arguments)
