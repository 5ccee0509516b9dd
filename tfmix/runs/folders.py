"""Run folders: how they are named and what their run.json says."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.errors import RunFailedError, UserError
from tfmix.runs import checkpoint
from tfmix.types import TEAM_REWARD, EnvSpec
from tfmix.utils import files, text

FORMAT = 1  # of run.json
LOCK = ".lock"
MOST_NAME = 500  # characters of a task's name, which is printed


def safe(name: str) -> str:
    """`name` as a part of a path: characters outside of A-Z a-z 0-9 . _ - become _."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


class RunFile(NamedTuple):
    """A run.json: the settings, the task, and all of it as it stands there."""

    config: Config
    spec: EnvSpec
    about: dict[str, Any]


def _spec_of(stored: dict[str, Any]) -> EnvSpec:
    """Return a task's shape as run.json holds it.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    fields = {f.name: str(f.type) for f in dataclasses.fields(EnvSpec)}
    spec = {name: value for name, value in stored.items() if name in fields}
    own = spec["agent_n_actions"] = tuple(spec["agent_n_actions"])
    for name, value in spec.items():
        kind = {"int": int, "str": str}.get(fields[name], tuple)
        least = 0 if name in ("obs_size", "state_size") else 1
        if type(value) is not kind or (isinstance(value, int) and not least <= value < 2**31):
            raise ValueError(f"the task's {name} is {text.clean(value, 60)}")
    found = EnvSpec(**spec)
    fits = all(type(n) is int and 0 < n <= found.n_actions for n in own)
    if not (own and fits) or len(own) != found.n_agents or found.team_reward not in TEAM_REWARD:
        raise ValueError("the task's agents, actions or reward do not fit together")
    _check_name("name", found.name)
    _check_name("version", found.version)
    return found


def _check_name(what: str, name: str) -> None:
    """Raise ValueError where a name cannot be printed as it is."""
    if not name.isprintable() or len(name) > MOST_NAME:
        raise ValueError(f"the task's {what} is {text.clean(name, 60)}, which is no name")


def read(folder: str | os.PathLike[str]) -> RunFile:
    """Read the run.json of a run folder.

    Raises:
      UserError: there is no run, or its run.json cannot be read.
    """
    path = Path(folder)
    try:
        about = files.read_json(files.read_text(path / "run.json"))
        if about["format"] > FORMAT:
            newer = text.clean(about["versions"]["tfmix"], 40)
            raise UserError(f"{path} was written by a newer tfmix ({newer}); update tfmix")
        found = RunFile(resolve.from_dict(about["config"]), _spec_of(about["spec"]), about)
        _check_name("name", found.config.env)
        return found
    except UserError as error:
        raise UserError(text.clean(error)) from error
    except FileNotFoundError as error:
        raise UserError(f"there is no run in {path}: it has no run.json") from error
    except OSError as error:
        raise UserError(f"cannot read {path / 'run.json'}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path / 'run.json'} is damaged: {text.clean(error, 200)}") from error


def refuse_links(folder: Path, to_write: bool = False) -> None:
    """Refuse a folder in which something is not a plain file or folder.

    A symbolic link may lead to anything else's file, and to open a pipe may
    wait for ever. The folder itself may be a link.

    Args:
      folder: a run's.
      to_write: refuse hard links too, through which a file elsewhere would be written.

    Raises:
      UserError: there is one; the first by name is named.
    """
    use = "resumed" if to_write else "opened"
    found: dict[Path, str] = {}
    try:
        for path, about in files.entries(folder):
            kind = files.kind_of(about)
            if kind == "a symbolic link":
                advice = f"a run is not {use} through one: put what it leads to in its place"
                found[path] = f"{kind}, and {advice}"
            elif kind and kind != "a folder":
                found[path] = f"{kind}, and no run has one: remove it"
            elif to_write and not kind and about.st_nlink > 1:
                found[path] = f"a hard link, and a run is not {use} through one: put a copy there"
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}") from error
    if found:
        first = min(found)
        raise UserError(f"{first} is {found[first]}")


def is_finished(folder: Path, env_steps: int) -> bool:
    """Return whether a run came to its end at `env_steps`: trained, saved and exported.

    A training writes into run.json where it ended once its export is made. A
    folder of an earlier tfmix lacks that: there the export must be newer than the
    last checkpoint, for --mode=export makes one of an unfinished run too.
    """
    export, newest = folder / "export", _newest(folder / "checkpoints")
    if not newest or newest[1] < env_steps or not export.is_dir():
        return False
    try:
        about = read(folder).about
    except UserError:
        return False
    if "finished" not in about:
        return export.stat().st_mtime >= newest[0].stat().st_mtime
    return type(about["finished"]) is int and about["finished"] >= env_steps


def _newest(checkpoints: Path) -> tuple[Path, int] | None:
    """The newest checkpoint that has a manifest and its files, and the manifest's env steps."""
    for found in reversed(checkpoint.saved(checkpoints)):
        with contextlib.suppress(OSError, ValueError, RecursionError, UserError):
            manifest = checkpoint.read_manifest(found)
            whole = all((found / Path(name).name).is_file() for name in manifest["sha256"])
            if whole and type(manifest.get("env_steps")) is int:
                return found, manifest["env_steps"]
    return None


@contextlib.contextmanager
def locked(folder: Path, in_use: str) -> Iterator[int]:
    """Hold a folder, which is made where there is none; yields the lock's file descriptor.

    Processes that inherit it hold the folder too. A lock ends with the last of
    its processes, however they end.

    Args:
      folder: a run's, or a benchmark's.
      in_use: who may be there, for the error.

    Raises:
      UserError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = files.open_own(folder / LOCK, os.O_RDWR)
    except OSError as error:
        raise UserError(f"cannot write to {error.filename or folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder} is in use: {in_use}") from error
        if not _is_still(folder / LOCK, lock):  # removed or replaced before it was locked
            raise UserError(f"{folder} is in use: {in_use}")
        yield lock
    finally:
        os.close(lock)


def _is_still(path: Path, handle: int) -> bool:
    """Whether `path` names the file or folder that is open as `handle`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


class FolderGuard:
    """A run's folder and its lock as they are now, to notice when others take their names.

    Both are kept open: the system gives a number of a file that is gone to
    another one, but not while it is open.

    Args:
      folder: the run's.

    Raises:
      OSError: the folder cannot be opened.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._open = {folder: os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}
        with contextlib.suppress(FileNotFoundError):  # a session that nobody locked
            self._open[folder / LOCK] = os.open(
                folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )

    def check(self) -> None:
        """Raise RunFailedError where the folder or its lock is gone or another."""
        for path, handle in self._open.items():
            if not _is_still(path, handle):
                raise RunFailedError(
                    f"{path} was removed or renamed while its run trained; nothing was written "
                    "there since, and the checkpoints in the run's own folder are whole"
                )

    def close(self) -> None:
        """Close what was kept open."""
        while self._open:
            os.close(self._open.popitem()[1])
