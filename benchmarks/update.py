"""Times one update of each algorithm and compares it with the time of its matrix products alone.

  python benchmarks/update.py
  python benchmarks/update.py --algo=qmix,qtran_base --size=smac --repeats=9 --json=update.json

An update is the library's `Learner.update`: clearing of padding, live and target networks, loss,
gradient, clipping, optimiser step, target update. `in loop` is the time of one update in a compiled
loop of several, as in training; `per call` is the time of one that is called from Python. Batches
are random episodes of unequal lengths with illegal actions. The sizes are

  spread  N3 O18 S54 A5, 26 observations in time (25 steps)
  smac    N8 O150 S216 A14, 121 observations

with 32 episodes, GRU 64, mixer 32, hypernetworks 64, and each algorithm's flagfile.

FLOPs are counted by hand from the layers' sizes, two for each multiply-add. A layer [n, m] over r
rows counts r n m for the forward pass; if it learns, as much again for its kernel's gradient and
as much again for its input's gradient, unless its input is data. Unrolls have N (T + 1) rows per
episode, mixers and joint networks T. A computation that need not be repeated counts once: of
QTRAN's joint network at the greedy actions only what depends on actions, and a sum of linear maps
as the map of the sum. One-hot inputs are look-ups and count nothing, and neither do biases,
activations and the optimiser. The floor is the time of these FLOPs at the rate of one large float32
product, which is measured in the same run on the same threads. All sides take turns in every
repeat, and numbers are medians (and ranges) of repeats. The exit code is 1 if an update was traced
more than once.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: F401, E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests.conftest import make_batch  # noqa: E402
from tfmix import algos  # noqa: E402
from tfmix.config.resolve import resolve  # noqa: E402
from tfmix.config.schema import Config  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.training.learner import Learner  # noqa: E402
from tfmix.types import EnvSpec, Episode  # noqa: E402
from tfmix.utils.text import nearest  # noqa: E402


def make_spec(n: int, o: int, s: int, a: int, steps: int, name: str = "size") -> EnvSpec:
    """Return a task of N, O, S, A and T."""
    return EnvSpec(name, n, a, o, s, steps, (a,) * n)


SIZES = {
    "spread": make_spec(3, 18, 54, 5, 25, "spread"),
    "smac": make_spec(8, 150, 216, 14, 120, "smac"),
}
BATCH = 32
SECONDS = 0.4  # of one side in one repeat, about


def random_batch(spec: EnvSpec, episodes: int) -> Episode:
    """Return random episodes of half to whole length."""
    least, most = (spec.episode_limit + 1) // 2, spec.episode_limit
    return make_batch(spec, np.random.default_rng(0).integers(least, most + 1, episodes))


class Count:
    """Multiply-adds by the rule above."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, rows: int, sizes: Iterable[int], live: bool, data: bool = True) -> None:
        """Add a sequence of layers over `rows` rows; with `data`, its input gets no gradient."""
        for number, (n, m) in enumerate(itertools.pairwise(sizes)):
            passes = 1 + live * (1 if data and number == 0 else 2)
            self.total += passes * rows * n * m


def flops(config: Config, spec: EnvSpec, episodes: int) -> int:
    """Return FLOPs of an update that nothing can spare, see above."""
    n, o, a, s = spec.n_agents, spec.obs_size, spec.n_actions, spec.state_size
    steps = episodes * spec.episode_limit
    rows, h = (steps + episodes) * n, config.hidden_size
    count = Count()

    def unroll(live: bool) -> None:
        count.add(rows, [o, h], live)
        count.add(rows, [h, 3 * h], live, data=False)
        count.add(rows, [h, 3 * h], live, data=False)
        count.add(rows, [h, a], live, data=False)

    def monotonic(live: bool) -> None:
        e, inner = config.mixer_embed, [config.hypernet_embed] * (config.hypernet_layers - 1)
        for layers in ([s, *inner, n * e], [s, e], [s, *inner, e], [s, e, 1]):
            count.add(steps, layers, live)
        count.add(steps, [n, e, 1], live, data=False)  # the mixing itself

    def attention(live: bool) -> None:
        e, k, heads = config.mixer_embed, config.hypernet_embed, config.attention_heads
        for layers in (*[[s, k, e]] * heads, [s, k, heads], [s, e, 1]):
            count.add(steps, layers, live)
        count.add(steps * n, [o, heads * e], live)
        count.add(steps * heads, [n, e], live, data=False)  # questions and answers
        count.add(steps * heads, [n, 1], live, data=False)

    def duplex(live: bool) -> None:
        inner = [config.hypernet_embed] * (config.duplex_layers - 1)
        for _ in range(2):
            count.add(steps, [s, config.hypernet_embed, n], live)
        for _ in range(config.duplex_kernels):
            for out in (1, n, n):
                count.add(steps, [s, *inner, out], live)

    def unrestricted(live: bool, states: int) -> None:
        e = config.central_embed
        count.add(states, [s, e], live)
        count.add(states, [n, e, e, e, 1], live, data=False)
        count.add(states, [s, e, 1], live)

    def value() -> None:
        e = config.qtran_embed
        if config.qtran_state_value == "state":
            count.add(steps, [s, e, e, 1], True)

    def joint(live: bool, again: bool) -> None:
        e, code = config.qtran_embed, h + a
        if not again:
            count.add(steps * n, [h, code], live, data=False)
            count.add(steps, [s, e], live)
        count.add(steps, [code, code, e, e, 1], live, data=False)

    def counterfactual(live: bool, again: bool) -> None:
        e = config.qtran_embed
        if not again:
            count.add(steps * n, [h, e], live, data=False)  # of h_Q, actions are looked up
            count.add(steps * n, [h, e, e], live, data=False)  # h_V and the layers after it
            count.add(steps, [s, e], live)
        count.add(steps * n, [e, e, e, a], live, data=False)

    unroll(live=True)
    unroll(live=False)
    if config.algo in ("cw_qmix", "ow_qmix"):
        unroll(live=True)
        monotonic(live=True)
        unrestricted(True, steps)
        unrestricted(False, steps + episodes)
    elif config.algo in ("qtran_base", "qtran_alt"):
        network = joint if config.algo == "qtran_base" else counterfactual
        network(live=True, again=False)
        network(live=False, again=True)
        network(live=False, again=False)
        value()
    else:
        mixers: dict[str, Callable[[bool], None]] = {
            "qmix": monotonic,
            "qatten": attention,
            "qplex": duplex,
        }
        if config.algo in mixers:
            mixers[config.algo](True)
            mixers[config.algo](False)
    return 2 * count.total


def seconds_of(call: Callable[[], Any]) -> float:
    """Return how long a call takes until its answer is there."""
    start = time.perf_counter()
    np.asarray(call())
    return time.perf_counter() - start


def gemm_rate(size: int = 2048) -> Callable[[], float]:
    """Return a function that measures FLOP/s of a large product, the faster of two compilers."""
    x = tf.random.stateless_normal([size, size], [0, 1])

    def chain(times: int) -> tf.Tensor:
        y = x
        for _ in range(times):
            y = tf.matmul(x, y)
        return y[0, 0]

    sides = [tf.function(chain, jit_compile=compiled) for compiled in (False, True)]
    for side in sides:
        side(4)
    return lambda: max(4 * 2 * size**3 / seconds_of(lambda s=side: s(4)) for side in sides)


def settings(algo: str, episodes: int = BATCH) -> Config:
    """Return the algorithm's settings, without the flagfile of an environment."""
    return resolve({"algo": algo, "env": "benchmark:size", "batch_episodes": episodes})


class Side:
    """A learner at one size, compiled and warm.

    Args:
      config: the settings.
      spec: N, O, S, A and T.
      batch: what it learns from, random episodes where none is given.
      seconds: how long one measurement takes, about.
      count: updates of one measurement, in place of `seconds`.

    Attributes:
      compile_seconds: how long the loop took to compile.
      count: updates of one measurement.
      traces: how often the update was traced.
    """

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        batch: Episode | None = None,
        seconds: float = SECONDS,
        count: int = 0,
    ):
        algorithm = algos.make(config.algo, spec, config)
        algorithm.init_weights(tf.constant([0, 0]))
        self.learner, self._rate = Learner(algorithm), tf.constant(config.learning_rate)
        self._batch = batch or random_batch(spec, config.batch_episodes)

        @tf.function
        def loop(updates: tf.Tensor) -> tf.Tensor:
            well = tf.constant(True)
            for number in tf.range(updates):
                well &= self.learner.update(self._batch, number, self._rate).applied
            return well

        self._loop = loop
        start = time.perf_counter()
        self._check(loop(tf.constant(1, tf.int64)))
        self.compile_seconds = time.perf_counter() - start
        self.count, self._called = 2, False
        self.in_loop()
        self.count = count or max(2, int(seconds / min(self.in_loop() for _ in range(2))))

    @staticmethod
    def _check(applied: tf.Tensor) -> None:
        if not applied:
            raise RuntimeError("an update gave NaN or infinity")

    def _once(self) -> None:
        number = tf.constant(1, tf.int64)
        self._check(self.learner.update(self._batch, number, self._rate).applied)

    def in_loop(self) -> float:
        """Return seconds of an update in a compiled loop of `count`."""
        count = tf.constant(self.count, tf.int64)
        return seconds_of(lambda: self._check(self._loop(count))) / self.count

    def per_call(self) -> float:
        """Return seconds of an update that is called, mean of a few."""
        if not self._called:  # compiled by itself, which costs as much again
            self._once()
            self._called = True
        count = max(1, self.count // 2)
        return sum(seconds_of(self._once) for _ in range(count)) / count

    @property
    def traces(self) -> int:
        """Return how often the update was traced; more than once is a fault."""
        return int(self.learner.update.experimental_get_tracing_count())


def text(values: list[float], digits: int = 1) -> str:
    """Return median and range."""
    low, mid, high = min(values), statistics.median(values), max(values)
    return f"{mid:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def about() -> dict[str, Any]:
    """Return what the numbers depend on in addition to the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }


def print_about(machine: dict[str, Any], repeats: int, unit: str = "ms") -> None:
    """Return the line above a table."""
    print(
        f"{machine['cores']} cores, load {machine['load']} before, "
        f"TensorFlow {machine['tensorflow']}; {unit}, median (range) of {repeats}\n"
    )


def parser_of(about: str | None, repeats: int) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks of speed take."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    return parser


def check(asked: argparse.Namespace) -> None:
    """Raise UserError where `parser_of`'s arguments do not serve."""
    if asked.repeats < 1:
        raise UserError(f"--repeats={asked.repeats}: at least 1")
    if asked.json and not asked.json.parent.is_dir():
        raise UserError(f"there is no folder {asked.json.parent}")


@dataclasses.dataclass
class Row:
    """A line of the table; times in ms, one a repeat."""

    algo: str
    size: str
    gflop: float
    compile_s: float
    in_loop_ms: list[float]
    per_call_ms: list[float]
    floor_ms: list[float]
    traces: int

    @property
    def share(self) -> float:
        """Return the floor's share of the time in the loop."""
        pairs = zip(self.floor_ms, self.in_loop_ms, strict=True)
        return statistics.median(floor / ms for floor, ms in pairs)


def measure(algo_names: list[str], size_names: list[str], repeats: int) -> list[Row]:
    """Let all sides take turns `repeats` times."""
    sides, found = {}, {}
    for size in size_names:
        for algo in algo_names:
            config, spec = settings(algo), SIZES[size]
            side = sides[algo, size] = Side(config, spec)
            gflop = flops(config, spec, BATCH) / 1e9
            found[algo, size] = Row(algo, size, gflop, side.compile_seconds, [], [], [], 0)
    rate = gemm_rate()
    for _ in range(repeats):
        for key, side in sides.items():
            row = found[key]
            row.floor_ms.append(1e12 * row.gflop / rate())
            row.in_loop_ms.append(1e3 * side.in_loop())
            row.per_call_ms.append(1e3 * side.per_call())
    for key, side in sides.items():
        found[key].traces = side.traces
    return list(found.values())


def chosen(text: str, known: Iterable[str], what: str) -> list[str]:
    """Return the names in `text`, with commas between them; all where it is empty."""
    known = list(known)
    names = [name for name in text.split(",") if name] or known
    for name in names:
        if name not in known:
            raise UserError(f"there is no {what} {name!r}{nearest(name, known)}")
    return names


def main() -> int:
    """Measure, print and write; return the exit code."""
    parser = parser_of(__doc__, repeats=7)
    parser.add_argument("--algo", default="", help="names, separated by commas; empty means all")
    parser.add_argument("--size", default="", help="spread, smac; empty means both")
    asked = parser.parse_args()
    try:
        algo_names = chosen(asked.algo, algos.REGISTRY, "algorithm")
        size_names = chosen(asked.size, SIZES, "size")
        check(asked)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    machine = about()
    rows = measure(algo_names, size_names, asked.repeats)
    print_about(machine, asked.repeats)
    print("| size | algorithm | in loop | per call | GFLOP | floor | share | compile s | traces |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [row.size, row.algo, text(row.in_loop_ms), text(row.per_call_ms)]
        cells += [f"{row.gflop:.2f}", text(row.floor_ms), f"{row.share:.0%}"]
        print("|", " | ".join([*cells, f"{row.compile_s:.1f}", str(row.traces)]), "|")
    if asked.json:
        rates = sorted(row.gflop / ms * 1e3 for row in rows for ms in row.floor_ms)
        machine["gflop_per_second"] = statistics.median(rates)
        lines = [{**dataclasses.asdict(row), "share": row.share} for row in rows]
        asked.json.write_text(json.dumps({**machine, "rows": lines}, indent=1) + "\n")
    return int(any(row.traces != 1 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
