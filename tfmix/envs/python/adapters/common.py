"""Functions that the adapters share: import, construction, spaces, episode limit."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfmix.errors import UserError
from tfmix.utils import text
from tfmix.utils.quiet import quiet, quiet_import

# Attributes in which environments store their episode limit; there is no standard name.
LIMIT_NAMES = (
    "max_cycles",
    "episode_limit",
    "max_episode_steps",
    "_max_episode_steps",
    "max_steps",
    "num_timesteps",
    "max_timesteps",
)
# Attributes in which wrappers and converters store the wrapped environment.
INNER_NAMES = ("unwrapped", "aec_env", "par_env", "env")
MAX_LAYERS = 32
NUMPY_RANDOM: Any = np.random  # its type stubs hide the functions for its generator


def load_module(name: str, module: str) -> ModuleType:
    """Import `module`, if need be from the current directory, for the environment `name`.

    Raises:
      UserError: it cannot be imported.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that a file of the user hides no installed module
    try:
        return quiet_import(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name}: cannot import {module}: {text.clean(error)}, neither installed nor in this "
            "directory"
        ) from error
    except SystemExit as error:  # such as a script that reads a command line
        raise UserError(
            f"{name}: importing {module} ends the program (exit code {text.clean(error.code)}): "
            'put what it does as a script under `if __name__ == "__main__":`'
        ) from error
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{name}: cannot import {module}: {text.clean(error)}") from error
    except Exception as error:  # a fault in the user's module
        raise UserError(f"{name}: cannot import {module}: {text.of_error(error)}") from error


def find_callable(name: str, target: str) -> Callable[..., Any]:
    """Return what `module:function` or `module:Class` names.

    Raises:
      UserError: there is no such module, it has no such name, or what the name
        refers to cannot be called.
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
        raise UserError(
            f"{name}: {target} is neither a function nor a class"
            + (", but an environment: name its class" if hasattr(found, "step") else "")
        )
    return found


class SeededGlobalRandom:
    """Gives an environment a private state of `random` and `np.random`, as a context.

    Draws inside the context depend only on the last seed. Draws outside of it
    are unaffected (except for the spare normal number that `np.random` may have
    stored).
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Seed both generators."""
        # Swapping the generator is free; copying its state takes 50 us each way.
        self._inner: tuple[Any, Any] = random.Random(seed).getstate(), np.random.MT19937(seed)

    def __enter__(self) -> None:
        self._outer = random.getstate(), NUMPY_RANDOM.get_bit_generator()
        random.setstate(self._inner[0])
        NUMPY_RANDOM.set_bit_generator(self._inner[1])

    def __exit__(self, *_: Any) -> None:
        self._inner = random.getstate(), NUMPY_RANDOM.get_bit_generator()
        random.setstate(self._outer[0])
        NUMPY_RANDOM.set_bit_generator(self._outer[1])


def build(name: str, make: Callable[..., Any], *values: Any, **arguments: Any) -> Any:
    """Return `make(*values, **arguments)`, without the banners that third parties print.

    Its draws from `random` and `np.random` are the same in every run, so that a
    map that is drawn here is the same when the team is evaluated.

    Raises:
      UserError: it raised an exception or called sys.exit.
    """
    try:
        with quiet(), SeededGlobalRandom():
            return make(*values, **arguments)
    except UserError:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # any exception of a third party means that the request was wrong
        raise UserError(
            f"{name} cannot be made: {text.of_error(error)}{seed_hint(error)}"
        ) from error


def seed_hint(error: BaseException) -> str:
    """Return advice on an error that older interfaces often cause, else an empty text."""
    if isinstance(error, TypeError) and "'seed'" in str(error):
        return (
            "; Gymnasium's and PettingZoo's interface is reset(self, seed=None, options=None) -> "
            "(observations, infos)"
        )
    return ""


def find_limit(env: Any) -> tuple[int, str]:
    """Return the environment's episode limit in env steps and its source; 0 if there is none.

    It searches for an attribute of `LIMIT_NAMES` in the environment, in those
    that it wraps, and in their `config`.
    """
    for layer in layers_of(env):
        config = getattr(layer, "config", None)
        settings = config if isinstance(config, Mapping) else {}
        for name in LIMIT_NAMES:
            if limit := _as_limit(getattr(layer, name, None)):
                return limit, name
            if limit := _as_limit(settings.get(name)):
                return limit, f"{name} of its config"
        # highway-env measures episodes in seconds.
        if {"duration", "policy_frequency"} <= settings.keys():
            duration, frequency = settings["duration"], settings["policy_frequency"]
            if (
                _is_real(duration)
                and _is_real(frequency)
                and (limit := int(duration * frequency)) > 0
            ):
                return limit, "duration and policy_frequency of its config"
    return 0, ""


def layers_of(env: Any) -> Iterator[Any]:
    """Yield an environment and those that it wraps, each once, from the outside in."""
    layers: list[Any] = [env]
    seen: set[int] = set()
    while layers and len(seen) < MAX_LAYERS:
        layer = layers.pop(0)
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        for name in INNER_NAMES:
            with contextlib.suppress(Exception):  # a third party's property may raise
                layers.append(getattr(layer, name, None))


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _as_limit(value: Any) -> int:
    """Return `value` if it is a whole number above 0, of any number type, else 0."""
    if isinstance(value, bool) or not _is_real(value) or value != int(value):
        return 0
    return max(int(value), 0)


def find_space(source: Any, what: str, agent: Any) -> Any:
    """Return an agent's space of actions or observations.

    Libraries provide `action_space(agent)`, an attribute `action_space` (one for
    each agent if it is a Dict with the agents' names, else one for all), an entry
    of `action_spaces`, or `get_action_space(agent)`.

    Args:
      source: the environment.
      what: `action` or `observation`.
      agent: the agent.

    Raises:
      AttributeError: it has none of these.
    """
    space = getattr(source, f"{what}_space", None)
    if callable(space):
        return space(agent)
    if space is not None:
        parts = getattr(space, "spaces", None)
        return parts[agent] if isinstance(parts, Mapping) and agent in parts else space
    by_agent = getattr(source, f"{what}_spaces", None)
    if isinstance(by_agent, Mapping) and agent in by_agent:
        return by_agent[agent]
    if callable(get := getattr(source, f"get_{what}_space", None)):
        return get(agent)
    raise AttributeError(f"there is no {what}_space(agent) and no {what}_spaces")


def close_quietly(env: Any) -> None:
    """Call `close` if there is one; an exception from it must not cost a result."""
    with contextlib.suppress(Exception, SystemExit):
        env.close()


def version_of(what: str, module: str) -> str:
    """Return `what` with the name and version of the package of `module`."""
    package = module.split(".")[0]
    try:
        return f"{what}, {package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{what}, {package} ?"
