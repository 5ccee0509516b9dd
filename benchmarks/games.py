"""Trains the games of flags/paper over seeds and prints what theory speaks of.

  python benchmarks/games.py --seeds=0:5

Each flagfile compiles once; its seeds share the graphs. `tests/test_learning.py`
asserts the same of two seeds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: F401, E402  (before TensorFlow)
from tfmix.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix import config, ops, run, training  # noqa: E402

GAMES = [
    "vdn_two_step",
    "qmix_two_step",
    "vdn_matrix",
    "qmix_matrix",
    "qatten_matrix",
    "cw_qmix_matrix",
    "ow_qmix_matrix",
    "qplex_matrix",
    "qtran_base_matrix",
    "qtran_alt_matrix",
]


class Cells(NamedTuple):
    """A one-step game of two agents at every joint action.

    joint [A, A, J]: Q_jt of each of QTRAN's J joint networks (1, or N in alt).
    gap [A, A, J]: Q' - Q_jt + V, which conditions 4a, 4b and 7 speak of.
    """

    joint: np.ndarray
    gap: np.ndarray

    def errors(self, payoff: np.ndarray) -> dict[str, float]:
        """By how much Q_jt misses the payoff, and each condition its promise."""
        best = np.unravel_index(np.argmax(payoff), payoff.shape)
        return {
            "Q_jt": float(np.abs(self.joint - payoff[..., None]).max()),
            "4a": float(np.abs(self.gap[best]).max()),
            "4b": float(max(0.0, -self.gap.min())),
            "7": float(
                max(
                    np.abs(self.gap[..., 0].min(0)).max(),
                    np.abs(self.gap[..., -1].min(1)).max(),
                )
            ),
        }


def trainer_of(flagfile: str) -> training.Trainer:
    """A trainer of flags/paper/<flagfile>.flags."""
    settings = config.parse([f"--flagfile={ROOT / 'flags' / 'paper' / flagfile}.flags"])
    chosen = config.resolve(settings)
    spec, make_collector = run.open_env(chosen)
    return training.Trainer(chosen, make_collector, spec)


def train(trainer: training.Trainer, seed: int) -> float:
    """Trains anew from `seed`; returns the greedy return."""
    trainer.reset(seed)
    trainer.train_until(trainer.config.env_steps)
    return float(trainer.play(training.EVALUATE, 1)[0])


def every_cell(trainer: training.Trainer) -> Cells:
    """What QTRAN's networks say of a matrix game of two agents."""
    live, size = trainer.algorithm.live, trainer.spec.n_actions
    actions = list(itertools.product(range(size), repeat=2))
    action = tf.constant(actions)[:, None]  # [A*A, 1, 2]
    obs, state = tf.ones([len(actions), 2, 2, 1]), tf.ones([len(actions), 1, 1])
    q, hidden = live.agent.unroll(obs, action)
    joint = live.joint(state, hidden[:, :1], action)
    joint = ops.take(joint, action) if joint.shape.rank == 4 else joint[..., None]
    shift = tf.reduce_sum(ops.take(q[:, :1], action), -1) + live.value(state, hidden[:, :1])
    shape = [size, size, -1]
    return Cells(joint.numpy().reshape(shape), (shift[..., None] - joint).numpy().reshape(shape))


def mixed_cells(trainer: training.Trainer) -> tuple[np.ndarray, np.ndarray | None]:
    """Q_tot of a mixer, and WQMIX's Q*, of a matrix game of two agents, [A, A] each."""
    live, size = trainer.algorithm.live, trainer.spec.n_actions
    actions = tf.constant(list(itertools.product(range(size), repeat=2)))[:, None]
    obs, state = tf.ones([len(actions), 2, 2, 1]), tf.ones([len(actions), 1, 1])
    q = live.agent.unroll(obs, actions)[0][:, :1]
    more = {"agent_max_q": tf.reduce_max(q, -1), "action": actions, "obs": obs[:, :1]}
    q_tot = live.mixer(ops.take(q, actions), state, **more).numpy().reshape(size, size)
    if not hasattr(live, "central_mixer"):
        return q_tot, None
    central = live.central_agent.unroll(obs, actions)[0][:, :1]
    star = live.central_mixer(ops.take(central, actions), state)
    return q_tot, star.numpy().reshape(size, size)


def main() -> None:
    """Prints a row a game."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", default="0:5", help="first:behind the last")
    first, last = map(int, arguments.parse_args().seeds.split(":"))
    print("| flagfile | greedy return by seed | largest errors over seeds |\n|---|---|---|")
    for game in GAMES:
        trainer, found, errors = trainer_of(game), [], []
        for seed in range(first, last):
            found.append(train(trainer, seed))
            if hasattr(trainer.algorithm.live, "joint"):
                errors.append(every_cell(trainer).errors(trainer.collector.env.table))
            elif hasattr(trainer.algorithm.live, "central_mixer"):
                star = mixed_cells(trainer)[1]
                errors.append({"Q*": float(np.abs(star - trainer.collector.env.table).max())})
        worst = {k: max(e[k] for e in errors) for k in (errors[0] if errors else ())}
        if "base" in game:
            worst.pop("7")  # asked of alt alone
        text = ", ".join(f"{k} {v:.3f}" for k, v in worst.items())
        print(f"| {game} | {', '.join(f'{x:g}' for x in found)} | {text} |", flush=True)


if __name__ == "__main__":
    main()
