"""The decentralised policy as a SavedModel that TensorFlow alone can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix import ops
from tfmix.algos.base import Algorithm
from tfmix.networks.agent import Weights, next_policy_state, own_legal, policy_step
from tfmix.networks.agent_spec import AgentSpec
from tfmix.runs.atomic import whole_or_nothing

CHECK_STEPS = 25
TOLERANCE = 1e-4  # of q, in units of value
NO_ACTION = -1


class ExportedPolicy(tf.Module):
    """Greedy policy with signatures `act`, `act_agent` and `initial_state`.

    Holds plain variables and graphs, no class of tfmix, Keras or TF-Agents.

    `act` takes obs [B, N, O] float32, legal [B, N, A] bool and hidden [B, N, K]
    float32; `act_agent` takes the same of one agent a row, obs [B, O], legal
    [B, A] and hidden [B, K], with agent [B] int32, its index in the team. Both
    return `action` [B, N] or [B] int32, `q` as legal, float32, and `hidden`, which
    the next step is given. `initial_state` makes the `hidden` of an episode's
    start, zeros [B, N, K].

    A graph cannot raise an error for one row. An agent that cannot act gets
    action -1 (`NO_ACTION`), q of NaN, and its `hidden` back unchanged, and the
    others act. It cannot act where none of its own actions is legal, where its
    observation or its `hidden` holds NaN or infinity, where its values overflow
    (an observation far too large), and where its index is not from 0 to N - 1.
    Actions that an agent does not have are never taken, whatever `legal` says.
    """

    def __init__(self, agent_spec: AgentSpec, weights: list[Weights]):
        super().__init__()
        self.agent_spec = agent_spec
        self.weights = [[tf.Variable(w, trainable=False) for w in network] for network in weights]

    def _step(
        self, obs: tf.Tensor, legal: tf.Tensor, hidden: tf.Tensor, agent: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One step; `legal` holds own actions alone. Returns what the class says."""
        weights = [[tf.convert_to_tensor(w) for w in network] for network in self.weights]
        q, state = policy_step(weights, self.agent_spec, obs, hidden, agent)
        action = ops.legal_argmax(q, legal)
        acts = tf.reduce_any(legal, -1)
        for x in (obs, hidden, q):
            acts &= tf.reduce_all(tf.math.is_finite(x), -1)
        policy_state, row = next_policy_state(self.agent_spec, state, action), acts[..., None]
        return {
            "action": tf.where(acts, action, NO_ACTION),
            "q": tf.where(row, q, float("nan")),
            "hidden": tf.where(row, policy_state, hidden),
        }

    def signatures(self) -> dict[str, Any]:
        """The three functions, traced with B free and all else fixed."""
        n, o = self.agent_spec.n_agents, self.agent_spec.obs_size
        a, k = self.agent_spec.n_actions, self.agent_spec.policy_state_size

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, n, o], tf.float32, "obs"),
                tf.TensorSpec([None, n, a], tf.bool, "legal"),
                tf.TensorSpec([None, n, k], tf.float32, "hidden"),
            ]
        )
        def act(obs, legal, hidden):
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
        def act_agent(obs, legal, hidden, agent):
            return self._step(obs, own_legal(self.agent_spec, legal, agent), hidden, agent)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "batch_size")])
        def initial_state(batch_size):
            return {"hidden": tf.zeros([batch_size, n, k])}

        return {"act": act, "act_agent": act_agent, "initial_state": initial_state}


def export(algorithm: Algorithm, folder: Path) -> Path:
    """Write the SavedModel, compares it with the live policy and puts it into place.

    Args:
      algorithm: whose live agents are exported.
      folder: where to; an older export there is replaced.

    Raises:
      RuntimeError: the loaded export does not act like the live policy.
      OSError: the folder cannot be written.
    """
    policy = ExportedPolicy(algorithm.agent_spec, algorithm.live.agent.read())
    policy.functions = policy.signatures()
    spare = folder.with_name(f".{folder.name}-writing")
    with whole_or_nothing(spare, folder):
        tf.saved_model.save(policy, str(spare), signatures=policy.functions)
        compare(algorithm, tf.saved_model.load(str(spare)).signatures)
    return folder


def compare(algorithm: Algorithm, signatures: Any, batch: int = 4) -> None:
    """Step an export beside the live policy on random observations.

    Args:
      algorithm: with the live policy.
      signatures: of a loaded SavedModel.
      batch: B.

    Raises:
      RuntimeError: a value differs by more than `TOLERANCE`, or an action that
        is worse by more than that.
    """
    spec, agent_spec = algorithm.spec, algorithm.agent_spec
    shape = [batch, spec.n_agents]
    random = np.random.default_rng(0)
    policy_state = tf.zeros([*shape, agent_spec.policy_state_size])
    hidden = signatures["initial_state"](batch_size=tf.constant(batch))["hidden"]
    alone = [hidden[:, i] for i in range(spec.n_agents)]
    for _ in range(CHECK_STEPS):
        obs = tf.constant(random.normal(size=[*shape, spec.obs_size]), tf.float32)
        legal = random.random([*shape, spec.n_actions]) < 0.7
        legal[..., 0] = True
        legal = tf.constant(legal & np.asarray(spec.own_actions))
        action, q, policy_state = algorithm.act(obs, legal, policy_state)
        team = signatures["act"](obs=obs, legal=legal, hidden=hidden)
        singles = [
            signatures["act_agent"](
                obs=obs[:, i], legal=legal[:, i], hidden=alone[i], agent=tf.fill([batch], i)
            )
            for i in range(spec.n_agents)
        ]
        joined = {key: tf.stack([s[key] for s in singles], 1) for key in team}
        for name, found in (("act", team), ("act_agent", joined)):
            # Another action is allowed where rounding decides between two alike.
            regret = ops.gather_actions(q, action) - ops.gather_actions(q, found["action"])
            state, wanted = (
                x[..., : agent_spec.memory_size] for x in (found["hidden"], policy_state)
            )
            if (
                not np.allclose(found["q"], q, atol=TOLERANCE)
                or not np.allclose(state, wanted, atol=TOLERANCE)
                or np.max(regret) > TOLERANCE
            ):
                raise RuntimeError(f"the export's {name} does not act like the live policy")
        # After such a step all go on from what the live policy did.
        hidden, alone = policy_state, [policy_state[:, i] for i in range(spec.n_agents)]
