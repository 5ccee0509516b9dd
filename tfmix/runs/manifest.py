"""Writes run.json: a run's settings, its task, versions, hardware, and whether it has finished."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

import tfmix
from tfmix.errors import RunFailedError, UserError
from tfmix.runs import folders
from tfmix.training.task import Task
from tfmix.utils import files, text
from tfmix.utils.system import cores

GPU_SIGNS = ("/dev/nvidia0", "/proc/driver/nvidia/version")


def device_line() -> str:
    """Return a line that names the device, and what to install if a GPU cannot be used."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return f"device: {name}"
    line = f"device: CPU, {text.counted(cores(), 'core')}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not hidden and any(Path(sign).exists() for sign in GPU_SIGNS):
        line += (
            "; there is an NVIDIA GPU that TensorFlow cannot use: make gpu installs what it needs"
        )
    return line


def git_commit() -> str:
    """Return the source code's commit, with a + if files have changed; empty without git."""
    here = Path(__file__).parent
    if not (here.parents[1] / "main.py").is_file():
        return ""  # an installed package, perhaps in the repository of something else
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    """Return the versions of tfmix, Python and the installed packages that affect results."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"tfmix": tfmix.__version__, "python": platform.python_version()}
    for package in ("tensorflow", "tf-keras", "tf-agents", "numpy", "pettingzoo", "gymnasium"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def create_manifest(folder: Path, task: Task, flagfiles: Sequence[str] = ()) -> None:
    """Create a run folder with its run.json.

    Args:
      folder: the run folder.
      task: what is trained on.
      flagfiles: names of the flagfiles that were read, in order.

    Raises:
      UserError: the folder cannot be written.
    """
    settings = task.config
    try:
        folder.mkdir(parents=True, exist_ok=True)
        about = {
            "format": folders.FORMAT,
            "config": dataclasses.asdict(settings),
            "flagfiles": list(flagfiles),
            "spec": dataclasses.asdict(task.spec),
            "metrics": list(task.metric_names),
            "agents": [agent._asdict() for agent in task.agents],
            "seed": settings.seed,
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "git_commit": git_commit(),
            "versions": _versions(),
            "finished": 0,  # env steps at which it finished, see folders.is_finished
            "hardware": {
                "machine": platform.machine(),
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "device": device_line(),
            },
        }
        with (folder / "run.json").open("x") as file:  # x fails if another run was faster
            file.write(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


@contextlib.contextmanager
def recorded_failure(folder: Path) -> Iterator[None]:
    """Record in run.json, as `failed`, the error with which a training ends.

    A new start removes it. The record is for people who look at the folder: if it cannot be
    written, or the folder was replaced, the training's own error is raised all the same.
    """
    guard = folders.FolderGuard(folder)
    if "failed" in folders.read(folder).about:
        update_manifest(folder, failed="")
    try:
        yield
    except Exception as error:
        reason = text.clean(error) if isinstance(error, RunFailedError) else text.of_error(error)
        with contextlib.suppress(UserError, RunFailedError):
            guard.check_unchanged()
            update_manifest(folder, failed=reason)
        raise
    finally:
        guard.close()


def update_manifest(
    folder: Path,
    env_steps: int | None = None,
    finished: int | None = None,
    failed: str | None = None,
) -> None:
    """Change a run.json atomically.

    Args:
      folder: the run folder.
      env_steps: the run's new end; None leaves it as it is.
      finished: env steps at which it finished; None leaves it as it is, or writes 0 if
        an earlier tfmix did not write it.
      failed: why the training failed, empty if it did not; None leaves it as it is.

    Raises:
      RunFailedError: it cannot be written.
    """
    about = folders.read(folder).about
    if env_steps is not None:
        about["config"]["env_steps"] = env_steps
    about["finished"] = about.get("finished", 0) if finished is None else finished
    if failed is not None:
        about["failed"] = failed
    if not about.get("failed", True):
        del about["failed"]
    try:
        files.write_text(folder / "run.json", json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise RunFailedError(
            f"{folder / 'run.json'} cannot be written: {error.strerror or error}"
        ) from error
