"""Compares losses and gradients with the public learners of PyMARL and WQMIX.

  git clone https://github.com/oxwhirl/pymarl && git -C pymarl checkout c971afd
  git clone https://github.com/oxwhirl/wqmix && git -C wqmix checkout 350e989
  python benchmarks/parity.py --pymarl=pymarl --wqmix=wqmix --peer_python=PYTHON

PYTHON is an interpreter with PyTorch and NumPy (2.13 and 2.4 were used; it need not be
tfmix's). With the same weights and the same batch, the loss and its gradient in every weight
must be the same except for rounding. The exit code is 1 if they are not. Nothing of either
repository is copied: `parity_peer.py` calls their learners in their interpreter.

Networks have their default sizes. Batches hold episodes of unequal lengths with illegal
actions and padding, which end by termination and by time. Targets differ from the live networks.
States begin with the agents' observations, where WQMIX's Qatten looks for them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: F401, E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests.conftest import make_batch  # noqa: E402
from tfmix import algos  # noqa: E402
from tfmix.algos.base import Algorithm  # noqa: E402
from tfmix.algos.qatten import AttentionMixer  # noqa: E402
from tfmix.algos.qmix import MonotonicMixer  # noqa: E402
from tfmix.algos.qplex import DuplexMixer  # noqa: E402
from tfmix.config.schema import Config  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.networks.layers import Linear, Networks, reset_weights  # noqa: E402
from tfmix.types import EnvSpec, Episode  # noqa: E402

TOLERANCE = 1e-4
SPEC = EnvSpec(
    name="parity",
    n_agents=3,
    n_actions=5,
    obs_size=6,
    state_size=3 * 6 + 4,
    episode_limit=10,
    agent_n_actions=(5, 5, 5),
)
LENGTHS = (10, 7, 4, 1, 9, 6, 2, 10)  # the last one is cut by time, the others terminate

# An agent's weights in our order, by the peer's names.
AGENT = [
    "fc1.weight",
    "fc1.bias",
    "rnn.weight_ih",
    "rnn.bias_ih",
    "rnn.weight_hh",
    "rnn.bias_hh",
    "fc2.weight",
    "fc2.bias",
]


class Case(NamedTuple):
    """A row: our settings, the names of the peer's learner and mixer, and episodes' lengths."""

    name: str
    peer: str
    learner: str
    mixer: str | None
    settings: dict[str, Any]
    lengths: tuple[int, ...] = LENGTHS


CASES = [
    Case("IQL", "pymarl", "q_learner", None, {"algo": "iql"}),
    Case("VDN", "pymarl", "q_learner", "vdn", {"algo": "vdn"}),
    Case("QMIX", "pymarl", "q_learner", "qmix", {"algo": "qmix"}),
    Case("QMIX, 1 layer", "pymarl", "q_learner", "qmix", {"algo": "qmix", "hypernet_layers": 1}),
    Case("QMIX, no double Q", "pymarl", "q_learner", "qmix", {"algo": "qmix", "double_q": False}),
    Case("QTRAN-base", "pymarl", "qtran_learner", "qtran_base", {"algo": "qtran_base"}),
    Case(
        "QTRAN-base, no double Q",
        "pymarl",
        "qtran_learner",
        "qtran_base",
        {"algo": "qtran_base", "double_q": False},
    ),
    Case("CW-QMIX", "wqmix", "max_q_learner", "qmix", {"algo": "cw_qmix"}),
    Case("OW-QMIX", "wqmix", "max_q_learner", "qmix", {"algo": "ow_qmix"}),
    Case(
        "Qatten",
        "wqmix",
        "qatten_learner",
        "qatten",
        {"algo": "qatten", "attention_bias": False},
    ),
    Case(  # the peer's mean of the logits counts padding too: none here
        "Qatten, logit loss",
        "wqmix",
        "qatten_learner",
        "qatten",
        {"algo": "qatten", "attention_bias": False, "attention_logit_loss": 0.1},
        (SPEC.episode_limit,) * len(LENGTHS),
    ),
    Case("QPLEX", "wqmix", "dmaq_qatten_learner", "dmaq", {"algo": "qplex"}),
    Case(
        "QPLEX, 1 layer",
        "wqmix",
        "dmaq_qatten_learner",
        "dmaq",
        {"algo": "qplex", "duplex_layers": 1},
    ),
]


def peer_settings(case: Case, config: Config) -> dict[str, Any]:
    """Return our settings by the peer's names."""
    qtran = config.algo == "qtran_base"
    return {
        "learner": case.learner,
        "mixer": case.mixer,
        "n_agents": SPEC.n_agents,
        "n_actions": SPEC.n_actions,
        "state_shape": SPEC.state_size,
        "unit_dim": SPEC.obs_size,
        "rnn_hidden_dim": config.hidden_size,
        "gamma": config.gamma,
        "double_q": config.double_q,
        "mixing_embed_dim": config.qtran_embed if qtran else config.mixer_embed,
        "hypernet_embed": config.hypernet_embed,
        "hypernet_layers": config.hypernet_layers,
        "opt_loss": config.opt_loss,
        "nopt_min_loss": config.nopt_min_loss,
        "central_mixing_embed_dim": config.central_embed,
        "w": config.wqmix_alpha,
        "hysteretic_qmix": config.algo == "ow_qmix",
        "n_head": config.attention_heads,
        "attend_reg_coef": config.attention_logit_loss,
        "num_kernel": config.duplex_kernels,
        "adv_hypernet_layers": config.duplex_layers,
        "adv_hypernet_embed": config.hypernet_embed,
    }


def layers_of(algorithm: Algorithm, live: Networks) -> Iterator[tuple[str, list[Linear]]]:
    """Return our layers after the agents, by the peer's name for each sequence of them."""
    mixer = live.mixer if algorithm.has_mixer else None
    if isinstance(mixer, MonotonicMixer):
        yield "mixer.hyper_w_1", mixer.hyper_w1.linears
        yield "mixer.hyper_b_1", [mixer.hyper_b1]
        yield "mixer.hyper_w_final", mixer.hyper_wf.linears
        yield "mixer.V", mixer.state_value.linears
    elif isinstance(mixer, AttentionMixer):
        for h, (query, key) in enumerate(zip(mixer.query, mixer.key, strict=True)):
            yield f"mixer.selector_extractors.{h}", query.linears
            yield f"mixer.key_extractors.{h}", [key]
        yield "mixer.hyper_w_head", mixer.head_weight.linears
        yield "mixer.V", mixer.constant.linears
    elif isinstance(mixer, DuplexMixer):
        yield "mixer.hyper_w_final", mixer.scale.linears
        yield "mixer.V", mixer.shift.linears
        parts = {"key": mixer.keys, "agents": mixer.agents, "action": mixer.actions}
        for part, extractors in parts.items():
            for k, extractor in enumerate(extractors):
                yield f"mixer.si_weight.{part}_extractors.{k}", extractor.linears
    if algorithm.critic == "central":
        yield "central_mixer.net", live.central_mixer.net.linears
        yield "central_mixer.V", live.central_mixer.state_value.linears
    if algorithm.critic == "joint":
        yield "mixer.action_encoding", [live.joint.encode, live.joint.encode_out]
        yield "mixer.Q", [live.joint.first, *live.joint.rest.linears]
        yield "mixer.V", live.value.value.linears


def weights_of(algorithm: Algorithm, networks: Networks) -> dict[str, tf.Variable]:
    """Return every weight of live or target networks by the peer's name."""
    found = {}
    agents = {"agent": networks.agent}
    if algorithm.critic == "central":
        agents["central_agent"] = networks.central_agent
    for agent, team in agents.items():
        found |= {f"{agent}.{n}": w for n, w in zip(AGENT, team.weights, strict=True)}
    for prefix, layers in layers_of(algorithm, networks):
        for i, layer in enumerate(layers):
            name = prefix if len(layers) == 1 else f"{prefix}.{2 * i}"  # a ReLU between two
            found[f"{name}.weight"] = layer.kernel
            if layer.bias is not None:
                found[f"{name}.bias"] = layer.bias
    assert len(found) == len(networks.trainable_variables)
    return found


def as_theirs(weight: tf.Tensor) -> np.ndarray:
    """Return a weight or its gradient as PyTorch lays it out: kernels are [out, in] there."""
    return np.transpose(weight)


class Ours:
    """Our side of a row; compiles once for all seeds."""

    def __init__(self, case: Case):
        self.case, self.config = case, Config(**case.settings)
        self.algorithm = algos.make(self.config.algo, SPEC, self.config)
        self.live = weights_of(self.algorithm, self.algorithm.live)
        self.target = weights_of(self.algorithm, self.algorithm.target)

    def reset(self, seed: int) -> Episode:
        """Draw the weights of live and target networks, and a batch."""
        batch = make_batch(SPEC, self.case.lengths, seed)
        team = tf.reshape(batch.obs, [*batch.obs.shape[:2], -1])
        state = tf.concat([team, batch.state[..., team.shape[-1] :]], -1)
        reset_weights(self.algorithm.live, tf.constant([seed, 1]))
        reset_weights(self.algorithm.target, tf.constant([seed, 2]))
        return batch._replace(state=state)

    def question(self, batch: Episode) -> dict[str, np.ndarray]:
        """Return the input of the peer: settings, batch and weights."""
        found = {"settings": np.asarray(json.dumps(peer_settings(self.case, self.config)))}
        found |= {f"batch.{name}": value.numpy() for name, value in batch._asdict().items()}
        for kind, weights in (("live", self.live), ("target", self.target)):
            found |= {f"{kind}.{n}": as_theirs(w) for n, w in weights.items()}
        return found

    @tf.function(jit_compile=True)
    def gradients(self, batch: Episode) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the loss, and its gradient in each live weight."""
        with tf.GradientTape() as tape:
            loss, _ = self.algorithm.loss(batch)
        return loss, tape.gradient(loss, self.live, unconnected_gradients="zero")


class Found(NamedTuple):
    """One comparison: both losses, and the worst gradient's relative difference and name."""

    ours: float
    theirs: float
    gradient: float
    weight: str

    @property
    def loss(self) -> float:
        """Return the losses' relative difference."""
        return abs(self.ours - self.theirs) / abs(self.theirs)


def compare(side: Ours, batch: Episode, answer: dict[str, np.ndarray]) -> Found:
    """Compare our loss and gradients with the peer's.

    A weight's gradients differ by their largest difference over their largest entry. A bias
    counts as a row of its kernel: alone, it can be a sum that comes to almost nothing.
    """
    loss, ours = side.gradients(batch)
    theirs = {name: value for name, value in answer.items() if name != "loss"}
    scales: dict[str, float] = {}
    for name, value in theirs.items():
        layer = name.replace("bias", "weight")
        scales[layer] = max(scales.get(layer, 0.0), np.abs(value).max())
    gaps = {}
    for name, value in theirs.items():
        gap = np.abs(as_theirs(ours[name]) - value).max()
        gaps[name] = gap / scales[name.replace("bias", "weight")] if gap else 0.0
    worst = list(gaps)[np.argmax(list(gaps.values()))]  # a NaN, where there is one
    return Found(float(loss), float(answer["loss"]), float(gaps[worst]), worst)


def ask(peer_python: str, checkout: Path, folder: Path) -> str:
    """Let the peer answer every question in `folder`; return what it says of itself."""
    driver = Path(__file__).with_name("parity_peer.py")
    # -B: leaves no bytecode in the checkout.
    command = [peer_python, "-B", str(driver), str(checkout), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--peer_python={peer_python} does not run: {error.strerror}") from error
    if done.returncode:
        raise UserError(f"the peer failed in {checkout}:\n{done.stderr.strip()}")
    git = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return f"{checkout} at {commit or 'no commit'}, {done.stdout.strip()}"


def compare_all(cases: list[Case], peer_python: str, checkout: Path, seeds: int) -> bool:
    """Print one row per case of a peer; return whether all are well."""
    sides = [Ours(case) for case in cases]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, side in enumerate(sides):
            for seed in range(seeds):
                np.savez(folder / f"{number}-{seed}.in.npz", **side.question(side.reset(seed)))
        print(f"\n{ask(peer_python, checkout, folder)}\n\n{HEAD}")
        well = True
        for number, side in enumerate(sides):
            found = []
            for seed in range(seeds):
                with np.load(folder / f"{number}-{seed}.out.npz") as answer:
                    found.append(compare(side, side.reset(seed), dict(answer)))
            well &= print_row(side.case.name, found)
    return well


HEAD = (
    "| algorithm | loss, ours | loss, theirs | relative difference "
    "| largest of gradients | in | verdict |\n|---|---|---|---|---|---|---|"
)


def print_row(name: str, found: list[Found]) -> bool:
    """Print the worst of the seeds; return whether it is well."""
    loss, gradient = max(found, key=lambda f: f.loss), max(found, key=lambda f: f.gradient)
    well = all(f.loss <= TOLERANCE and f.gradient <= TOLERANCE for f in found)
    print(
        f"| {name} | {loss.ours:.6f} | {loss.theirs:.6f} | {loss.loss:.1e} "
        f"| {gradient.gradient:.1e} | {gradient.weight} | {'equal' if well else 'OFF'} |",
        flush=True,
    )
    return well


def main() -> int:
    """Compare with both peers; return the exit code."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--pymarl", type=Path, required=True, help="checkout of PyMARL")
    arguments.add_argument("--wqmix", type=Path, required=True, help="checkout of WQMIX")
    arguments.add_argument("--peer_python", required=True, help="interpreter with PyTorch")
    arguments.add_argument(
        "--seeds", type=int, default=5, help="number of batches and weights for each row"
    )
    asked = arguments.parse_args()
    well = True
    try:
        if asked.seeds < 1:
            raise UserError(f"--seeds={asked.seeds} is less than 1")
        for peer in ("pymarl", "wqmix"):
            checkout = getattr(asked, peer)
            if not (checkout / "src" / "learners").is_dir():
                raise UserError(f"--{peer}={checkout} is not a checkout: it has no src/learners")
            cases = [case for case in CASES if case.peer == peer]
            well &= compare_all(cases, asked.peer_python, checkout, asked.seeds)
    except UserError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
