"""run.json: what a run is, where it was made, and how far it has come."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import tensorflow as tf

import tfmix
from tfmix.errors import RunFailedError, UserError
from tfmix.runs import folders
from tfmix.training.task import Task
from tfmix.utils import files
from tfmix.utils.system import cores

GPU_SIGNS = ("/dev/nvidia0", "/proc/driver/nvidia/version")


def device_line() -> str:
    """What the run computes on, and what to install where a GPU lies idle."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return f"device: {name}"
    line = f"device: CPU, {cores()} cores"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not hidden and any(Path(sign).exists() for sign in GPU_SIGNS):
        line += (
            "; there is an NVIDIA GPU that TensorFlow cannot use: make gpu installs what it needs"
        )
    return line


def _git_commit() -> str:
    """The commit of the source, with a + where files have changed; empty outside of git."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("tensorflow", "tf-keras", "tf-agents", "numpy", "pettingzoo", "gymnasium")
    return {
        "tfmix": tfmix.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def create_manifest(folder: Path, task: Task) -> None:
    """Make a run folder with its run.json.

    Raises:
      UserError: the folder cannot be written.
    """
    settings = task.config
    try:
        folder.mkdir(parents=True, exist_ok=True)
        about = {
            "format": folders.FORMAT,
            "config": dataclasses.asdict(settings),
            "spec": dataclasses.asdict(task.spec),
            "seed": settings.seed,
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "git_commit": _git_commit(),
            "versions": _versions(),
            "finished": 0,  # env steps at which it came to its end, see folders.is_finished
            "hardware": {
                "machine": platform.machine(),
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "device": device_line(),
            },
        }
        with (folder / "run.json").open("x") as file:  # x: another run was faster
            file.write(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def update_manifest(
    folder: Path, env_steps: int | None = None, finished: int | None = None
) -> None:
    """Change a run.json, whole or not at all.

    Args:
      folder: the run folder.
      env_steps: the run's new end, None for the one it has.
      finished: env steps at which it came to its end, None for what is there, or
        for 0 in a folder of a tfmix that did not write it.

    Raises:
      RunFailedError: it cannot be written.
    """
    about = folders.read(folder).about
    if env_steps is not None:
        about["config"]["env_steps"] = env_steps
    about["finished"] = about.get("finished", 0) if finished is None else finished
    try:
        files.write_text(folder / "run.json", json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise RunFailedError(
            f"{folder / 'run.json'} cannot be written: {error.strerror or error}"
        ) from error
