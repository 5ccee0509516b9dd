"""Measures how the time of an update, and of collecting, grows with each size of a task.

  python benchmarks/scaling.py
  python benchmarks/scaling.py --axis=agents --algo=qtran_alt --repeats=5 --json=scaling.json

One size at a time grows from a middle point: 8 agents, 16 actions, 50 steps, 32 episodes a batch,
observations of 32 and states of 64 numbers, networks of the default sizes. `agents`, `actions`,
`length` and `batch` time one update in a compiled loop of several (see benchmarks/update.py).
`envs` times one call that collects an episode of mpe/simple_spread from each of several
environments in the graph, with agents of QMIX's size. Unless --algo names others, QMIX runs on all
axes, and QTRAN-alt on agents and actions too.

The exponent is the slope of a line through the logarithms of size and time of the last three
points, of which the medians over repeats are used. It is 1 for proportional growth, and must not
exceed 1.1. All sizes of an axis take turns in every repeat. The exit code is 1 if an exponent is
larger.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.update import (  # noqa: E402
    Side,
    about,
    check,
    chosen,
    make_spec,
    parser_of,
    print_about,
    seconds_of,
    settings,
    text,
)

import tensorflow as tf  # noqa: E402  # isort: skip

from tfmix import algos, envs  # noqa: E402
from tfmix.config.resolve import resolve  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.training.collect_graph import GraphCollector  # noqa: E402

MIDDLE = {"agents": 8, "actions": 16, "length": 50, "batch": 32}
OBS, STATE = 32, 64
AXES = {
    "agents": (2, 4, 8, 16, 32, 64),
    "actions": (5, 8, 16, 32, 64),
    "length": (25, 50, 100, 200, 400),
    "batch": (8, 16, 32, 64, 128, 256),
    "envs": (1, 4, 16, 64, 256, 512, 1024),
}
DEFAULT = dict.fromkeys(("agents", "actions"), ("qmix", "qtran_alt"))
MOST = 1.1
SECONDS = 0.2  # of one point in one repeat, about


def update_point(algo: str, axis: str, size: int) -> Callable[[], float]:
    """Return a function that measures an update's seconds."""
    at = {**MIDDLE, axis: size}
    spec = make_spec(at["agents"], OBS, STATE, at["actions"], at["length"])
    return Side(settings(algo, at["batch"]), spec, seconds=SECONDS).in_loop


def collect_point(algo: str, size: int) -> Callable[[], float]:
    """Return a function that measures the seconds of collecting `size` episodes in parallel."""
    config = resolve({"algo": algo, "env": "mpe/simple_spread", "n_envs": size})
    env = envs.make_graph(config.env, config)
    algorithm = algos.make(algo, env.spec, config)
    algorithm.init_weights(tf.constant([0, 0]))
    collector = GraphCollector(env, algorithm.act, algorithm.agent_spec.policy_state_size, False)
    seed, first, epsilon = tf.constant([0, 1]), tf.constant(0, tf.int64), tf.constant(0.1)

    def collect() -> tf.Tensor:
        return collector.collect(seed, first, epsilon, size).reward

    seconds_of(collect)
    times = max(1, int(SECONDS / min(seconds_of(collect) for _ in range(3))))
    return lambda: sum(seconds_of(collect) for _ in range(times)) / times


def exponent(sizes: list[int], times: list[float]) -> float:
    """Return the slope of the least-squares line through the logarithms."""
    x, y = [math.log(v) for v in sizes], [math.log(v) for v in times]
    return statistics.linear_regression(x, y).slope


def measure(algo: str, axis: str, repeats: int) -> dict[str, Any]:
    """Return the times of all sizes of one axis, in turns, and the exponent at its large end."""
    sizes = list(AXES[axis])
    make = collect_point if axis == "envs" else lambda a, s: update_point(a, axis, s)
    points = [make(algo, size) for size in sizes]
    found: list[list[float]] = [[] for _ in points]
    for _ in range(repeats):
        for times, point in zip(found, points, strict=True):
            times.append(1e3 * point())
    large = [statistics.median(times) for times in found[-3:]]
    return {
        "algo": algo,
        "axis": axis,
        "sizes": sizes,
        "ms": found,
        "exponent": exponent(sizes[-3:], large),
    }


def main() -> int:
    """Measure, print and write; return the exit code."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("--axis", default="", help=f"some of {', '.join(AXES)}; empty means all")
    parser.add_argument(
        "--algo", default="", help="names, separated by commas; empty means those above"
    )
    asked = parser.parse_args()
    try:
        axes = chosen(asked.axis, AXES, "axis")
        names = chosen(asked.algo, algos.REGISTRY, "algorithm") if asked.algo else []
        check(asked)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    machine, rows = about(), []
    print_about(machine, asked.repeats)
    print("| grows | algorithm | size: ms | exponent |\n|---|---|---|---|", flush=True)
    for axis in axes:
        for algo in names or DEFAULT.get(axis, ("qmix",)):
            row = measure(algo, axis, asked.repeats)
            points = zip(row["sizes"], row["ms"], strict=True)
            cells = "; ".join(f"{size:,}: {text(times)}" for size, times in points)
            print(f"| {axis} | {algo} | {cells} | {row['exponent']:.2f} |", flush=True)
            rows.append(row)
    if asked.json:
        asked.json.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    return int(any(row["exponent"] > MOST for row in rows))


if __name__ == "__main__":
    sys.exit(main())
