"""Compares the speed of tfmix, JaxMARL, PyMARL, EPyMARL and XuanCe, which take turns in one run.

  git clone https://github.com/FLAIROx/JaxMARL && git -C JaxMARL checkout c793d09
  git clone https://github.com/oxwhirl/pymarl && git -C pymarl checkout c971afd
  git clone https://github.com/uoe-agents/epymarl && git -C epymarl checkout cbc38c0
  git clone https://github.com/agi-brain/xuance && git -C xuance checkout 4f0b05b
  python benchmarks/peers.py --jaxmarl=JaxMARL --jaxmarl_python=jax/bin/python \\
      --pymarl=pymarl --pymarl_python=torch/bin/python --only=update --json=peers.json

A peer is given as a checkout and as an interpreter that runs its code. Cases of peers that are
not given are left out. `--only` names cases or beginnings of their names. Calls with the same
`--json` add to that file, and `--only=none` prints what it holds. `peers_side.py` runs in the
peers' interpreters and times the code of the checkouts.

  update   One update of 32 episodes: float32, GRU 64, mixer 32, hypernetworks 64, every
           step real. The sizes are spread (N3 O18 S54 A5, 26 observations in time) and smac (N8
           O150 S216 A14, 121 observations). JaxMARL's update is its script's, with our batch;
           its agents read the agent's index too. PyMARL's update is `learner.train`; its agents
           read their last action too. In loop: within one compiled call; per call: called from
           Python. PyMARL runs with one and with two threads; the faster one counts, and is
           compared with our time per call.
  train    Training of simple_spread in JaxMARL's configuration, both without evaluations, in env
           steps/s after the warm-up. `train-8-each` does an update for each episode.
           `collect` stores and never learns.
  python   PettingZoo's spread, 8 environments and an update per 8 episodes, with a GRU.
  start    Seconds from the start of `python main.py` or of JaxMARL's script, each with
           JaxMARL's configuration, to the end of the first update.
  reach    Seconds, start included, until three evaluations in a row are above -45. An evaluation
           plays 200 episodes every 100,000 env steps and sums rewards over agents. JaxMARL runs
           its shipped configuration at 2M env steps; its 26 rewards per episode count as 25. A
           repeat is a seed. tfmix runs with JaxMARL's configuration, with that of
           `python main.py` (`reach-default`), and with flags/preset/quick_mpe.flags
           (`reach-quick`), whose runs are shorter and evaluate every 25,000 env steps. A run
           takes a minute or more: `--repeats=1 --append` adds one.

Numbers are medians (and ranges) of repeats; `faster by` is the median of the repeats' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.update import (  # noqa: E402  (tfmix before TensorFlow)
    BATCH,
    SIZES,
    Side,
    about,
    check,
    parser_of,
    seconds_of,
    text,
)

import numpy as np  # noqa: E402  # isort: skip

from tests.conftest import make_batch  # noqa: E402
from tfmix.config.parsing import parse  # noqa: E402
from tfmix.config.resolve import resolve  # noqa: E402
from tfmix.config.schema import Config  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.training.task import open_task  # noqa: E402
from tfmix.training.trainer import Trainer  # noqa: E402
from tfmix.types import EnvSpec, Episode  # noqa: E402
from tfmix.utils.text import nearest  # noqa: E402

SIDE = Path(__file__).with_name("peers_side.py")
NEEDED = {  # what is in a checkout of it
    "jaxmarl": "baselines/QLearning",
    "pymarl": "src/learners",
    "epymarl": "src/runners/parallel_runner.py",
    "xuance": "xuance/torch",
}
COUNT = {"spread": 60, "smac": 6}  # updates of a side in a repeat
ABOVE, IN_A_ROW, EVALUATIONS, BETWEEN = -45.0, 3, 200, 100_000
STEPS = 2_000_000
PATIENCE_SECONDS = 300

# What a side does in a repeat: its number -> measures by name.
Turn = Callable[[int], dict[str, float]]


def preset(name: str, **changed: Any) -> Config:
    """Return the settings of a flagfile of flags/preset, a few changed."""
    return resolve({**parse([f"--flagfile={ROOT}/flags/preset/{name}.flags"]), **changed})


class Peer:
    """A process with a peer's code; see `peers_side.py`.

    Attributes:
      name: of the peer.
      checkout, python: paths.
      versions: of what it runs on.
    """

    def __init__(self, name: str, checkout: Path, python: str):
        self.name, self.checkout, self.python = name, checkout, python
        # From any folder; and a virtual environment's interpreter stays the link that it is.
        self.command = [str(Path(shutil.which(python) or python).absolute()), "-B", str(SIDE)]
        git = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        self.versions: dict[str, str] = {"commit": commit or "none"}
        self._made = 0
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (until `close`)
        self._process: Any = None

    def start(self) -> None:
        """Start the process."""
        command = [*self.command, "serve", self.name, str(self.checkout)]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=self._log,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"--{self.name}_python={self.python}: {error.strerror}") from error
        self.versions |= self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            self._log.seek(0)
            said = self._log.read().strip()[-2000:]
            raise UserError(f"{self.name} failed: {answer['error']}\n{said}")
        return answer

    def _ask(self, **order: Any) -> dict[str, Any]:
        if self._process is None:
            self.start()
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def make(self, **order: Any) -> Turn:
        """Make a case warm."""
        self._made += 1
        name = str(self._made)
        self._ask(do="make", name=name, **order)
        return lambda _: self._ask(do="time", name=name)

    def close(self) -> None:
        """End the process and those that it started."""
        self._log.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def whole_episodes(spec: EnvSpec) -> Episode:
    """Return a batch whose steps are all real."""
    return make_batch(spec, (spec.episode_limit,) * BATCH)


def our_update(size: str, config: Config) -> Turn:
    """Measure `Learner.update` in a compiled loop, and called alone."""
    side = Side(config, SIZES[size], whole_episodes(SIZES[size]), count=COUNT[size])
    side.per_call()  # compiled
    return lambda _: {"in_loop": side.in_loop(), "per_call": side.per_call()}


def our_train(config: Config, steps: int, warm_steps: int) -> Turn:
    """Return the trainer's own loop."""
    trainer = Trainer(open_task(config))
    trainer.train_until(warm_steps)  # compiled, learning, calls grown to their length

    def turn(_: int) -> dict[str, float]:
        before, updates = trainer.env_steps(), int(trainer.counters.updates)
        took = seconds_of(lambda: trainer.train_until(before + steps))
        assert (int(trainer.counters.updates) > updates) == (config.updates_per_episode > 0)
        return {"rate": (trainer.env_steps() - before) / took}

    return turn


@dataclasses.dataclass
class Case:
    """A row of the table, or more.

    Attributes:
      name: for `--only`.
      unit: of the numbers; "env steps/s" is better when it is higher.
      sides: what makes each side warm, by its name; ours are called `ours`.
      pairs: (our side, our measure, their side, their measure): what is compared.
    """

    name: str
    unit: str
    sides: dict[str, Callable[[], Turn]]
    pairs: list[tuple[str, str, str, str]]


def update_cases(peers: dict[str, Peer]) -> Iterator[Case]:
    """Measure an update at two sizes."""
    for size, spec in SIZES.items():
        sizes = {
            "agents": spec.n_agents,
            "actions": spec.n_actions,
            "obs": spec.obs_size,
            "state": spec.state_size,
            "rows": spec.episode_limit + 1,
            "count": COUNT[size],
        }
        if "jaxmarl" in peers:
            config = preset("jaxmarl_mpe", algo="qmix", hypernet_embed=64)
            yield Case(
                f"update-{size}-qmix-jaxmarl",
                "ms",
                {
                    "ours": functools.partial(our_update, size, config),
                    "JaxMARL": functools.partial(
                        peers["jaxmarl"].make, kind="update", algo="qmix", **sizes
                    ),
                },
                [("ours", m, "JaxMARL", m) for m in ("in_loop", "per_call")],
            )
        for algo in ("qmix", "qtran_base") if "pymarl" in peers else ():
            if (size, algo) != ("spread", "qtran_base"):
                yield pymarl_case(peers["pymarl"], size, algo)


def pymarl_case(peer: Peer, size: str, algo: str) -> Case:
    """Measure an update of PyMARL's."""
    spec, config = SIZES[size], preset("pymarl", algo=algo)
    settings = {
        "learner": "qtran_learner" if algo == "qtran_base" else "q_learner",
        "mixer": algo,
        "n_agents": spec.n_agents,
        "n_actions": spec.n_actions,
        "state_shape": spec.state_size,
        "unit_dim": spec.obs_size,
        "rnn_hidden_dim": config.hidden_size,
        "gamma": config.gamma,
        "double_q": config.double_q,
        "mixing_embed_dim": config.qtran_embed if algo == "qtran_base" else config.mixer_embed,
        "hypernet_embed": config.hypernet_embed,
        "hypernet_layers": config.hypernet_layers,
        "opt_loss": config.opt_loss,
        "nopt_min_loss": config.nopt_min_loss,
    }

    def make(threads: int) -> Turn:
        batch = whole_episodes(spec)
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            np.savez(file, **{k: v.numpy() for k, v in batch._asdict().items()})
            file.flush()
            return peer.make(
                kind="update",
                settings=settings,
                batch=file.name,
                threads=threads,
                count=max(COUNT[size] // 3, 2),
            )

    threads = {1: "PyMARL, 1 thread", 2: "PyMARL, 2 threads"}
    return Case(
        f"update-{size}-{algo}-pymarl",
        "ms",
        {
            "ours": functools.partial(our_update, size, config),
            **{name: functools.partial(make, count) for count, name in threads.items()},
        },
        [("ours", "per_call", name, "per_call") for name in threads.values()],
    )


# name: algorithm, environments, updates an iteration, env steps of a turn.
TRAIN = {
    "train-8-qmix": ("qmix", 8, 1, 150_000),
    "train-8-vdn": ("vdn", 8, 1, 150_000),
    "train-8-iql": ("iql", 8, 1, 150_000),
    "train-8-each-qmix": ("qmix", 8, 8, 25_000),
    "train-128-qmix": ("qmix", 128, 1, 1_000_000),
    "collect-8-qmix": ("qmix", 8, 0, 1_000_000),
    "collect-128-qmix": ("qmix", 128, 0, 2_000_000),
    "collect-1024-qmix": ("qmix", 1024, 0, 2_000_000),
}


def train_cases(peers: dict[str, Peer]) -> Iterator[Case]:
    """Compare training with JaxMARL."""
    for name, (algo, n_envs, updates, steps) in TRAIN.items():
        if "jaxmarl" not in peers:
            return
        config = preset(
            "jaxmarl_mpe",
            algo=algo,
            env="mpe/simple_spread",
            n_envs=n_envs,
            updates_per_episode=updates / n_envs,
            buffer_episodes=max(5_000, BATCH * n_envs),
        )
        yield Case(
            name,
            "env steps/s",
            {
                "ours": functools.partial(our_train, config, steps, steps),
                "JaxMARL": functools.partial(
                    peers["jaxmarl"].make,
                    kind="train",
                    algo=algo,
                    n_envs=n_envs,
                    updates=max(updates, 1),
                    learn=updates > 0,
                    steps=steps,
                ),
            },
            [("ours", "rate", "JaxMARL", "rate")],
        )


def python_cases(peers: dict[str, Peer]) -> Iterator[Case]:
    """Measure training on PettingZoo's spread."""
    n_envs, episodes = 8, 120
    order = {"kind": "train", "algo": "qmix", "n_envs": n_envs, "episodes": episodes}
    config = preset(
        "epymarl",
        algo="qmix",
        env="pettingzoo/pettingzoo.mpe.simple_spread_v3",
        n_envs=n_envs,
        updates_per_episode=1 / n_envs,
        recurrent=True,
    )
    sides = {}
    if "epymarl" in peers:
        sides["EPyMARL, 8 processes"] = functools.partial(peers["epymarl"].make, **order)
    if "xuance" in peers:
        for name, recurrent in (("XuanCe, GRU", True), ("XuanCe, as shipped", False)):
            make = functools.partial(peers["xuance"].make, **order, recurrent=recurrent)
            sides[name] = make
    if sides:
        ours = {f"ours, {w} workers": dataclasses.replace(config, env_workers=w) for w in (2, 8)}
        steps = 25 * episodes
        yield Case(
            "python-8-qmix",
            "env steps/s",
            {n: functools.partial(our_train, c, steps, steps) for n, c in ours.items()} | sides,
            [(name, "rate", side, "rate") for name in ours for side in sides],
        )


def wait_for(command: list[str], found: Callable[[], float | None]) -> float:
    """Run a command until `found` returns a Unix time; return the seconds from its start to then.

    Infinity where it ends without; raises UserError where it fails.
    """
    began = time.time()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            while time.time() - began < PATIENCE_SECONDS:
                ended = process.poll() is not None
                if (when := found()) is not None:
                    return when - began
                if ended and process.returncode:
                    log.seek(0)
                    raise UserError(f"{command} failed:\n{log.read()[-2000:]}")
                if ended:
                    break
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
    return float("inf")


def in_a_row(scores: list[float]) -> bool:
    """Return whether as many evaluations in a row as are asked for are good."""
    good = [score > ABOVE for score in scores]
    return any(all(good[i : i + IN_A_ROW]) for i in range(len(good) - IN_A_ROW + 1))


def our_run(words: list[str], reach: bool) -> Turn:
    """Run `python main.py` until its first update, or until its evaluations are good."""

    def turn(repeat: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "run" / "metrics.csv"

            def found() -> float | None:
                if not path.exists():
                    return None
                rows = list(csv.DictReader(path.read_text().splitlines()))
                if reach:
                    scores = [float(r["greedy_return"]) for r in rows if r["greedy_return"]]
                    return time.time() if in_a_row(scores) else None
                return time.time() if any(int(r["updates"] or 0) for r in rows) else None

            command = [sys.executable, "main.py", *words, f"--seed={repeat}"]
            return {"seconds": wait_for([*command, f"--run_dir={path.parent}"], found)}

    return turn


def jaxmarl_score(row: dict[str, float]) -> float:
    """Return the result of JaxMARL's evaluation as a return of 25 steps summed over agents.

    Its wrapper multiplies each agent's rewards by their number; IQL's script names each agent.
    """
    values = [x for key, x in row.items() if key.startswith("test_returned_episode_returns")]
    return sum(values) / len(values) * 25 / 26


def jaxmarl_run(peer: Peer, algo: str, reach: bool) -> Turn:
    """Run JaxMARL's script until its first update, or until its evaluations are good."""
    # As its script counts them.
    every = int(STEPS // 26 // 8 * 0.05) if reach else 10**9

    def turn(repeat: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            marks = Path(name) / "marks.jsonl"

            def found() -> float | None:
                rows = [json.loads(x) for x in marks.read_text().splitlines()]
                if not reach:
                    return rows[0]["time"] if rows else None
                for end in range(1, len(rows) + 1):
                    played = [r for r in rows[:end] if r["update_steps"] % every == 0]
                    if in_a_row([jaxmarl_score(r) for r in played]):
                        return rows[end - 1]["time"]
                return None

            marks.touch()
            words = ["+alg=ql_rnn_mpe", "WANDB_MODE=offline", "SAVE_PATH=null", f"SEED={repeat}"]
            words += [f"hydra.run.dir={name}", "hydra.output_subdir=null"]
            if reach:
                words += [f"alg.TOTAL_TIMESTEPS={STEPS}", f"alg.TEST_NUM_ENVS={EVALUATIONS}"]
            about = [str(peer.checkout), algo, str(marks), str(every)]
            return {"seconds": wait_for([*peer.command, "script", *about, *words], found)}

    return turn


def start_cases(peers: dict[str, Peer]) -> Iterator[Case]:
    """Measure the time to the first update, and to a good team."""
    if "jaxmarl" not in peers:
        return
    shipped = [f"--flagfile={ROOT}/flags/preset/jaxmarl_mpe.flags", "--env=mpe/simple_spread"]
    words = [*shipped, "--algo=qmix", "--log_period_env_steps=200"]
    yield Case(
        "start-qmix",
        "s",
        {
            "ours": lambda: our_run(words, reach=False),
            "JaxMARL": lambda: jaxmarl_run(peers["jaxmarl"], "qmix", reach=False),
        },
        [("ours", "seconds", "JaxMARL", "seconds")],
    )
    evaluate = [f"--eval_period_env_steps={BETWEEN}", f"--eval_episodes={EVALUATIONS}"]
    for algo in ("iql", "vdn", "qmix"):
        theirs = functools.partial(jaxmarl_run, peers["jaxmarl"], algo, reach=True)
        asked = [*evaluate, "--env=mpe/simple_spread", f"--algo={algo}"]
        same = [*shipped, *asked, f"--env_steps={STEPS}"]
        same += [f"--epsilon_anneal_env_steps={STEPS // 10}"]
        quick = [f"--flagfile={ROOT}/flags/preset/quick_mpe.flags", *asked[1:]]
        sides = {"reach": same, "reach-default": asked, "reach-quick": quick}
        for name, words in sides.items():
            ours = functools.partial(our_run, words, reach=True)
            pairs = [("ours", "seconds", "JaxMARL", "seconds")]
            yield Case(f"{name}-{algo}", "s", {"ours": ours, "JaxMARL": theirs}, pairs)


GROUPS = (update_cases, train_cases, python_cases, start_cases)


def chosen(cases: list[Case], only: str) -> list[Case]:
    """Return the cases whose names begin with one of those in `only`."""
    starts = [start for start in only.split(",") if start]
    if starts == ["none"]:
        return []
    names = [case.name for case in cases]
    for start in starts:
        if not any(name.startswith(start) for name in names):
            raise UserError(
                f"--only={start}: no case of the peers given begins so{nearest(start, names)}"
            )
    return [c for c in cases if not starts or any(c.name.startswith(start) for start in starts)]


Found = dict[str, dict[str, list[float]]]


def measure(case: Case, repeats: range) -> Found:
    """Return what every side measured, by side and measure, one number per repeat.

    A side that cannot be made is said to be so, and left out.
    """
    turns: dict[str, Turn] = {}
    for name, make in case.sides.items():
        try:
            turns[name] = make()
        except UserError as error:
            print(f"peers: {case.name}, {name}: {error}", file=sys.stderr)
    found: Found = {name: {} for name in turns}
    for repeat in repeats:
        for name, turn in turns.items():
            for what, value in turn(repeat).items():
                found[name].setdefault(what, []).append(value)
    return found


def in_unit(values: list[float], unit: str) -> str:
    """Return median and range."""
    scale, digits = {"ms": (1e3, 1), "s": (1.0, 1), "env steps/s": (1.0, 0)}[unit]
    return text([scale * value for value in values], digits)


def faster_by(ours: list[float], theirs: list[float], unit: str) -> str:
    """Return median and range of the repeats' ratios; above 1: ours is faster."""
    if unit == "env steps/s":
        ours, theirs = theirs, ours
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return text(ratios, 2)


HEAD = "| case | unit | ours | | peer | | faster by |\n|---|---|---|---|---|---|---|"


def print_rows(name: str, row: dict[str, Any]) -> None:
    """Print the lines of a case."""
    for our_side, our_measure, side, measured in row["pairs"]:
        ours, theirs = row["sides"][our_side][our_measure], row["sides"][side][measured]
        unit = row["unit"]
        cells = [name, unit, in_unit(ours, unit), f"{our_side}, {our_measure}".replace("_", " ")]
        cells += [in_unit(theirs, unit), f"{side}, {measured}".replace("_", " ")]
        print("|", " | ".join(cells), "|", faster_by(ours, theirs, unit), "|", flush=True)


def open_peers(asked: argparse.Namespace) -> dict[str, Peer]:
    """Return the peers that were given; raise UserError if one is not a checkout."""
    found = {}
    for name, part in NEEDED.items():
        checkout, python = getattr(asked, name), getattr(asked, f"{name}_python")
        if checkout is None and python is None:
            continue
        if checkout is None or python is None:
            raise UserError(f"--{name} and --{name}_python go together")
        if not (checkout / part).exists():
            raise UserError(f"--{name}={checkout} is not a checkout of it: it has no {part}")
        found[name] = Peer(name, checkout.resolve(), python)
    return found


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = parser_of(__doc__, repeats=5)
    for name in NEEDED:
        parser.add_argument(f"--{name}", type=Path, help="checkout")
        parser.add_argument(f"--{name}_python", help="interpreter that runs it")
    parser.add_argument("--only", default="", help="names of cases, or beginnings of names")
    parser.add_argument(
        "--append", action="store_true", help="add repeats to cases that --json holds"
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print and write; return the exit code."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the peers end with it
    peers: dict[str, Peer] = {}
    try:
        check(asked)
        peers = open_peers(asked)
        if not peers and asked.only != "none":
            raise UserError("no peer was given, see --help")
        well = True
        cases = chosen([case for group in GROUPS for case in group(peers)], asked.only)
        known = asked.json and asked.json.exists()
        rows: dict[str, Any] = json.loads(asked.json.read_text()) if known else {}
        machine = about()
        print(f"{json.dumps(machine)}\n\n{HEAD}", flush=True)
        for case in cases:
            held: Found = rows[case.name]["sides"] if asked.append and case.name in rows else {}
            first = min((len(x) for side in held.values() for x in side.values()), default=0)
            found = measure(case, range(first, first + asked.repeats))
            for side, measures in found.items():
                for what in measures:
                    measures[what] = held.get(side, {}).get(what, [])[:first] + measures[what]
            versions = {p.name: p.versions for p in peers.values()}
            pairs = [pair for pair in case.pairs if pair[0] in found and pair[2] in found]
            well &= len(pairs) == len(case.pairs)
            row = {"unit": case.unit, "sides": found, "pairs": pairs}
            rows[case.name] = {**row, "machine": machine, "peers": versions}
            print_rows(case.name, rows[case.name])
            if asked.json:
                asked.json.write_text(json.dumps(rows, indent=1) + "\n")
        if not cases:
            for name, row in rows.items():
                print_rows(name, row)
    except UserError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    finally:
        for peer in peers.values():
            peer.close()
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
