"""Run folders: how they are named and what their run.json says."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tfmix import checkpoint, config
from tfmix.config import Config, UserError
from tfmix.types import TEAM_REWARD, EnvSpec

FORMAT = 1  # of run.json
LOCK = ".lock"


def safe(name: str) -> str:
    """`name` as a part of a path: characters outside of A-Z a-z 0-9 . _ - become _."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


class RunFile(NamedTuple):
    """A run.json: the settings, the task, and all of it as it stands there."""

    config: Config
    spec: EnvSpec
    about: dict[str, Any]


def _spec_of(stored: dict[str, Any]) -> EnvSpec:
    """A task's shape as run.json holds it.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    fields = {f.name: str(f.type) for f in dataclasses.fields(EnvSpec)}
    spec = {name: value for name, value in stored.items() if name in fields}
    own = spec["agent_n_actions"] = tuple(spec["agent_n_actions"])
    for name, value in spec.items():
        kind = {"int": int, "str": str}.get(fields[name], tuple)
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**31):
            raise ValueError(f"the task's {name} is {value!r}")
    found = EnvSpec(**spec)
    fits = all(type(n) is int and 0 < n <= found.n_actions for n in own)
    if not (own and fits) or len(own) != found.n_agents or found.team_reward not in TEAM_REWARD:
        raise ValueError("the task's agents, actions or reward do not fit together")
    return found


def read(folder: str | os.PathLike[str]) -> RunFile:
    """The run.json of a run folder.

    Raises:
      UserError: there is no run, or its run.json cannot be read.
    """
    path = Path(folder)
    try:
        about = json.loads((path / "run.json").read_text())
        if about["format"] > FORMAT:
            raise UserError(
                f"{path} was written by a newer tfmix ({about['versions']['tfmix']}); update tfmix"
            )
        return RunFile(config.from_dict(about["config"]), _spec_of(about["spec"]), about)
    except FileNotFoundError as error:
        raise UserError(f"there is no run in {path}: it has no run.json") from error
    except OSError as error:
        raise UserError(f"cannot read {path / 'run.json'}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path / 'run.json'} is damaged: {error}") from error


def refuse_links(folder: Path) -> None:
    """A run is gone on with in files of its own: a link may lead to anything else's.

    Raises:
      UserError: there are symbolic links below `folder` (which may be one itself).
    """
    if link := min(filter(Path.is_symlink, folder.rglob("*")), default=None):
        raise UserError(
            f"{link} is a symbolic link, and a run is not resumed through one: put what it "
            "leads to in its place"
        )


def is_finished(folder: Path, env_steps: int) -> bool:
    """Returns whether a run came to its end at `env_steps`: trained, saved and exported.

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
    """Holds a folder, which is made where it does not stand; yields the lock's file descriptor.

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
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder} is in use: {in_use}") from error
        yield file.fileno()
