"""Reads single values that an environment returns: flags, numbers, masks, observations.

Whatever an environment gives passes through here before tfmix uses it. A value
in a known convention is read; any other is refused, never cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmix.utils import text

MAX_FLOAT32 = float(np.finfo(np.float32).max)
# Keys under which infos and observations hold an action mask, in the order of their use.
MASK_KEYS = ("action_mask", "avail_actions", "available_actions")
# RLlib's key for a flag that counts for every agent.
EVERYONE = "__all__"

# As tuples, which are faster to ask about than unions.
PYTHON_NUMBERS, BOOLS = (float, int), (bool, np.bool_)

Reader = Callable[[Any], np.ndarray]


class MisfitError(ValueError):
    """A value that does not fit its space or shape; the message says how."""


class WideError(MisfitError):
    """A finite number beyond float32; the message is the number."""


def brief(value: Any, most: int = 60) -> str:
    """Returns `value` in a few characters of one line."""
    if isinstance(value, str):
        return repr(text.clean(value, most))
    try:
        shown = np.array2string(value, threshold=8) if isinstance(value, np.ndarray) else value
        return text.clean(shown if isinstance(shown, str) else repr(value), most)
    except Exception:  # an object of the user's whose repr raises
        return f"a {type(value).__name__}"


def number(value: Any) -> float | None:
    """Reads one real number: a Python or NumPy number or an array of one.

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
    except Exception:  # ragged lists, and tensors of other libraries that refuse
        return None
    if array.size != 1 or array.dtype.kind not in "biuf":
        return None
    return float(array.reshape(()))


def flag(value: Any) -> bool | None:
    """Reads one yes or no: a bool, 0, 1 or an array of one of them; None if it is neither."""
    if isinstance(value, BOOLS):
        return bool(value)
    found = number(value)
    return bool(found) if found in (0.0, 1.0) else None


def all_flags(value: Any) -> bool | None:
    """Reads the end of a whole team: one flag, or one for each agent.

    A list, tuple, array or dict of flags is an end when all of them are; a
    dict's `__all__` decides alone.

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
    """Whether `value` holds values in an order: a list, a tuple or an array with an axis."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def by_agent(value: Any, agents: Sequence[Any]) -> Any:
    """Reads one value for each agent.

    Args:
      value: a mapping by agent, or a list, tuple or array in the order of `agents`.
      agents: their names.

    Returns:
      a dict; `value` itself if it is neither, which the caller refuses.
    """
    if isinstance(value, Mapping):
        return value
    if is_list(value) and len(value) == len(agents):
        return dict(zip(agents, value, strict=True))
    return value


def mask(value: Any, size: int) -> np.ndarray | None:
    """Reads an action mask: `size` bools, or as many numbers that are all 0 or 1.

    Returns:
      [size] bool; None if `value` is something else, such as a mask of 0 and
      -inf that is added to values, a list of legal actions, or one of another size.
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
    """Returns what `place`, an info or an observation, holds under a key for masks, else None."""
    # The two commonest kinds first: to ask about a Mapping takes longer.
    kind = type(place)
    if kind is np.ndarray or not (kind is dict or isinstance(place, Mapping)):
        return None
    for key in MASK_KEYS if place else ():
        if key in place:
            return place[key]
    return None


def team_mask(infos: Any, agent: Any, i: int, count: int) -> Any:
    """Returns the mask that infos hold for an agent, else None.

    It is in the agent's info, or in the info of the team: there by agent, as a
    row for each agent, or as one mask that counts for every agent.

    Args:
      infos: by agent, or of the team.
      agent: the agent.
      i: its place among all agents.
      count: N.
    """
    if not isinstance(infos, Mapping):
        return None
    found = mask_in(infos.get(agent))
    return row_of(mask_in(infos), agent, i, count) if found is None else found


def row_of(team: Any, agent: Any, i: int, count: int) -> Any:
    """Returns an agent's part of a mask of the team; as `team_mask`."""
    if isinstance(team, Mapping):
        return team.get(agent)
    by_row = is_list(team) and len(team) == count and all(map(is_list, team))
    return team[i] if by_row else team


def without_mask(value: Mapping[Any, Any]) -> Any:
    """Returns the observation in a dict that holds a mask beside it.

    That is the entry beside the mask, whatever its key; of several, all of them.
    """
    rest = {key: part for key, part in value.items() if key not in MASK_KEYS}
    return next(iter(rest.values())) if len(rest) == 1 else rest


def visible(space: Any) -> Any:
    """Returns the part of an observation space that is an observation, not a mask."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict) or not any(key in space.spaces for key in MASK_KEYS):
        return space
    rest = without_mask(space.spaces)
    return rest if isinstance(rest, spaces.Space) else spaces.Dict(rest)


def real_array(value: Any) -> np.ndarray:
    """Reads an array of real numbers.

    Raises:
      MisfitError: `value` is of other things: strings, objects, complex numbers,
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
    """Returns real numbers as float32.

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
    """Returns what turns an observation of a Gymnasium space into a flat float32 array.

    The order of the numbers is that of `gymnasium.spaces.utils.flatten`, but
    numbers of a Box are taken as they are, not cast to the space's number type.

    Raises:
      MisfitError: the space has no fixed size. The returned reader raises it
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
        # A part that the space does not have is left out, as Gymnasium's flatten does.
        if missing := [key for key in readers if key not in given]:
            raise MisfitError(f"it lacks {brief(missing)}; it has {brief(list(given))}")
        flat = [read_part(given[key]) for key, read_part in readers.items()]
        return np.concatenate(flat) if flat else np.zeros(0, np.float32)

    return read
