"""Checkpoints: every tensor, and a manifest with the rest and checksums.

Each is a folder `checkpoints/<env_steps>`, written beside, flushed to the disk
and renamed into place, so that a folder of that name is whole. The last three
are kept. Nothing that is read is unpickled or evaluated, and TensorFlow reads
only regular files that the manifest names and whose sums fit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfmix.errors import UserError
from tfmix.runs.atomic import whole_or_nothing
from tfmix.utils import files, memory, text
from tfmix.utils.text import tell

if TYPE_CHECKING:
    import tensorflow as tf
KEEP = 3
MANIFEST = "manifest.json"
# 1 had no sums since the last row: those checkpoints stood at a row, where they are 0.
# 2 had actions as int32 in the replay, and what is true or false as float32.
# 3 had no smallest and largest of the rewards, which the floor of their deviation is made of.
FORMAT = 4
# The files that TensorFlow writes, and reads again: an index and the data, in parts.
TENSORS = re.compile(r"tensors\.(index|data-[0-9]{5}-of-[0-9]{5})")
MOST_SECONDS = 1e10  # 300 years
MOST_DIGITS = 19  # of env steps, an int64


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with files.open_regular(file) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text(manifest: dict[str, Any]) -> str:
    """Return a manifest as it is written: with its own checksum, in one fixed form."""
    body = json.dumps(manifest, indent=1, sort_keys=True)
    own = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**manifest, "manifest_sha256": own}, indent=1, sort_keys=True) + "\n"


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest: `format`, `env_steps`, `seconds` and `sha256` by file.

    Raises:
      UserError: it is whole, and of a newer tfmix.
      ValueError: it is damaged, or not this checkpoint's.
      OSError: it cannot be read.
    """
    written = files.read_text(checkpoint / MANIFEST)
    manifest = files.read_json(written)
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} is damaged")
    if set(manifest) == {"env_steps", "seconds", "sha256"}:  # had no checksum of its own
        manifest = {"format": 1, **manifest}
    else:
        manifest.pop("manifest_sha256", None)
        if _text(manifest) != written or type(manifest.get("format")) is not int:
            raise ValueError(f"{MANIFEST} is damaged")
    if manifest["format"] > FORMAT:
        raise UserError(f"{checkpoint} was written by a newer tfmix; update tfmix")
    _check_manifest(manifest, checkpoint.name)
    return manifest


def _check_manifest(manifest: dict[str, Any], name: str) -> None:
    """Raise ValueError where a manifest is not that of the checkpoint `name`."""
    env_steps, sums = manifest.get("env_steps"), manifest.get("sha256")
    seconds: Any = manifest.get("seconds")
    if type(env_steps) is not int or name != str(env_steps):
        raise ValueError(f"{MANIFEST} is of another checkpoint: its env_steps are not {name}")
    if type(seconds) not in (int, float) or not 0 <= seconds < MOST_SECONDS:
        raise ValueError(f"{MANIFEST} is damaged: its seconds are no time")
    if not sums or not isinstance(sums, dict):
        raise ValueError(f"{MANIFEST} is damaged: it names no files")
    for file, digest in sums.items():
        if not TENSORS.fullmatch(file) or not isinstance(digest, str):
            raise ValueError(f"{MANIFEST} is damaged: {file[:40]!r} is no file of a checkpoint")


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints below `folder`, oldest first."""
    if not folder.is_dir():
        return []
    names = (
        p
        for p in folder.iterdir()
        if p.name.isdecimal()
        and p.name.isascii()
        and len(p.name) <= MOST_DIGITS
        and p.name == str(int(p.name))
    )
    return sorted(names, key=lambda p: int(p.name))


def save(
    folder: Path,
    tensors: tf.train.Checkpoint,
    env_steps: int,
    seconds: float,
    counts: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write a checkpoint and drops the oldest ones.

    One of the same env_steps and counts that is whole is left as it is: it
    holds the same state.

    Args:
      folder: the run's `checkpoints`.
      tensors: everything the future depends on.
      env_steps: where the run is; names the checkpoint.
      seconds: time spent on the run so far.
      counts: what else tells one state of the run from another, by name; kept in
        the manifest, see `count_of`.

    Raises:
      OSError: it cannot be written; those before it are as they were.
    """
    final, spare = folder / str(env_steps), folder / ".writing"
    if final.exists() and not verify(final):
        kept = read_manifest(final)
        if all(kept.get(name, value) == value for name, value in counts.items()):
            return
    with whole_or_nothing(spare, final):
        tensors.write(str(spare / "tensors"))
        sums = {p.name: _sha256(p) for p in sorted(spare.iterdir())}
        about = {"format": FORMAT, "env_steps": env_steps, "seconds": seconds, **counts}
        (spare / MANIFEST).write_text(_text({**about, "sha256": sums}))
    for old in saved(folder)[:-KEEP]:
        files.remove(old)


def verify(checkpoint: Path) -> str:
    """Say what is wrong with a checkpoint's files; returns an empty string where nothing is.

    Each file is read once, and only those that TensorFlow will read.
    """
    try:
        if (kind := files.kind_of(os.lstat(checkpoint))) != "a folder":
            return f"it is {kind or 'a file'}, not a folder"
        sums = read_manifest(checkpoint)["sha256"]
        there = {p.name for p in checkpoint.iterdir() if p.name.startswith("tensors")}
        if unknown := there - set(sums):
            return text.clean(f"{MANIFEST} does not name {min(unknown)}")
        for name, digest in sums.items():
            if _sha256(checkpoint / name) != digest:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return text.clean(f"{Path(error.filename or checkpoint).name}: {error.strerror}")
    except ValueError as error:
        return text.clean(error, 200)
    return ""


def _check_memory(checkpoint: Path) -> None:
    """Raise UserError where a checkpoint's tensors are larger than the memory there is."""
    size = 0
    with contextlib.suppress(OSError):
        size = sum(p.lstat().st_size for p in checkpoint.iterdir() if TENSORS.fullmatch(p.name))
    memory.check_memory(size, f"checkpoint {checkpoint}", "end what else takes memory")


def latest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, None where the run has none yet.

    Newer ones that are damaged are named on standard error, the first three.

    Raises:
      UserError: there are checkpoints, and all are damaged; or one is of a
        newer tfmix, or does not fit into memory.
    """
    candidates = saved(folder)
    for number, checkpoint in enumerate(reversed(candidates)):
        _check_memory(checkpoint)
        fault = verify(checkpoint)
        if not fault:
            return checkpoint
        if number < KEEP:
            tell(f"tfmix: checkpoint {checkpoint} cannot be used ({fault}); trying the one before")
    if candidates:
        raise UserError(
            f"no checkpoint in {folder} is whole: delete that folder and --mode=resume starts "
            "the run again with its seed"
        )
    return None


def restore_part(checkpoint: Path, tensors: tf.train.Checkpoint) -> None:
    """Read some of a checkpoint's tensors, all of `tensors`.

    Args:
      checkpoint: one of `saved`.
      tensors: a part of what `save` was given, whose types no format has changed.

    Raises:
      UserError: the checkpoint is of other networks or another task.
    """
    with _fitting(checkpoint):
        path = str(checkpoint / "tensors")
        _check_index(path)
        status = tensors.read(path)
        status.assert_existing_objects_matched()
        status.expect_partial()


@contextlib.contextmanager
def _fitting(checkpoint: Path) -> Iterator[None]:
    """Turn the many kinds of errors of TensorFlow's reader into a UserError."""
    try:
        yield
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"checkpoint {checkpoint} does not fit this run's settings: {text.clean(first)}"
        ) from error


def restore(checkpoint: Path, tensors: tf.train.Checkpoint) -> None:
    """Read a checkpoint into `tensors`.

    Args:
      checkpoint: one of `saved` that `verify` finds whole.
      tensors: the like of what `save` was given.

    Raises:
      UserError: the checkpoint is of other networks or another task.
    """
    with _fitting(checkpoint):
        path = str(checkpoint / "tensors")
        _check_index(path)
        number = read_manifest(checkpoint)["format"]
        if number == FORMAT:
            tensors.read(path).assert_consumed()
        elif number == 3:
            _as_format_3(tensors).read(path).assert_consumed()
        else:
            _restore_older(path, tensors)


def _as_format_3(tensors: tf.train.Checkpoint) -> tf.train.Checkpoint:
    """Return the same variables without those that checkpoints of format 3 lack."""
    import tensorflow as tf

    parts = {name: part for name, part in vars(tensors).items() if not name.startswith("_")}
    scale = parts["reward_scale"]
    kept = {name: getattr(scale, name) for name in ("count", "mean", "square")}
    return tf.train.Checkpoint(**{**parts, "reward_scale": tf.train.Checkpoint(**kept)})


def _check_index(path: str) -> None:
    """Raise ValueError if an index asks for more numbers than its data files hold.

    It may name the same bytes for many tensors, all of which are in memory at
    once when they are read.
    """
    import tensorflow as tf

    reader = tf.train.load_checkpoint(path)
    kinds = reader.get_variable_to_dtype_map()
    asked = sum(
        math.prod(shape) * kinds[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if kinds[name] != tf.string
    )
    held = sum(p.stat().st_size for p in Path(path).parent.iterdir() if TENSORS.fullmatch(p.name))
    if asked > held:
        raise ValueError("its index asks for more than its data files hold")


def _restore_older(path: str, tensors: tf.train.Checkpoint) -> None:
    """Read tensors of format 1 or 2; what has another type there is cast."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(path)
    kinds, same = reader.get_variable_to_dtype_map(), {}
    for name, part in vars(tensors).items():
        key = f"{name}/.ATTRIBUTES/VARIABLE_VALUE"
        if kinds.get(key) not in (None, getattr(part, "dtype", None)):
            part.assign(tf.cast(reader.get_tensor(key), part.dtype))
        elif not name.startswith("_"):
            same[name] = part
    tf.train.Checkpoint(**same).read(path).assert_nontrivial_match()


def seconds_of(checkpoint: Path) -> float:
    """Return the seconds that the run had taken when `checkpoint` was written."""
    return float(read_manifest(checkpoint)["seconds"])


def count_of(checkpoint: Path, name: str) -> int | None:
    """Return a count that `save` was given, None in a checkpoint that has none of that name."""
    found = read_manifest(checkpoint).get(name)
    return found if type(found) is int else None
