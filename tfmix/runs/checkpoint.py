"""Writes and reads checkpoints: all tensors, and a manifest with progress and checksums.

A checkpoint is a folder `checkpoints/<env_steps>`. It is written under another name,
flushed to the disk and renamed, so that a folder of that name is complete. The last
three are kept. Nothing is unpickled or evaluated. TensorFlow reads only regular files
that the manifest names and whose checksums match.
"""

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
# Format 1 lacks the metric accumulator, which was always zero when it was written.
# Format 2 stores actions of the replay as int32, and true or false as float32.
# Format 3 lacks the smallest and the largest reward, from which `RewardScale` computes a floor.
# Format 4 lacks the measures of episodes, and the best team.
FORMAT = 5
BEST_FORMAT = 5  # the first with the best team
# The files that TensorFlow writes and reads: an index, and the data in one or more files.
TENSORS = re.compile(r"tensors\.(index|data-[0-9]{5}-of-[0-9]{5})")
MAX_SECONDS = 1e10  # 300 years
MAX_DIGITS = 19  # of env steps, an int64


def _sha256(file: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with files.open_regular(file) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text(manifest: dict[str, Any]) -> str:
    """Return the text of a manifest: sorted JSON with a checksum of the rest in it."""
    body = json.dumps(manifest, indent=1, sort_keys=True)
    own = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**manifest, "manifest_sha256": own}, indent=1, sort_keys=True) + "\n"


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest: `format`, `env_steps`, `seconds` and `sha256` by file.

    Raises:
      UserError: a newer tfmix wrote it.
      ValueError: it is damaged, or belongs to another checkpoint.
      OSError: it cannot be read.
    """
    written = files.read_text(checkpoint / MANIFEST)
    manifest = files.read_json(written)
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} is damaged")
    if set(manifest) == {"env_steps", "seconds", "sha256"}:  # format 1 has no checksum of itself
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
    """Raise ValueError if a manifest is not one of the checkpoint `name`."""
    env_steps, digests = manifest.get("env_steps"), manifest.get("sha256")
    seconds: Any = manifest.get("seconds")
    if type(env_steps) is not int or name != str(env_steps):
        raise ValueError(f"{MANIFEST} is of another checkpoint: its env_steps are not {name}")
    if type(seconds) not in (int, float) or not 0 <= seconds < MAX_SECONDS:
        raise ValueError(f"{MANIFEST} is damaged: its seconds are not a duration")
    if not digests or not isinstance(digests, dict):
        raise ValueError(f"{MANIFEST} is damaged: it names no files")
    for file, digest in digests.items():
        if not TENSORS.fullmatch(file) or not isinstance(digest, str):
            raise ValueError(f"{MANIFEST} is damaged: {file[:40]!r} is not a file of a checkpoint")


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints below `folder`, oldest first."""
    if not folder.is_dir():
        return []
    names = (
        p
        for p in folder.iterdir()
        if p.name.isdecimal()
        and p.name.isascii()
        and len(p.name) <= MAX_DIGITS
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
    """Write a checkpoint and remove the oldest ones.

    A complete checkpoint of the same env_steps and counts is kept as it is, because it
    holds the same state.

    Args:
      folder: the run's `checkpoints`.
      tensors: all variables on which the rest of the run depends.
      env_steps: the run's env steps; they name the checkpoint.
      seconds: time spent on the run.
      counts: further numbers by name that distinguish states of the run at the same
        env steps; the manifest holds them, see `count_of`.

    Raises:
      OSError: it cannot be written; earlier checkpoints are unchanged.
    """
    final, spare = folder / str(env_steps), folder / ".writing"
    if final.exists() and not verify(final):
        kept = read_manifest(final)
        if all(kept.get(name, value) == value for name, value in counts.items()):
            return
    with whole_or_nothing(spare, final):
        tensors.write(str(spare / "tensors"))
        digests = {p.name: _sha256(p) for p in sorted(spare.iterdir())}
        about = {"format": FORMAT, "env_steps": env_steps, "seconds": seconds, **counts}
        (spare / MANIFEST).write_text(_text({**about, "sha256": digests}))
    for old in saved(folder)[:-KEEP]:
        files.remove(old)


def verify(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint's files, or an empty string.

    Only the files that TensorFlow will read are read, each of them once.
    """
    try:
        if (kind := files.kind_of(os.lstat(checkpoint))) != "a folder":
            return f"it is {kind or 'a file'}, not a folder"
        digests = read_manifest(checkpoint)["sha256"]
        existing = {p.name for p in checkpoint.iterdir() if p.name.startswith("tensors")}
        if unknown := existing - set(digests):
            return text.clean(f"{MANIFEST} does not name {min(unknown)}")
        for name, digest in digests.items():
            if _sha256(checkpoint / name) != digest:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return text.clean(f"{Path(error.filename or checkpoint).name}: {error.strerror}")
    except ValueError as error:
        return text.clean(error, 200)
    return ""


def _check_tensors_fit(checkpoint: Path) -> None:
    """Raise UserError if a checkpoint's tensors are larger than the available memory."""
    size = 0
    with contextlib.suppress(OSError):
        size = sum(p.lstat().st_size for p in checkpoint.iterdir() if TENSORS.fullmatch(p.name))
    memory.check_memory(size, f"checkpoint {checkpoint}", "end other programs that take memory")


def latest(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint, or None if the run has no checkpoint yet.

    The first three newer ones that are damaged are reported on standard error.

    Raises:
      UserError: all checkpoints are damaged, a newer tfmix wrote one, or one does not fit
        into memory.
    """
    candidates = saved(folder)
    for number, checkpoint in enumerate(reversed(candidates)):
        _check_tensors_fit(checkpoint)
        fault = verify(checkpoint)
        if not fault:
            return checkpoint
        if number < KEEP:
            tell(f"tfmix: checkpoint {checkpoint} cannot be used ({fault}); trying the one before")
    if candidates:
        raise UserError(
            f"all checkpoints in {folder} are damaged: delete that folder, and --mode=resume "
            "starts the run again with the same seed"
        )
    return None


def restore_part(checkpoint: Path, tensors: tf.train.Checkpoint) -> None:
    """Read those tensors of a checkpoint that `tensors` has.

    Args:
      checkpoint: one of `saved`.
      tensors: some of the variables that `save` wrote, of the same type in all formats.

    Raises:
      UserError: the checkpoint belongs to other networks or to another task.
    """
    with _fitting(checkpoint):
        path = str(checkpoint / "tensors")
        _check_index(path)
        status = tensors.read(path)
        status.assert_existing_objects_matched()
        status.expect_partial()


@contextlib.contextmanager
def _fitting(checkpoint: Path) -> Iterator[None]:
    """Raise any error of TensorFlow's reader, which has many kinds, as a UserError."""
    try:
        yield
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"checkpoint {checkpoint} does not fit this run's settings: {text.clean(line)}"
        ) from error


def restore(checkpoint: Path, tensors: tf.train.Checkpoint) -> None:
    """Read a checkpoint into `tensors`.

    Args:
      checkpoint: one of `saved` in which `verify` finds no fault.
      tensors: the same variables that `save` wrote.

    Raises:
      UserError: the checkpoint belongs to other networks or to another task.
    """
    with _fitting(checkpoint):
        path = str(checkpoint / "tensors")
        _check_index(path)
        written = read_manifest(checkpoint)["format"]
        if written == FORMAT:
            tensors.read(path).assert_consumed()
        elif written >= 3:
            _without_newer(tensors, written).read(path).assert_consumed()
        else:
            _restore_older(path, tensors)


def _without_newer(tensors: tf.train.Checkpoint, written: int) -> tf.train.Checkpoint:
    """Return the same variables without those that format 3 or 4 lacks."""
    import tensorflow as tf

    parts = {name: part for name, part in vars(tensors).items() if not name.startswith("_")}
    fields: dict[str, tuple[str, ...]] = {"sums": ("returns", "episodes", "metrics", "updates")}
    if written == 3:
        fields["reward_scale"] = ("count", "mean", "square")
    parts.pop("best", None)
    for name, kept in fields.items():
        parts[name] = tf.train.Checkpoint(**{one: getattr(parts[name], one) for one in kept})
    return tf.train.Checkpoint(**parts)


def _check_index(path: str) -> None:
    """Raise ValueError if an index asks for more bytes than the data files hold.

    A forged index may name the same bytes for many tensors, which would all be in memory
    at the same time.
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
        raise ValueError("its index asks for more bytes than its data files hold")


def _restore_older(path: str, tensors: tf.train.Checkpoint) -> None:
    """Read tensors of format 1 or 2, and cast those that have another type there."""
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
    """Return the count of that name in a checkpoint's manifest, or None if it has no such."""
    found = read_manifest(checkpoint).get(name)
    return found if type(found) is int else None
