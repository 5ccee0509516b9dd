"""Runs twice with one seed and once with another, and compares the results bit by bit.

  python benchmarks/repeat.py
  python benchmarks/repeat.py --only=qmix,python --jobs=1

Every algorithm runs on a task in the graph and on one in Python, each run as a process of main.py
with batches in two shards. With the same seed, every tensor of the last checkpoint (weights,
targets, optimiser, replay) and metrics.csv except for its times must be the same bit for bit. With
another seed, every weight of the live networks and metrics.csv must differ. Each task has a row;
the exit code is 1 if one fails. It takes ten minutes or more on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: F401, E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix import algos  # noqa: E402
from tfmix.runs import checkpoint  # noqa: E402

SEEDS = (3, 3, 4)
PATIENCE_SECONDS = 600
TIMES = ("seconds", "env_steps_per_second")
SMALL = ("--batch_episodes=8", "--buffer_episodes=64", "--eval_episodes=8", "--update_shards=2")
# A game with random starts, so that another seed is another run from the first step on.
GRAPH = ("--env=mpe/simple_spread", "--env_steps=6000", "--eval_period_env_steps=3000")
PYTHON = ("--env=pettingzoo/pettingzoo.mpe.simple_spread_v3", "--env_steps=3000")
FORAGING = ("--env=gymnasium/Foraging-5x5-2p-1f-v3", "--env_steps=3000")
# name: the arguments that ask for it.
TASKS = {
    **{f"graph, {algo}": (f"--algo={algo}", *GRAPH) for algo in algos.REGISTRY},
    **{f"python, {algo}": (f"--algo={algo}", *PYTHON) for algo in algos.REGISTRY},
    "python, vdn, foraging": ("--algo=vdn", *FORAGING),
}


def train(folder: Path, words: tuple[str, ...], seed: int) -> str:
    """Run main.py into `folder`; say what went wrong, or nothing."""
    command = [sys.executable, str(ROOT / "main.py"), *words, *SMALL, f"--seed={seed}"]
    try:
        done = subprocess.run(
            [*command, f"--run_dir={folder}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no end in {PATIENCE_SECONDS} s"
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    return ""


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a run's last checkpoint by name, without those that only hold names."""
    newest = checkpoint.latest(folder / "checkpoints")
    reader = tf.train.load_checkpoint(str(newest / "tensors"))
    names = sorted(reader.get_variable_to_shape_map())
    return {n: np.asarray(reader.get_tensor(n)) for n in names if "OBJECT_GRAPH" not in n}


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return metrics.csv without times."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def differences(one: Path, other: Path) -> list[str]:
    """Return the tensors and files in which two runs are not the same bit for bit."""
    a, b = tensors_of(one), tensors_of(other)
    found = sorted(set(a) ^ set(b))
    # Bytes, so that a NaN is like itself.
    found += [n for n in sorted(set(a) & set(b)) if a[n].tobytes() != b[n].tobytes()]
    return found + (["metrics.csv"] if rows_of(one) != rows_of(other) else [])


def likenesses(one: Path, other: Path) -> list[str]:
    """Return the live weights and files in which runs of two seeds are the same and must not be."""
    unlike = set(differences(one, other))
    live = {n for n, x in tensors_of(one).items() if n.startswith("live/") and x.size}
    return sorted((live | {"metrics.csv"}) - unlike)


def judge(words: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Run a task three times.

    Returns:
      what the two runs of one seed differ in, what those of two seeds do not,
      and an error where a run broke.
    """
    folders = [folder / str(number) for number in range(len(SEEDS))]
    for path, seed in zip(folders, SEEDS, strict=True):
        if error := train(path, words, seed):
            return {"error": error}
    return {
        "tensors": len(tensors_of(folders[0])),
        "same_seed_differs_in": differences(*folders[:2]),
        "other_seed_same_in": likenesses(folders[0], folders[2]),
    }


def main() -> None:
    """Print one row per task."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--only", default="", help="parts of tasks' names, separated by commas")
    arguments.add_argument("--jobs", type=int, default=2, help="tasks in parallel")
    arguments.add_argument("--json", default="runs/repeat.json", help="file for the rows")
    asked = arguments.parse_args()
    words = [word for word in asked.only.split(",") if word]
    tasks = {
        name: task
        for name, task in TASKS.items()
        if not words or any(word in name.split(", ") for word in words)
    }
    print("| task | tensors | same seed | other seed |\n|---|---|---|---|", flush=True)
    found = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.jobs) as pool:
        judged = pool.map(lambda name: judge(tasks[name], Path(folder, name)), tasks)
        for name, row in zip(tasks, judged, strict=True):
            found[name] = row
            error = row.get("error", "")
            same = error or ", ".join(row["same_seed_differs_in"]) or "the same bits"
            other = error or ", ".join(row["other_seed_same_in"]) or "another run"
            print(f"| {name} | {row.get('tensors', '')} | {same} | {other} |", flush=True)
    path = Path(asked.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    bad = [row for row in found.values() if "error" in row or any(list(row.values())[1:])]
    sys.exit(int(bool(bad)))


if __name__ == "__main__":
    main()
