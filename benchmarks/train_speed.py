"""Times training end to end, and its parts.

  python benchmarks/train_speed.py
  python benchmarks/train_speed.py --case=graph-8,graph-128 --algo=vdn --repeats=5 --json=train.json

A case is a kind of environment (simple_spread in the graph, or PettingZoo's in worker processes),
a number of environments, and a number of updates for each collected episode. `env steps/s` is the
speed of the trainer's loop while it learns, without evaluations and rows of metrics.csv. The
columns after it are microseconds for each env step: of the loop and of its parts, each of which
is timed alone and repeatedly in the same process. The parts are playing episodes (collect),
adding them to the replay (store), drawing batches (sample) and learning from them (update). The
time of an evaluation, and that of a row of metrics.csv and TensorBoard (log), is divided by the
env steps between two of them with the default settings.

`build` is the time for networks, replay and environments, with tracing. `first` is the time from
the loop's first call, which compiles, until it has learned once. Neither includes importing
TensorFlow. Peak memory is the process's, with the replay and without workers. Every case runs in
its own process. All numbers are medians (and ranges) of repeats. The exit code is 1 if an update
was traced twice.
"""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.update import (  # noqa: E402  (tfmix before TensorFlow)
    about,
    check,
    chosen,
    parser_of,
    print_about,
    seconds_of,
    text,
)

import tensorflow as tf  # noqa: E402  # isort: skip

from tfmix import algos  # noqa: E402
from tfmix.config.parsing import parse  # noqa: E402
from tfmix.config.resolve import resolve  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.runs.session import Session  # noqa: E402
from tfmix.training.seeds import Stream  # noqa: E402
from tfmix.training.task import open_task  # noqa: E402
from tfmix.training.trainer import Trainer  # noqa: E402

GRAPH, PYTHON = "mpe/simple_spread", "pettingzoo/pettingzoo.mpe.simple_spread_v3"
# name: environment, environments, updates for each episode.
CASES = {
    "graph-8": (GRAPH, 8, 1 / 8),
    "graph-8-each": (GRAPH, 8, 1.0),
    "graph-128": (GRAPH, 128, 1 / 128),
    "graph-1024": (GRAPH, 1024, 1 / 1024),
    "python-8": (PYTHON, 8, 1 / 8),
    "python-8-each": (PYTHON, 8, 1.0),
}
PARTS = ("loop", "collect", "store", "sample", "update", "evaluate", "log")
SECONDS = 2.0  # of the loop in one repeat, about; each part takes a quarter


def parts_of(trainer: Trainer, folder: Path) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Return what the loop is made of: how often it happens for each env step, and a call of it."""
    config, counters = trainer.config, trainer.counters
    collection = config.n_envs * trainer.spec.episode_limit  # env steps
    updates = config.n_envs * config.updates_per_episode / collection
    batch = trainer.next_batch()
    seed, first = tf.stack([trainer.seed, Stream.COLLECT]), counters.episodes.value()
    epsilon, rate = trainer.epsilon(), trainer.learning_rate()

    def collect() -> Any:
        return trainer.collector.collect(seed, first, epsilon, config.n_envs)

    episode = tf.nest.map_structure(tf.convert_to_tensor, collect())

    @tf.function
    def store() -> tf.Tensor:
        trainer.replay.add_batch(episode)
        trainer.learner.reward_scale.observe(episode.reward, episode.mask)
        return trainer.replay.can_hold(episode)

    sample = tf.function(lambda: trainer.next_batch().mask)
    session = Session(trainer, folder, 0.0, lambda: False)
    log_every = config.log_period_env_steps or max(config.env_steps // 200, 1)

    def evaluate() -> Any:
        return trainer.evaluate(config.eval_episodes).returns

    return {
        "collect": (1 / collection, lambda: collect().mask),
        "store": (1 / collection, store),
        "sample": (updates, sample),
        "update": (
            updates,
            lambda: trainer.learner.update(batch, counters.updates.value(), rate).metrics["loss"],
        ),
        "evaluate": (1 / config.eval_period_env_steps, evaluate),
        "log": (1 / log_every, lambda: session.report(False)["env_steps"]),
    }


def run_case(name: str, algo: str, repeats: int, words: list[str]) -> dict[str, Any]:
    """Return a case's numbers, in this process; times in microseconds an env step."""
    env, n_envs, updates_per_episode = CASES[name]
    asked = parse([f"--{word}" for word in words])
    config = resolve({**asked, "algo": algo, "env": env, "n_envs": n_envs})
    config = dataclasses.replace(
        config,
        updates_per_episode=updates_per_episode,
        buffer_episodes=max(config.buffer_episodes, 4 * n_envs),
    )
    began = time.perf_counter()
    trainer = Trainer(open_task(config))
    built = time.perf_counter()
    while not int(trainer.counters.updates):
        trainer.advance(trainer.env_steps() + 1)
    learned = time.perf_counter()
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    steps = n_envs * trainer.spec.episode_limit

    def train(env_steps: int) -> float:
        before = trainer.env_steps()
        took = seconds_of(lambda: trainer.train_until(before + env_steps))
        return took / (trainer.env_steps() - before)

    pace = train(steps)
    for _ in range(3):  # calls of the loop grow to their length
        steps = max(math.ceil(SECONDS / pace), steps)
        pace = train(steps)
    with tempfile.TemporaryDirectory() as folder:
        parts = parts_of(trainer, Path(folder))
        counts = {}
        for part, (_, call) in parts.items():
            seconds_of(call)  # compiled
            took = min(seconds_of(call) for _ in range(3))
            counts[part] = max(1, int(SECONDS / 4 / took))
        for _ in range(repeats):
            found["loop"].append(1e6 * train(steps))
            for part, (share, call) in parts.items():
                took = sum(seconds_of(call) for _ in range(counts[part])) / counts[part]
                found[part].append(1e6 * share * took)
    traces = int(trainer.learner.update.experimental_get_tracing_count())
    trainer.collector.close()
    return {
        "case": name,
        "algo": algo,
        "us": found,
        "build_s": built - began,
        "first_s": learned - built,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "traces": traces,
    }


def main() -> int:
    """Measure, print and write; return the exit code."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--case", default="", help=f"some of {', '.join(CASES)}; empty means all")
    parser.add_argument("--algo", default="qmix", help="names, separated by commas")
    parser.add_argument(
        "--setting", action="append", default=[], help="name=value for every case; may be repeated"
    )
    parser.add_argument(
        "--child", action="store_true", help="run one case in this process and print JSON"
    )
    asked = parser.parse_args()
    try:
        cases = chosen(asked.case, CASES, "case")
        names = chosen(asked.algo, algos.REGISTRY, "algorithm")
        check(asked)
        parse([f"--{word}" for word in asked.setting])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.child:
        print(json.dumps(run_case(cases[0], names[0], asked.repeats, asked.setting)))
        return 0
    machine, rows = about(), []
    print_about(machine, asked.repeats, "us an env step")
    print("| case | algorithm | env steps/s |", " | ".join(PARTS), "| build s | first s | MB |")
    print("|---" * (len(PARTS) + 6) + "|", flush=True)
    for case in cases:
        for algo in names:
            command = [sys.executable, __file__, "--child", f"--case={case}", f"--algo={algo}"]
            command += [f"--repeats={asked.repeats}", *(f"--setting={x}" for x in asked.setting)]
            child = subprocess.run(command, capture_output=True, text=True)
            if child.returncode:
                print(f"{case} {algo}: {child.stderr.strip()[-2000:]}", file=sys.stderr)
                return 1
            row = json.loads(child.stdout.splitlines()[-1])
            rate = 1e6 / statistics.median(row["us"]["loop"])
            cells = [case, algo, f"{rate:,.0f}", *(text(row["us"][part]) for part in PARTS)]
            cells += [f"{row['build_s']:.1f}", f"{row['first_s']:.1f}", f"{row['peak_mb']:,.0f}"]
            print("|", " | ".join(cells), "|", flush=True)
            rows.append(row)
    if asked.json:
        asked.json.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    return int(any(row["traces"] > 1 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
