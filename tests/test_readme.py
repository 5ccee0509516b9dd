"""The README shows only what works."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import commands

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
    assert "7.0" in done.stdout.splitlines()  # after the first lines of the training


def test_readme_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_command_lines_are_understood():
    found = [c for c in commands.find(ROOT / "README.md") if commands.arguments_of(c) is not None]
    assert len(found) >= 8
    assert not [(c, wrong) for c in found if (wrong := commands.check(c))]


def test_files_that_are_named_exist():
    named = re.findall(r"\]\(([\w./-]+)\)", TEXT) + re.findall(r"`((?:tfmix|flags)/[\w./]+)`", TEXT)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def test_make_alone_says_what_there_is_and_starts_nothing(tmp_path):
    shown = subprocess.run(
        ["make", "-C", str(ROOT)], capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "make train" in shown and "pip" not in shown
    assert targets - {"help"} == set(re.findall(r"make (\S+)", shown)) & targets
