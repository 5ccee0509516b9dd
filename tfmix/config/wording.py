"""Errors in the terms of the caller: flags on the command line, arguments in Python."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from tfmix.config.modes import FUNCTIONS, MODES_OF
from tfmix.config.schema import FIELDS, TYPES
from tfmix.errors import RunFailedError, UserError

P = ParamSpec("P")
R = TypeVar("R")

_ARGUMENTS = {*FIELDS, *MODES_OF}
_FLAG = re.compile(r"--(\w+)(?:=(\S*?)(?=[,;:.)]*(?:\s|$)))?")
# What follows is a command to paste, not a sentence.
_COMMAND = re.compile(r"(?:python main\.py|\btfmix) --")
_typed_flags = False  # whether a person typed flags in this process


@contextlib.contextmanager
def of_flags() -> Iterator[None]:
    """Leave flags in errors: inside, a command line is answered."""
    global _typed_flags
    before, _typed_flags = _typed_flags, True
    try:
        yield
    finally:
        _typed_flags = before


def as_arguments(text: str) -> str:
    """Return an error's text with `seed=3` for `--seed=3`, and functions for modes."""
    match = _COMMAND.search(text)
    end = match.start() if match else len(text)
    sentence = text[:end].replace("there is no --", "there is no argument ")
    sentence = sentence.replace("--help ", "python -m tfmix --help ")
    return _FLAG.sub(_as_argument, sentence) + text[end:]


def _as_argument(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name == "mode" and value in FUNCTIONS:
        return FUNCTIONS[value]
    if name not in _ARGUMENTS:
        return match[0]
    if not value:
        return name
    if name == "env_arg":
        key, equals, text = value.partition("=")
        return f"env_arg={{{key!r}: {text or '...'}}}" if equals else f"env_arg={value}"
    is_text = (TYPES.get(name) is str or name in ("which", "format")) and value[0] not in "'\"."
    return f"{name}={value!r}" if is_text else f"{name}={value}"


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of the Python interface: its errors speak of arguments."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (UserError, RunFailedError) as error:
            if not _typed_flags:
                error.args = (as_arguments(str(error)), *error.args[1:])
            raise

    return call
