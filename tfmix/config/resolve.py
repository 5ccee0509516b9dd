"""From what was asked for to a full configuration: flagfiles, rules between settings, run.json."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmix.config.parsing import as_flags, parse
from tfmix.config.schema import FIELDS, TYPES, Config
from tfmix.errors import UserError

FLAGS_FOLDER = Path(__file__).resolve().parents[2] / "flags"

# What a run trained with if its run.json is older than the setting and the default is another.
BEFORE_THE_SETTING: dict[str, Any] = {"qtran_slack": 1.0}


def flagfiles_for(algo: str, env: str) -> list[Path]:
    """The flagfiles that belong to an environment and an algorithm, in order.

    Each word of the environment's name, split at / and . and without a version
    or number at its end (`_v3`, `_25`), may have one in flags/env (`mpe` serves
    `mpe/simple_spread` and its PettingZoo twin, `penalty` all penalty games), then
    the algorithm in flags/algo, then the two together
    (flags/env/simple_spread.qtran_alt.flags), the later ones winning. A name
    `module:function` is the user's own, and no flagfile was written for it.
    """
    own = ":" in env and "/" not in env
    words = [] if own else [re.sub(r"_v?\d+$", "", word) for word in re.split(r"[/.:]", env)]
    words = list(dict.fromkeys(words))
    names = [*(f"env/{w}" for w in words), f"algo/{algo}", *(f"env/{w}.{algo}" for w in words)]
    files = [FLAGS_FOLDER / f"{name}.flags" for name in names]
    # Path.is_file raises OSError if a name is too long.
    return [file for file in files if os.path.isfile(file)]  # noqa: PTH113


def resolve(settings: Mapping[str, Any]) -> Config:
    """A full configuration from what was asked for.

    Defaults, then the flagfiles of `flagfiles_for`, then `settings`.

    Raises:
      UserError: a setting that does not exist or does not fit.
    """
    named = {name: str(value) for name, value in settings.items() if value is not None}
    files = flagfiles_for(named.get("algo", Config.algo), named.get("env", Config.env))
    below = parse(f"--flagfile={file}" for file in files)
    above = parse(as_flags(settings))
    found = {name: value for name, value in {**below, **above}.items() if name in FIELDS}
    found["env_arg"] = (*below.get("env_arg", ()), *above.get("env_arg", ()))
    chosen = Config(**found)
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
    return chosen


def env_arguments(config: Config) -> dict[str, Any]:
    """--env_arg words as a dictionary; a value that is not JSON stays a string.

    Raises:
      UserError: a word without `=`.
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
        parse(as_flags(stored))  # are all in bounds?
    except UserError as error:
        raise UserError(f"run.json: {error}") from error
    found = {n: tuple(v) if n == "env_arg" else v for n, v in stored.items()}
    return Config(**{**BEFORE_THE_SETTING, **found})
