"""Makes text from outside (errors, names, files) safe to print on a terminal."""

from __future__ import annotations

from typing import Any

MAX_CHARACTERS = 600


def clean(text: Any, most: int = MAX_CHARACTERS) -> str:
    """Returns `text` as one printable line of at most `most` characters.

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
    """Returns `KeyError: 'x'` in one printable line; the type alone where there is no message."""
    message = clean(error, most)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
