"""Trains QTRAN's variants on its 21x21 game (Son et al. 2019): which one finds the optimum?

  python benchmarks/game_21x21.py --seeds=0:10 --picture=docs/qtran_21x21.png

Each of two agents chooses one of 21 actions. A broad hill of height 5 at (15, 5) hides a narrow
one of height 10 at (5, 15). The script trains flags/paper/qtran_base_21x21.flags and
qtran_alt_21x21.flags under full exploration, prints the return of the greedy team during
training, and draws Q_jt and Q' = sum_i Q_i of the first seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks import games  # noqa: E402  (brings TensorFlow up)

NAMES = {"qtran_base_21x21": "QTRAN-base", "qtran_alt_21x21": "QTRAN-alt"}
SHOWN = (1000, 2000, 3000, 4000)  # env steps, those of the paper's figure
LOOK_EVERY = 100  # env steps


def grids(trainer) -> tuple[np.ndarray, np.ndarray]:
    """Return Q_jt, its mean over the critics of alt, and Q', [A, A] each."""
    values, _, own = games.joint(trainer)
    return values.mean(-1), own


def follow(trainer, seed: int) -> tuple[dict[int, tuple], list[tuple[int, float]]]:
    """Train one seed.

    Returns:
      the grids at each of `SHOWN` that is passed, and (env_steps, greedy return)
      every `LOOK_EVERY`.
    """
    trainer.restart(seed)
    shown, path = {}, []
    for goal in range(LOOK_EVERY, trainer.config.env_steps + 1, LOOK_EVERY):
        trainer.train_until(goal)
        path.append((goal, float(trainer.evaluate(1).returns[0])))
        if goal in SHOWN:
            shown[goal] = grids(trainer)
    return shown, path


def settled(path: list[tuple[int, float]], best: float) -> int | None:
    """Return the env steps from which the greedy return stayed at `best`; None if it did not."""
    since = None
    for env_steps, value in path:
        if value < best - 1e-3:
            since = None
        elif since is None:
            since = env_steps
    return since


def draw(pictures: dict[str, dict[int, tuple]], file: Path) -> None:
    """Write the figure: for each variant one row of Q_jt and one of Q', one column per moment."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [(name, part) for name in pictures for part in (0, 1)]
    figure, axes = pyplot.subplots(
        len(rows), len(SHOWN), figsize=(2.3 * len(SHOWN) + 1, 2.4 * len(rows)), layout="constrained"
    )
    for (name, part), line in zip(rows, axes, strict=True):
        for env_steps, axis in zip(SHOWN, line, strict=True):
            image = axis.imshow(pictures[name][env_steps][part], vmin=-10, vmax=10, cmap="viridis")
            axis.set_xticks([0, 5, 10, 15, 20])
            axis.set_yticks([0, 5, 10, 15, 20])
            if (name, part) == rows[0]:
                axis.set_title(f"{env_steps:,} env steps")
        value = "$Q'_{jt}$" if part else "$Q_{jt}$"
        line[0].set_ylabel(f"{NAMES[name]}, {value}\naction of agent 1")
    for axis in axes[-1]:
        axis.set_xlabel("action of agent 2")
    figure.colorbar(image, ax=axes, shrink=0.5, label="value; the optimum is 10 at (5, 15)")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Print one row per variant, and draw."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seeds", default="0:10", help="first:end, without the end")
    arguments.add_argument("--picture", type=Path, help="file for the figure (PNG)")
    asked = arguments.parse_args()
    first, last = map(int, asked.seeds.split(":"))
    pictures = {}
    print(
        "| algorithm | greedy return at the end, each seed | 10 from (env steps) |\n|---|---|---|"
    )
    for name, title in NAMES.items():
        trainer = games.trainer_of(name)
        ends, since = [], []
        for seed in range(first, last):
            shown, path = follow(trainer, seed)
            pictures.setdefault(name, shown)
            ends.append(path[-1][1])
            since.append(settled(path, 10.0))
        values = ", ".join(f"{x:.2f}" for x in ends)
        moments = ", ".join("never" if x is None else f"{x:,}" for x in since)
        print(f"| {title} | {values} | {moments} |", flush=True)
    if asked.picture:
        draw(pictures, asked.picture)


if __name__ == "__main__":
    main()
