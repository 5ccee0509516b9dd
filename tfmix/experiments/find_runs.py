"""Finds the run folders that --runs names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfmix.errors import UserError
from tfmix.runs import folders
from tfmix.utils import text

MOST_DEPTH = 8  # levels below a folder in which runs are looked for
MOST_SCANNED = 100_000  # folders and files that are looked at


def find(patterns: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the run folders of folders and globs, each once, by name.

    Args:
      patterns: run folders, folders with runs below them, or globs of such folders, in which
        `**` is any number of levels. A run that a symbolic link leads to as well counts once.

    Raises:
      UserError: one of them names no run.
    """
    if isinstance(patterns, str | os.PathLike):
        patterns = [patterns]
    found: dict[str, Path] = {}
    for pattern in patterns:
        runs = list(_runs_of(pattern, set()))
        if not runs:
            raise UserError(f"no run matches --runs={text.clean(pattern, 300)}: {_why(pattern)}")
        for run in runs:
            real = os.path.realpath(run)
            if os.path.abspath(run) == real or real not in found:  # noqa: PTH100
                found[real] = run
    return sorted(found.values())


def _runs_of(pattern: str | os.PathLike[str], seen: set[Path]) -> Iterator[Path]:
    """Yield the run folders that a pattern names and that are not in `seen`, which grows."""
    for path in _matches(pattern):
        if path.name == "run.json":
            path = path.parent
        if os.path.isdir(path):  # noqa: PTH112 (a name may be too long for a file)
            yield from _below(path, seen, MOST_DEPTH)


def _matches(pattern: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield what a pattern matches: the folder of that name, or else what the glob finds."""
    path = folders.expand(pattern)
    if os.path.isdir(path) or not glob.has_magic(str(path)):  # noqa: PTH112
        yield path
        return
    for number, name in enumerate(glob.iglob(str(path), recursive=True)):  # noqa: PTH207
        if number >= MOST_SCANNED:
            raise UserError(
                f"--runs={text.clean(pattern, 300)} matches more than {MOST_SCANNED:,} files; "
                "name a folder with fewer"
            )
        yield Path(name)


def _below(folder: Path, seen: set[Path], depth: int) -> Iterator[Path]:
    """Yield a folder if it is a run, else the runs below it; skip what is in `seen`."""
    folder = Path(os.path.normpath(folder))
    if folder in seen:
        return
    seen.add(folder)
    if len(seen) > MOST_SCANNED:
        raise UserError(
            f"--runs looks into more than {MOST_SCANNED:,} folders; name one with fewer"
        )
    if os.path.lexists(folder / "run.json"):
        yield folder
    elif depth:
        for inner in folders.folders_in(folder):
            yield from _below(inner, seen, depth - 1)


def _why(pattern: str | os.PathLike[str]) -> str:
    """Return what is wrong with a pattern that names no run."""
    path = folders.expand(pattern)
    if os.path.isdir(path):  # noqa: PTH112
        return "there is no run.json in the folder or below it"
    if os.path.lexists(path):
        return "it is a file; name a run folder, or a folder with runs below it"
    if glob.has_magic(str(path)):
        return "quote the pattern, and let it match run folders or folders with runs below them"
    return "there is no such folder"
