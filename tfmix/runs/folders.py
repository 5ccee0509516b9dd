"""Names, reads, checks and locks run folders."""

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
from tfmix.envs.agents import default_shapes
from tfmix.envs.metrics import check_names
from tfmix.errors import RunFailedError, UserError
from tfmix.runs import checkpoint
from tfmix.types import TEAM_REWARD, AgentShape, EnvSpec
from tfmix.utils import files, text

FORMAT = 1  # of run.json
LOCK = ".lock"
# Where runs below a folder are looked for: levels, and folders in all.
MAX_DEPTH, MAX_SCANNED = 3, 2_000
MAX_BELOW = 5  # of the runs below a folder, those that an error names
MAX_NAME = 500  # characters of a task's name, which is printed


def safe(name: str) -> str:
    """Return `name` as a part of a path: characters outside of A-Z a-z 0-9 . _ - become _."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def expand(folder: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, with `~` at its start as the user's home.

    Raises:
      UserError: there is no such user.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise UserError(f"{folder}: {error}") from error


def flagfiles_of(folder: Path) -> list[str]:
    """Return the names of the flagfiles that a run's run.json lists; older ones list none."""
    found = read(folder).about.get("flagfiles")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def metric_names_of(folder: Path) -> tuple[str, ...]:
    """Return the names of the environment's metrics in a run.json; older ones have none.

    Raises:
      UserError: as `read`, or they are not names.
    """
    try:
        return check_names(read(folder).about.get("metrics", []))
    except ValueError as error:
        raise UserError(
            f"{folder / 'run.json'} is damaged: metrics: {text.clean(error, 200)}"
        ) from error


def agents_of(folder: Path) -> tuple[AgentShape, ...]:
    """Return the agents that a run's run.json lists; older ones list none and get default names.

    Raises:
      UserError: as `read`, or they do not fit the task.
    """
    found = read(folder)
    spec, listed = found.spec, found.about.get("agents")
    if not listed:
        return default_shapes(spec.n_agents, spec.obs_size)
    try:
        agents = tuple(AgentShape(**agent) for agent in listed)
        names = {agent.name for agent in agents if type(agent.name) is str}
        sizes = [agent.obs_size for agent in agents]
        if not len(names) == len(agents) == spec.n_agents:
            raise ValueError(f"they are not {spec.n_agents} agents with different names")
        if not all(type(size) is int and 0 <= size <= spec.obs_size for size in sizes):
            raise ValueError("the size of an observation does not fit the task")
        for name in names:
            _check_name("agent", name)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{folder / 'run.json'} is damaged: agents: {text.clean(error, 200)}"
        ) from error
    return agents


class RunFile(NamedTuple):
    """Contents of a run.json.

    Attributes:
      config: the settings.
      spec: the task's shape.
      about: the whole JSON object.
    """

    config: Config
    spec: EnvSpec
    about: dict[str, Any]


def _spec_of(stored: dict[str, Any]) -> EnvSpec:
    """Return the task's shape that run.json holds.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: it is not a valid shape.
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
    """Raise ValueError if a name is not printable or too long."""
    if not name.isprintable() or len(name) > MAX_NAME:
        raise ValueError(
            f"the task's {what} is {text.clean(name, 60)}, which is not printable or has more "
            f"than {MAX_NAME} characters"
        )


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
        raise UserError(f"there is no run in {path}: {_below(path)}") from error
    except OSError as error:
        raise UserError(f"cannot read {path / 'run.json'}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path / 'run.json'} is damaged: {text.clean(error, 200)}") from error


def refuse_links(folder: Path, to_write: bool = False) -> None:
    """Refuse a run folder that holds anything but regular files and folders.

    A symbolic link may lead to a file outside of the folder, and opening a pipe may
    block for ever. The folder itself may be a link.

    Args:
      folder: the run folder.
      to_write: refuse hard links too, because writing through one changes a file that
        also exists elsewhere.

    Raises:
      UserError: the folder holds one; the message names the first in the order of names.
    """
    use = "resumed" if to_write else "opened"
    found: dict[Path, str] = {}
    try:
        for path, about in files.entries(folder):
            kind = files.kind_of(about)
            if kind == "a symbolic link":
                advice = f"a run is not {use} through one: replace it by what it leads to"
                found[path] = f"{kind}, and {advice}"
            elif kind and kind != "a folder":
                found[path] = f"{kind}, which no run has: remove it"
            elif to_write and not kind and about.st_nlink > 1:
                found[path] = (
                    f"a hard link, and a run is not {use} through one: replace it by a copy"
                )
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}") from error
    if found:
        first = min(found)
        raise UserError(f"{first} is {found[first]}")


def _below(path: Path) -> str:
    """Return which runs are below a folder that is not a run, as text for an error."""
    if not path.is_dir():
        return "there is no such folder"
    found: list[Path] = []
    level, scanned = [path], 0
    for _ in range(MAX_DEPTH):
        inner = [folder for outer in level for folder in folders_in(outer)]
        level, scanned = inner[: MAX_SCANNED - scanned], scanned + len(inner)
        found += [folder for folder in level if os.path.isfile(folder / "run.json")]  # noqa: PTH113
    if not found:
        return "it has no run.json"
    shown = ", ".join(text.clean(folder, 200) for folder in found[:MAX_BELOW])
    left = len(found) - MAX_BELOW
    return f"runs are in {shown}" + (f" and {left} more" if left > 0 else "")


def folders_in(path: Path) -> list[Path]:
    """Return the folders in a folder, without links, by name; none if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [path / name for name in sorted(names)]


def is_finished(folder: Path, env_steps: int) -> bool:
    """Return whether a run has finished at `env_steps`: trained, saved and exported.

    A training writes `finished` into run.json after its export. Folders of an earlier
    tfmix lack it. In these the export must be newer than the last checkpoint, because
    --mode=export also exports an unfinished run.

    Args:
      folder: the run folder.
      env_steps: the env steps at which the run ends.
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
    """Return the newest checkpoint with a manifest and all of its files, and its env steps."""
    for found in reversed(checkpoint.saved(checkpoints)):
        with contextlib.suppress(OSError, ValueError, RecursionError, UserError):
            manifest = checkpoint.read_manifest(found)
            whole = all((found / Path(name).name).is_file() for name in manifest["sha256"])
            if whole and type(manifest.get("env_steps")) is int:
                return found, manifest["env_steps"]
    return None


@contextlib.contextmanager
def locked(folder: Path, in_use: str) -> Iterator[int]:
    """Lock a folder, which is created if it does not exist; yield the lock's file descriptor.

    Processes that inherit the descriptor hold the lock too. The system releases the lock
    when the last of them ends, for whatever reason.

    Args:
      folder: the folder of a run or of a benchmark.
      in_use: for the error, who may hold the lock and what to do.

    Raises:
      UserError: another process holds the lock, or the folder cannot be written.
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
    """Return whether `path` names the file or folder that is open as `handle`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


class FolderGuard:
    """Guard that notices when a run's folder or its lock is removed or replaced.

    It keeps both open. Otherwise the system could give their inode numbers to new files,
    which would look like the old ones.

    Args:
      folder: the run folder.

    Raises:
      OSError: the folder cannot be opened.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._open = {folder: os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}
        with contextlib.suppress(FileNotFoundError):  # a session without a lock
            self._open[folder / LOCK] = os.open(
                folder / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )

    def check_unchanged(self) -> None:
        """Raise RunFailedError if the folder or its lock was removed or replaced."""
        for path, handle in self._open.items():
            if not _is_still(path, handle):
                raise RunFailedError(
                    f"{path} was removed or renamed while its run trained; nothing was written "
                    "there since, and the checkpoints in the run's own folder are complete"
                )

    def close(self) -> None:
        """Close the folder and its lock."""
        while self._open:
            os.close(self._open.popitem()[1])
