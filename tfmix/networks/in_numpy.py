"""The agents' step in NumPy, which worker processes act with.

The products of a step for one environment take about 20 microseconds. One call of a
TensorFlow function takes many times that, and workers call at every step. Workers start
faster without TensorFlow, so this module does not import it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfmix.networks.agent_spec import AgentSpec


class NumpyTeam:
    """Acts as `Algorithm.act` does, with weights in NumPy.

    Args:
      agent_spec: describes the M networks, one for all agents or one for each.
      memory: a buffer of `nbytes(agent_spec)` bytes, which holds the weights.

    Attributes:
      weights: kernel [M, n_in, n_out] and bias [M, 1, n_out] of each layer.
      policy_state_size: K.
    """

    def __init__(self, agent_spec: AgentSpec, memory: Any):
        self.agent_spec, self.policy_state_size = agent_spec, agent_spec.policy_state_size
        self.weights: list[np.ndarray] = []
        offset = 0
        for shape in _shapes(agent_spec):
            self.weights.append(np.ndarray(shape, np.float32, memory, offset))
            offset += self.weights[-1].nbytes
        self._layers = list(zip(self.weights[::2], self.weights[1::2], strict=True))
        self._ids: np.ndarray = np.eye(agent_spec.n_agents, dtype=np.float32)
        self._one_hot: np.ndarray = np.eye(agent_spec.n_actions, dtype=np.float32)
        own = agent_spec.own_actions
        self._own: np.ndarray | None = None if own is None else np.asarray(own)

    @classmethod
    def of(cls, team: Any) -> NumpyTeam:
        """Copy the current weights of an `AgentTeam`."""
        copy = cls(team.agent_spec, bytearray(nbytes(team.agent_spec)))
        by_network = [[w.numpy() for w in network.weights] for network in team.networks]
        for own, given in zip(copy.weights, zip(*by_network, strict=True), strict=True):
            own[...] = np.stack(given).reshape(own.shape)
        return copy

    @np.errstate(all="ignore")  # an environment's NaN is reported when its episode ends
    def act(
        self,
        obs: np.ndarray,
        legal: np.ndarray,
        policy_state: np.ndarray,
        explore_mask: np.ndarray,
        exploration_scores: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose the team's actions for one step.

        Args:
          obs: [B, N, O] float32.
          legal: [B, N, A] bool; padding is never taken, whatever `legal` says.
          policy_state: [B, N, K] float32, zeros at the start of an episode.
          explore_mask: [B, N] bool, True if an agent takes a random legal action: the
            one with the highest exploration score.
          exploration_scores: [B, N, A], random numbers.

        Returns:
          action [B, N] and the next policy state [B, N, K].
        """
        q, features = self.step(obs, policy_state)
        value = np.where(explore_mask[..., None], exploration_scores, q)
        if self._own is not None:
            legal = legal & self._own
        action = np.where(legal, value, -np.inf).argmax(-1)
        memory = features[..., : self.agent_spec.memory_size]
        if not self.agent_spec.last_action:
            return action, memory
        return action, np.concatenate([memory, self._one_hot[action]], -1)

    def step(self, obs: np.ndarray, policy_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute values q [B, N, A] and features [B, N, H], as `AgentTeam.call`."""
        agent_spec = self.agent_spec
        batch, agents, _ = obs.shape
        parts = [obs]
        if agent_spec.last_action:
            parts.append(policy_state[..., agent_spec.memory_size :])
        if agent_spec.agent_id:
            parts.append(np.broadcast_to(self._ids, [batch, agents, agents]))
        inputs = self._rows(np.concatenate(parts, -1))
        memory = self._rows(policy_state[..., : agent_spec.memory_size])
        q, features = agent_spec.network.numpy_step(self._layers, inputs, memory)
        return self._by_agent(q, batch), self._by_agent(features, batch)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """Split [B, N, F] into the rows of each network, [M, B * N / M, F]."""
        if self.agent_spec.shared:
            return x.reshape(1, x.shape[0] * x.shape[1], x.shape[2])
        return np.ascontiguousarray(x.swapaxes(0, 1))

    def _by_agent(self, x: np.ndarray, batch: int) -> np.ndarray:
        """Join the rows of each network to [B, N, F]."""
        return x.reshape(batch, -1, x.shape[-1]) if self.agent_spec.shared else x.swapaxes(0, 1)


def _shapes(agent_spec: AgentSpec) -> list[tuple[int, ...]]:
    """Return the shapes of the weights, see `NumpyTeam`."""
    found: list[tuple[int, ...]] = []
    for _, n_in, n_out in agent_spec.layer_sizes:
        found += [(agent_spec.n_networks, n_in, n_out), (agent_spec.n_networks, 1, n_out)]
    return found


def nbytes(agent_spec: AgentSpec) -> int:
    """Return the bytes that the weights need."""
    return 4 * sum(math.prod(shape) for shape in _shapes(agent_spec))
