"""Exports the decentralised policy as a SavedModel that TensorFlow alone can load."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix import ops
from tfmix.algos.base import Algorithm
from tfmix.errors import RunFailedError
from tfmix.networks.agent import Weights, next_policy_state, own_legal, policy_step
from tfmix.networks.agent_spec import AgentSpec
from tfmix.runs.atomic import whole_or_nothing

CHECK_STEPS = 25
TOLERANCE = 1e-4  # of Q values, absolute
NO_ACTION = -1


class ExportedPolicy(tf.Module):
    """Greedy policy with signatures `act`, `act_agent` and `initial_state`.

    It holds plain variables and graphs, and no class of tfmix, Keras or TF-Agents.

    `act` takes obs [B, N, O] float32, legal [B, N, A] bool and hidden [B, N, K]
    float32. `act_agent` takes the same of one agent a row, obs [B, O], legal [B, A]
    and hidden [B, K], and agent [B] int32, its index in the team. Both return `action`
    [B, N] or [B] int32, `q` of the shape of legal, float32, and `hidden`, which is the
    input of the next step. `initial_state` returns the `hidden` of an episode's start,
    zeros [B, N, K].

    A graph cannot raise an error for one row. An agent that cannot act gets action -1
    (`NO_ACTION`), q of NaN and its `hidden` unchanged; the other agents act. An agent
    cannot act if none of its actions is legal, if its observation or its `hidden`
    holds NaN or infinity, if its Q values overflow because the observation is too
    large, or if its index is not from 0 to N - 1. Actions that an agent does not have
    are never taken, even if `legal` allows them.

    Args:
      agent_spec: shapes and architecture of the agents' networks.
      weights: the weights of each network, as `AgentTeam.read` returns them.
    """

    def __init__(self, agent_spec: AgentSpec, weights: Sequence[Weights]):
        super().__init__()
        self.agent_spec = agent_spec
        self.weights = [[tf.Variable(w, trainable=False) for w in network] for network in weights]
        self.functions: dict[str, Any] = {}  # a SavedModel holds what is an attribute

    def _step(
        self, obs: tf.Tensor, legal: tf.Tensor, hidden: tf.Tensor, agent: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Do one step; see the class.

        Args:
          obs: [..., O] float32.
          legal: [..., A] bool, False for actions that the agent does not have.
          hidden: [..., K] float32.
          agent: [...] int32.
        """
        weights = [[tf.convert_to_tensor(w) for w in network] for network in self.weights]
        q, state = policy_step(weights, self.agent_spec, obs, hidden, agent)
        action = ops.legal_argmax(q, legal)
        acts = tf.reduce_any(legal, -1)
        for x in (obs, hidden, q):
            acts &= tf.reduce_all(tf.math.is_finite(x), -1)
        policy_state = next_policy_state(self.agent_spec, state, action)
        return {
            "action": tf.where(acts, action, NO_ACTION),
            "q": tf.where(acts[..., None], q, float("nan")),
            "hidden": tf.where(acts[..., None], policy_state, hidden),
        }

    def signatures(self) -> dict[str, Any]:
        """Return the three functions; their batch size B is free and all other sizes are fixed."""
        n, o = self.agent_spec.n_agents, self.agent_spec.obs_size
        a, k = self.agent_spec.n_actions, self.agent_spec.policy_state_size

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, n, o], tf.float32, "obs"),
                tf.TensorSpec([None, n, a], tf.bool, "legal"),
                tf.TensorSpec([None, n, k], tf.float32, "hidden"),
            ]
        )
        def act(obs: tf.Tensor, legal: tf.Tensor, hidden: tf.Tensor) -> dict[str, tf.Tensor]:
            agent = tf.broadcast_to(tf.range(n), tf.shape(obs)[:-1])
            return self._step(obs, own_legal(self.agent_spec, legal), hidden, agent)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, o], tf.float32, "obs"),
                tf.TensorSpec([None, a], tf.bool, "legal"),
                tf.TensorSpec([None, k], tf.float32, "hidden"),
                tf.TensorSpec([None], tf.int32, "agent"),
            ]
        )
        def act_agent(
            obs: tf.Tensor, legal: tf.Tensor, hidden: tf.Tensor, agent: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            return self._step(obs, own_legal(self.agent_spec, legal, agent), hidden, agent)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "batch_size")])
        def initial_state(batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"hidden": tf.zeros([batch_size, n, k])}

        return {"act": act, "act_agent": act_agent, "initial_state": initial_state}


def export(algorithm: Algorithm, folder: Path) -> Path:
    """Write the SavedModel under another name, compare it with the live policy and rename it.

    Args:
      algorithm: the algorithm whose live agents are exported.
      folder: the folder of the export; an older export is replaced.

    Returns:
      the folder.

    Raises:
      RunFailedError: the loaded export does not act like the live policy.
      OSError: the folder cannot be written.
    """
    policy = ExportedPolicy(algorithm.agent_spec, algorithm.live.agent.read_weights())
    policy.functions = policy.signatures()
    spare = folder.with_name(f".{folder.name}-writing")
    with whole_or_nothing(spare, folder):
        tf.saved_model.save(policy, str(spare), signatures=policy.functions)
        compare_with_live(algorithm, tf.saved_model.load(str(spare)).signatures)
    return folder


def copy_export(source: Path, folder: Path) -> Path:
    """Copy an export, whole or not at all.

    Args:
      source: the folder of an export.
      folder: the folder of the copy; what has that name is replaced.

    Returns:
      `folder`.

    Raises:
      OSError: it cannot be read or written.
    """
    spare = folder.with_name(f".{folder.name}-writing")
    with whole_or_nothing(spare, folder):
        shutil.copytree(source, spare, dirs_exist_ok=True)
    return folder


def compare_with_live(algorithm: Algorithm, signatures: Any, batch: int = 4) -> None:
    """Compare an export with the live policy, step by step on random observations.

    Args:
      algorithm: the algorithm with the live policy.
      signatures: the signatures of a loaded SavedModel.
      batch: B.

    Raises:
      RunFailedError: a Q value differs by more than `TOLERANCE`, or the live Q value of
        an action is lower by more than that.
    """
    spec, agent_spec = algorithm.spec, algorithm.agent_spec
    shape = [batch, spec.n_agents]
    random = np.random.default_rng(0)
    policy_state = tf.zeros([*shape, agent_spec.policy_state_size])
    hidden = signatures["initial_state"](batch_size=tf.constant(batch))["hidden"]
    hidden_by_agent = [hidden[:, i] for i in range(spec.n_agents)]
    for _ in range(CHECK_STEPS):
        obs = tf.constant(random.normal(size=[*shape, spec.obs_size]), tf.float32)
        allowed = random.random([*shape, spec.n_actions]) < 0.7
        allowed[..., 0] = True
        legal = tf.constant(allowed & np.asarray(spec.own_actions))
        action, q, policy_state = algorithm.act(obs, legal, policy_state)
        team = signatures["act"](obs=obs, legal=legal, hidden=hidden)
        singles = [
            signatures["act_agent"](
                obs=obs[:, i],
                legal=legal[:, i],
                hidden=hidden_by_agent[i],
                agent=tf.fill([batch], i),
            )
            for i in range(spec.n_agents)
        ]
        joined = {key: tf.stack([s[key] for s in singles], 1) for key in team}
        for name, found in (("act", team), ("act_agent", joined)):
            # Another action is allowed if rounding decides between two of equal value.
            regret = ops.gather_actions(q, action) - ops.gather_actions(q, found["action"])
            state, wanted = (
                x[..., : agent_spec.memory_size] for x in (found["hidden"], policy_state)
            )
            if (
                not np.allclose(found["q"], q, atol=TOLERANCE)
                or not np.allclose(state, wanted, atol=TOLERANCE)
                or np.max(regret) > TOLERANCE
            ):
                raise RunFailedError(
                    f"the export's {name} does not act like the live policy and was not written: "
                    "this is a fault of tfmix, please report it"
                )
        # The export continues from the live policy's state, so that it may act otherwise.
        hidden, hidden_by_agent = policy_state, [policy_state[:, i] for i in range(spec.n_agents)]
