"""Runs the peer's side of `parity.py`: losses and gradients of the learners in PyMARL or WQMIX.

  python parity_peer.py CHECKOUT FOLDER

It needs an interpreter with PyTorch and NumPy, and does not import tfmix. Every
FOLDER/NAME.in.npz holds `settings` (JSON), a batch as `batch.FIELD`, and weights as
`live.NETWORK.WEIGHT` and `target.NETWORK.WEIGHT` under the peer's names. FOLDER/NAME.out.npz
receives `loss` and the gradient of each live weight as `NETWORK.WEIGHT`. The learner, its batch,
agents and mixers are the checkout's; this script sets only the weights, the logger and the
settings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch as th

# Settings that no comparison changes. A learning rate of zero and an infinite clip norm leave
# the gradients unchanged after the learner's step.
FIXED = {
    "agent": "rnn",
    "agent_output_type": "q",
    "obs_last_action": True,
    "obs_agent_id": True,
    "action_selector": "epsilon_greedy",
    "epsilon_start": 1.0,
    "epsilon_finish": 0.05,
    "epsilon_anneal_time": 50_000,
    "lr": 0.0,
    "optim_alpha": 0.99,
    "optim_eps": 1e-5,
    "grad_norm_clip": float("inf"),
    "target_update_interval": 200,
    "learner_log_interval": 0,
    # QTRAN
    "qtran_arch": "qtran_paper",
    "network_size": "small",
    # CW-QMIX and OW-QMIX
    "central_mac": "basic_central_mac",
    "central_agent": "central_rnn",
    "central_mixer": "ff",
    "central_action_embed": 1,
    "central_loss": 1,
    "qmix_loss": 1,
    # Qatten and QPLEX
    "state_bias": True,
    "weighted_head": True,
    "nonlinear": False,
    "mask_dead": False,
    "is_minus_one": True,
}


class Log(dict):
    """A learner's logger: what it logs, by name."""

    console_logger = SimpleNamespace(info=print)

    def log_stat(self, name: str, value: Any, t_env: int) -> None:
        """Do nothing; learners call it."""
        self[name] = value


def make_batch(data: dict[str, np.ndarray], args: SimpleNamespace) -> Any:
    """Return the peer's batch of episodes, filled as its runner fills it."""
    from components.episode_buffer import EpisodeBatch
    from components.transforms import OneHot

    scheme = {
        "state": {"vshape": args.state_shape},
        "obs": {"vshape": args.unit_dim, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": th.long},
        "avail_actions": {"vshape": (args.n_actions,), "group": "agents", "dtype": th.int},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": th.uint8},
    }
    episodes, steps = data["mask"].shape
    batch = EpisodeBatch(
        scheme,
        {"agents": args.n_agents},
        episodes,
        steps + 1,
        preprocess={"actions": ("actions_onehot", [OneHot(out_dim=args.n_actions)])},
    )
    seen = {"state": "state", "obs": "obs", "avail_actions": "legal"}
    done = {"actions": "action", "reward": "reward", "terminated": "terminated"}
    for b, length in enumerate(data["mask"].sum(1).astype(int).tolist()):
        rows = {name: data[ours][b, : length + 1] for name, ours in seen.items()}
        batch.update(rows, b, slice(0, length + 1))
        rows = {name: data[ours][b, :length, ..., None] for name, ours in done.items()}
        batch.update(rows, b, slice(0, length), mark_filled=False)
    return batch


def networks(learner: Any, prefix: str) -> dict[str, th.nn.Module]:
    """Return the learner's live networks (prefix "") or its targets ("target_") by name."""
    found = {
        "agent": getattr(learner, f"{prefix}mac").agent,
        "mixer": getattr(learner, f"{prefix}mixer", None),
        "central_agent": getattr(getattr(learner, f"{prefix}central_mac", None), "agent", None),
        "central_mixer": getattr(learner, f"{prefix}central_mixer", None),
    }
    return {name: network for name, network in found.items() if network is not None}


def compute(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one update's loss and gradients."""
    from controllers import REGISTRY as CONTROLLERS
    from learners import REGISTRY as LEARNERS

    def below(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}

    args = SimpleNamespace(**FIXED, **json.loads(str(given["settings"])))
    batch, log = make_batch(below("batch."), args), Log()
    controller = CONTROLLERS["basic_mac"](batch.scheme, batch.groups, args)
    learner = LEARNERS[args.learner](controller, batch.scheme, log, args)
    live = networks(learner, "")
    for kind, parts in (("live", live), ("target", networks(learner, "target_"))):
        for name, network in parts.items():  # strict: every weight of the peer is given
            weights = below(f"{kind}.{name}.")
            network.load_state_dict({k: th.tensor(v) for k, v in weights.items()})
    learner.train(batch, t_env=0, episode_num=0)
    found = {"loss": np.asarray(log["loss"])}
    for name, network in live.items():
        for weight, value in network.named_parameters():
            found[f"{name}.{weight}"] = value.grad.numpy()
    return found


def main() -> None:
    """Answer every question in the folder."""
    checkout, folder = map(Path, sys.argv[1:])
    sys.path.insert(0, str(checkout / "src"))
    # WQMIX's QTRAN learner, imported with the others, asks for a module that is not there.
    missing = ModuleType("modules.mixers.qmix_ablations")
    missing.__getattr__ = lambda name: None
    sys.modules[missing.__name__] = missing
    # QPLEX's learner calls it without asking whether there is a GPU.
    th.Tensor.cuda = lambda self, *_, **__: self
    for path in sorted(folder.glob("*.in.npz")):
        with np.load(path) as given:
            found = compute(dict(given))
        np.savez(folder / path.name.replace(".in.", ".out."), **found)
    print(f"PyTorch {th.__version__}")


if __name__ == "__main__":
    main()
