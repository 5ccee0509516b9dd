"""The agents' step in NumPy, for acting where environments are stepped in Python.

The products of a step for one environment take some 20 microseconds;
TensorFlow takes many times that to be called at all, at every step of every
episode. Workers act by this, so there is no TensorFlow here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfmix.networks.agent_spec import AgentSpec


class NumpyTeam:
    """A team that acts as `Algorithm.act` does, with weights in NumPy.

    Args:
      agent_spec: of its networks; M of them, one for all agents or one for each.
      memory: a buffer of `nbytes(agent_spec)` bytes that the weights are to lie in.

    Attributes:
      weights: kernel [M, n_in, n_out] and bias [M, 1, n_out] of each layer.
      carry_size: K.
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
        """A copy of the weights of an `AgentTeam` as they are now."""
        copy = cls(team.agent_spec, bytearray(nbytes(team.agent_spec)))
        by_network = [[w.numpy() for w in network.weights] for network in team.networks]
        for own, given in zip(copy.weights, zip(*by_network, strict=True), strict=True):
            own[...] = np.stack(given).reshape(own.shape)
        return copy

    @np.errstate(all="ignore")  # a NaN of the environment's is reported when its episode ends
    def act(
        self,
        obs: np.ndarray,
        legal: np.ndarray,
        policy_state: np.ndarray,
        explore_mask: np.ndarray,
        exploration_scores: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One step of the team's policy.

        Args:
          obs: [B, N, O] float32.
          legal: [B, N, A] bool; actions that are not an agent's own are never taken.
          carry: [B, N, K] float32, zeros at the start of an episode.
          explores: [B, N] bool, who takes a random legal action: the one that
            drew the highest number.
          lottery: [B, N, A], the numbers drawn.

        Returns:
          action [B, N] and carry [B, N, K].
        """
        q, hidden = self.step(obs, policy_state)
        value = np.where(explore_mask[..., None], exploration_scores, q)
        if self._own is not None:
            legal = legal & self._own
        action = np.where(legal, value, -np.inf).argmax(-1)
        parts = [hidden] if self.agent_spec.recurrent else []
        if self.agent_spec.last_action:
            parts.append(self._one_hot[action])
        return action, np.concatenate(parts, -1) if parts else hidden[..., :0]

    def step(self, obs: np.ndarray, policy_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values q [B, N, A] and features [B, N, H], as `networks.agent.network_step`."""
        agent_spec = self.agent_spec
        batch, agents, _ = obs.shape
        parts = [obs]
        if agent_spec.last_action:
            parts.append(policy_state[..., agent_spec.memory_size :])
        if agent_spec.agent_id:
            parts.append(np.broadcast_to(self._ids, [batch, agents, agents]))
        x = self._rows(np.concatenate(parts, -1))
        if agent_spec.recurrent:
            (encode, encode_bias), (gates, gates_bias), (recur, recur_bias), head = self._layers
            memory = self._rows(policy_state[..., : agent_spec.memory_size])
            x = np.maximum(x @ encode + encode_bias, 0.0)
            x = _gru(x @ gates + gates_bias, memory, recur, recur_bias)
        else:
            *hidden, head = self._layers
            for kernel, bias in hidden:
                x = np.maximum(x @ kernel + bias, 0.0)
        q = x @ head[0] + head[1]
        return self._by_agent(q, batch), self._by_agent(x, batch)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """[B, N, F] as the rows of each network, [M, B * N / M, F]."""
        if self.agent_spec.shared:
            return x.reshape(1, -1, x.shape[-1])
        return np.ascontiguousarray(x.swapaxes(0, 1))

    def _by_agent(self, x: np.ndarray, batch: int) -> np.ndarray:
        """The rows of each network as [B, N, F]."""
        return x.reshape(batch, -1, x.shape[-1]) if self.agent_spec.shared else x.swapaxes(0, 1)


def _shapes(agent_spec: AgentSpec) -> list[tuple[int, ...]]:
    """Of the weights, see `NumpyTeam`."""
    found: list[tuple[int, ...]] = []
    for _, n_in, n_out in agent_spec.layer_sizes:
        found += [(agent_spec.n_networks, n_in, n_out), (agent_spec.n_networks, 1, n_out)]
    return found


def nbytes(agent_spec: AgentSpec) -> int:
    """Bytes that the weights need."""
    return 4 * sum(math.prod(shape) for shape in _shapes(agent_spec))


def _gru(
    from_input: np.ndarray, hidden: np.ndarray, recur: np.ndarray, recur_bias: np.ndarray
) -> np.ndarray:
    """The next hidden state [M, R, H], see `networks.gru.gru_gates`."""
    size = hidden.shape[-1]
    from_hidden = hidden @ recur + recur_bias
    # The sigmoid of both gates, by a function that does not overflow.
    both = 0.5 * np.tanh(0.5 * (from_input + from_hidden)[..., : 2 * size]) + 0.5
    reset, update = both[..., :size], both[..., size:]
    candidate = np.tanh(from_input[..., 2 * size :] + reset * from_hidden[..., 2 * size :])
    return candidate + update * (hidden - candidate)
