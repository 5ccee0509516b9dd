"""Finds the commands that README and docs show, checks them and runs them with small sizes.

`python benchmarks/book.py --check-commands` parses each command and resolves its settings.
`--run-commands` also runs the commands of main.py in a temporary folder, with a few env steps,
and the examples in Python. It takes minutes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from absl import flags

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:python|make|tfmix(?= --)|\.venv/bin/python) [^`]+)`(?!`)")
STARTS = ("python ", ".venv/bin/python ", "make ", "tfmix --")
# A command with one of these is a form to fill in.
PLACEHOLDERS = ("...", "<", "$", "PATH", "NAME")
# Games that are not installed.
NOT_INSTALLED = ("smac/", "smacv2/", "football/")
SMALL = [
    "--env_steps=120",
    "--buffer_episodes=64",
    "--batch_episodes=4",
    "--eval_episodes=2",
    "--eval_period_env_steps=120",
]
TIMEOUT_SECONDS = 600


class Command(NamedTuple):
    """A command that a page shows.

    Attributes:
      page: the page, from the repository's root.
      parts: the command and its arguments, `python` or `make` first.
    """

    page: str
    parts: tuple[str, ...]


def pages(asked: str = "") -> list[Path]:
    """Return README, CONTRIBUTING and the pages of docs, or those of a comma-separated list."""
    names = [name for name in asked.split(",") if name]
    every = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [path for path in every if not names or path.name in names]


def find(page: Path) -> list[Command]:
    """Return the commands of a page, each once: lines of code blocks and inline code."""
    text = page.read_text(encoding="utf-8")
    lines = []
    for language, block in FENCE.findall(text):
        if language in ("", "sh", "bash", "console"):
            lines += block.replace("\\\n", " ").splitlines()
    lines += [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", text))]
    found = []
    for line in lines:
        line = re.split(r"\s{2,}#", line.strip().removeprefix("$ "))[0].strip()
        if line.startswith(STARTS) and not any(mark in line for mark in PLACEHOLDERS):
            found.append(Command(str(page.relative_to(ROOT)), tuple(shlex.split(line, True))))
    return list(dict.fromkeys(found))


def arguments_of(command: Command) -> list[str] | None:
    """Return what a command gives to main.py, None if it starts something else."""
    first, *rest = command.parts
    if first == "make":
        given = [word.partition("=")[2] for word in rest if word.startswith("ARGS=")]
        return shlex.split(given[0]) if given else None
    if first == "tfmix":
        return rest
    return rest[1:] if rest[:1] == ["main.py"] else None


def check_main(arguments: list[str]) -> None:
    """Parse a command line of main.py and resolve its settings; raise UserError."""
    from tfmix import cli
    from tfmix.cli import words
    from tfmix.config import resolve
    from tfmix.config.schema import FIELDS, Config
    from tfmix.experiments import grid
    from tfmix.runs import requests

    if arguments in (["--help"], ["--version"]):
        return
    values = cli.define(flags.FlagValues())
    given = words.read(arguments, values)
    settings = {name: value for name, value in given.values.items() if name in FIELDS}
    algo, env = settings.get("algo", Config.algo), settings.get("env", Config.env)
    if values.mode == "benchmark":
        rest = {n: v for n, v in settings.items() if n not in ("algo", "env", "run_dir", "seed")}
        seeds = given.values.get("seeds") or [0]
        grid.make(algo, env, seeds, settings.get("run_dir", "runs"), rest, None, given.sources)
    elif values.mode in ("train", "settings") and ":" not in env:
        requests.check_request(settings, given.sources, given.flagfiles)
    elif values.mode != "list":  # the module of a page's example is not there
        resolve.resolve(settings)


def _check_script(words: list[str]) -> str:
    """Return what is wrong with `python <script or -m module> <flags>`, '' for nothing."""
    if words[0] == "-m":
        name = words[1].replace(".", "/")
        known = any((ROOT / end).exists() for end in (f"{name}.py", name))
        return "" if known or words[1] in ("pip", "venv", "build", "pytest") else "no such module"
    script = ROOT / words[0]
    if words[0] in _shown_modules():
        return ""
    if not script.is_file():
        return f"there is no {words[0]}"
    source = "".join(path.read_text() for path in sorted(script.parent.glob("*.py")))
    for word in words[1:]:
        name = re.match(r"--([\w-]+)", word)
        forms = () if name is None else (name[1], name[1].split("_")[0])  # --jaxmarl_python too
        if forms and not any(f'--{form}"' in source or f'"{form}"' in source for form in forms):
            return f"no script there has --{name[1]}"
    return ""


def check(command: Command) -> str:
    """Return what is wrong with a command, '' for nothing."""
    from tfmix.errors import UserError

    try:
        arguments = arguments_of(command)
        if arguments is not None:
            check_main(arguments)
        if command.parts[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            missing = [w for w in command.parts[1:] if "=" not in w and w not in targets]
            return f"the Makefile has no target {missing[0]}" if missing else ""
        return _check_script(list(command.parts[1:])) if arguments is None else ""
    except (UserError, KeyError) as error:
        return str(error)


def small(arguments: list[str]) -> list[str] | None:
    """Return a command line of main.py with small sizes, None for one that is not run."""
    joined = " ".join(arguments)
    if any(f"={name}" in joined or f",{name}" in joined for name in NOT_INSTALLED):
        return None
    mode = re.search(r"--mode=(\w+)", joined)
    name = mode[1] if mode else "train"
    for word in arguments:  # a flagfile may hold the mode
        if word.startswith("--flagfile=") and "--mode=benchmark" in (
            (ROOT / word.partition("=")[2]).read_text()
        ):
            name = "benchmark"
    if name == "benchmark":
        return [*arguments, "--algo=vdn", "--seeds=0:1", "--jobs=1", *SMALL]
    extra = {
        "train": SMALL,
        "resume": ["--env_steps=240"],
        "evaluate": ["--eval_episodes=2"],
    }
    return [*arguments, *extra.get(name, [])] if "--help" not in arguments else arguments


def _shown_modules() -> dict[str, str]:
    """Return the modules that pages show whole, by name: blocks that begin with `# name.py`."""
    blocks = [b for page in pages() for _, b in FENCE.findall(page.read_text(encoding="utf-8"))]
    return {name[1]: b for b in blocks if (name := re.match(r"# (\w+\.py)\n", b))}


def _prepare(folder: Path) -> None:
    """Link the repository into a folder, and write the modules there that the pages show."""
    for name in ("main.py", "flags", "tfmix", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name, text in _shown_modules().items():
        (folder / name).write_text(text)


def run(arguments: list[str], folder: Path) -> str:
    """Run main.py in a folder; return what went wrong, '' for nothing.

    If it reads a run folder that no command before it has made, one of two_step is
    trained there first.
    """
    run_dir = next((w.partition("=")[2] for w in arguments if w.startswith("--run_dir=")), "")
    if re.search(r"--mode=(resume|evaluate|export|watch)", " ".join(arguments)):
        if run_dir and (failed := _need(run_dir, folder)):
            return failed
    elif run_dir:  # another page may have made it
        shutil.rmtree(folder / run_dir, ignore_errors=True)
    return _start(["main.py", *arguments], folder)


def _need(run_dir: str, folder: Path) -> str:
    """Train a run of two_step if `run_dir` is not there; return what went wrong."""
    if (folder / run_dir).exists():
        return ""
    return _start(["main.py", f"--run_dir={run_dir}", "--env=two_step", *SMALL], folder)


def _start(arguments: list[str], folder: Path) -> str:
    """Start Python in a folder; return what went wrong, '' for nothing."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no end in {TIMEOUT_SECONDS} s"
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr[-300:]}"


def examples(page: Path) -> list[str]:
    """Return the Python examples of a page that are run: no module, nothing of pandas."""
    blocks = [b for kind, b in FENCE.findall(page.read_text(encoding="utf-8")) if kind == "python"]
    return [b for b in blocks if not re.match(r"# \w+\.py\n", b) and "import pandas" not in b]


def check_all(asked: str = "", and_run: bool = False) -> int:
    """Check the commands of pages; run those of main.py and Python examples if asked to.

    Args:
      asked: names of pages, separated by commas; all without one.
      and_run: run them too, in a temporary folder.

    Returns:
      the exit code, 1 if a command is wrong.
    """
    found = [command for page in pages(asked) for command in find(page)]
    wrong = [(c.page, shlex.join(c.parts), why) for c in found if (why := check(c))]
    if and_run:
        wrong += _run_all(pages(asked))
    for page, command, reason in wrong:
        print(f"{page}: {command}\n  {reason}")
    print(f"{len(found)} commands, {len(wrong)} wrong")
    return 1 if wrong else 0


def _run_all(chosen: list[Path]) -> list[tuple[str, str, str]]:
    """Run what pages show, each command once.

    Returns:
      page, command and reason of each that fails.
    """
    wrong, done = [], set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        for page in chosen:
            for command in find(page):
                arguments = arguments_of(command)
                sized = small(arguments) if arguments else None
                if sized is None or tuple(sized) in done:
                    continue
                done.add(tuple(sized))
                print(f"python main.py {shlex.join(sized)}", flush=True)
                if reason := run(sized, folder):
                    wrong.append((page.name, shlex.join(command.parts), reason))
            if blocks := examples(page):
                print(f"examples of {page.name}", flush=True)
                if reason := _need("runs/x", folder) or _start(["-c", "\n".join(blocks)], folder):
                    wrong.append((page.name, "its examples in Python", reason))
    return wrong
