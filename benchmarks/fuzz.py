"""Feeds wrong arguments and damaged files to tfmix and reports what happens.

  python benchmarks/fuzz.py
  python benchmarks/fuzz.py --only=arguments --cases=20000 --seed=1
  python benchmarks/fuzz.py --only=run.json,flagfile

arguments  command lines, parsed and checked as by main.py up to the start of a run
processes  command lines as processes of main.py that train a little
run.json, metrics.csv, flagfile, checkpoint
           these files with random bytes, cut short, with flipped bytes, or with other JSON
signed     the same for the tensors of a checkpoint, with checksums that match

Each case must do what it asks for or end with one line: a UserError with exit code 2, or exit
code 1 if a run failed. A traceback, an error without a message of tfmix, a hang and a crash are
failures. Cases depend on a seed. Each kind has a row; the file of `--json` holds the failures and
what reproduces them. The exit code is 1 if there is a failure. The whole takes about ten minutes
on one core, half of them for the processes.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import inspect
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tfmix  # noqa: E402  (before TensorFlow)
from tfmix.utils.quiet import quiet_import  # noqa: E402

quiet_import("tensorflow")

from absl import flags  # noqa: E402

from tfmix import algos, envs, experiments  # noqa: E402
from tfmix import cli as command_line  # noqa: E402
from tfmix.config import parsing, resolve  # noqa: E402
from tfmix.config.modes import MODES  # noqa: E402
from tfmix.config.schema import FIELDS  # noqa: E402
from tfmix.errors import UserError  # noqa: E402
from tfmix.experiments import table  # noqa: E402
from tfmix.experiments.grid import RunSpec  # noqa: E402
from tfmix.monitoring.metrics_csv import COLUMNS, MetricsFile, cut_metrics  # noqa: E402
from tfmix.runs import checkpoint, lifecycle, opening  # noqa: E402
from tfmix.runs.requests import load  # noqa: E402

CASES = {"arguments": 2000, "processes": 40}
FILE_CASES = 200
FILES = ("run.json", "metrics.csv", "flagfile", "checkpoint", "signed")
CASE_SECONDS = 20
PROCESS_SECONDS = 600  # on a core that others use too
SMALL = {"hidden_size": 8, "batch_episodes": 4, "buffer_episodes": 16, "eval_episodes": 2}
GOES_ON, REFUSED = "goes on", "one line"


class ReachedError(BaseException):
    """A request got as far as building the networks; no `except Exception` holds it up."""


class TooLongError(BaseException):
    """A case took longer than `CASE_SECONDS`."""


def _reached(*_: Any, **__: Any) -> None:
    raise ReachedError


def _too_long(*_: Any) -> None:
    raise TooLongError


@contextlib.contextmanager
def stopped_before_training() -> Iterator[None]:
    """Put `ReachedError` in the place of networks, a benchmark's processes and `check_env`."""
    places: list[Any] = [(lifecycle, "Trainer"), (lifecycle, "make_algorithm")]
    places += [(opening, "Trainer"), (experiments, "_benchmark")]
    kept = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, _reached)
    old = signal.signal(signal.SIGALRM, _too_long)
    tfmix.check_env = _reached
    try:
        yield
    finally:
        del tfmix.check_env  # which loads itself again
        for (module, name), one in zip(places, kept, strict=True):
            setattr(module, name, one)
        signal.signal(signal.SIGALRM, old)


# Command lines.

VALUES = (
    *("", " ", "0", "1", "-1", "2", "7", "0.5", "-0.5", "1e-3", "1e3", "1e308", "-1e308", "1e999"),
    *("nan", "inf", "-inf", "NaN", "Infinity", "true", "false", "True", "yes", "none", "None"),
    *("null", "[]", "{}", "[1,2]", "[[1,2],[3]]", '{"a": 1}', "'", '"', "--", "-", "=", "==", ","),
    *(":", "::", "/", "//", "..", ".", "~", "*", "%s", "{}", "\\", "a b", "a\nb", "\t", "\r\n"),
    *("é", "日本", "\U0001f40d", "١٢", "²", "\u202e", "\udcff", "0x10", "1_000", "1,000", "+1"),
    *("9" * 19, "9" * 20, "9" * 40, "9" * 400, "9" * 5000, "-" + "9" * 30, "x" * 5000, "1.5.2"),
    *(
        "1000000",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "1e18",
        "0:3",
    ),
    *("0:99999999999", "-9999999999:0", "[" * 5000, "[" * 60_000 + "]" * 60_000, "1" * 60_000),
)
NAMES = (
    *envs.GRAPH,
    *envs.PYTHON,
    *(f"{prefix}/" for prefix in envs.PYTHON),
    *("pettingzoo/pettingzoo.mpe.simple_spread_v3", "pettingzoo/pettingzoo.mpe", "pettingzoo/..x"),
    *("gymnasium/Foraging-5x5-2p-1f-v3", "gymnasium/CartPole-v1", "gymnasium/x:y", "gymnasium/:"),
    *("pymarl/json:JSONDecoder", "pymarl/json", "json:loads", "json:nothing", "no.such:thing"),
    *("math:pi", "smac/3m", "football/x", "custom/Own", "two_step ", "TWO_STEP", "matrix/penalty"),
)
ARGUMENTS = (
    *("n", "payoff", "punishment", "size", "name", "team_reward", "spec", "self", "peaks", "batch"),
    *("n_agents", "n_prey", "max_cycles", "seed", "k", "", "1", "é"),
)


def typo(word: str, dice: random.Random) -> str:
    """Return `word` with a letter lost, doubled, swapped or changed."""
    if not word:
        return word
    at = dice.randrange(len(word))
    changed = ("", word[at] * 2, dice.choice("_-=. xé"), word[at].upper())
    return word[:at] + dice.choice(changed) + word[at + 1 :]


def fitting(name: str, dice: random.Random) -> str:
    """Return a value that a setting allows, mostly."""
    field = FIELDS[name]
    meta, default = field.metadata, field.default
    if "choices" in meta:
        return dice.choice(meta["choices"])
    if name == "algo":
        return dice.choice(list(algos.REGISTRY))
    if name == "env":
        return dice.choice((*NAMES, *envs.GRAPH))
    if name == "env_arg":
        return f"{dice.choice(ARGUMENTS)}={dice.choice(VALUES)}"
    if isinstance(default, bool):
        return dice.choice(("true", "false"))
    low, high = meta.get("low", 0), meta.get("high", 100)
    if isinstance(default, int):
        return str(dice.randint(low, min(high, max(100, low))))
    if isinstance(default, float):
        return repr(dice.uniform(low, min(high, 100.0)))
    return dice.choice(("", "x", "no/such", "é"))


def argument_of_any_kind(dice: random.Random, files: list[Path]) -> str:
    """Return one argument of a command line."""
    name = dice.choice(list(FIELDS))
    kind = dice.random()
    if kind < 0.45:
        return f"--{name}={fitting(name, dice)}"
    if kind < 0.70:
        return f"{dice.choice(('--', '--', '-'))}{name}={dice.choice(VALUES)}"
    if kind < 0.76:
        return f"--{typo(name, dice)}={fitting(name, dice)}"
    if kind < 0.80:
        return f"--no{name}"
    if kind < 0.83:
        return f"--{name}"
    if kind < 0.87:
        return f"--env_arg={dice.choice(ARGUMENTS)}={dice.choice(VALUES)}"
    if kind < 0.90:
        return f"--flagfile={dice.choice([*files, *VALUES])}"
    if kind < 0.93:
        return f"--{dice.choice(('seeds', 'jobs', 'debug', 'undefok'))}={dice.choice(VALUES)}"
    if kind < 0.95:
        return f"--mode={dice.choice([*MODES, *VALUES])}"
    return dice.choice(VALUES)


def argued(dice: random.Random) -> list[str]:
    """Return a graph environment with arguments that it takes and values that it may not take."""
    name = dice.choice(list(envs.GRAPH))
    module, function, _ = envs.GRAPH[name]
    build = getattr(importlib.import_module(module), function)
    takes = [p for p in inspect.signature(build).parameters if p not in ("name", "team_reward")]
    arguments = [f"--env={name}"]
    for argument in dice.sample(takes, dice.randint(0, len(takes))):
        value = dice.choice((*VALUES, "[[1,2],[3,4]]", "3", "10", "[[8,1.5],[4,0.5]]"))
        arguments.append(f"--env_arg={argument}={value}")
    return arguments


def command(dice: random.Random, files: list[Path], folders_: list[Path]) -> list[str]:
    """Return a command line; most arguments fit, and two in five lines have no wild one."""
    wild = dice.choice((0, 0, 1, 1, 4))  # arguments of any kind; each of the others fits
    arguments = [argument_of_any_kind(dice, files) for _ in range(wild)]
    chosen = dice.sample(list(FIELDS), dice.randint(0, 6))
    arguments += [f"--{name}={fitting(name, dice)}" for name in chosen]
    if dice.random() < 0.5:
        arguments += argued(dice)
    mode = dice.choice([*MODES])
    if dice.random() < 0.3:
        arguments.append(f"--mode={mode}")
        if mode not in ("train", "list", "benchmark"):
            arguments = [w for w in arguments if dice.random() < 0.3] + [f"--mode={mode}"]
            arguments.append(f"--run_dir={dice.choice([*folders_, *VALUES])}")
    if dice.random() < 0.01:
        arguments.append(dice.choice(("--help", "-h", "-help", "--helpfull")))
    dice.shuffle(arguments)
    return [w for w in arguments if "\0" not in w]  # which no system hands over


def fault_in(arguments: list[str], out: str, err: str, code: int) -> str:
    """Return what is wrong with how a command line ended, or nothing."""
    if "Traceback" in err and any(word.startswith("--debug") for word in arguments):
        err = err[err.rindex("\ntfmix: ") + 1 :]  # it was asked for
    lines = [
        line
        for line in err.splitlines()
        if " env steps, " not in line and not line.endswith(" ...")
    ]
    if "Traceback" in err:
        return f"traceback: {lines[-1]}"
    if code == 0 or (code == command_line.RUN_FAILED and out and not lines):  # what check_env found
        return "" if not lines else f"output besides success: {lines[0]}"
    if code not in (command_line.RUN_FAILED, command_line.WRONG_REQUEST):
        return f"exit code {code}"
    if len(lines) != 1 or not lines[0].startswith("tfmix: "):
        return f"{len(lines)} lines on standard error: {lines[:3]}"
    if "(--debug shows where)" in lines[0]:
        return f"an error without a message of tfmix: {lines[0]}"
    if code == command_line.WRONG_REQUEST and out:
        return f"a wrong request, and yet it printed {out[:80]!r}"
    return ""


def judge_arguments(arguments: list[str]) -> str:
    """Run a command line with main.py's `main` and return the outcome."""
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(CASE_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command_line.main(arguments)
    except ReachedError:
        return GOES_ON
    except TooLongError:
        return f"no end in {CASE_SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if code == command_line.RUN_FAILED and err.getvalue():
        return f"a run that never began failed: {err.getvalue().strip()}"
    return fault_in(arguments, out.getvalue(), err.getvalue(), code) or (
        REFUSED if code else GOES_ON
    )


def flagfiles(folder: Path) -> list[Path]:
    """Write flagfiles of all sorts, some of which include themselves."""
    texts = {
        "good": "# x\n--gamma=0.5\n\n--hidden_size=8\n",
        "wrong": "--gamma=2\n",
        "stray": "gamma\n",
        "self": f"--flagfile={folder / 'self'}\n",
        "two": f"--flagfile={folder / 'three'}\n",
        "three": f"--flagfile={folder / 'two'}\n--seed=1\n",
        "missing": "--flagfile=/no/such/file\n",
        "comment": "--seed=1 # one\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "bytes").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir(exist_ok=True)
    known = sorted(parsing.FLAGS_FOLDER.rglob("*.flags"))
    return [*(folder / n for n in (*texts, "bytes", "folder", "none")), *known]


def fuzz_arguments(cases: int, dice: random.Random, folder: Path) -> list[tuple[Any, str]]:
    """Try command lines in this process."""
    files, found = flagfiles(folder), []
    seen = [small_run(folder / "run"), folder / "folder", folder / "none"]
    here = Path.cwd()
    os.chdir(folder)
    try:
        with stopped_before_training():
            for _ in range(cases):
                arguments = command(dice, files, seen)
                found.append((arguments, judge_arguments(arguments)))
    finally:
        os.chdir(here)
    return found


def fuzz_processes(cases: int, dice: random.Random, folder: Path) -> list[tuple[Any, str]]:
    """Try command lines as processes."""
    files, found = flagfiles(folder), []
    seen = [small_run(folder / "run"), folder / "none"]
    for number in range(cases):
        # Those of a benchmark or a resumed run would take as long as they ask for.
        arguments = [
            w for w in command(dice, files, seen) if w not in ("--mode=benchmark", "--mode=resume")
        ]
        # Most train a little; a setting that is typed twice has the later value.
        if not any("mode" in w or "help" in w for w in arguments):
            few = {**SMALL, "env_steps": 30, "n_envs": 2, "run_dir": folder / str(number)}
            arguments += [f"--{k}={v}" for k, v in few.items()]
        try:
            done = subprocess.run(
                [sys.executable, str(ROOT / "main.py"), *map(os.fsencode, arguments)],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROCESS_SECONDS,
            )
        except subprocess.TimeoutExpired:
            found.append((arguments, f"no end in {PROCESS_SECONDS} s"))
            continue
        outcome = fault_in(arguments, done.stdout, done.stderr, done.returncode)
        found.append((arguments, outcome or (REFUSED if done.returncode else GOES_ON)))
    return found


# Files.


def small_run(folder: Path) -> Path:
    """Return a run folder of a few seconds' training."""
    if not folder.exists():
        tfmix.train("two_step", algo="vdn", env_steps=64, n_envs=2, run_dir=folder, **SMALL)
    return folder


JSONS: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**30, "", "x", [], {}, [[]], {"a": {}}, "\udcff", 1e308),
    *(float("nan"), float("inf"), "two_step", "json:loads", "../..", 2**31, 2**63, [1, "2"]),
)


def other_json(whole: bytes, dice: random.Random) -> bytes:
    """Return the JSON in `whole` with a value somewhere in it changed for another."""
    if dice.random() < 0.1:
        return json.dumps(dice.choice(JSONS)).encode()
    if dice.random() < 0.05:
        return b"[" * 100_000
    found = json.loads(whole)
    place, value = found, found
    while isinstance(value, dict | list) and value and (place is value or dice.random() < 0.8):
        place = value
        key = dice.choice(list(place)) if isinstance(place, dict) else dice.randrange(len(place))
        value = place[key]
    if isinstance(place, dict) and dice.random() < 0.2:
        del place[key]
    else:
        place[key] = dice.choice(JSONS)
    return json.dumps(found).encode()


def damaged(whole: bytes, dice: random.Random, is_json: bool = False) -> bytes:
    """Return `whole` with some damage."""
    kind = dice.randrange(6 if is_json else 4)
    if kind == 0:
        return dice.randbytes(dice.choice((0, 1, 10, 1000, 100_000)))
    if kind == 1:
        return whole[: dice.randrange(len(whole) + 1)]
    non_finite = bytearray(whole)
    if kind in (2, 3):
        for _ in range(dice.choice((1, 1, 2, 10, 100))):
            if kind == 2:
                non_finite[dice.randrange(len(non_finite))] ^= 1 << dice.randrange(8)
            else:
                at = dice.randrange(len(non_finite))
                non_finite[at : at + dice.randrange(8)] = dice.randbytes(dice.randrange(8))
                non_finite = non_finite or bytearray(b"0")
        return bytes(non_finite)
    return other_json(whole, dice)


Act = Callable[[], object]


def judge(act: Act) -> str:
    """Return the outcome of an action on damaged files."""
    printed = io.StringIO()
    signal.alarm(CASE_SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            act()
    except ReachedError:
        return GOES_ON
    except UserError as error:
        return REFUSED if len(str(error).splitlines()) == 1 else f"many lines: {error}"
    except TooLongError:
        return f"no end in {CASE_SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    return GOES_ON


class Damage:
    """A whole run folder, copies of which are damaged.

    Args:
      folder: where all of it is.
      dice: decides what is done.
    """

    def __init__(self, folder: Path, dice: random.Random):
        self.whole, self.copy, self.dice = small_run(folder / "whole"), folder / "copy", dice
        self.trainer = tfmix.load(self.whole).trainer
        self.cell = RunSpec(self.trainer.config, ())

    def fresh(self, *keep: str) -> None:
        """Return a copy of what is named."""
        shutil.rmtree(self.copy, ignore_errors=True)
        self.copy.mkdir()
        for name in keep:
            source = self.whole / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.copy / name)

    def spoil(self, file: Path, is_json: bool = False) -> bytes:
        """Damage a file and return its new content."""
        content = damaged(file.read_bytes(), self.dice, is_json)
        file.write_bytes(content)
        return content

    def run_json(self) -> tuple[bytes, Act]:
        """Open a run with another run.json, up to its networks."""
        self.fresh("run.json", "checkpoints")
        content = self.spoil(self.copy / "run.json", True)

        def act() -> None:
            with stopped_before_training():
                signal.alarm(CASE_SECONDS)
                load(self.copy)

        return content, act

    def metrics_csv(self) -> tuple[bytes, Act]:
        """Read metrics.csv as a benchmark does, then cut it and append to it as resuming does."""
        self.fresh("metrics.csv")
        path = self.copy / "metrics.csv"
        content = self.spoil(path)
        object.__setattr__(self.cell.config, "run_dir", str(self.copy))

        def act() -> None:
            table.row_of(self.cell)
            cut_metrics(path, 30)
            file = MetricsFile(path, list(COLUMNS))
            file.write(dict.fromkeys(COLUMNS, 31))
            file.close()
            assert table.row_of(self.cell)["env_steps"] == 31, "the new row is not read back"

        return content, act

    def flagfile(self) -> tuple[bytes, Act]:
        """Read a damaged flagfile."""
        self.fresh()
        path = self.copy / "x.flags"
        known = sorted(parsing.FLAGS_FOLDER.rglob("*.flags"))
        path.write_bytes(self.dice.choice(known).read_bytes())
        content = self.spoil(path)
        return content, lambda: resolve.resolve(
            {
                k: v
                for k, v in parsing.parse(
                    [f"--flagfile={path}"], command_line.define(flags.FlagValues())
                ).items()
                if k in FIELDS
            }
        )

    def checkpoint(self, signed: bool = False) -> tuple[bytes, Act]:
        """Open a damaged checkpoint, the only one there is."""
        self.fresh("checkpoints")
        newest = checkpoint.saved(self.copy / "checkpoints")[-1]
        files = sorted(newest.iterdir())
        if signed:
            files = [file for file in files if file.name != checkpoint.MANIFEST]
        file = self.dice.choice(files)
        content = self.spoil(file, file.name == checkpoint.MANIFEST)
        if signed:
            sums = {f.name: checkpoint._sha256(f) for f in files}
            text = json.dumps({"env_steps": 64, "seconds": 1.0, "sha256": sums})
            (newest / checkpoint.MANIFEST).write_text(text)

        def act() -> None:
            found = checkpoint.latest(self.copy / "checkpoints")
            assert found is not None, "no checkpoint is seen at all"
            checkpoint.restore(found, self.trainer.tensors)
            checkpoint.seconds_of(found)

        return file.name.encode() + b"\n" + content, act

    def signed(self) -> tuple[bytes, Act]:
        """Return a checkpoint whose checksums fit, as one that somebody made on purpose."""
        return self.checkpoint(signed=True)


def fuzz_files(
    kind: str, cases: int, dice: random.Random, folder: Path, log: Path | None = None
) -> list[tuple[Any, str]]:
    """Try damaged files of one kind; `log` gets each case before it is tried."""
    damage, found = Damage(folder, dice), []
    signal.signal(signal.SIGALRM, _too_long)
    make = getattr(damage, kind.replace(".", "_"))
    for _ in range(cases):
        content, act = make()
        if log:
            log.write_bytes(content)
        found.append((content, judge(act)))
    return found


def in_child(kind: str, cases: int, seed: str, folder: Path) -> list[tuple[Any, str]]:
    """Run `fuzz_files` in a child process, whose crash is one more outcome."""
    log, result = folder / "last", folder / "result.json"
    code = (
        "import json, random, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from benchmarks import fuzz; kind, cases, seed, folder = sys.argv[2:];"
        "folder = Path(folder);"
        "found = fuzz.fuzz_files(kind, int(cases), random.Random(seed), folder, folder / 'last');"
        "found = [(c.hex(), o) for c, o in found];"
        "(folder / 'result.json').write_text(json.dumps(found))"
    )
    arguments = [sys.executable, "-c", code, str(ROOT), kind, str(cases), seed, str(folder)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        content = log.read_bytes() if log.exists() else b""
        return [(content, f"the process ended with {done.returncode}: {done.stderr[-400:]}")]
    return [(bytes.fromhex(c), o) for c, o in json.loads(result.read_text())]


def as_json(case: Any) -> Any:
    """Return a case for the JSON file."""
    return case if isinstance(case, list) else base64.b64encode(case[:20_000]).decode()


def fuzz(kind: str, cases: int, seed: str) -> list[tuple[Any, str]]:
    """Try all cases of a kind and record their outcomes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "arguments":
            return fuzz_arguments(cases, random.Random(seed), folder)
        if kind == "processes":
            return fuzz_processes(cases, random.Random(seed), folder)
        return in_child(kind, cases, seed, folder)


def main() -> None:
    """Print one row per kind."""
    kinds = [*CASES, *FILES]
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--only", default=",".join(kinds), help="kinds, separated by commas")
    arguments.add_argument("--cases", type=int, help="number of cases of each kind")
    arguments.add_argument("--seed", default="0")
    arguments.add_argument("--json", default="runs/fuzz.json", help="file for the failures")
    asked = arguments.parse_args()
    print("| kind | cases | went on | one line | failed |\n|---|---|---|---|---|", flush=True)
    failures: dict[str, list[Any]] = {}
    path = Path(asked.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind in asked.only.split(","):
        cases = asked.cases or CASES.get(kind, FILE_CASES)
        found = fuzz(kind, cases, f"{kind} {asked.seed}")
        bad = [(case, outcome) for case, outcome in found if outcome not in (GOES_ON, REFUSED)]
        count = Counter(outcome for _, outcome in found)
        good = f"{count[GOES_ON]} | {count[REFUSED]}"
        print(f"| {kind} | {len(found)} | {good} | {len(bad)} |", flush=True)
        failures[kind] = [{"outcome": outcome, "case": as_json(case)} for case, outcome in bad]
        # After every kind, so that a later crash does not lose what was found.
        path.write_text(json.dumps({"seed": asked.seed, "failures": failures}, indent=1) + "\n")
    sys.exit(int(any(failures.values())))


if __name__ == "__main__":
    main()
