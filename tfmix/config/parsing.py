"""Command-line flags of every setting: absl's parser, flagfiles, settings from Python."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from tfmix.config.schema import FIELDS, MAX_INT, TYPES
from tfmix.errors import UserError
from tfmix.utils.text import nearest

# Flagfiles that include one another; more is a mistake.
MOST_FLAGFILES = 100


def define_flags(values: flags.FlagValues) -> flags.FlagValues:
    """Make an absl flag of every setting in `values`."""
    for name, field in FIELDS.items():
        kind, default, meta = TYPES[name], field.default, field.metadata
        text = meta["help"] + (f" [{meta['unit']}]" if meta["unit"] else "")
        if "choices" in meta:
            flags.DEFINE_enum(name, default, list(meta["choices"]), text, flag_values=values)
        elif kind is bool:
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        elif kind is int:
            flags.DEFINE_integer(
                name, default, text, meta.get("low"), meta.get("high", MAX_INT), flag_values=values
            )
        elif kind is float:
            flags.DEFINE_float(
                name, default, text, meta.get("low"), meta.get("high"), flag_values=values
            )
        elif kind is str:
            flags.DEFINE_string(name, default, text, flag_values=values)
        else:
            flags.DEFINE_multi_string(name, default, text, flag_values=values)
    return values


def _flagfile_of(word: str, rest: list[str]) -> str | None:
    """The file that a word (with the first of `rest`, then taken from it) asks for, or None."""
    if word in ("--flagfile", "-flagfile") and rest:
        return rest.pop(0)
    if word.startswith(("--flagfile=", "-flagfile=")):
        return word.partition("=")[2]
    return None


def _read_flagfile(name: str, outer: tuple[Path, ...] = ()) -> list[str]:
    """The arguments in a flagfile, one a line, those of flagfiles that it names in their place.

    Lines that begin with # or // are comments. absl reads flagfiles too, but
    follows a chain of them into a RecursionError and reports a circle on
    standard error alone, which belongs to all threads.

    Raises:
      UserError: it cannot be read, or includes itself, or too many one in the other.
    """
    if not name.strip():
        return []  # as if it had not been given
    try:
        path = Path(name.strip()).expanduser().resolve()
        if path in outer:
            raise UserError(f"{name!r}: a flagfile includes itself, by way of others or not")
        if len(outer) >= MOST_FLAGFILES:
            raise UserError(
                f"{str(outer[0])!r}: more than {MOST_FLAGFILES} flagfiles in one another"
            )
        lines = [line.strip() for line in path.read_text().split("\n")]
    except (OSError, ValueError, RuntimeError) as error:  # no text, NUL in a name, ~nobody
        raise UserError(f"cannot read a flagfile, {name!r}: {error}") from error
    found: list[str] = []
    pending = [line for line in lines if line and not line.startswith(("#", "//"))]
    while pending:
        word = pending.pop(0)
        inner = _flagfile_of(word, pending)
        found += [word] if inner is None else _read_flagfile(inner, (*outer, path))
    return found


def expand_flagfiles(arguments: Iterable[str]) -> list[str]:
    """Put what is in --flagfile files first, so that what was typed wins over it.

    Raises:
      UserError: a flagfile that cannot be read.
    """
    files: list[str] = []
    rest: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        name = _flagfile_of(word, pending)
        if name is None:
            rest.append(word)
        else:
            files += _read_flagfile(name)
    return files + rest


def parse(arguments: Iterable[str], values: flags.FlagValues | None = None) -> dict[str, Any]:
    """Read command-line words, flagfiles included, and returns what they set.

    Args:
      arguments: words such as `--algo=vdn` or `--flagfile=flags/paper/x.flags`.
      values: flags of the caller beside the settings, `define_flags` done.

    Raises:
      UserError: an unknown flag, a stray word, a value of the wrong type or
        out of bounds, an unreadable flagfile.
    """
    values = values if values is not None else define_flags(flags.FlagValues())
    try:
        left = values(["tfmix", *expand_flagfiles(arguments)])
    except flags.Error as error:
        text = re.sub(r"\('Non-boolean argument.*", "write true or false", str(error), flags=re.S)
        raise UserError(" ".join(text.split())) from error
    if len(left) > 1:
        raise UserError(f"stray word {left[1]!r}: settings look like --name=value")
    found = {name: values[name].value for name in values if values[name].present}
    for name, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"flag --{name}={value}: it must be a finite number")
        if "\0" in str(value):
            raise UserError(f"flag --{name}={value!r}: there is a NUL character in it")
    return found


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings from Python as command-line words, so that one parser judges both."""
    words = []
    for name, value in settings.items():
        if value is None:
            continue  # as if it had not been given
        if name not in FIELDS:
            raise UserError(f"there is no setting {name!r}{nearest(name, FIELDS)}")
        if name == "env_arg" and isinstance(value, Mapping):
            value = [f"{key}={json.dumps(one)}" for key, one in value.items()]
        many = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name}={one}" for one in many]
    return words
