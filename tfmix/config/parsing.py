"""Command-line flags of every setting: absl's parser, flagfiles, settings from Python."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from tfmix.config import aliases
from tfmix.config.schema import FIELDS, TYPES
from tfmix.config.values import check, from_text
from tfmix.errors import UserError
from tfmix.utils.text import clean

FLAGS_FOLDER = Path(__file__).resolve().parents[1] / "flags"
# Flagfiles that include one another; more is a mistake.
MOST_FLAGFILES = 100
COMMAND_LINE = "command line"


class StrayWordError(UserError):
    """A word of a command line that is not a setting; `word` is the word."""

    def __init__(self, word: str):
        super().__init__(f"stray word {word!r}: settings look like --name=value")
        self.word = word


class Given(NamedTuple):
    """What a command line sets.

    Attributes:
      values: the value of each flag that was given.
      sources: where each was given, the command line or the name of a flagfile.
      flagfiles: the flagfiles that --flagfile names, in order.
    """

    values: dict[str, Any]
    sources: dict[str, str]
    flagfiles: tuple[str, ...]


class _SettingParser(flags.ArgumentParser):  # type: ignore[misc]
    """Read the value of one setting with the rules of `values`."""

    def __init__(self, name: str):
        self.name = name

    def parse(self, argument: Any) -> Any:
        """Return the value, or raise ValueError if it does not fit."""
        return from_text(self.name, argument) if isinstance(argument, str) else argument


def define_flags(values: flags.FlagValues) -> flags.FlagValues:
    """Make an absl flag of every setting in `values`."""
    for name, field in FIELDS.items():
        kind, default, meta = TYPES[name], field.default, field.metadata
        text = meta["help"] + (f" [{meta['unit']}]" if meta["unit"] else "")
        if kind is bool:
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        elif name == "env_arg":
            flags.DEFINE_multi_string(name, default, text, flag_values=values)
        else:
            flags.DEFINE(_SettingParser(name), name, default, text, flag_values=values)
    return values


def _flagfile_of(word: str, rest: list[str]) -> str | None:
    """Return the file that `word` asks for, with the first of `rest`, which it takes, or None."""
    if word in ("--flagfile", "-flagfile") and rest:
        return rest.pop(0)
    if word.startswith(("--flagfile=", "-flagfile=")):
        return word.partition("=")[2]
    return None


def find_flagfile(name: str) -> Path:
    """Return the path of a flagfile, `~` expanded.

    One that is not there is looked for among tfmix's own, as `flags/preset/pymarl.flags`,
    `preset/pymarl.flags` or `preset/pymarl`.

    Raises:
      OSError, ValueError, RuntimeError: no file can have that name.
    """
    path = Path(name.strip()).expanduser().resolve()
    if not path.exists():
        inside = name.strip().removeprefix("flags/")
        for ending in ("", ".flags"):
            own = FLAGS_FOLDER / f"{inside}{ending}"
            if own.is_file() and FLAGS_FOLDER in own.resolve().parents:
                return own.resolve()
    return path


def _nearest_flagfile(name: str) -> str:
    """Return `; did you mean 'flags/preset/pymarl.flags'?` for `pymarl`, else nothing."""
    own = [file.relative_to(FLAGS_FOLDER) for file in FLAGS_FOLDER.glob("*/*.flags")]
    names = {file.stem: f"flags/{file}" for file in sorted(own, reverse=True)}
    close = difflib.get_close_matches(Path(name.strip()).stem.lower(), names, 1, 0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def short_name(path: Path) -> str:
    """Return how a flagfile is printed: `flags/env/mpe.flags` for one of tfmix's own."""
    if path.is_relative_to(FLAGS_FOLDER):
        return f"flags/{path.relative_to(FLAGS_FOLDER)}"
    return str(path)


def _read_flagfile(name: str, outer: tuple[Path, ...] = ()) -> list[tuple[str, str]]:
    """Return the arguments in a flagfile with the name of the file that each is from.

    There is one argument a line; those of flagfiles that it names are in their place.
    Lines that begin with # or // are comments. absl reads flagfiles too, but
    follows a chain of them into a RecursionError and reports a circle on
    standard error alone, which belongs to all threads.

    Raises:
      UserError: it cannot be read, or includes itself, or too many one in the other.
    """
    if not name.strip():
        return []  # an empty name is not a file
    try:
        path = find_flagfile(name)
        if path in outer:
            raise UserError(f"{name!r}: a flagfile includes itself, directly or through others")
        if len(outer) >= MOST_FLAGFILES:
            raise UserError(
                f"{str(outer[0])!r}: flagfiles are nested more than {MOST_FLAGFILES} deep"
            )
        if not path.exists():
            raise UserError(f"there is no flagfile {name!r}{_nearest_flagfile(name)}")
        lines = [line.strip() for line in path.read_text().split("\n")]
    except (OSError, ValueError, RuntimeError) as error:  # no text, NUL in a name, ~nobody
        raise UserError(f"cannot read a flagfile, {name!r}: {error}") from error
    found: list[tuple[str, str]] = []
    pending = [line for line in lines if line and not line.startswith(("#", "//"))]
    while pending:
        word = pending.pop(0)
        inner = _flagfile_of(word, pending)
        if inner is None:
            found.append((word, short_name(path)))
        else:
            found += _read_flagfile(inner, (*outer, path))
    return found


def _expand_flagfiles(arguments: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Put what is in --flagfile files first, so that what was typed wins over it.

    Returns:
      the arguments, each with its source; and the names of the flagfiles.

    Raises:
      UserError: a flagfile that cannot be read.
    """
    files: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    names: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        name = _flagfile_of(word, pending)
        if name is None:
            rest.append((word, COMMAND_LINE))
        else:
            files += _read_flagfile(name)
            names += [short_name(find_flagfile(name))] if name.strip() else []
    return files + rest, names


def _sources(arguments: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, str]:
    """Return where each flag was given last."""
    known, found = set(known), {}
    for word, source in arguments:
        if match := re.match(r"--?(\w+)", word):
            name = match[1] if match[1] in known else match[1].removeprefix("no")
            found[name] = source
    return found


def parse(arguments: Iterable[str], values: flags.FlagValues | None = None) -> dict[str, Any]:
    """Read command-line arguments, flagfiles included, and return what they set; as `read`."""
    return read(arguments, values).values


def read(arguments: Iterable[str], values: flags.FlagValues | None = None) -> Given:
    """Read command-line arguments, flagfiles included.

    Args:
      arguments: texts such as `--algo=vdn` or `--flagfile=flags/paper/x.flags`.
      values: the caller's flags in addition to the settings, `define_flags` done.

    Raises:
      UserError: an unknown flag, a stray word, a value of the wrong type or
        out of bounds, an unreadable flagfile.
    """
    values = values if values is not None else define_flags(flags.FlagValues())
    words, flagfiles = _expand_flagfiles(arguments)
    try:
        left = values(["tfmix", *(word for word, _ in words)])
    except flags.UnrecognizedFlagError as error:
        raise UserError(aliases.answer(error.flagname, [*values, "flagfile"])) from error
    except flags.Error as error:
        text = re.sub(r"\('Non-boolean argument.*", "write true or false", str(error), flags=re.S)
        raise UserError(" ".join(text.split()).removeprefix("flag ")) from error
    if len(left) > 1:
        raise StrayWordError(left[1])
    found = {name: values[name].value for name in values if values[name].present}
    for name, value in found.items():
        _refuse_nul(name, value)
    return Given(found, _sources(words, values), tuple(dict.fromkeys(flagfiles)))


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings from Python, each with its own type; None counts as not given.

    Raises:
      UserError: a setting that does not exist, or a value of another type or out of bounds.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if value is None:
            continue
        if name not in FIELDS:
            raise UserError(aliases.answer(name, FIELDS))
        try:
            found[name] = _env_arg(value) if name == "env_arg" else check(name, value)
        except ValueError as error:
            raise UserError(f"--{name}={clean(repr(value), 100)}: {error}") from error
        _refuse_nul(name, found[name])
    return found


def _refuse_nul(name: str, value: Any) -> None:
    """Raise UserError if there is a NUL character in a setting's value."""
    if "\0" in str(value):
        raise UserError(f"--{name}={value!r}: there is a NUL character in it")


def _env_arg(value: Any) -> tuple[str, ...]:
    """Return arguments of an environment as `name=value` texts.

    Args:
      value: a dictionary of values that JSON has, one such text or several.

    Raises:
      ValueError: it is something else.
    """
    try:
        if isinstance(value, Mapping):
            return tuple(f"{name}={json.dumps(one)}" for name, one in value.items())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"JSON cannot hold it ({error})") from error
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("it takes a dictionary, or texts name=value")
    return tuple(texts)


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as command-line arguments, which `parse` reads as the same settings."""
    words = []
    for name, value in check_settings(settings).items():
        many = value if name == "env_arg" else [value]
        words += [f"--{name}={one}" for one in many]
    return words
