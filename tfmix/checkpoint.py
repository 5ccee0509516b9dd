"""Checkpoints: every tensor, a JSON of the rest, a manifest of checksums.

Each is a folder `checkpoints/<env_steps>`, written beside and renamed into
place, so that a folder of that name is whole. The last three are kept.
Nothing that is read is unpickled or evaluated.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tfmix.config import UserError

if TYPE_CHECKING:
    import tensorflow as tf

KEEP = 3
MANIFEST = "manifest.json"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def saved(folder: Path) -> list[Path]:
    """The checkpoints below `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def save(folder: Path, tensors: tf.train.Checkpoint, env_steps: int, seconds: float) -> None:
    """Writes a checkpoint and drops the oldest ones.

    Args:
      folder: the run's `checkpoints`.
      tensors: everything the future depends on.
      env_steps: where the run is; names the checkpoint.
      seconds: time spent on the run so far.
    """
    final, spare = folder / str(env_steps), folder / ".writing"
    shutil.rmtree(spare, ignore_errors=True)  # of a process that was killed
    spare.mkdir(parents=True)
    tensors.write(str(spare / "tensors"))
    sums = {p.name: _sha256(p) for p in sorted(spare.iterdir())}
    manifest = {"env_steps": env_steps, "seconds": seconds, "sha256": sums}
    (spare / MANIFEST).write_text(json.dumps(manifest, indent=1))
    if final.exists():
        shutil.rmtree(final)
    spare.rename(final)
    for old in saved(folder)[:-KEEP]:
        shutil.rmtree(old)


def verify(checkpoint: Path) -> str:
    """What is wrong with a checkpoint's files, or an empty string."""
    try:
        sums = json.loads((checkpoint / MANIFEST).read_text())["sha256"]
        for name, digest in sums.items():
            if _sha256(checkpoint / Path(name).name) != digest:
                return f"{name} is damaged"
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, None where the run has none yet.

    Raises:
      UserError: there are checkpoints, and all are damaged.
    """
    candidates = saved(folder)
    for checkpoint in reversed(candidates):
        fault = verify(checkpoint)
        if not fault:
            return checkpoint
        print(f"checkpoint {checkpoint} cannot be used ({fault}); trying the one before")
    if candidates:
        raise UserError(f"no checkpoint in {folder} is whole; train again")
    return None


def restore(checkpoint: Path, tensors: tf.train.Checkpoint) -> None:
    """Reads a checkpoint into `tensors`.

    Args:
      checkpoint: one of `saved`.
      tensors: the like of what `save` was given.

    Raises:
      UserError: the checkpoint is of other networks or another task.
    """
    import tensorflow as tf  # here: what only looks for checkpoints starts without it

    try:
        status = tensors.read(str(checkpoint / "tensors"))
        status.assert_consumed()
        status.assert_existing_objects_matched()
    except (ValueError, AssertionError, tf.errors.OpError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"checkpoint {checkpoint} does not fit this run's settings: {first}"
        ) from error


def seconds_of(checkpoint: Path) -> float:
    """Time that the run had taken when `checkpoint` was written."""
    return float(json.loads((checkpoint / MANIFEST).read_text())["seconds"])
