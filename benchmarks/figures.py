"""Draws the pictures of README and docs.

  python benchmarks/figures.py curves runs/quick --team=runs/spread --out=docs/images/curves.png
  python benchmarks/figures.py payoff --out=docs/images/payoff.png

`curves` draws the greedy return of the runs in a benchmark's folder over env steps, and a
greedy episode of a run on simple_spread. The runs of the picture in README come from

  python main.py --mode=benchmark --flagfile=flags/preset/quick_mpe.flags --algo=vdn,qmix,iql \\
    --env=mpe/simple_spread --seeds=0:1 --env_steps=300000 --run_dir=runs/quick
  python main.py --flagfile=flags/preset/quick_mpe.flags --algo=vdn --env=mpe/simple_spread \
    --run_dir=runs/spread

`payoff` trains VDN, QMIX and QTRAN-base on 8/-12/0, seed 0, and draws what they learn next to
the payoff. It takes some minutes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
COLORS = {"vdn": "#00695c", "qmix": "#c2185b", "iql": "#5c6bc0"}
NAMES = {"vdn": "VDN", "qmix": "QMIX", "iql": "IQL"}
# Returns of simple_spread, summed over the agents.
LINES = {"random team": -79.4, "scripted controller": -22.5}


def curve_of(path: Path) -> tuple[list[int], list[float]]:
    """Read env steps and greedy returns from a metrics.csv."""
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["greedy_return"]]
    return [int(r["env_steps"]) for r in rows], [float(r["greedy_return"]) for r in rows]


def paths_of(folder: Path, episode: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Play a greedy episode of a run on mpe/simple_spread.

    Returns:
      positions of the agents, [T+1, N, 2], and of the landmarks, [L, 2].
    """
    import tfmix  # before TensorFlow
    from tfmix.utils.quiet import quiet_import

    tf = quiet_import("tensorflow")
    run = tfmix.load(folder)
    env, seed = run.collector.env, tf.constant([0, episode])
    world, seen = env.reset(seed, 1)
    landmarks = seen.obs.numpy()[0, 0, 4:10].reshape(3, 2) + seen.obs.numpy()[0, 0, 2:4]
    places = [seen.obs.numpy()[0, :, 2:4]]
    run.reset()
    for _ in range(run.spec.episode_limit):
        action = run.act(seen.obs.numpy()[0], seen.legal.numpy()[0])
        world, seen = env.step(world, tf.constant(action[None]), seed)
        places.append(seen.obs.numpy()[0, :, 2:4])
    return np.stack(places), landmarks


def draw_curves(folder: Path, team: Path, out: Path) -> None:
    """Draw a line for each run of a benchmark, <env>/<algo>/seed<k>, and an episode."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 3.2), dpi=110, gridspec_kw={"width_ratios": [2, 1]}
    )
    for path in sorted(folder.glob("*/*/seed*/metrics.csv")):
        algo = path.parts[-3]
        steps, returns = curve_of(path)
        label = f"{NAMES.get(algo, algo)} {returns[-1]:.0f}"
        left.plot(np.asarray(steps) / 1000, returns, color=COLORS.get(algo), lw=2, label=label)
    for label, level in LINES.items():
        left.axhline(level, color="#9e9e9e", lw=1, ls=":")
        left.text(1, level + 1.5, label, color="#757575", fontsize=8, ha="right", va="bottom",
                  transform=left.get_yaxis_transform())  # fmt: skip
    left.legend(frameon=False, loc="lower center", ncols=3, fontsize=9)
    left.set(xlabel="env steps, thousands", ylabel="greedy return, summed")
    left.set_title("simple_spread, flags/preset/quick_mpe.flags", fontsize=10, loc="left")
    left.spines[["top", "right"]].set_visible(False)
    draw_episode(right, team)
    save(figure, out)


def draw_episode(axis: plt.Axes, folder: Path) -> None:
    """Draw the paths of a trained team: agents move from small to large circles."""
    places, landmarks = paths_of(folder)
    axis.scatter(*landmarks.T, marker="s", s=60, color="#424242", label="landmark")
    for agent in range(places.shape[1]):
        path, color = places[:, agent], plt.cm.tab10(agent)
        axis.plot(*path.T, color=color, lw=1.5)
        axis.scatter(*path[0], s=15, color=color)
        axis.scatter(*path[-1], s=140, color=color, alpha=0.6)
    axis.set_title("a greedy episode", fontsize=10, loc="left")
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.margins(0.15)


def learned() -> dict[str, np.ndarray]:
    """Train on 8/-12/0 and return the tables that the picture shows, [3, 3] each."""
    from benchmarks import games

    tables = {}
    for name in ("vdn", "qmix", "qtran_base"):
        trainer = games.trainer_of(f"{name}_matrix")
        games.train(trainer, 0)
        tables.setdefault("payoff", np.asarray(trainer.collector.env.table))
        if name == "qtran_base":
            values, _, own = games.joint(trainer)
            tables["QTRAN-base: Q_jt"], tables["QTRAN-base: Q'"] = values[..., 0], own
        else:
            tables[f"{NAMES[name]}: Q_tot"] = games.mixed(trainer)
    return tables


def draw_payoff(out: Path) -> None:
    """Draw the payoff of 8/-12/0 and the learned tables; a frame marks the greedy action."""
    tables = learned()
    figure, axes = plt.subplots(1, len(tables), figsize=(2.1 * len(tables), 2.5), dpi=110)
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        axis.imshow(table, cmap="RdBu", vmin=-12, vmax=12)  # the colour-blind can read it
        for (i, j), value in np.ndenumerate(table):
            shown = f"{round(float(value), 1) + 0.0:.1f}"  # without -0.0
            colour = "white" if abs(value) > 8 else "black"
            axis.text(j, i, shown, ha="center", va="center", fontsize=9, color=colour)
        best = np.unravel_index(np.argmax(table), table.shape)
        square = plt.Rectangle((best[1] - 0.48, best[0] - 0.48), 0.96, 0.96, fill=False, lw=2)
        axis.add_patch(square)
        axis.set_title(title, fontsize=9)
        axis.set_xticks(range(3), "ABC")
        axis.set_yticks(range(3), "ABC")
        axis.tick_params(length=0)
    save(figure, out)


def save(figure: plt.Figure, out: Path) -> None:
    """Write a figure; the file's bytes do not depend on the date."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(out, metadata={"Software": None})
    print(out)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", choices=("curves", "payoff"))
    parser.add_argument("folder", nargs="?", type=Path, help="of a benchmark, for curves")
    parser.add_argument("--team", type=Path, help="run folder of the episode, for curves")
    parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if asked.picture == "payoff":
        draw_payoff(asked.out)
    elif asked.folder is None or asked.team is None:
        parser.error("curves needs the folder of a benchmark and --team=FOLDER, a run")
    else:
        draw_curves(asked.folder, asked.team, asked.out)


if __name__ == "__main__":
    main()
