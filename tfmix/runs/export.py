"""Exports the decentralised policy as a SavedModel that TensorFlow alone can load."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import tfmix
from tfmix import ops
from tfmix.algos.base import Algorithm
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring.metrics_csv import EVALUATIONS, NotMetricsError, read_columns
from tfmix.networks.agent import Weights, next_policy_state, own_legal, policy_step
from tfmix.networks.agent_spec import AgentSpec
from tfmix.runs import folders, formats
from tfmix.runs.atomic import whole_or_nothing
from tfmix.runs.manifest import git_commit
from tfmix.serving.contract import FILE, NO_ACTION, Agent, Contract
from tfmix.serving.runtimes import Function, open_signatures

CHECK_STEPS = 25
TOLERANCE = 1e-4  # of Q values, absolute


class ExportedPolicy(tf.Module):
    """Greedy policy with signatures for the team and for one agent.

    It holds plain variables and graphs, and no class of tfmix, Keras or TF-Agents.

    `act` takes obs [B, N, O] float32, legal [B, N, A] bool and hidden [B, N, K]
    float32. `act_agent` takes the same of one agent a row, obs [B, O], legal [B, A]
    and hidden [B, K], and agent [B] int32, its index in the team. Both return `action`
    [B, N] or [B] int32, `q` of the shape of legal, float32, and `hidden`, which is the
    input of the next step. `serving_default` is `act`. `initial_state` and
    `initial_state_agent` return the `hidden` of an episode's start, zeros [B, N, K] or [B, K].

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
        # A SavedModel holds what is an attribute.
        self.functions: dict[str, Any] = {}
        self.contract: Any = None

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
        policy_state = hidden  # of an agent that remembers nothing, K = 0
        if self.agent_spec.policy_state_size:
            policy_state = next_policy_state(self.agent_spec, state, action)
        return {
            "action": tf.where(acts, action, NO_ACTION),
            "q": tf.where(acts[..., None], q, float("nan")),
            "hidden": tf.where(acts[..., None], policy_state, hidden),
        }

    def signatures(self) -> dict[str, Any]:
        """Return the functions; their batch size B is free and all other sizes are fixed."""
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
            # Some runtimes raise an error for a one-hot of an index that is out of range.
            known = tf.clip_by_value(agent, 0, n - 1)
            own = own_legal(self.agent_spec, legal & (agent == known)[:, None], known)
            return self._step(obs, own, hidden, known)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "batch_size")])
        def initial_state(batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"hidden": tf.zeros([batch_size, n, k])}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "batch_size")])
        def initial_state_agent(batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"hidden": tf.zeros([batch_size, k])}

        return {
            "serving_default": act,
            "act": act,
            "act_agent": act_agent,
            "initial_state": initial_state,
            "initial_state_agent": initial_state_agent,
        }


def describe(
    algorithm: Algorithm, folder: Path, env_steps: int, made: Sequence[str] = ("saved_model",)
) -> Contract:
    """Return the contract of an export.

    Args:
      algorithm: the algorithm whose live agents are exported.
      folder: the run folder.
      env_steps: env steps after which the team had its weights.
      made: the formats.

    Raises:
      UserError: the run's run.json is missing or damaged.
    """
    config, spec = algorithm.config, algorithm.spec
    named = zip(folders.agents_of(folder), spec.agent_n_actions, strict=True)
    return Contract(
        algorithm=config.algo,
        environment=config.env,
        seed=config.seed,
        env_steps=env_steps,
        greedy_return=_greedy_return(folder, env_steps),
        tfmix=tfmix.__version__,
        git_commit=git_commit(),
        obs_size=spec.obs_size,
        n_actions=spec.n_actions,
        hidden_size=algorithm.agent_spec.policy_state_size,
        agents=tuple(Agent(agent.name, agent.obs_size, count) for agent, count in named),
        formats=tuple(made),
    )


def _greedy_return(folder: Path, env_steps: int) -> float | None:
    """Return the mean return of a run's evaluation at `env_steps`; None if it has none."""
    with contextlib.suppress(OSError, NotMetricsError):
        columns = read_columns(folder / "evaluations.csv", EVALUATIONS)
        returns = columns["return"][columns["env_steps"] == env_steps]
        if returns.size and np.isfinite(returns).all():
            return float(returns.mean())
    return None


def export(algorithm: Algorithm, folder: Path, contract: Contract) -> Path:
    """Write an export under another name, compare it with the live policy and rename it.

    The SavedModel comes first, and the other formats are made from it.

    Args:
      algorithm: the algorithm whose live agents are exported.
      folder: the folder of the export; an older export is replaced.
      contract: what the export holds, with its formats.

    Returns:
      the folder.

    Raises:
      RunFailedError: a file cannot be made, or does not act like the live policy.
      OSError: the folder cannot be written.
    """
    policy = ExportedPolicy(algorithm.agent_spec, algorithm.live.agent.read_weights())
    policy.functions = policy.signatures()
    spare = folder.with_name(f".{folder.name}-writing")
    with whole_or_nothing(spare, folder):
        (spare / FILE).write_text(contract.as_json(), encoding="utf-8")
        policy.contract = tf.saved_model.Asset(str(spare / FILE))
        tf.saved_model.save(policy, str(spare), signatures=policy.functions)
        for name in contract.formats:
            formats.convert(name, spare)
            title = formats.TITLES[name]
            try:
                signatures = open_signatures(spare, name)
            except UserError as error:
                raise RunFailedError(f"the policy as {title} cannot be loaded: {error}") from error
            compare_with_live(algorithm, signatures, title)
    return folder


def write_export(algorithm: Algorithm, folder: Path, env_steps: int, made: Sequence[str]) -> Path:
    """Write the live team of a run as an export, with its contract.

    Args:
      algorithm: holds the team.
      folder: the folder of the export, in the run folder; an older export is replaced.
      env_steps: env steps after which the team had its weights.
      made: the formats.

    Returns:
      the folder.

    Raises:
      RunFailedError: it cannot be written, or does not act like the live policy.
    """
    contract = describe(algorithm, folder.parent, env_steps, made)
    with _written_or_failed(folder):
        return export(algorithm, folder, contract)


def copy_export(source: Path, folder: Path) -> Path:
    """Copy an export, whole or not at all.

    Args:
      source: the folder of an export.
      folder: the folder of the copy; what has that name is replaced.

    Returns:
      `folder`.

    Raises:
      RunFailedError: it cannot be read or written.
    """
    spare = folder.with_name(f".{folder.name}-writing")
    with _written_or_failed(folder), whole_or_nothing(spare, folder):
        shutil.copytree(source, spare, dirs_exist_ok=True)
    return folder


@contextlib.contextmanager
def _written_or_failed(folder: Path) -> Iterator[None]:
    """Raise OSError as RunFailedError, as a context."""
    try:
        yield
    except OSError as error:
        raise RunFailedError(
            f"the export into {folder.parent} cannot be written: {error.strerror or error}; "
            "--mode=export writes it again"
        ) from error


def _random_steps(algorithm: Algorithm, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield random observations [B, N, O] and masks [B, N, A] of an episode of `CHECK_STEPS`."""
    spec, random = algorithm.spec, np.random.default_rng(0)
    for _ in range(CHECK_STEPS):
        obs = random.normal(size=[batch, spec.n_agents, spec.obs_size])
        allowed = random.random([batch, spec.n_agents, spec.n_actions]) < 0.7
        allowed[..., 0] = True
        yield obs.astype(np.float32), allowed & np.asarray(spec.own_actions)


def compare_with_live(
    algorithm: Algorithm,
    signatures: Mapping[str, Function],
    title: str = "SavedModel",
    batch: int = 4,
) -> None:
    """Compare an export with the live policy over whole episodes with random masks.

    The export continues from its own `hidden`, so that differences add up as they do in use.

    Args:
      algorithm: the algorithm with the live policy.
      signatures: `act` and `act_agent` of the loaded export.
      title: of its format, for the error.
      batch: B, the number of episodes.

    Raises:
      RunFailedError: a Q value differs by more than `TOLERANCE`, or the live Q value of
        an action is lower by more than that.
    """
    n, k = algorithm.spec.n_agents, algorithm.agent_spec.policy_state_size
    policy_state = tf.zeros([batch, n, k])
    hidden = dict.fromkeys(("act", "act_agent"), np.zeros([batch, n, k], np.float32))
    agent = np.tile(np.arange(n, dtype=np.int32), batch)
    for obs, legal in _random_steps(algorithm, batch):
        action, q, policy_state = algorithm.act(tf.constant(obs), tf.constant(legal), policy_state)
        team = signatures["act"](obs=obs, legal=legal, hidden=hidden["act"])
        inputs = {"obs": obs, "legal": legal, "hidden": hidden["act_agent"]}
        rows = {name: x.reshape(batch * n, -1) for name, x in inputs.items()}
        alone = signatures["act_agent"](**rows, agent=agent)
        joined = {name: np.reshape(x, np.shape(team[name])) for name, x in alone.items()}
        for name, found in (("act", team), ("act_agent", joined)):
            if not _acts_alike(algorithm, found, action, q, policy_state):
                raise RunFailedError(
                    f"the export's {name} as {title} does not act like the live policy and was "
                    "not written: this is a fault of tfmix, please report it"
                )
            # Of two actions of equal value, rounding may choose either.
            same = np.asarray(found["action"])[..., None] == action.numpy()[..., None]
            hidden[name] = np.where(same, found["hidden"], policy_state)


def _acts_alike(
    algorithm: Algorithm,
    found: Mapping[str, Any],
    action: tf.Tensor,
    q: tf.Tensor,
    policy_state: tf.Tensor,
) -> bool:
    """Return whether an export's step is the live policy's."""
    memory = algorithm.agent_spec.memory_size
    chosen = np.asarray(found["action"])
    if chosen.min() < 0:
        return False
    regret = ops.gather_actions(q, action) - ops.gather_actions(q, tf.constant(chosen))
    state, wanted = (np.asarray(x)[..., :memory] for x in (found["hidden"], policy_state))
    return bool(
        np.allclose(found["q"], q, atol=TOLERANCE)
        and np.allclose(state, wanted, atol=TOLERANCE)
        and np.max(regret) <= TOLERANCE
    )
