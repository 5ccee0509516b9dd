"""Trains the games of flags/paper over several seeds and compares them with theory.

  python benchmarks/games.py --seeds=0:10
  python benchmarks/games.py --seeds=0:10 --games=qplex_matrix,ow_qmix_matrix

Each flagfile has a row: the greedy return of every seed and, for each number that theory gives,
the largest error over the seeds and the error that is allowed. The exit code is 1 if an error is
larger. Each flagfile compiles once; its seeds share the graphs. `tests/test_learning.py` asserts
the same for two seeds.
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
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix import ops  # noqa: E402
from tfmix.config import parsing, resolve  # noqa: E402
from tfmix.training.task import open_task  # noqa: E402
from tfmix.training.trainer import Trainer  # noqa: E402

Errors = dict[str, tuple[float, float]]  # name: (found, allowed)


class Game(NamedTuple):
    """What theory says of a flagfile.

    Attributes:
      greedy: the return of the greedy team.
      q_tot: Q_tot at every joint action, None where theory leaves it open.
      tolerance: how far from it Q_tot may be.
      before: joint actions before the step of q_tot.
    """

    greedy: float
    q_tot: object = None
    tolerance: float = 0.0
    before: tuple[tuple[int, int], ...] = ()


# Row mean + column mean - mean, the additive fit of 8/-12/0 under uniform data.
ADDITIVE = [[-56 / 9, -44 / 9, -44 / 9], [-44 / 9, -32 / 9, -32 / 9], [-44 / 9, -32 / 9, -32 / 9]]


def rare(value: float) -> list[list[float]]:
    """Return 8 at the optimum and `value` elsewhere."""
    return [[8.0, value, value], [value] * 3, [value] * 3]


GAMES = {
    "vdn_two_step": Game(7.0, [[-1.5, 2.5], [2.5, 6.5]], 0.15, ((1, 0),)),
    "qmix_two_step": Game(8.0, [[0.0, 1.0], [1.0, 8.0]], 0.05, ((1, 0),)),
    "vdn_matrix": Game(0.0, ADDITIVE, 0.15),
    "qmix_matrix": Game(0.0),
    "qatten_matrix": Game(0.0),
    # Weights of 0.1 leave the mean of the others (CW), or -12 * 0.1 / 1.1 (OW).
    "cw_qmix_matrix": Game(8.0, rare(-6.0), 0.5),
    "ow_qmix_matrix": Game(8.0, rare(-12 * 0.1 / 1.1), 0.5),
    "qplex_matrix": Game(8.0),
    "qtran_base_matrix": Game(8.0),
    "qtran_alt_matrix": Game(8.0),
}


def trainer_of(flagfile: str) -> Trainer:
    """Return a trainer of flags/paper/<flagfile>.flags."""
    settings = parsing.parse([f"--flagfile={ROOT / 'flags' / 'paper' / flagfile}.flags"])
    return Trainer(open_task(resolve.resolve(settings)))


def train(trainer: Trainer, seed: int) -> float:
    """Train again from `seed`; return the greedy return."""
    trainer.restart(seed)
    trainer.train_until(trainer.config.env_steps)
    return float(trainer.evaluate(1).returns[0])


class Cells(NamedTuple):
    """A step of a game of two agents at every joint action, M = A * A of them.

    action [M, 1, 2], state [M, 1, S], obs [M, 1, 2, O]; q [M, 1, 2, A] and
    hidden [M, 1, 2, H] of the live agents.
    """

    action: tf.Tensor
    state: tf.Tensor
    obs: tf.Tensor
    q: tf.Tensor
    hidden: tf.Tensor


def cells_of(trainer: Trainer, before: tuple[tuple[int, int], ...] = ()) -> Cells:
    """Play the joint actions `before`, and then every joint action."""
    env, size = trainer.collector.env, trainer.spec.n_actions
    every = tf.constant(list(itertools.product(range(size), repeat=2)))  # [M, 2]
    past = [tf.broadcast_to(tf.constant(joint), every.shape) for joint in before]
    seed = tf.constant([0, 0])
    world, seen = env.reset(seed, len(every))
    obs = [seen.obs]
    for joint in past:
        world, seen = env.step(world, joint, seed)
        obs.append(seen.obs)
    q, hidden = trainer.algorithm.live.agent.unroll(
        tf.stack([*obs, seen.obs], 1), tf.stack([*past, every], 1)
    )
    now = slice(len(past), len(past) + 1)
    return Cells(every[:, None], seen.state[:, None], seen.obs[:, None], q[:, now], hidden[:, now])


def mixed(trainer: Trainer, before: tuple[tuple[int, int], ...] = ()) -> np.ndarray:
    """Return Q_tot of a mixer at every joint action after `before`, [A, A]."""
    cells, size = cells_of(trainer, before), trainer.spec.n_actions
    more = {"agent_max_q": tf.reduce_max(cells.q, -1), "action": cells.action, "obs": cells.obs}
    q_tot = trainer.algorithm.live.mixer(
        ops.gather_actions(cells.q, cells.action), cells.state, **more
    )
    return q_tot.numpy().reshape(size, size)


def central(trainer: Trainer) -> np.ndarray:
    """Return WQMIX's Q* of a one-step game, [A, A]."""
    live, cells, size = trainer.algorithm.live, cells_of(trainer), trainer.spec.n_actions
    obs = tf.concat([cells.obs, cells.obs], 1)
    q = live.central_agent.unroll(obs, cells.action)[0][:, :1]
    star = live.central_mixer(ops.gather_actions(q, cells.action), cells.state)
    return star.numpy().reshape(size, size)


def joint(trainer: Trainer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return QTRAN's view of a one-step game.

    Returns:
      Q_jt of each of the J joint networks (1, or N in alt), [A, A, J],
      Q' - Q_jt + V, which conditions 4a, 4b and 7 speak of, [A, A, J], and
      Q' = sum_i Q_i, [A, A].
    """
    algorithm, cells, size = trainer.algorithm, cells_of(trainer), trainer.spec.n_actions
    live, found = algorithm.live, algorithm.live.joint(cells.state, cells.hidden, cells.action)
    by_agent = algorithm.critic == "counterfactual"
    found = ops.gather_actions(found, cells.action) if by_agent else found[..., None]
    own = tf.reduce_sum(ops.gather_actions(cells.q, cells.action), -1)
    gap = (own + live.value(cells.state, cells.hidden))[..., None] - found
    shape = [size, size, -1]
    return (
        found.numpy().reshape(shape),
        gap.numpy().reshape(shape),
        own.numpy().reshape(size, size),
    )


def errors_of(trainer: Trainer, game: Game) -> Errors:
    """Return a team's error for each number that theory gives, and the largest allowed."""
    critic, found = trainer.algorithm.critic, Errors()
    if game.q_tot is not None:
        off = np.abs(mixed(trainer, game.before) - np.asarray(game.q_tot))
        if critic == "central":
            found["Q_tot at the optimum"] = float(off[0, 0]), 0.1
        found["Q_tot"] = float(off.max()), game.tolerance
    if critic == "central":
        off = np.abs(central(trainer) - trainer.collector.env.table)
        found["Q*"] = float(off.max()), 0.1
    if critic in ("joint", "counterfactual"):
        payoff = trainer.collector.env.table
        values, gap, _ = joint(trainer)
        best = np.unravel_index(np.argmax(payoff), payoff.shape)
        found["Q_jt"] = float(np.abs(values - payoff[..., None]).max()), 0.1
        found["4a"] = float(np.abs(gap[best]).max()), 0.2
        found["4b"] = float(max(0.0, -gap.min())), 0.2
        if gap.shape[-1] > 1:
            rows, columns = gap[..., 0].min(0), gap[..., -1].min(1)
            found["7"] = float(max(np.abs(rows).max(), np.abs(columns).max())), 0.2
    return found


def main() -> None:
    """Print one row per game."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seeds", default="0:10", help="first:end, without the end")
    arguments.add_argument(
        "--games", default=",".join(GAMES), help="flagfiles of flags/paper, separated by commas"
    )
    asked = arguments.parse_args()
    first, last = map(int, asked.seeds.split(":"))
    print(
        "| flagfile | greedy return asked | reached | largest error (allowed) |\n|---|---|---|---|"
    )
    missed = False
    for name in asked.games.split(","):
        game, trainer = GAMES[name], trainer_of(name)
        worst: Errors = {}
        returns = []
        for seed in range(first, last):
            returns.append(train(trainer, seed))
            for key, (found, allowed) in errors_of(trainer, game).items():
                worst[key] = max(found, worst.get(key, (0.0, 0.0))[0]), allowed
        reached = sum(r == game.greedy for r in returns)
        missed |= reached < len(returns) or any(f > a for f, a in worst.values())
        text = ", ".join(f"{k} {f:.3f} ({a:g})" for k, (f, a) in worst.items())
        others = sorted({r for r in returns if r != game.greedy})
        also = f", else {', '.join(f'{r:g}' for r in others)}" if others else ""
        print(
            f"| {name} | {game.greedy:g} | {reached} of {len(returns)}{also} | {text} |", flush=True
        )
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
