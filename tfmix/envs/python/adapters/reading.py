"""Reads single values that an environment returns: flags, numbers, masks, observations.

All values of third-party environments pass through here before tfmix uses them.
A value in a known convention is read; any other is refused, never cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.utils import text

MAX_FLOAT32 = float(np.finfo(np.float32).max)
# Keys of action masks in infos and observations, in the order in which they are tried.
MASK_KEYS = ("action_mask", "avail_actions", "available_actions")
# RLlib's key for a flag that counts for every agent.
EVERYONE = "__all__"

# Tuples, since isinstance is faster with them than with unions.
PYTHON_NUMBERS, BOOLS = (float, int), (bool, np.bool_)

Reader = Callable[[Any], np.ndarray]


class MisfitError(ValueError):
    """A value does not fit its space or shape; the message says how."""


class WideError(MisfitError):
    """A finite number is beyond float32; the message is the number."""


def brief(value: Any, most: int = 60) -> str:
    """Return `value` as text of one line and at most `most` characters."""
    if isinstance(value, str):
        return repr(text.clean(value, most))
    try:
        shown = np.array2string(value, threshold=8) if isinstance(value, np.ndarray) else value
        return text.clean(shown if isinstance(shown, str) else repr(value), most)
    except Exception:  # a third-party object whose __repr__ raises
        return f"a {type(value).__name__}"


def number(value: Any) -> float | None:
    """Read one real number: a Python or NumPy number or an array of one.

    Returns:
      the number, which may be NaN or infinite; None if `value` is not one real
      number (a string, None, complex, several numbers).
    """
    if isinstance(value, PYTHON_NUMBERS):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, and tensors of other libraries that cannot be converted
        return None
    if array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return float(array.reshape(()))


def flag(value: Any) -> bool | None:
    """Read one bool: a bool, 0, 1 or an array of one of them; None if it is none of these."""
    if isinstance(value, BOOLS):
        return bool(value)
    found = number(value)
    return bool(found) if found in (0.0, 1.0) else None


def all_flags(value: Any) -> bool | None:
    """Read the end of an episode for a whole team: one flag, or one for each agent.

    A list, tuple, array or dict of flags is True if all of them are; a dict's
    `__all__` decides alone.

    Returns:
      None if `value` is none of these.
    """
    if isinstance(value, Mapping):
        value = [value[EVERYONE]] if EVERYONE in value else list(value.values())
    if is_list(value) and len(value):
        flags = [flag(one) for one in value]
        return None if None in flags else all(flags)
    return flag(value)


def is_list(value: Any) -> bool:
    """Return whether `value` is a list, a tuple or an array with an axis."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def by_agent(value: Any, agents: Sequence[Any]) -> Any:
    """Read one value for each agent.

    Args:
      value: a mapping by agent, or a list, tuple or array in the order of `agents`.
      agents: their names.

    Returns:
      a mapping by agent; `value` itself if it is neither, which the caller refuses.
    """
    if isinstance(value, Mapping):
        return value
    if is_list(value) and len(value) == len(agents):
        return dict(zip(agents, value, strict=True))
    return value


def mask(value: Any, size: int) -> np.ndarray | None:
    """Read an action mask: `size` bools, or as many numbers that are all 0 or 1.

    Returns:
      [size] bool; None if `value` is something else, such as a mask of 0 and
      -inf that is added to values, a list of legal actions, or a mask of another
      size.
    """
    try:
        found = np.asarray(value)
    except Exception:
        return None
    if found.shape != (size,):
        return None
    if found.dtype.kind == "b":
        return found
    if found.dtype.kind not in "iuf":
        return None
    legal = found == 1
    return legal if (legal | (found == 0)).all() else None


def mask_in(place: Any) -> Any:
    """Return the mask in `place`, an info or an observation, or None if it holds none."""
    # The two most common types first, since a test for Mapping is slower.
    kind = type(place)
    if kind is np.ndarray or not (kind is dict or isinstance(place, Mapping)):
        return None
    for key in MASK_KEYS if place else ():
        if key in place:
            return place[key]
    return None


def team_mask(infos: Any, agent: Any, i: int, count: int) -> Any:
    """Return the mask that infos hold for an agent, or None.

    It is in the agent's info, or in the team's info: by agent, as one row for
    each agent, or as one mask for all agents.

    Args:
      infos: infos by agent, or one info of the team.
      agent: the agent.
      i: its index.
      count: N.
    """
    if not isinstance(infos, Mapping):
        return None
    found = mask_in(infos.get(agent))
    return row_of(mask_in(infos), agent, i, count) if found is None else found


def row_of(team: Any, agent: Any, i: int, count: int) -> Any:
    """Return an agent's part of a team's mask; arguments as `team_mask`."""
    if isinstance(team, Mapping):
        return team.get(agent)
    by_row = is_list(team) and len(team) == count and all(map(is_list, team))
    return team[i] if by_row else team


def without_mask(value: Mapping[Any, Any]) -> Any:
    """Return the observation in a dict that also holds a mask.

    It is the only other entry, whatever its key, or a dict of all other entries.
    """
    rest = {key: part for key, part in value.items() if key not in MASK_KEYS}
    return next(iter(rest.values())) if len(rest) == 1 else rest


def visible(space: Any) -> Any:
    """Return the part of an observation space that is an observation, not a mask."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict) or not any(key in space.spaces for key in MASK_KEYS):
        return space
    rest = without_mask(space.spaces)
    return rest if isinstance(rest, spaces.Space) else spaces.Dict(rest)


def real_array(value: Any) -> np.ndarray:
    """Read an array of real numbers.

    Raises:
      MisfitError: `value` holds something else: strings, objects, complex numbers,
        lists of unequal length.
    """
    try:
        array = np.asarray(value)
    except Exception as error:
        raise MisfitError(f"it is {brief(value)}, not an array of numbers") from error
    if array.dtype.kind not in "biuf":
        raise MisfitError(f"it is {brief(value)}, not an array of numbers")
    return array


def to_float32(array: np.ndarray) -> np.ndarray:
    """Return real numbers as float32.

    Raises:
      WideError: a finite number is beyond float32.
    """
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):
        cast: np.ndarray = array.astype(np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        lost = np.isinf(cast) & np.isfinite(array)
        if lost.any():
            raise WideError(f"{array[lost].flat[0]:g}")
    return cast


def observation_reader(space: Any) -> Reader:
    """Return a function that turns an observation of a space into a flat float32 array.

    The order of the numbers is that of `gymnasium.spaces.utils.flatten`, but
    numbers of a Box are not cast to the space's number type first.

    Raises:
      MisfitError: the space has no fixed size. The returned function raises it
        for a value that does not fit.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return _box_reader(space.shape)
    if isinstance(space, spaces.Discrete):
        return _one_hot_reader([int(space.n)], [int(space.start)])
    if isinstance(space, spaces.MultiDiscrete):
        start = getattr(space, "start", np.zeros_like(space.nvec))
        return _one_hot_reader(space.nvec.ravel().tolist(), np.ravel(start).tolist())
    if isinstance(space, spaces.MultiBinary):
        return _binary_reader(space.shape)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _parts_reader(space)
    if isinstance(space, spaces.Text):
        return lambda value: np.asarray(spaces.utils.flatten(space, value), np.float32)
    raise MisfitError(f"{brief(space)} has no fixed size")


def _box_reader(shape: tuple[int, ...]) -> Reader:
    def read(value: Any) -> np.ndarray:
        array = value if type(value) is np.ndarray else real_array(value)
        if array.dtype != np.float32:
            array = to_float32(real_array(array))
        if array.shape != shape:
            raise MisfitError(f"its shape is {list(array.shape)}, not {list(shape)}")
        return array.reshape(-1)

    return read


def _one_hot_reader(sizes: list[int], starts: list[int]) -> Reader:
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    total = sum(sizes)

    def read(value: Any) -> np.ndarray:
        found = real_array(value).ravel()
        if found.shape != (len(sizes),):
            raise MisfitError(f"{brief(value)} is not {len(sizes)} whole numbers")
        at = found - starts
        if not ((at >= 0) & (at < sizes) & (at == np.floor(at))).all():
            ranges = (
                f"[{starts[0]}, {starts[0] + sizes[0] - 1}]" if len(sizes) == 1 else "its range"
            )
            raise MisfitError(f"{brief(value)} is not a whole number in {ranges}")
        flat: np.ndarray = np.zeros(total, np.float32)
        flat[offsets + at.astype(int)] = 1.0
        return flat

    return read


def _binary_reader(shape: tuple[int, ...]) -> Reader:
    def read(value: Any) -> np.ndarray:
        array = real_array(value)
        if array.shape != shape or not ((array == 0) | (array == 1)).all():
            raise MisfitError(f"it is {brief(value)}, not {list(shape)} values of 0 and 1")
        return array.astype(np.float32).reshape(-1)

    return read


def _parts_reader(space: Any) -> Reader:
    keyed = hasattr(space.spaces, "items")
    parts = dict(space.spaces.items()) if keyed else dict(enumerate(space.spaces))
    readers = {key: observation_reader(part) for key, part in parts.items()}
    wanted = "a dict" if keyed else "a tuple"

    def read(value: Any) -> np.ndarray:
        if not isinstance(value, Mapping if keyed else tuple | list | np.ndarray):
            raise MisfitError(f"it is {brief(value)}, not {wanted}")
        given: Mapping[Any, Any] = value if keyed else dict(enumerate(value))
        # Entries that the space does not have are ignored, as in Gymnasium's flatten.
        if missing := [key for key in readers if key not in given]:
            raise MisfitError(f"it lacks {brief(missing)}; it has {brief(list(given))}")
        flat = [read_part(given[key]) for key, read_part in readers.items()]
        return np.concatenate(flat) if flat else np.zeros(0, np.float32)

    return read
