"""Makes text of errors, names and files safe to print, and prints without raising."""

from __future__ import annotations

import contextlib
import difflib
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

MAX_CHARACTERS = 600


def clean(text: Any, most: int = MAX_CHARACTERS) -> str:
    """Return `text` as one printable line of at most `most` characters.

    Whitespace becomes single spaces. Other control characters, which a terminal would obey,
    are shown as escapes such as `\\x1b`.

    Args:
      text: a string, or any object, which `str` turns into one. If its `str` raises, the
        result is its type's name.
      most: characters that are kept; the end of a longer text is cut.
    """
    try:
        # Cut first, so that a text of megabytes takes no time.
        raw = str(text)[: 4 * most + 4]
    except Exception:
        raw = f"<{type(text).__name__} that cannot be shown>"
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(raw.split()))
    return line if len(line) <= most else line[: most - 3] + "..."


def of_error(error: BaseException, most: int = MAX_CHARACTERS) -> str:
    """Return an error as `KeyError: 'x'` in one printable line, without message as its type."""
    message = clean(error, most)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class Lossy(io.TextIOBase):
    """Writes to a text stream what can be written, and drops the rest.

    A pipe's reader may end, and a disk may be full. A run must not end because a message
    cannot be printed.

    Args:
      stream: such as `sys.stderr`. With None, which Python sets for a closed stream,
        everything is dropped.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property, as io's own
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal; False if it is closed."""
        try:
            return bool(self._stream.isatty())
        except (AttributeError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Write `text` if possible; return its length in any case."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # the terminal's encoding lacks a character
            self.write(text.encode("ascii", "backslashreplace").decode())
        except (AttributeError, OSError, ValueError):
            pass
        return len(text)

    def flush(self) -> None:
        """Flush the stream if possible."""
        with contextlib.suppress(AttributeError, OSError, ValueError):
            self._stream.flush()


_muted = 0  # calls of `printing(False)` that have not ended


@contextlib.contextmanager
def printing(allowed: bool) -> Iterator[None]:
    """Drop what `tell` and `show` are given inside, unless it is allowed."""
    global _muted
    _muted += not allowed
    try:
        yield
    finally:
        _muted -= not allowed


def is_muted() -> bool:
    """Return whether nothing is printed, see `printing`."""
    return _muted > 0


def tell(line: str) -> None:
    """Print a line on standard error at once; drop it if it cannot be printed."""
    if is_muted():
        return
    print(line, file=Lossy(sys.stderr), flush=True)


def show(text: str) -> None:
    """Print on standard output at once; drop text that cannot be printed."""
    if is_muted():
        return
    print(text, file=Lossy(sys.stdout), flush=True)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `2,000 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the closest name, nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
