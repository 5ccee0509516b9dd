"""Breaks runs on purpose and reports whether they recover.

  python benchmarks/faults.py                                all but soak and cost
  python benchmarks/faults.py --only=kill,writing --tries=50 --jobs=2
  python benchmarks/faults.py --only=soak,cost

Runs are processes of main.py, which are killed with SIGKILL and resumed. Their end (every tensor
of the last checkpoint, replay and optimiser included, and metrics.csv except for `seconds` and
`worker_restarts`) is compared with the same run undisturbed. Each fault has a row: how often it
was tried, and how many runs ended as they must. The exit code is 1 if a run did not.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: F401, E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix.errors import RunFailedError, UserError  # noqa: E402
from tfmix.runs import checkpoint  # noqa: E402
from tfmix.runs.requests import load, resume, train  # noqa: E402
from tfmix.training.task import open_task  # noqa: E402

PATIENCE_SECONDS = 600
SPREAD = "pettingzoo/pettingzoo.mpe.simple_spread_v3"
SMALL = ("--hidden_size=16", "--mixer_embed=8", "--hypernet_embed=8", "--batch_episodes=8")
SMALL += ("--buffer_episodes=300", "--update_shards=2")
# name: what is killed. Both lanes, four algorithms; each a few seconds of training.
RUNS = {
    name: (*words.split(), "--eval_episodes=8", *SMALL)
    for name, words in {
        "graph, qmix, mpe/simple_spread": "--algo=qmix --env=mpe/simple_spread --env_steps=40000",
        "graph, qtran_alt, matrix/qtran": "--algo=qtran_alt --env=matrix/qtran --env_steps=12000",
        "graph, qplex, predator_prey/qtran": "--algo=qplex --env=predator_prey/qtran "
        "--env_steps=40000",
        "Python, qmix, simple_spread": f"--algo=qmix --env={SPREAD} --env_steps=8000",
        "Python, vdn, foraging": "--algo=vdn --env=gymnasium/Foraging-8x8-2p-2f-coop-v3 "
        "--env_steps=20000",
    }.items()
}
OFTEN = ("--checkpoint_period_env_steps=1000",)
GIANT_SUM = "856cde43"  # the masked CRC-32C of the length 20,000,000,000
Outcome = tuple[int, int, str]  # tries, as they must, remark


def start(*words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Return a process of main.py."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and standard error but for progress; a process that hangs is killed."""
    try:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -1, "it hung"
    lines = [
        line
        for line in said.splitlines()
        if " env steps, " not in line and not line.endswith(" ...")
    ]
    return process.returncode, "\n".join(lines)


def kill(process: subprocess.Popen[str]) -> bool:
    """Send SIGKILL; return whether there was anything left to kill."""
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def is_one_line(said: str) -> bool:
    """Return whether an error is what a person should see."""
    return said.count("\n") == 0 and said.startswith("tfmix: ") and "Traceback" not in said


def content(folder: Path) -> tuple[dict[str, np.ndarray], list[list[str]]]:
    """Return all tensors of the newest checkpoint, and metrics.csv but for seconds and restarts."""
    newest = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        return {}, []
    reader = tf.train.load_checkpoint(str(newest / "tensors"))
    tensors = {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }
    with (folder / "metrics.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    kept = [i for i, name in enumerate(header) if name not in ("seconds", "worker_restarts")]
    return tensors, [[row[i] for i in kept] for row in (header, *rows)]


def differs(a: Path, b: Path) -> str:
    """Return what two finished runs differ in, or an empty string."""
    (first, rows), (second, others) = content(a), content(b)
    if set(first) != set(second):
        return "other tensors"
    unequal = [name for name in first if not np.array_equal(first[name], second[name])]
    if unequal:
        return f"{len(unequal)} tensors, such as {unequal[0]}"
    return "" if rows == others else "metrics.csv"


def wait(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.001)


class Kills:
    """Runs that are killed again and again, at random moments or while they write a checkpoint."""

    EACH = 5  # kills of a run before it is left to end

    def __init__(self, work: Path, seed: int):
        self.work, self.random = work, random.Random(seed)
        self.cache = f"--compile_cache={work / 'compiled'}"  # the same bits, and quicker starts
        self.whole: dict[str, tuple[Path, float]] = {}

    def prepare(self, name: str) -> None:
        """Train undisturbed, and return how long it takes."""
        folder = self.work / f"whole-{list(RUNS).index(name)}"
        code, said = end(start(*RUNS[name], *OFTEN, self.cache, f"--run_dir={folder}"))
        if code:
            raise SystemExit(f"{name} does not even train: {said}")
        with (folder / "metrics.csv").open(newline="") as file:
            first, *_, last = [float(row["seconds"]) for row in csv.DictReader(file)]
        self.whole[name] = folder, last - first

    def once(self, name: str, number: int, writing: bool) -> tuple[int, str]:
        """Kill a run `EACH` times, resume it after each, and let it end.

        Returns:
          kills that hit, and what is wrong in the end, or an empty string.
        """
        whole, seconds = self.whole[name]
        folder = self.work / f"{'writing' if writing else 'kill'}-{number}"
        process, hits = start(*RUNS[name], *OFTEN, self.cache, f"--run_dir={folder}"), 0
        for _ in range(self.EACH):
            self.wait_for_the_moment(process, folder, seconds / self.EACH, writing)
            hits += kill(process)
            process = start("--mode=resume", self.cache, f"--run_dir={folder}")
        code, said = end(process)
        if code:
            return hits, f"resume failed: {said}"
        found = differs(folder, whole)
        shutil.rmtree(folder)
        return hits, found

    def wait_for_the_moment(
        self, process: subprocess.Popen[str], folder: Path, seconds: float, writing: bool
    ) -> None:
        """Wait until the process trains, and then a little or for the middle of a checkpoint."""
        spare, metrics = folder / "checkpoints" / ".writing", folder / "metrics.csv"
        if writing:
            for _ in range(self.random.randrange(1, 4)):
                wait(lambda: not spare.exists(), process)
                wait(spare.exists, process)
            time.sleep(self.random.random() * 0.02)
            return
        wait(metrics.exists, process)
        size = metrics.stat().st_size if metrics.exists() else 0
        # A resumed process cuts the file first, and then writes rows.
        wait(lambda: metrics.exists() and metrics.stat().st_size != size, process)
        time.sleep(self.random.random() * seconds)

    def all(self, tries: int, jobs: int, writing: bool) -> Outcome:
        """Kill the runs in turn, `tries` times in all."""
        for name in RUNS:
            if name not in self.whole:
                self.prepare(name)
        names: list[str] = []
        found: list[tuple[int, str]] = []
        while (left := tries - sum(hit for hit, _ in found)) > 0:  # some come after the end
            runs = range(len(found), len(found) + -(-left // self.EACH))
            more = [list(RUNS)[number % len(RUNS)] for number in runs]
            with ThreadPoolExecutor(jobs) as pool:
                found += pool.map(self.once, more, runs, [writing] * len(more))
            names += more
        wrong = [f"{n}: {f}" for n, (_, f) in zip(names, found, strict=True) if f]
        hits = sum(hit for hit, _ in found)
        remark = "; ".join(wrong[:3]) or "each identical to the run that was not killed"
        good = sum(hit for hit, fault in found if not fault)
        return hits, good, f"{len(names)} runs, {self.EACH} kills each: {remark}"


def corrupt(work: Path, tries: int, seed: int) -> Outcome:
    """Damage checkpoints: a flipped bit, a cut end, or a missing file."""
    chance, folder = random.Random(seed), work / "corrupt"
    words = {"algo": "vdn", "env": "two_step", "env_steps": 3000, "hidden_size": 8}
    trained = train(run_dir=folder, checkpoint_period_env_steps=500, **words)
    kept = shutil.copytree(folder / "checkpoints", work / "kept")
    good, remarks = 0, []
    for number in range(tries):
        shutil.rmtree(folder / "checkpoints")
        shutil.copytree(kept, folder / "checkpoints")
        every = checkpoint.saved(folder / "checkpoints")
        non_finite = every if number % 10 == 9 else every[-1:]
        for one in non_finite:
            file = chance.choice(sorted(p for p in one.iterdir() if p.stat().st_size))
            data = bytearray(file.read_bytes())
            kind = number % 3
            if kind == 0:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                file.write_bytes(data)
            elif kind == 1:
                file.write_bytes(data[: chance.randrange(len(data))])
            else:
                file.unlink()
        with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null):
            try:
                found = checkpoint.latest(folder / "checkpoints")
                checkpoint.restore(found, trained.trainer.tensors)
                as_it_must = found == every[-2] and non_finite != every
            except UserError:
                as_it_must = non_finite == every
        good += as_it_must
        if not as_it_must:
            remarks.append(f"try {number}, {file.name}")
    remark = "; ".join(remarks[:3]) or "noticed; the one before is used, or one line where none is"
    return tries, good, remark


@contextlib.contextmanager
def small_disk(work: Path, megabytes: float) -> Iterator[Path | None]:
    """Mount a file system of that size; return None if none can be mounted."""
    place = work / "disk"
    place.mkdir(exist_ok=True)
    size = f"size={int(megabytes * 1024)}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Write until the disk is full."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return filler


def disk_full(work: Path, what: str) -> Outcome:
    """Fill the disk while a run writes `what`: one line, and the resumed run is the same."""
    words = ("--algo=vdn", "--env=two_step", "--env_steps=60000", *SMALL)
    period = {"checkpoint": ("--checkpoint_period_env_steps=2000", "--log_period_env_steps=50000")}
    words += period.get(what, ("--checkpoint_period_seconds=3600",))
    whole = work / f"full-{what}"
    if not whole.exists():
        end(start(*words, f"--run_dir={whole}"))
    used = sum(p.stat().st_size for p in whole.rglob("*") if p.is_file()) / 2**20
    export = sum(p.stat().st_size for p in (whole / "export").rglob("*") if p.is_file()) / 2**20
    room = used - export / 2 if what == "export" else used + 8
    with small_disk(work, room) as place:
        if place is None:
            return 1, 0, "not run: no file system can be mounted here"
        process = start(*words, f"--run_dir={place / 'run'}")
        if what != "export":
            wait((place / "run" / "metrics.csv").exists, process)
            time.sleep(0.5)
            filler = fill(place)
        code, said = end(process)
        if code != 1 or not is_one_line(said):
            return 1, 0, f"exit code {code}: {said[-300:]}"
        if what == "export":
            subprocess.run(["mount", "-o", f"remount,size={int(used + 8)}m", place], check=True)
        else:
            filler.unlink()
        code, after = end(start("--mode=resume", f"--run_dir={place / 'run'}"))
        found = differs(place / "run", whole) if code == 0 else after
        return 1, int(not found), found or said.replace(str(work), "...")


FAULTY = '''
"""simple_spread that fails once on the 990th step of a process, or whenever it is used."""
import os, signal, subprocess, time
from pathlib import Path
from pettingzoo.mpe import simple_spread_v3

class Faulty:
    def __init__(self, how, mark):
        self._env, self._how, self._mark = simple_spread_v3.parallel_env(), how, Path(mark)
        self._count = 0
        if how == "stuck":
            time.sleep(10_000)
        if how == "leaving":
            self._child = subprocess.Popen(["sleep", "10000"])
            self._mark.with_name("child").write_text(str(self._child.pid))

    def __getattr__(self, name):
        return getattr(self._env, name)

    def reset(self, seed=None, options=None):
        if self._how == "crashing":
            os.kill(os.getpid(), signal.SIGSEGV)
        return self._env.reset(seed=seed, options=options)

    def close(self):
        if self._how == "locked":
            raise OSError("cannot be closed")
        self._env.close()

    def step(self, actions):
        self._count += 1
        if self._how == "forking":
            os.fork()
        found = self._env.step(actions)
        if self._count == 990 and not self._mark.exists():
            self._mark.touch()
            if self._how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._how == "hung":
                time.sleep(10_000)
            if self._how == "raising":
                raise ValueError("a fault on purpose")
            if self._how == "nan":
                found[0][min(found[0])][0] = float("nan")
        return found

def make(how, mark):
    return Faulty(how, mark)
'''


def environment(work: Path, how: str) -> Outcome:
    """Break an environment: killed, hanging or raising (the run continues), or NaN (it stops)."""
    place = work / f"env-{how}"
    place.mkdir()
    (place / "faulty.py").write_text(FAULTY)
    common = ("--algo=vdn", "--env=faulty:make", "--env_steps=20000", *SMALL)
    common += ("--env_arg=how=" + how, "--env_timeout_seconds=3", "--eval_episodes=8")
    marked = f"--env_arg=mark={place / 'mark'}"
    code, said = end(start(*common, marked, f"--run_dir={place / 'run'}", cwd=place))
    if how == "nan":
        opened = code == 1 and is_one_line(said) and "NaN" in said
        latest = checkpoint.latest(place / "run" / "checkpoints")
        return 1, int(opened and latest is not None), said or f"exit code {code}"
    if code or not (place / "mark").exists():
        return 1, 0, f"exit code {code}: {said[-300:]}"
    # The mark exists, so that the same run has no fault.
    end(start(*common, marked, f"--run_dir={place / 'whole'}", cwd=place))
    found = differs(place / "run", place / "whole")
    return 1, int(not found), found or said.replace("\n", "; ")


def _outlives(pid: str, seconds: float) -> bool:
    """Return whether a process, which its new parent has yet to reap, is there after `seconds`."""
    end = time.monotonic() + seconds
    while there := Path("/proc", pid).exists():
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return there


def process(work: Path, how: str) -> Outcome:
    """Let an environment harm its process; check the line, the exit code and the time."""
    wanted = {
        "stuck": (2, "hung for 20 s while it was built"),
        "crashing": (2, "while it was built; its last output: Fatal"),
        "forking": (2, "step() returned twice: the environment forked"),
        "leaving": (0, ""),
        "locked": (0, ""),
    }
    place = work / f"process-{how}"
    place.mkdir()
    (place / "faulty.py").write_text(FAULTY)
    words = ("--algo=vdn", "--env=faulty:make", "--env_steps=2000", *SMALL, "--eval_episodes=8")
    words += (f"--env_arg=how={how}", f"--env_arg=mark={place / 'mark'}")
    code, said = end(
        start(*words, "--env_timeout_seconds=2", f"--run_dir={place / 'run'}", cwd=place)
    )
    wanted_code, text = wanted[how]
    child = place / "child"
    left = child.exists() and _outlives(child.read_text(), 5.0)
    good = code == wanted_code and text in said and (is_one_line(said) or not text) and not left
    return 1, int(good), said.replace(str(work), "...") or f"exit code {code}, no process left"


def nan_weights(work: Path) -> Outcome:
    """Force NaN into a weight: the run names the term and stops, its last checkpoint opens."""
    folder = work / "nan"
    trained = train("two_step", algo="qmix", env_steps=2000, hidden_size=8, run_dir=folder)
    good = content(folder)[0]
    weights = trained.algorithm.live.trainable_variables[0]
    weights.assign(tf.fill(weights.shape, float("nan")))
    monkey = checkpoint.restore
    try:
        checkpoint.restore = lambda newest, tensors: (
            monkey(newest, tensors),
            tensors.live.trainable_variables[0].assign(tf.fill(weights.shape, float("nan"))),
        )
        resume(folder, env_steps=4000)
        return 1, 0, "the run went on"
    except RunFailedError as error:
        said = str(error)
    finally:
        checkpoint.restore = monkey
    same = all(np.array_equal(x, content(folder)[0][n]) for n, x in good.items())
    load(folder)
    return 1, int(same), said.replace(str(work), "...")


def two_processes(work: Path) -> Outcome:
    """Start two processes on one run folder: the second is refused."""
    folder = work / "two"
    first = start("--algo=vdn", "--env=two_step", "--env_steps=100000000", f"--run_dir={folder}")
    wait((folder / "metrics.csv").exists, first)
    code, said = end(start("--mode=resume", f"--run_dir={folder}"))
    kill(first)
    return 1, int(code == 2 and is_one_line(said)), said.replace(str(work), "...")


def strangers_folder(work: Path, what: str) -> Outcome:
    """Put something else in the place of a file of a run: one line, nothing outside is touched.

    The giant record is cut away, and the run ends.
    """
    folder, letter = work / f"stranger-{what}", work / f"letter-{what}"
    words = {"algo": "vdn", "env": "two_step", "env_steps": 1000, "hidden_size": 8}
    train(run_dir=folder, **words)
    letter.write_text("dear")
    mode = ["--mode=resume", f"--run_dir={folder}", "--env_steps=2000"]
    if what == "link":
        os.link(letter, folder / "metrics.tmp")
    elif what == "pipe":
        (folder / "run.json").unlink()
        os.mkfifo(folder / "run.json")
        mode = ["--mode=evaluate", f"--run_dir={folder}"]
    else:
        (events,) = folder.glob("events.*")
        head = (20_000_000_000).to_bytes(8, "little")
        with events.open("ab") as file:
            file.write(head + bytes.fromhex(GIANT_SUM))
            file.truncate(20_100_000_000)  # holes, which take no disk
    code, said = end(start(*mode))
    if what == "record":
        good = code == 0 and all(p.stat().st_size < 10**6 for p in folder.glob("events.*"))
        return 1, int(good), said or "cut away; the run ended as it must"
    good = code == 2 and is_one_line(said) and letter.read_text() == "dear"
    return 1, int(good), said.replace(str(work), "...")


def replaced(work: Path, what: str) -> Outcome:
    """Replace the folder or its lock while a run trains: one line, nothing is written there."""
    folder = work / f"replaced-{what}"
    words = ("--algo=vdn", "--env=two_step", "--env_steps=100000000", "--log_period_env_steps=1000")
    process = start(*words, f"--run_dir={folder}")
    wait((folder / "metrics.csv").exists, process)
    time.sleep(2.0)
    if what == "folder":
        folder.rename(work / "replaced")
        folder.mkdir()
    else:
        (folder / ".lock").unlink()
    code, said = end(process)
    good = code == 1 and is_one_line(said) and (what == "lock" or not any(folder.iterdir()))
    return 1, int(good), said.replace(str(work), "...")


def soak(work: Path, env_steps: int) -> Outcome:
    """Train simple_spread for long; compare memory, speed and retraces at a fifth and at the end.

    There are many environments and few updates, so that 20M env steps take minutes. Checkpoints
    and reports are those of a run.
    """
    import resource

    from tfmix.config import resolve
    from tfmix.runs.session import Session
    from tfmix.training.trainer import Trainer

    words = {"algo": "qmix", "env": "mpe/simple_spread", "env_steps": env_steps}
    words |= {"n_envs": 64, "updates_per_episode": 1 / 16, "buffer_episodes": 4096}
    words |= {"checkpoint_period_seconds": 10.0, "run_dir": str(work / "soak")}
    settings = resolve.resolve(words)
    trainer = Trainer(open_task(settings))
    (work / "soak").mkdir()
    session = Session(trainer, work / "soak", 0.0, lambda: False)
    marks: list[tuple[float, float]] = []
    for part in range(1, 11):
        before, clock = trainer.env_steps(), time.monotonic()
        goal = env_steps * part // 10
        while trainer.env_steps() < goal:
            trainer.advance(goal)
            if session.saving_is_due():
                session.save()
        pace = (trainer.env_steps() - before) / (time.monotonic() - clock)
        session.report(evaluate=True)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        marks.append((pages * resource.getpagesize() / 2**20, pace))
    traces = trainer.run_iterations.experimental_get_tracing_count()
    session.close()
    (warm, early), (memory, late) = marks[1], marks[-1]
    flat = memory < 1.02 * warm and late > 0.8 * early and traces == 1
    return (
        1,
        int(flat),
        f"{trainer.env_steps():,} env steps, {int(trainer.counters.updates):,} updates: "
        f"{warm:.0f} MB after a fifth, {memory:.0f} MB at the end; {early:,.0f} and {late:,.0f} "
        f"env steps/s; traced {traces} time",
    )


def cost(work: Path, pairs: int = 5, seconds: float = 65.0) -> Outcome:
    """Measure what checkpoints at the default period cost on simple_spread, on and off in turns."""
    from tfmix.config import resolve
    from tfmix.runs.session import Session
    from tfmix.training.trainer import Trainer

    def session_of(name: str, **more: object) -> Session:
        folder = work / name
        words = {"algo": "qmix", "env": "mpe/simple_spread", "env_steps": 10**8, "n_envs": 8}
        settings = resolve.resolve({**words, "run_dir": str(folder), **more})
        trainer = Trainer(open_task(settings))
        folder.mkdir()
        trainer.train_until(20_000)  # compiled and warm
        return Session(trainer, folder, 0.0, lambda: False)

    sides = [session_of("on"), session_of("off", checkpoint_period_seconds=1e9)]
    ratios, saves = [], 0
    for _ in range(pairs):
        paces = []
        for session in sides:
            trainer = session.trainer
            session.saved_at = time.monotonic()
            before, clock = trainer.env_steps(), time.monotonic()
            while time.monotonic() - clock < seconds:
                trainer.advance(10**8)
                if session.saving_is_due():
                    session.save()
                    saves += 1
            paces.append((trainer.env_steps() - before) / (time.monotonic() - clock))
        ratios.append(1 - paces[0] / paces[1])
    ratios.sort()
    return (
        1,
        int(saves >= pairs and ratios[pairs // 2] < 0.03),
        f"median {ratios[pairs // 2]:.1%} slower, {ratios[0]:.1%} to {ratios[-1]:.1%} over {pairs} "
        f"pairs; {saves} checkpoints, the last took {sides[0].save_seconds:.2f} s",
    )


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="names of faults, separated by commas")
    parser.add_argument("--tries", type=int, default=50, help="tries of kill, writing and corrupt")
    parser.add_argument("--jobs", type=int, default=1, help="runs that are killed in parallel")
    parser.add_argument(
        "--env_steps", type=int, default=20_000_000, help="length of the soak in env steps"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the table")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    kills = Kills(work, asked.seed)
    faults: dict[str, tuple[str, Callable[[], Outcome]]] = {
        "kill": ("SIGKILL, then resume", lambda: kills.all(asked.tries, asked.jobs, False)),
        "writing": (
            "SIGKILL while a checkpoint is written",
            lambda: kills.all(asked.tries, asked.jobs, True),
        ),
        "corrupt": (
            "checkpoint damaged, cut or incomplete",
            lambda: corrupt(work, asked.tries, asked.seed),
        ),
        **{
            f"full_{what}": (f"disk full, {what}", lambda what=what: disk_full(work, what))
            for what in ("checkpoint", "metrics", "export")
        },
        **{
            f"env_{how}": (f"environment: {how}", lambda how=how: environment(work, how))
            for how in ("killed", "hung", "raising", "nan")
        },
        **{
            f"process_{how}": (f"environment: {title}", lambda how=how: process(work, how))
            for how, title in (
                ("stuck", "hangs while it is built"),
                ("crashing", "crashes in its first reset"),
                ("forking", "forks and plays on in the child"),
                ("leaving", "leaves a process"),
                ("locked", "close() raises"),
            )
        },
        "nan_weights": ("NaN in a weight", lambda: nan_weights(work)),
        "two": ("two processes on one folder", lambda: two_processes(work)),
        **{
            f"stranger_{what}": (
                f"a stranger's folder: {title}",
                lambda w=what: strangers_folder(work, w),
            )
            for what, title in (
                ("link", "a hard link as metrics.tmp"),
                ("pipe", "a pipe as run.json"),
                ("record", "an events record of 20 GB"),
            )
        },
        **{
            f"replaced_{what}": (
                f"{what} replaced while the run trains",
                lambda w=what: replaced(work, w),
            )
            for what in ("folder", "lock")
        },
        "soak": ("a long run", lambda: soak(work, asked.env_steps)),
        "cost": ("none: what checkpoints cost", lambda: cost(work)),
    }
    chosen = (
        asked.only.split(",") if asked.only else [f for f in faults if f not in ("soak", "cost")]
    )
    for name in chosen:
        if name not in faults:
            parser.error(f"there is no fault {name!r}; there are {', '.join(faults)}")
    table = []
    print("| fault | tries | as it must | |\n|---|---|---|---|", flush=True)
    for name in chosen:
        title, cause = faults[name]
        tries, good, remark = cause()
        table.append({"fault": title, "tries": tries, "good": good, "remark": remark})
        print(f"| {title} | {tries} | {good} | {remark} |", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    if asked.out:
        asked.out.write_text(json.dumps(table, indent=1) + "\n")
    return int(any(row["good"] < row["tries"] for row in table))


if __name__ == "__main__":
    sys.exit(main())
