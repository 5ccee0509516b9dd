"""Examines what teams that were trained on the Gaussian squeeze have learned.

  python benchmarks/squeeze.py runs/paper/gaussian_squeeze/gaussian_squeeze_k2/qtran_alt/seed0 ...

Each run folder has a row, over `--states` of the task's states s, which `--seed` draws:

  return      mean reward of the greedy team
  at a peak   share of states in which the greedy amount x is within a peak's width of its mean
  Q_jt        share of the reward's variance over random joint actions that the joint network
              explains, mean of its N critics in QTRAN-alt (QTRAN only)
  level       how far an agent's second and middle Q values are below its largest one, means;
              for scale, how far the lowest one is
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix import ops  # noqa: E402
from tfmix.envs.graph.squeeze import GaussianSqueeze  # noqa: E402
from tfmix.errors import UserError  # noqa: E402


def row_of(folder: str, states: int, seed: int) -> str:
    """Return a line of the table.

    Raises:
      UserError: a folder that holds no run, or one of another task.
    """
    run = tfmix.load(folder)
    env, live = run.trainer.collector.env, run.algorithm.live
    if not isinstance(env, GaussianSqueeze):
        raise UserError(f"{folder} is a run on {run.trainer.spec.name}, not on the squeeze")
    world, seen = env.reset(tf.constant([seed, 0]), states)
    agents, size = env.spec.n_agents, env.spec.n_actions
    q, hidden = live.agent(
        seen.obs, tf.zeros([states, agents, run.algorithm.agent_spec.policy_state_size])
    )

    def reward(action: tf.Tensor) -> np.ndarray:
        return env.step(world, action, tf.constant([seed, 1]))[1].reward.numpy()

    greedy = tf.argmax(q, -1, tf.int32)
    amount = tf.reduce_mean(tf.cast(greedy, tf.float32) * world, -1).numpy()
    near = [np.mean(np.abs(amount - mean) < width) for mean, width in env.peaks]
    known = "-"
    if run.algorithm.critic in ("joint", "counterfactual"):
        tried = tf.random.stateless_uniform([states, agents], [seed, 2], 0, size, tf.int32)
        found = live.joint(seen.state[:, None], hidden[:, None], tried[:, None])[:, 0]
        if run.algorithm.critic == "counterfactual":
            found = tf.reduce_mean(ops.gather_actions(found, tried), -1)
        paid = reward(tried)
        known = f"{1 - np.mean((found.numpy() - paid) ** 2) / np.var(paid):.2f}"
    below = np.sort(np.max(q, -1, keepdims=True) - q, -1)
    level = [below[..., place].mean() for place in (1, size // 2, -1)]
    return (
        f"| {Path(folder).parent.name}/{Path(folder).name} | {reward(greedy).mean():.2f} | "
        + ", ".join(
            f"x={mean}: {share:.0%}" for (mean, _), share in zip(env.peaks, near, strict=True)
        )
        + f" | {known} | {level[0]:.4f}, {level[1]:.3f} of {level[2]:.2f} |"
    )


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("runs", nargs="+", help="run folders")
    arguments.add_argument("--states", type=int, default=2000, help="number of states")
    arguments.add_argument("--seed", type=int, default=0, help="seed that draws the states")
    asked = arguments.parse_args()
    print("| run | return | at a peak | Q_jt | level |\n|---|---|---|---|---|")
    try:
        for folder in asked.runs:
            print(row_of(folder, asked.states, asked.seed), flush=True)
    except UserError as error:
        print(f"squeeze: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
