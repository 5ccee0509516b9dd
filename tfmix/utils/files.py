"""Open, read and replace files in folders that anybody may have filled.

A run folder may hold links, pipes and devices instead of its files. These functions read
only regular files and follow no symbolic link. They write only new files, or files
without a second name. Their errors are OSErrors whose `strerror` is text for a person.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

# Largest run.json or manifest that is read; they have about 3 KB.
MOST_JSON_BYTES = 1 << 20
# Most entries of a run folder, which has about twenty.
MOST_ENTRIES = 100_000
# Opening must not wait for a pipe and must not follow a link.
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(found: os.stat_result) -> str:
    """Return the kind of a file that is not a regular one, such as `a named pipe`."""
    return next((name for test, name in _KINDS if test(found.st_mode)), "")


def _refuse(path: str | os.PathLike[str], text: str) -> NoReturn:
    raise OSError(errno.EINVAL, text, os.fspath(path))


def _check_regular(path: str | os.PathLike[str], found: os.stat_result, most: int | None) -> None:
    """Raise OSError unless a file is a regular one of at most `most` bytes."""
    if kind := kind_of(found):
        _refuse(path, f"it is {kind}, not a regular file")
    if most is not None and found.st_size > most:
        _refuse(path, f"it has {found.st_size:,} bytes, and at most {most:,} are read")


def _open(path: str | os.PathLike[str], flags: int, most: int | None = None) -> int:
    """Return a descriptor of a regular file; raise OSError as `_check_regular` and `os.open`."""
    with contextlib.suppress(FileNotFoundError):
        _check_regular(path, os.lstat(path), most)  # first: opening a device may have an effect
    handle = os.open(path, flags | _CAREFUL, 0o666)
    try:
        _check_regular(path, os.fstat(handle), most)
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> IO[bytes]:
    """Open a regular file to read its bytes.

    Args:
      path: the file; a symbolic link is not followed.
      most: the largest size in bytes; a larger file is refused.

    Raises:
      OSError: there is no such file, or it is of another kind or too large.
    """
    return os.fdopen(_open(path, os.O_RDONLY, most), "rb")


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file to write to it or lock it, and create it if there is none.

    Args:
      path: the file.
      flags: of `os.open`, such as `os.O_WRONLY | os.O_APPEND`.

    Returns:
      a file descriptor.

    Raises:
      OSError: it is not a regular file, or has a second name (a hard link), through
        which a file elsewhere would be written.
    """
    handle = _open(path, flags | os.O_CREAT)
    if os.fstat(handle).st_nlink > 1:
        os.close(handle)
        _refuse(path, "it is a hard link to a file that has another name")
    return handle


def read_text(path: str | os.PathLike[str], most: int = MOST_JSON_BYTES) -> str:
    """Return the text of a small regular file.

    Raises:
      OSError: as `open_regular`.
      ValueError: it is not UTF-8.
    """
    with open_regular(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew
        _refuse(path, f"it has more than {most:,} bytes")
    return content.decode()


def _object_of_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError if a name comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return found


def _finite(text: str) -> float:
    """Return a JSON number; raise ValueError for NaN, Infinity and what overflows to it."""
    number = float(text)
    if not abs(number) < float("inf"):
        raise ValueError(f"the number {text[:20]} is not finite")
    return number


def read_json(text: str) -> Any:
    """Return what JSON text holds.

    Raises:
      ValueError: it is not JSON, has a name twice in one object, a number that
        is not finite, or is nested too deeply.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object_of_unique_names,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def remove(path: Path) -> None:
    """Remove a file, a folder with all in it, or a link but not its target.

    Nothing happens if there is nothing of that name.

    Raises:
      OSError: it cannot be removed.
    """
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass


def create(path: Path) -> IO[bytes]:
    """Open a new file to write; a file or link of that name is removed first.

    Raises:
      OSError: it cannot be written, or a folder has its name.
    """
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o666), "wb")


@contextlib.contextmanager
def replacing(path: Path, spare: Path) -> Iterator[IO[bytes]]:
    """Open `spare` for writing, as a context that flushes it and renames it to `path`.

    Raises:
      OSError: it cannot be written; `path` is unchanged.
    """
    try:
        with create(spare) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        spare.replace(path)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a file, whole or not at all, by one with `text`.

    Raises:
      OSError: it cannot be written; `path` is unchanged.
    """
    with replacing(path, path.with_name(f".{path.name}")) as file:
        file.write(text.encode())


def entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything below a folder, with its `os.lstat`; follow no link.

    Raises:
      OSError: it cannot be read, or has more than `MOST_ENTRIES` entries.
    """
    pending, count = [folder], 0
    while pending:
        with os.scandir(pending.pop()) as found:
            for entry in found:
                if (count := count + 1) > MOST_ENTRIES:
                    _refuse(folder, f"it has more than {MOST_ENTRIES:,} files")
                about = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(about.st_mode):
                    pending.append(Path(entry.path))
                yield Path(entry.path), about
