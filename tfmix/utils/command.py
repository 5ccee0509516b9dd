"""Commands of tfmix as text that can be pasted into a shell."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

_MAIN = Path(__file__).resolve().parents[2] / "main.py"


def program() -> str:
    """Returns how tfmix is started here: `python main.py` in a checkout, else `tfmix`."""
    installed = Path(sys.argv[0] if sys.argv else "").name == "tfmix" or not _MAIN.is_file()
    return "tfmix" if installed else "python main.py"


def command(words: Iterable[object]) -> str:
    """Return a command line of tfmix, with arguments quoted for a shell."""
    return f"{program()} {shlex.join(map(str, words))}"
