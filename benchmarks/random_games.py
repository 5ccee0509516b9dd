"""Measures how often the greedy team plays the best joint action of a game with random payoffs.

  python benchmarks/random_games.py --out=random_games.csv
  python benchmarks/random_games.py --out=random_games.csv --algo=qtran_alt --shape=4x4x4 --jobs=2
  python benchmarks/random_games.py --out=random_games.csv --table

Games have one step, or two steps of which the first joint action chooses the second payoff. An
`ordinary` payoff is 5 times a normal draw. In a `lone` payoff every joint action that differs from
the best one in one agent's action pays -12. Every game has separate networks and full exploration
in the whole training, so that every joint action is seen equally often. A row is written to
`--out` when a game is done; games whose row exists are not trained again. Arguments after `--` are
settings, such as `-- --qtran_slack=1`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix import algos  # noqa: E402
from tfmix.algos.base import Algorithm  # noqa: E402
from tfmix.config import parsing, resolve  # noqa: E402
from tfmix.training.collect_graph import GraphCollector  # noqa: E402
from tfmix.training.replay_size import plan_replay  # noqa: E402
from tfmix.training.task import Task  # noqa: E402
from tfmix.training.trainer import Trainer  # noqa: E402
from tfmix.types import EnvSpec, Step  # noqa: E402

SHAPES = ("3x3", "4x4", "3x3x1", "4x4x4", "2x2x2x2x2")
KINDS = ("ordinary", "lone")
PENALTY = -12.0
CLOSE = 1e-3  # a return this near to the best is the best
# Small networks for tables of at most 64 numbers, and as many updates as these need. The
# flagfiles of one-step games in flags/env and flags/algo apply too.
QUICK: dict[str, Any] = {
    "env": "matrix/custom",
    "gamma": 1.0,
    "recurrent": False,
    "agent_layers": 1,
    "last_action": False,
    "central_embed": 64,
    "n_envs": 32,
    "updates_per_episode": 0.125,
    "env_steps": 20_000,
    "buffer_episodes": 20_000,
    "batch_episodes": 64,
    "learning_rate": 3e-3,
    "target_period_updates": 100,
    "update_shards": 1,
}
FIELDS = ("algo", "shape", "steps", "kind", "game", "seed", "settings")
FOUND = ("best", "theory", "reached", "critic", "seconds", "commit")


class Cell(NamedTuple):
    """Games that share a trainer: one algorithm, one shape, one number of steps."""

    algo: str
    shape: str
    steps: int


class RandomGame:
    """A graph environment whose payoffs are a variable, so that another game compiles nothing.

    The joint action pays `payoff[place]`. Games of two steps start at place 0,
    from which the sum of the actions leads to place 1 (even) or 2 (odd).
    Everybody sees the place.

    Args:
      shape: each agent's number of actions.
      steps: 1 or 2.
    """

    def __init__(self, shape: tuple[int, ...], steps: int):
        places = 1 if steps == 1 else 3
        self.payoff = tf.Variable(tf.zeros([places, *shape]), trainable=False)
        self.spec = EnvSpec(
            name="random_game",
            n_agents=len(shape),
            n_actions=max(shape),
            obs_size=places,
            state_size=places,
            episode_limit=steps,
            agent_n_actions=shape,
        )

    def _seen(self, place: tf.Tensor, reward: tf.Tensor, over: tf.Tensor) -> Step:
        spec, batch = self.spec, place.shape[0]
        state = tf.one_hot(place, spec.state_size)
        return Step(
            obs=tf.repeat(state[:, None], spec.n_agents, axis=1),
            state=state,
            legal=tf.tile(tf.constant(spec.own_actions[None]), [batch, 1, 1]),
            reward=reward,
            terminated=over,
            truncated=tf.fill([batch], False),
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[tf.Tensor, Step]:
        """Start all games at place 0; the state is the place, [B] int32."""
        place = tf.zeros([batch], tf.int32)
        return place, self._seen(place, tf.zeros([batch]), tf.fill([batch], False))

    def step(self, state: tf.Tensor, action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Step]:
        """Pay, and lead to the second step or to the end."""
        index = tf.concat([state[:, None], action], -1)
        reward = tf.gather_nd(self.payoff.value(), index)
        over = (state > 0) | (self.spec.episode_limit == 1)
        after = tf.where(over, state, 1 + tf.reduce_sum(action, -1) % 2)
        return after, self._seen(after, reward, over)


def sizes(shape: str) -> tuple[int, ...]:
    """Return (3, 3, 1) for `3x3x1`."""
    return tuple(int(size) for size in shape.split("x"))


def table(shape: tuple[int, ...], lone: bool, random: np.random.Generator) -> np.ndarray:
    """Return a payoff, [*shape]; with `lone`, deviations of one agent from the best pay -12."""
    payoff = 5.0 * random.normal(size=shape)
    if lone:
        best = tuple(random.integers(size) for size in shape)
        for agent, size in enumerate(shape):
            for action in set(range(size)) - {best[agent]}:
                payoff[(*best[:agent], action, *best[agent + 1 :])] = PENALTY
        payoff[best] = payoff.max() + 3.0
    return payoff


def following(shape: tuple[int, ...]) -> np.ndarray:
    """Return which place each first joint action leads to, [*shape]."""
    return 1 + np.indices(shape).sum(0) % 2


def draw(cell: Cell, kind: str, number: int) -> tuple[np.ndarray, float]:
    """Return a game: its payoffs [places, *shape], and the best return.

    Of two steps, the first payoff is drawn so that it and the best of what
    follows add up to a payoff of that kind: the table of Q* at each place is one.
    """
    shape = sizes(cell.shape)
    random = np.random.default_rng([number, KINDS.index(kind), cell.steps, *shape])
    payoff = np.stack(
        [table(shape, kind == "lone", random) for _ in range(1 if cell.steps == 1 else 3)]
    )
    best = float(payoff[0].max())
    if cell.steps == 2:
        payoff[0] -= payoff.reshape(3, -1).max(1)[following(shape)]
    return payoff, best


def additive(values: np.ndarray) -> tuple[tuple[int, ...], list[float], float]:
    """Return what values of an own action alone can say of a table, every joint action as often.

    Returns:
      the greedy joint action, each agent's highest mean over the others' actions,
      and the highest value of the least-squares sum.
    """
    axes = range(values.ndim)
    means = [values.mean(tuple(j for j in axes if j != i)) for i in axes]
    highest = [float(m.max()) for m in means]
    best = sum(highest) - (values.ndim - 1) * float(values.mean())
    return tuple(int(m.argmax()) for m in means), highest, best


def additive_return(payoff: np.ndarray, own: bool) -> float:
    """Return the greedy return of IQL if `own`, else of VDN's sum."""
    if len(payoff) == 1:
        return float(payoff[0][additive(payoff[0])[0]])
    later = [additive(values) for values in payoff[1:]]
    place = following(payoff[0].shape) - 1
    if own:
        greedy = tuple(
            additive(payoff[0] + np.asarray([x[1][agent] for x in later])[place])[0][agent]
            for agent in range(payoff[0].ndim)
        )
    else:
        greedy = additive(payoff[0] + np.asarray([x[2] for x in later])[place])[0]
    second = int(place[greedy])
    return float(payoff[0][greedy] + payoff[1 + second][later[second][0]])


def theory(algo: str, payoff: np.ndarray, best: float) -> float:
    """Return the greedy return with infinitely many updates; NaN if theory does not say."""
    if algo in ("iql", "vdn", "qatten"):
        return additive_return(payoff, own=algo == "iql")
    return float("nan") if algo == "qmix" else best


def trainer_of(cell: Cell, settings: Iterable[str] = ()) -> Trainer:
    """Return a trainer of a cell's games; `settings` are flags above `QUICK`."""
    asked = parsing.parse(list(settings))
    chosen = resolve.resolve({**QUICK, "algo": cell.algo, **asked})
    env = RandomGame(sizes(cell.shape), cell.steps)

    def make_collector(algorithm: Algorithm) -> GraphCollector:
        size = algorithm.agent_spec.policy_state_size
        return GraphCollector(env, algorithm.act, size, cut_is_terminal=True)

    return Trainer(Task(chosen, env.spec, plan_replay(chosen, env.spec), make_collector))


def play(trainer: Trainer, payoff: np.ndarray, seed: int) -> tuple[float, float]:
    """Train again on a game.

    Returns:
      the greedy return, and the critic's root mean square TD error over the last
      tenth of the training, NaN for algorithms without a joint critic.
    """
    trainer.collector.env.payoff.assign(payoff)
    trainer.restart(seed)
    end = trainer.config.env_steps
    trainer.train_until(int(0.9 * end))
    trainer.take_means()
    trainer.train_until(end)
    means = trainer.take_means()
    error = means.get("loss_td", means.get("loss_central", float("nan")))
    return float(trainer.evaluate(1).returns[0]), error**0.5


def train_cell(
    cell: Cell, games: Iterable[tuple[str, int, int]], settings: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Train (kind, game, seed) after (kind, game, seed); yield a row each."""
    trainer = trainer_of(cell, settings)
    for kind, number, seed in games:
        payoff, best = draw(cell, kind, number)
        began = time.monotonic()
        reached, critic = play(trainer, payoff, seed)
        yield {
            **cell._asdict(),
            "kind": kind,
            "game": number,
            "seed": seed,
            "settings": " ".join(settings),
            "best": f"{best:.4f}",
            "theory": f"{theory(cell.algo, payoff, best):.4f}",
            "reached": f"{reached:.4f}",
            "critic": f"{critic:.4f}",
            "seconds": f"{time.monotonic() - began:.2f}",
            "commit": commit(),
        }


# The file of rows.


@functools.cache
def commit() -> str:
    """Return the commit that trains, with a + if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=9"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "none"


def rows_of(file: Path) -> list[dict[str, str]]:
    """Return the rows that are done; a last line that an interruption cut is left out."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return [row for row in csv.DictReader(lines) if row["commit"]]


def append(file: Path, row: dict[str, Any]) -> None:
    """Add a row in one write, so that several processes may share the file."""
    names = FIELDS + FOUND
    line = ",".join(str(row[name]) for name in names) + "\n"
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size == 0:
            line = ",".join(names) + "\n" + line
        elif os.pread(handle, 1, size - 1) != b"\n":
            line = "\n" + line  # an interruption cut the last one
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def missing(asked: argparse.Namespace, cell: Cell) -> list[tuple[str, int, int]]:
    """Return the games of a cell that have no row, as (kind, game, seed)."""
    names = [*Cell._fields, "kind", "game", "seed", "settings"]
    done = {tuple(row[name] for name in names) for row in rows_of(asked.out)}
    settings = " ".join(asked.settings)
    return [
        (kind, number, seed)
        for kind in asked.kind
        for number in range(asked.games)
        for seed in range(asked.seeds)
        if (*map(str, cell), kind, str(number), str(seed), settings) not in done
    ]


def found(row: dict[str, str], goal: str = "best") -> bool:
    """Return whether the team reached the goal, `best` or `theory`."""
    return float(row["reached"]) >= float(row[goal]) - CLOSE


def print_table(asked: argparse.Namespace) -> None:
    """Print the optima found, by algorithm, shape and kind, next to what theory says."""
    rows = [row for row in rows_of(asked.out) if row["settings"] == " ".join(asked.settings)]
    for steps in asked.steps:
        columns = [(shape, kind) for shape in asked.shape for kind in asked.kind]
        print(f"\nOptima found (in theory), games of {steps} step{'s' * (steps > 1)}:\n")
        print("| algorithm | " + " | ".join(" ".join(c) for c in columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for algo in asked.algo:
            cells = []
            for column in columns:
                wanted = [algo, str(steps), *column]
                names = ("algo", "steps", "shape", "kind")
                cells.append(_cell_text([r for r in rows if [r[n] for n in names] == wanted]))
            print(f"| {algo} | " + " | ".join(cells) + " |")
    commits = sorted({row["commit"] for row in rows})
    seconds = [float(row["seconds"]) for row in rows] or [0.0]
    print(
        f"\n{len(rows)} games trained, {np.median(seconds):.1f} seconds each (median); commit "
        f"{', '.join(commits)}; tfmix {tfmix.__version__}, TensorFlow {tf.__version__}, Python "
        f"{platform.python_version()}; {os.cpu_count()} cores, {platform.machine()}"
    )


def _cell_text(rows: list[dict[str, str]]) -> str:
    """Return what the table says of an algorithm on the games of one shape and kind."""
    if not rows:
        return "-"
    if any(row["theory"] == "nan" for row in rows):
        says = "open"
    else:
        says = str(sum(float(row["theory"]) >= float(row["best"]) - CLOSE for row in rows))
    return f"{sum(map(found, rows))} of {len(rows)} ({says})"


def run_cell(asked: argparse.Namespace, cell: Cell) -> None:
    """Train what a cell lacks, in this process."""
    games = missing(asked, cell)
    if not games:
        return
    rows = []
    for row in train_cell(cell, games, asked.settings):
        append(asked.out, row)
        rows.append(row)
    print(
        f"{' '.join(map(str, cell))}: {sum(map(found, rows))} of {len(rows)} optima, "
        f"{np.median([float(row['seconds']) for row in rows]):.2f} seconds a game",
        flush=True,
    )


def run_apart(asked: argparse.Namespace, cell: Cell) -> None:
    """Train the missing games of a cell in a separate process."""
    if missing(asked, cell):
        words = [f"--{name}={value}" for name, value in cell._asdict().items()]
        words += [f"--kind={','.join(asked.kind)}", f"--games={asked.games}"]
        words += [f"--seeds={asked.seeds}", f"--out={asked.out}", "--quiet"]
        subprocess.run([sys.executable, __file__, *words, "--", *asked.settings], check=True)


def parse() -> argparse.Namespace:
    """Return the command line."""

    def listed(value: str) -> list[str]:
        return value.split(",")

    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--out", type=Path, required=True, help="CSV file of finished games")
    arguments.add_argument("--algo", type=listed, default=list(algos.REGISTRY))
    arguments.add_argument("--shape", type=listed, default=list(SHAPES))
    arguments.add_argument("--kind", type=listed, default=list(KINDS))
    arguments.add_argument("--steps", type=listed, default=["1", "2"])
    arguments.add_argument(
        "--games", type=int, default=20, help="number of games of each shape and kind"
    )
    arguments.add_argument("--seeds", type=int, default=2, help="number of seeds of each game")
    arguments.add_argument("--jobs", type=int, default=1, help="processes in parallel")
    arguments.add_argument("--table", action="store_true", help="print the table, train nothing")
    arguments.add_argument("--quiet", action="store_true", help="train, print no table")
    arguments.add_argument("settings", nargs="*", help="flags of tfmix, after --")
    asked = arguments.parse_args()
    asked.steps, asked.settings = [int(n) for n in asked.steps], tuple(asked.settings)
    return asked


def main() -> None:
    """Train what the file lacks, and print the table."""
    asked = parse()
    if not asked.table:
        cells = [
            Cell(algo, shape, steps)
            for steps in asked.steps
            for algo in asked.algo
            for shape in asked.shape
        ]
        if asked.jobs == 1:
            for cell in cells:
                run_cell(asked, cell)
        else:
            with ThreadPoolExecutor(asked.jobs) as pool:
                list(pool.map(functools.partial(run_apart, asked), cells))
    if not asked.quiet:
        print_table(asked)


if __name__ == "__main__":
    main()
