"""Run folders: how they are named and what their run.json says."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from tfmix import config
from tfmix.config import Config, UserError
from tfmix.types import EnvSpec

FORMAT = 1  # of run.json


def safe(name: str) -> str:
    """`name` as a part of a path: characters outside of A-Z a-z 0-9 . _ - become _."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


class RunFile(NamedTuple):
    """A run.json: the settings, the task, and all of it as it stands there."""

    config: Config
    spec: EnvSpec
    about: dict[str, Any]


def read(folder: str | os.PathLike[str]) -> RunFile:
    """The run.json of a run folder.

    Raises:
      UserError: there is no run, or its run.json cannot be read.
    """
    path = Path(folder)
    try:
        about = json.loads((path / "run.json").read_text())
        if about["format"] > FORMAT:
            raise UserError(
                f"{path} was written by a newer tfmix ({about['versions']['tfmix']}); update tfmix"
            )
        fields = {f.name for f in dataclasses.fields(EnvSpec)}
        spec = {name: value for name, value in about["spec"].items() if name in fields}
        spec["agent_n_actions"] = tuple(spec["agent_n_actions"])
        return RunFile(config.from_dict(about["config"]), EnvSpec(**spec), about)
    except FileNotFoundError as error:
        raise UserError(f"there is no run in {path}: it has no run.json") from error
    except OSError as error:
        raise UserError(f"cannot read {path / 'run.json'}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path / 'run.json'} is damaged: {error}") from error
