"""What the adapters of Python environments share: finding, building, asking for the limit."""

from __future__ import annotations

import importlib.metadata
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfmix.config import UserError
from tfmix.quiet import quiet, quiet_import

# Where environments keep the length of an episode; there is no standard for it.
LIMIT_NAMES = (
    "max_cycles",
    "episode_limit",
    "max_episode_steps",
    "_max_episode_steps",
    "max_steps",
    "max_iter",
    "num_iters",
)
NUMPY_RANDOM: Any = np.random  # its type stubs hide the functions for its generator


def load_module(name: str, module: str) -> ModuleType:
    """Imports `module`, the current directory's own too, for the environment `name`.

    Raises:
      UserError: it cannot be imported.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file of the user's hides nobody's module
    try:
        return quiet_import(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name}: cannot import {module}: {error}, neither installed nor in this directory"
        ) from error
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{name}: cannot import {module}: {error}") from error
    except Exception as error:  # a fault in the user's own module
        raise UserError(
            f"{name}: cannot import {module}: {type(error).__name__}: {error}"
        ) from error


def find(name: str, target: str) -> Callable[..., Any]:
    """What `module:function` or `module:Class` means.

    Raises:
      UserError: there is no such module, nothing of that name in it, or
        nothing that can be called.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"{name}: write module:function, not {target!r}")
    found: Any = load_module(name, module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"{name}: there is no {attribute} in {module}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{name}: {target} is no function and no class")
    return found


class Dice:
    """Lends an environment its own `random` and `np.random`, as a context.

    Whatever is drawn of the two inside comes from the last seed alone, and
    outside of it the draws go on as if nothing had happened (but for the spare
    normal number that `np.random` may have kept).
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Starts both afresh."""
        # Swapping the generator costs nothing, copying its state 50 us each way.
        self._inner: tuple[Any, Any] = random.Random(seed).getstate(), np.random.MT19937(seed)

    def __enter__(self) -> None:
        self._outer = random.getstate(), NUMPY_RANDOM.get_bit_generator()
        random.setstate(self._inner[0])
        NUMPY_RANDOM.set_bit_generator(self._inner[1])

    def __exit__(self, *_: Any) -> None:
        self._inner = random.getstate(), NUMPY_RANDOM.get_bit_generator()
        random.setstate(self._outer[0])
        NUMPY_RANDOM.set_bit_generator(self._outer[1])


def build(name: str, make: Callable[..., Any], *words: Any, **arguments: Any) -> Any:
    """`make(*words, **arguments)` with a third party's banners held back.

    What it draws of `random` and `np.random` is the same in every run: a map
    made here is still the same one when the team is evaluated.

    Raises:
      UserError: it raised something, or left the program.
    """
    try:
        with quiet(), Dice():
            return make(*words, **arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever a third party raises, the request was wrong
        raise UserError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def limit_of(env: Any) -> tuple[int, str]:
    """The environment's own limit in env steps and the attribute that says so; 0 for none."""
    layers = [env, getattr(env, "aec_env", None), getattr(env, "par_env", None)]
    for layer in layers:
        for place in (layer, getattr(layer, "unwrapped", None)):
            for attribute in LIMIT_NAMES:
                value = getattr(place, attribute, None)
                if isinstance(value, int | np.integer) and value > 0:
                    return int(value), attribute
    return 0, ""


def version_of(what: str, module: str) -> str:
    """`what` with the name and version of the package that `module` is in."""
    package = module.split(".")[0]
    try:
        return f"{what}, {package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{what}, {package} ?"
