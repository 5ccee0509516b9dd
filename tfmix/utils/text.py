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

    Whitespace is folded to single spaces. Other characters that a terminal
    would obey (escape sequences, carriage returns) are shown as `\\x1b` and alike.

    Args:
      text: a string, or any object whose `str` is wanted; one whose `str`
        raises is named by its type.
      most: characters that are kept; of a longer text the end is cut.
    """
    try:
        # Cut first: a text of megabytes costs nothing more.
        raw = str(text)[: 4 * most + 4]
    except Exception:
        raw = f"<{type(text).__name__} that cannot be shown>"
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(raw.split()))
    return line if len(line) <= most else line[: most - 3] + "..."


def of_error(error: BaseException, most: int = MAX_CHARACTERS) -> str:
    """Return `KeyError: 'x'` in one printable line; the type alone where there is no message."""
    message = clean(error, most)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class Lossy(io.TextIOBase):
    """Writes to a text stream what can be written, and drops the rest.

    The reader of a stream may go away and the disk under it may be full. What a
    run says about itself is no reason to end it.

    Args:
      stream: such as `sys.stderr`; None, which Python sets for a closed one,
        drops everything.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person watches; False for a closed stream."""
        try:
            return bool(self._stream.isatty())
        except (AttributeError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Write `text` if it can, and returns its length in any case."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # a name that the terminal's encoding lacks
            self.write(text.encode("ascii", "backslashreplace").decode())
        except (AttributeError, OSError, ValueError):
            pass
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it can."""
        with contextlib.suppress(AttributeError, OSError, ValueError):
            self._stream.flush()


def tell(line: str) -> None:
    """Print a line on standard error at once; one that cannot be printed is dropped."""
    print(line, file=Lossy(sys.stderr), flush=True)


def show(text: str) -> None:
    """Print on standard output at once; text that cannot be printed is dropped."""
    print(text, file=Lossy(sys.stdout), flush=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no name is close."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
