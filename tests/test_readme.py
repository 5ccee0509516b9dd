"""The README shows only what works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from absl import flags

from tfmix import cli
from tfmix.config import parsing, resolve
from tfmix.config.schema import FIELDS
from tfmix.experiments import grid

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_python_examples_run_as_printed(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[0]) == 7.0


def test_command_lines_are_understood():
    lines = re.findall(r"^(?:\.venv/bin/)?python (main\.py .*?)(?:  +#.*)?$", TEXT, re.MULTILINE)
    lines += [f"main.py {words}" for words in re.findall(r'make train ARGS="([^"]*)"', TEXT)]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line)[1:]
        if words == ["--help"]:
            continue
        given = parsing.parse(words, cli.define(flags.FlagValues()))
        settings = {name: value for name, value in given.items() if name in FIELDS}
        if given.get("mode") == "benchmark":
            algos, envs, run_dir = (settings.pop(name) for name in ("algo", "env", "run_dir"))
            grid.make(algos, envs, given["seeds"], run_dir, settings)
        else:
            resolve.resolve(settings)


def test_files_that_are_named_exist():
    named = re.findall(r"\]\(([\w./-]+)\)", TEXT) + re.findall(r"`((?:tfmix|flags)/[\w./]+)`", TEXT)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
