"""Makes a full configuration from the settings of a request: flagfiles, rules, run.json."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfmix.config import parsing
from tfmix.config.parsing import check_settings
from tfmix.config.schema import FIELDS, TYPES, Config
from tfmix.errors import UserError

# Libraries of others: of a name such as gymnasium/matrix:X only the library says which
# flagfiles are meant.
OTHERS = frozenset({"gymnasium", "pymarl", "smac", "smacv2", "football"})
DEFAULT, ARGUMENT = "default", "argument"
# What a run trained with if its run.json is older than the setting and the default is another.
BEFORE_THE_SETTING: dict[str, Any] = {"qtran_slack": 1.0}


class Resolved(NamedTuple):
    """A full configuration and where it is from.

    Attributes:
      config: all settings.
      sources: where each setting that has no default value was given: the name of a
        flagfile, the command line, or `argument` for one of a Python function.
      flagfiles: names of the flagfiles that were read, in order.
    """

    config: Config
    sources: dict[str, str]
    flagfiles: tuple[str, ...]

    @property
    def typed(self) -> list[str]:
        """The settings that the user gave, and not a flagfile of tfmix's own."""
        return [name for name, source in self.sources.items() if not source.startswith("flags/")]


def _entry(env: str) -> list[str]:
    """Return the parts of an environment's name that may have flagfiles.

    The parts of tfmix's own names and of PettingZoo's own modules are split at / and
    `.`, without a version or number at their end (`_v3`, `_25`). A module of somebody
    else may be called as an environment of tfmix and means another.
    """
    library, slash, rest = env.partition("/")
    if library in OTHERS and slash:
        return [library]
    is_foreign = library == "custom" or (
        library == "pettingzoo" and not rest.startswith("pettingzoo.")
    )
    if ":" in env or is_foreign:
        return []
    parts = (re.sub(r"_v?\d+$", "", part) for part in re.split(r"[/.]", env))
    return list(dict.fromkeys(parts))


def flagfiles_for(algo: str, env: str) -> list[Path]:
    """Return the flagfiles that belong to an environment and an algorithm, in order.

    Each part of the environment's name may have one in flags/env (`mpe` serves
    `mpe/simple_spread` and its PettingZoo twin, `penalty` all penalty games), then
    the algorithm in flags/algo, then the two together
    (flags/env/simple_spread.qtran_alt.flags), the later ones winning. No flagfile was
    written for a user's environment.
    """
    parts = _entry(env)
    names = [*(f"env/{x}" for x in parts), f"algo/{algo}", *(f"env/{x}.{algo}" for x in parts)]
    files = [parsing.FLAGS_FOLDER / f"{name}.flags" for name in names]
    # Path.is_file raises OSError if a name is too long.
    return [file for file in files if os.path.isfile(file)]  # noqa: PTH113


def resolve(settings: Mapping[str, Any]) -> Config:
    """Return a full configuration; as `resolve_all`."""
    return resolve_all(settings).config


def resolve_all(
    settings: Mapping[str, Any],
    sources: Mapping[str, str] | None = None,
    flagfiles: Sequence[str] = (),
) -> Resolved:
    """Return a full configuration for what was asked.

    Defaults, then the flagfiles of `flagfiles_for`, then `settings`.

    Args:
      settings: values by name.
      sources: where they were given; None for arguments of a Python function.
      flagfiles: the flagfiles that are in `settings` already.

    Raises:
      UserError: a setting that does not exist or does not fit.
    """
    above = check_settings(settings)
    files = flagfiles_for(above.get("algo", Config.algo), above.get("env", Config.env))
    below = parsing.read(f"--flagfile={file}" for file in files)
    found = {name: value for name, value in {**below.values, **above}.items() if name in FIELDS}
    found["env_arg"] = (*below.values.get("env_arg", ()), *above.get("env_arg", ()))
    chosen = Config(**found)
    _check_rules(chosen)
    origins = {name: (sources or {}).get(name, ARGUMENT) for name in above}
    return Resolved(
        chosen, {**below.sources, **origins}, tuple(dict.fromkeys([*below.flagfiles, *flagfiles]))
    )


def _check_rules(chosen: Config) -> None:
    """Raise UserError if settings contradict each other."""
    if chosen.batch_episodes > chosen.buffer_episodes:
        raise UserError(
            f"--batch_episodes={chosen.batch_episodes} is more than the replay holds "
            f"(--buffer_episodes={chosen.buffer_episodes})"
        )
    if chosen.update_shards and chosen.batch_episodes % chosen.update_shards:
        raise UserError(
            f"--update_shards={chosen.update_shards} does not divide "
            f"--batch_episodes={chosen.batch_episodes}; 0 chooses for you"
        )
    if chosen.n_step > 1 and chosen.td_lambda > 0:
        raise UserError(
            f"--n_step={chosen.n_step} and --td_lambda={chosen.td_lambda:g} exclude each other"
        )
    if chosen.q_lambda and chosen.td_lambda == 0:
        raise UserError("--q_lambda does nothing without --td_lambda above 0")


def env_arguments(config: Config) -> dict[str, Any]:
    """Return the arguments of --env_arg as a dictionary; a value that is not JSON stays text.

    Raises:
      UserError: an argument without `=`.
    """
    arguments: dict[str, Any] = {}
    for word in config.env_arg:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"--env_arg={word}: write it as name=value")
        try:
            arguments[name] = json.loads(text)
        except (ValueError, RecursionError):
            arguments[name] = text
    return arguments


def from_dict(stored: Mapping[str, Any]) -> Config:
    """Return the configuration of a run folder's run.json.

    A setting that it lacks is as it was before the setting existed, so that a
    resumed run trains as it began.

    Raises:
      UserError: a field this version does not know, or one of the wrong type or out
        of bounds.
    """
    for name, value in stored.items():
        if name not in FIELDS:
            raise UserError(f"run.json holds a setting {name!r} that this version does not know")
        kind = list if name == "env_arg" else TYPES[name]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"run.json: setting {name!r} has a value of the wrong type")
    try:
        check_settings(stored)  # are all in bounds?
    except UserError as error:
        raise UserError(f"run.json: {error}") from error
    found = {n: tuple(v) if n == "env_arg" else v for n, v in stored.items()}
    return Config(**{**BEFORE_THE_SETTING, **found})
