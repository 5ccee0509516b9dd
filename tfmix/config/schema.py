"""Every setting, declared once: default, unit, help and bounds.

The flags of the command line, `docs/settings.md`, `--help` and the checks of
a value's type and range are all made from the fields of `Config`.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

MAX_UNITS = 65_536  # of a hidden layer; larger values are almost certainly typos
MAX_INT = 10**15  # of any whole number: the loop counts in 64 bits


def _setting(default: Any, text: str, group: str, unit: str = "", **bounds: Any) -> Any:
    """Make a field of `Config`; bounds are `low`, `high` (both allowed) or `choices`."""
    return dataclasses.field(
        default=default, metadata={"help": text, "group": group, "unit": unit, **bounds}
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run. See docs/settings.md, which is made from this class."""

    algo: str = _setting("qmix", "Algorithm. See --mode=list.", "run")
    env: str = _setting("predator_prey/pair_hunt", "Environment. See --mode=list.", "run")
    env_arg: tuple[str, ...] = _setting(
        (),
        "Argument of the environment, name=value with the value in JSON. Can be repeated; the "
        "later value of a name wins.",
        "run",
    )
    seed: int = _setting(0, "Seed of all random numbers.", "run", low=0, high=2**31 - 1)
    run_dir: str = _setting("", "Run folder. Empty: runs/<env>/<algo>/<seed and time>.", "run")
    env_steps: int = _setting(1_000_000, "Env steps to train for.", "run", "env steps", low=1)

    n_envs: int = _setting(8, "Environments stepped in parallel.", "collection", low=1)
    env_workers: int = _setting(
        -1,
        "Worker processes that step Python environments, at most n_envs. -1: one per core. 0: "
        "none, the training process steps them (for debugging).",
        "collection",
        "processes",
        low=-1,
    )
    max_worker_restarts: int = _setting(
        10,
        "Workers that a run may replace because they died, hung or raised. One more ends the run.",
        "collection",
        "restarts",
        low=0,
    )
    env_timeout_seconds: float = _setting(
        60.0,
        "Longest time that a step of a worker's environment may take. Building an environment "
        "may take ten times as long.",
        "collection",
        "seconds",
        low=0.1,
        high=86_400.0,  # ten times as much is still a number of milliseconds that `poll` takes
    )
    epsilon_start: float = _setting(
        1.0,
        "Epsilon (probability of a random action) at the start.",
        "collection",
        low=0.0,
        high=1.0,
    )
    epsilon_end: float = _setting(
        0.05, "Final epsilon, after its decay.", "collection", low=0.0, high=1.0
    )
    epsilon_anneal_env_steps: int = _setting(
        50_000, "Env steps over which epsilon decays linearly.", "collection", "env steps", low=0
    )
    team_reward: str = _setting(
        "sum",
        "How the agents' rewards become the team's reward: their sum, their mean, or one copy "
        "if all agents receive the same number.",
        "collection",
        choices=("sum", "mean", "one"),
    )
    time_limit: str = _setting(
        "bootstrap",
        "How to treat truncation at a time limit: bootstrap from the next state, or treat it "
        "as terminal.",
        "collection",
        choices=("bootstrap", "terminal"),
    )
    episode_limit: int = _setting(
        0, "Longest episode. 0: the environment's own limit.", "collection", "env steps", low=0
    )

    buffer_type: str = _setting(
        "float32",
        "Data type of observations and states in the replay. uint8 holds whole numbers from "
        "0 to 255.",
        "learning",
        choices=("float32", "float16", "uint8"),
    )
    buffer_episodes: int = _setting(5_000, "Replay capacity.", "learning", "episodes", low=1)
    buffer_gb: float = _setting(
        0.0,
        "Most memory that the replay takes. It holds fewer episodes than buffer_episodes if "
        "these would take more. 0: no limit.",
        "learning",
        "GB",
        low=0.0,
    )
    gpu_buffer_gb: float = _setting(
        4.0,
        "With a GPU: a replay up to this size is kept in the GPU's memory, a larger one in "
        "the host's.",
        "learning",
        "GB",
        low=0.0,
    )
    batch_episodes: int = _setting(
        32, "Batch size: episodes in an update.", "learning", "episodes", low=1
    )
    update_shards: int = _setting(
        0,
        "Split each batch into this many parts and compute their gradients in parallel, one "
        "CPU core each. 0: automatic, one per core, fewer if the parts would be small.",
        "learning",
        "parts",
        low=0,
    )
    updates_per_episode: float = _setting(
        1.0,
        "Updates for each collected episode. An update happens whenever this adds up to 1.",
        "learning",
        "updates",
        low=0.0,
        high=1000.0,
    )
    gamma: float = _setting(0.99, "Discount factor.", "learning", low=0.0, high=1.0)
    learning_rate: float = _setting(5e-4, "Learning rate at the start.", "learning", low=0.0)
    learning_rate_decay: str = _setting(
        "none",
        "Learning-rate schedule: constant, or linear decay to 0 at env_steps. If a run is "
        "resumed with other env_steps, the line leads to the new end, which is reported: the "
        "learning rate of a finished run rises from 0 again.",
        "learning",
        choices=("none", "linear"),
    )
    optimizer: str = _setting("adam", "Optimiser.", "learning", choices=("adam", "rmsprop"))
    optimizer_epsilon: float = _setting(
        0.0,
        "Optimiser's epsilon, added to the square root as in PyTorch (for adam after bias "
        "correction). 0: 1e-8 for adam, 1e-5 for rmsprop.",
        "learning",
        low=0.0,
    )
    grad_clip_norm: float = _setting(
        10.0, "Clip gradients to this global norm. 0: no clipping.", "learning", low=0.0
    )
    target_period_updates: int = _setting(
        200,
        "Updates between copies of the weights to the target networks.",
        "learning",
        "updates",
        low=1,
    )
    target_tau: float = _setting(
        0.0,
        "Polyak averaging rate of the target networks: target = (1 - tau) target + tau live "
        "at each update. 0: copies every target_period_updates.",
        "learning",
        low=0.0,
        high=1.0,
    )
    double_q: bool = _setting(
        True,
        "Double Q-learning: the live networks choose the next action, the target networks "
        "give its value.",
        "learning",
    )
    td_lambda: float = _setting(
        0.0,
        "Lambda of TD(lambda) targets. 0: one-step targets.",
        "learning",
        low=0.0,
        high=1.0,
    )
    q_lambda: bool = _setting(
        False, "Q(lambda): correct TD(lambda) targets for exploring actions.", "learning"
    )
    n_step: int = _setting(
        1, "Rewards in an n-step target, before it bootstraps.", "learning", "rewards", low=1
    )
    standardise_rewards: bool = _setting(
        False,
        "Subtract the mean of all collected rewards and divide by their standard deviation. The "
        "divisor is larger, so that no reward is above 10, while few rewards differ from the "
        "others. The shift changes the task if the team's actions decide how long an episode is.",
        "learning",
    )

    hidden_size: int = _setting(
        64,
        "Units of the agents' GRU, or of each hidden layer of feed-forward agents.",
        "networks",
        "units",
        low=1,
        high=MAX_UNITS,
    )
    recurrent: bool = _setting(
        True, "Agents have a GRU. Without it they are feed-forward.", "networks"
    )
    agent_layers: int = _setting(
        2, "Hidden layers of feed-forward agents.", "networks", "layers", low=1, high=64
    )
    share_parameters: bool = _setting(
        True,
        "All agents share one network. Without it each agent has its own network, and no "
        "index as input.",
        "networks",
    )
    last_action: bool = _setting(True, "Agents read their last action.", "networks")
    agent_id: bool = _setting(True, "Agents read their own index.", "networks")
    mixer_embed: int = _setting(
        32,
        "Units of QMIX's mixing layer; size of Qatten's queries.",
        "networks",
        "units",
        low=1,
        high=MAX_UNITS,
    )
    hypernet_embed: int = _setting(
        64,
        "Hidden units of the hypernetworks of QMIX, Qatten and QPLEX.",
        "networks",
        "units",
        low=1,
        high=MAX_UNITS,
    )
    hypernet_layers: int = _setting(
        2, "Layers of QMIX's hypernetworks.", "networks", "layers", low=1, high=2
    )
    attention_heads: int = _setting(
        4, "Attention heads of Qatten.", "networks", "heads", low=1, high=64
    )
    attention_bias: bool = _setting(
        True,
        "Qatten's keys and the last layer of its queries have a bias, as in PyMARL2. The "
        "authors of WQMIX have none.",
        "networks",
    )
    attention_logit_loss: float = _setting(
        0.0, "Weight of Qatten's mean squared attention logits in the loss.", "networks", low=0.0
    )
    central_embed: int = _setting(
        256,
        "Hidden units of the central mixer of CW-QMIX and OW-QMIX.",
        "networks",
        "units",
        low=1,
        high=MAX_UNITS,
    )
    wqmix_alpha: float = _setting(
        0.1,
        "Weight of joint actions that CW-QMIX and OW-QMIX down-weight; others weigh 1.",
        "networks",
        low=0.0,
        high=1.0,
    )
    duplex_kernels: int = _setting(
        10, "Attention kernels of QPLEX.", "networks", "kernels", low=1, high=256
    )
    duplex_layers: int = _setting(
        3, "Layers of each of QPLEX's kernels.", "networks", "layers", low=1, high=64
    )
    duplex_alpha: float = _setting(
        1.0,
        "Weight of the agents' part of QPLEX's gradient if its advantage weights alone can "
        "remove the error. 1 is the published loss.",
        "networks",
        low=0.0,
        high=1.0,
    )
    qtran_embed: int = _setting(
        64, "Hidden units of QTRAN's joint networks.", "networks", "units", low=1, high=MAX_UNITS
    )
    qtran_state_value: str = _setting(
        "state",
        "What QTRAN's V_jt reads: the state, nothing (it is 0), or the agents' features.",
        "networks",
        choices=("state", "zero", "features"),
    )
    opt_loss: float = _setting(1.0, "Weight of QTRAN's L_opt.", "networks", low=0.0)
    nopt_min_loss: float = _setting(
        10.0, "Weight of QTRAN's L_nopt (base) or L_nopt-min (alt).", "networks", low=0.0
    )
    qtran_slack: float = _setting(
        0.001,
        "Weight in L_nopt-min of an agent whose Q' + V_jt is above Q_jt for each of its actions "
        "(QTRAN-alt). 1: the paper's condition (7). 0: condition (4b) alone.",
        "networks",
        low=0.0,
        high=1.0,
    )

    eval_episodes: int = _setting(
        100, "Greedy episodes in an evaluation.", "output", "episodes", low=1
    )
    eval_period_env_steps: int = _setting(
        50_000, "Env steps between evaluations.", "output", "env steps", low=1
    )
    log_period_env_steps: int = _setting(
        0,
        "Env steps between rows of metrics. 0: a 200th of env_steps.",
        "output",
        "env steps",
        low=0,
    )
    inspect: bool = _setting(
        True,
        "Look at the team at each evaluation and write what is found to TensorBoard: utilities, "
        "TD errors, agreement with the joint value, weights, gradients, pictures of games.",
        "output",
    )
    checkpoint_period_seconds: float = _setting(
        60.0,
        "Time between checkpoints. It grows if writing one takes more than a 50th of it. One "
        "is always written at the end.",
        "output",
        "seconds",
        low=0.0,
    )
    checkpoint_period_env_steps: int = _setting(
        0,
        "Env steps between checkpoints, in addition to checkpoint_period_seconds. 0: none.",
        "output",
        "env steps",
        low=0,
    )
    checkpoint_replay: bool = _setting(
        True,
        "Keep the replay in checkpoints. Without it checkpoints are small, and a resumed run "
        "starts with an empty replay, so that its result is not that of an uninterrupted run.",
        "output",
    )


FIELDS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(Config)}
TYPES = typing.get_type_hints(Config)
