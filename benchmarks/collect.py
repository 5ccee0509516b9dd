"""Times collecting episodes of PettingZoo's simple_spread, compared with stepping it alone.

  python benchmarks/collect.py --out=collect.json

Bare: as many processes step the environment with random actions, each process its own
environment, as the PettingZoo object (raw) and through tfmix's adapter (adapted). Collector:
whole episodes of an agent of QMIX's size, which wait for the policy at every step, by
`--env_workers`; 0 is in one process. Workers share the machine with the policy, and other load
on the machine favours the side with more processes. All sides take turns in every repeat. The
share in a row is the median over repeats of collector / bare adapted with the same number of
processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import tfmix  # noqa: F401, E402  (before TensorFlow)
from tfmix import envs  # noqa: E402
from tfmix.config.schema import Config  # noqa: E402

MODULE = "pettingzoo.mpe.simple_spread_v3"
NAME = f"pettingzoo/{MODULE}"
CASES = [(8, 0), (8, 1), (8, 2), (8, 4), (8, 8), (16, 16), (32, 16)]  # (n_envs, env_workers)


def bare(pipe: Any) -> None:
    """Step environments for as many seconds as the pipe says, and send the env steps per second."""
    from tfmix.envs.python.adapters.common import load_module

    raw, adapted = load_module(NAME, MODULE).parallel_env(), envs.make_python(NAME, Config())
    actions = np.random.default_rng(0).integers(0, 5, [10_000, 3])
    while (order := pipe.recv()) is not None:
        kind, seconds = order
        count, start = 0, time.monotonic()
        while time.monotonic() - start < seconds:
            if kind == "raw":
                raw.reset(seed=count)
                while raw.agents:
                    chosen = actions[count % len(actions)].tolist()
                    raw.step(dict(zip(raw.agents, chosen, strict=True)))
                    count += 1
            else:
                adapted.reset(count)
                over = False
                while not over:
                    *_, over, cut, _ = adapted.step(actions[count % len(actions)])
                    over = over or cut
                    count += 1
        pipe.send(count / (time.monotonic() - start))


class Bare:
    """Processes that run `bare`."""

    def __init__(self, count: int):
        context = multiprocessing.get_context("spawn")
        self.pipes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            context.Process(target=bare, args=(theirs,), daemon=True).start()
            self.pipes.append(ours)

    def measure(self, kind: str, count: int, seconds: float) -> float:
        """Return env steps a second of `count` processes together."""
        for pipe in self.pipes[:count]:
            pipe.send((kind, seconds))
        return sum(pipe.recv() for pipe in self.pipes[:count])


def make_collector(n_envs: int, workers: int) -> Any:
    """Return a collector and its QMIX-size agents."""
    from tfmix import algos
    from tfmix.training.task import open_task

    config = Config(env=NAME, n_envs=n_envs, env_workers=workers)
    task = open_task(config, to_train=False)
    algorithm = algos.make("qmix", task.spec, config)
    algorithm.init_weights(np.asarray([0, 0], np.int32))
    return task.make_collector(algorithm)


def collect(collector: Any, seconds: float) -> float:
    """Return env steps a second; some actions are random, as in training."""
    count, first, start = 0.0, 0, time.monotonic()
    while time.monotonic() - start < seconds:
        count += float(
            collector.collect([0, 0], first, 0.1, collector.vector_env.n_envs).mask.sum()
        )
        first += collector.vector_env.n_envs
    return count / (time.monotonic() - start)


def measure(repeats: int, seconds: float) -> dict[str, list[float]]:
    """Return env steps a second of every side, one number per repeat."""
    processes = Bare(max(workers for _, workers in CASES))
    for pipe in processes.pipes:  # all are ready
        pipe.send(("raw", 0.1))
    for pipe in processes.pipes:
        pipe.recv()
    collectors = {f"collector {n} {w}": make_collector(n, w) for n, w in CASES}
    for one in collectors.values():
        collect(one, 0.1)
    counts = sorted({max(w, 1) for _, w in CASES})
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for kind in ("raw", "adapted"):
            for count in counts:
                speed = processes.measure(kind, count, seconds)
                found.setdefault(f"{kind} {count}", []).append(speed)
        for name, one in collectors.items():
            found.setdefault(name, []).append(collect(one, seconds))
    for one in collectors.values():
        one.close()
    for pipe in processes.pipes:
        pipe.send(None)
    return found


def text(speeds: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"


def table(found: dict[str, list[float]]) -> dict[str, float]:
    """Print the table and return the shares."""
    shares = {}
    print("| n_envs | env_workers | bare raw | bare adapted | collector | share |")
    print("|---|---|---|---|---|---|")
    for n_envs, workers in CASES:
        name = f"collector {n_envs} {workers}"
        raw, adapted = (found[f"{kind} {max(workers, 1)}"] for kind in ("raw", "adapted"))
        ratios = [a / b for a, b in zip(found[name], adapted, strict=True)]
        shares[name] = statistics.median(ratios)
        cells = [n_envs, workers, text(raw), text(adapted), text(found[name])]
        print("|", " | ".join(map(str, cells)), f"| {shares[name]:.0%} |")
    by_count = {w: found[f"collector {n} {w}"] for n, w in CASES if w}
    best = max(by_count, key=lambda w: statistics.median(by_count[w]))
    ratios = [a / b for a, b in zip(by_count[16], by_count[best], strict=True)]
    shares["16 workers / best"] = statistics.median(ratios)
    print(f"16 workers: {shares['16 workers / best']:.0%} of the best count's ({best}) speed")
    return shares


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="duration of each side in a repeat"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    from tfmix.utils.quiet import quiet_import

    quiet_import("tensorflow")
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    print(
        f"{cores} cores, load {load:.1f} before, env steps/s: median (range) of {given.repeats}\n"
    )
    found = measure(given.repeats, given.seconds)
    shares = table(found)
    if given.out:
        about = {"cores": cores, "load": load, "python": platform.python_version()}
        given.out.write_text(
            json.dumps({**about, "env_steps_per_second": found, "shares": shares}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
