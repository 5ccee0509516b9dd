"""What the parts of tfmix hand to one another.

Dimension letters, the same in every module: B episodes in a batch, T steps,
N agents, A actions, O observation size, S state size, H GRU units. `legal` is
True where an action is allowed; `mask` is 1 on steps that really happened.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

# `tf.Tensor` while graphs are built, `np.ndarray` in the Python lane.
Tensor = Any

# What `EnvSpec.team_reward` says, in words.
TEAM_REWARD = {
    "sum": "rewards summed over agents",
    "mean": "mean over agents",
    "one": "the reward that all agents share",
    "team": "team reward",
}


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """The shape of a task.

    Attributes:
      name: how the user asked for it, such as `mpe/simple_spread`.
      n_agents: N.
      n_actions: A, the widest of the agents' action sets.
      obs_size: O, the widest of the agents' observations.
      state_size: S.
      episode_limit: T, the longest episode in steps.
      agent_n_actions: every agent's own count of actions; from that count on,
        actions are padding and never legal.
      team_reward: how one number came of the agents' rewards: `sum`, `mean`,
        `one`, or `team` where the task has one reward by itself.
      version: the version of the task's source.
    """

    name: str
    n_agents: int
    n_actions: int
    obs_size: int
    state_size: int
    episode_limit: int
    agent_n_actions: tuple[int, ...]
    team_reward: str = "team"
    version: str = "1"

    @property
    def own_actions(self) -> np.ndarray:
        """True where an action is an agent's own and not padding, [N, A] bool."""
        return np.arange(self.n_actions) < np.asarray(self.agent_n_actions)[:, None]


class Step(NamedTuple):
    """What a graph environment returns, one row an environment.

    obs [B, N, O] float32, state [B, S] float32, legal [B, N, A] bool,
    reward [B] float32, terminated [B] bool, truncated [B] bool.
    """

    obs: Tensor
    state: Tensor
    legal: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor


class Episode(NamedTuple):
    """Whole episodes, padded to T steps; the last observation is kept.

    obs [B, T+1, N, O] float32, state [B, T+1, S] float32,
    legal [B, T+1, N, A] bool, action [B, T, N] int32, reward [B, T] float32,
    terminated [B, T] float32 (1 where the future is worth nothing),
    mask [B, T] float32 (1 on real steps). A single episode lacks the B.
    """

    obs: Tensor
    state: Tensor
    legal: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    mask: Tensor
