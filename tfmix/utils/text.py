"""Makes text from outside (errors, names, files) safe to print, and prints without raising."""

from __future__ import annotations

import contextlib
import difflib
import io
import sys
from collections.abc import Iterable
from typing import Any

MAX_CHARACTERS = 600


def clean(text: Any, most: int = MAX_CHARACTERS) -> str:
    """Return `text` as one printable line of at most `most` characters.

    Whitespace is folded to single spaces. Other control characters, which a terminal would
    obey, are shown as `\\x1b` and the like.

    Args:
      text: a string or any object, whose `str` is used; if that raises, the result names
        the object's type.
      most: the most characters that are kept; a longer text is cut at its end.
    """
    try:
        # Cut first, so that a text of megabytes takes no time.
        raw = str(text)[: 4 * most + 4]
    except Exception:
        raw = f"<{type(text).__name__} that cannot be shown>"
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(raw.split()))
    return line if len(line) <= most else line[: most - 3] + "..."


def of_error(error: BaseException, most: int = MAX_CHARACTERS) -> str:
    """Return `KeyError: 'x'` as one printable line, or the type alone without a message."""
    message = clean(error, most)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class Lossy(io.TextIOBase):
    """Text stream that writes what can be written and drops the rest.

    The reader of a stream may end and its disk may be full. A message that cannot be
    printed must not end a run.

    Args:
      stream: the stream, such as `sys.stderr`; None, which Python uses for a closed one,
        drops everything.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal; False for a closed stream."""
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


def tell(line: str) -> None:
    """Print a line on standard error at once; drop what cannot be printed."""
    print(line, file=Lossy(sys.stderr), flush=True)


def show(text: str) -> None:
    """Print on standard output at once; drop what cannot be printed."""
    print(text, file=Lossy(sys.stdout), flush=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the closest known name, or nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
