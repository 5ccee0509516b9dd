"""Trains a grid of algorithms, seeds and settings; prints a table of what they reached.

  python benchmarks/learning.py --algos=iql,vdn,qmix --seeds=0:3 --out=runs/spread \
      -- --env=mpe/simple_spread

Words behind `--` go to every run. Each run is a process of its own on one core,
as many at a time as there are cores; finished ones are not repeated, and a
table can be made of several grids at once with --only_table and many --out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent


def finished(folder: Path) -> bool:
    """Whether a run folder holds a run that came to its end."""
    return (folder / "export").is_dir()


def run(folder: Path, words: list[str], cores: Queue[int]) -> None:
    """Trains one run on a core of its own."""
    if finished(folder):
        return
    core = cores.get()
    try:
        mode = ["--mode=resume"] if (folder / "run.json").exists() else words
        command = [sys.executable, str(ROOT / "main.py"), *mode, f"--run_dir={folder}"]
        done = subprocess.run(
            ["taskset", "-c", str(core), *command], cwd=ROOT, capture_output=True, text=True
        )
        print(f"{folder}: {'done' if done.returncode == 0 else done.stderr[-300:]}", flush=True)
    finally:
        cores.put(core)


def last_greedy(folder: Path) -> tuple[int, float, float]:
    """env_steps, greedy return and seconds of the last evaluation in metrics.csv."""
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["greedy_return"]]
    row = rows[-1]
    return int(row["env_steps"]), float(row["greedy_return"]), float(row["seconds"])


def table(folders: list[Path]) -> str:
    """Markdown: a row a group of runs that differ in their seed alone."""
    groups: dict[str, list[tuple[int, float, float, int]]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for folder in folders:
        config = json.loads((folder / "run.json").read_text())["config"]
        key = json.dumps({**config, "seed": 0, "run_dir": ""})
        names[key] = (config["env"], config["algo"], f"{config['updates_per_episode']:g}")
        groups.setdefault(key, []).append((*last_greedy(folder), config["seed"]))
    lines = [
        "| env | algo | updates per episode | env steps | seeds | greedy return, median "
        "(each seed) | seconds, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, runs in sorted(groups.items(), key=lambda item: names[item[0]]):
        runs.sort(key=lambda r: r[3])
        values = ", ".join(f"{r[1]:.1f}" for r in runs)
        lines.append(
            f"| {' | '.join(names[key])} | {runs[0][0]:,} | {', '.join(str(r[3]) for r in runs)} "
            f"| {statistics.median(r[1] for r in runs):.1f} ({values}) "
            f"| {statistics.median(r[2] for r in runs):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Reads the command line, trains what is missing and prints the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--algos", default="iql,vdn,qmix")
    arguments.add_argument("--seeds", default="0:3", help="first:behind the last")
    arguments.add_argument("--out", action="append", required=True, type=Path)
    arguments.add_argument("--only_table", action="store_true")
    arguments.add_argument("words", nargs="*", help="settings of every run, behind --")
    asked = arguments.parse_args()
    if not asked.only_table:
        cores: Queue[int] = Queue()
        available = sorted(os.sched_getaffinity(0))
        for core in available:
            cores.put(core)
        first, last = map(int, asked.seeds.split(":"))
        with ThreadPoolExecutor(len(available)) as pool:
            jobs = []
            for seed in range(first, last):
                for algo in asked.algos.split(","):
                    words = [*asked.words, f"--algo={algo}", f"--seed={seed}"]
                    folder = asked.out[0].resolve() / f"{algo}-{seed}"
                    jobs.append(pool.submit(run, folder, words, cores))
            for job in jobs:
                job.result()
    folders = [f for out in asked.out for f in sorted(out.resolve().iterdir()) if finished(f)]
    print(table(folders))


if __name__ == "__main__":
    main()
