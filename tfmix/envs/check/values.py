"""Compares and describes values that an environment returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfmix.envs.python.adapters.reading import brief


class Range:
    """Holds the lowest and the highest of the numbers that it was given."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def take(self, values: Any) -> None:
        """Include numbers; those that are not finite are left out."""
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            self.low, self.high = min(self.low, values.min()), max(self.high, values.max())

    def __str__(self) -> str:
        """Return the range as text."""
        if self.low >= self.high:
            return f"always {self.low:.4g}" if self.low == self.high else "never seen"
        return f"from {self.low:.4g} to {self.high:.4g}"


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    """Yield the arrays in nested dictionaries, tuples and lists."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from arrays_in(part)
    elif isinstance(value, np.ndarray):
        yield value


def array_types(value: Any) -> str:
    """Return the number types and shapes of the arrays in `value`."""
    return ", ".join(f"{x.dtype} {list(x.shape)}" for x in arrays_in(value)) or "no array"


def nearly_equal(one: Any, other: Any) -> bool:
    """Return whether two arrays hold the same numbers up to rounding; NaN equals NaN."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "biuf" and other.dtype.kind in "biuf":
        return bool(np.allclose(one, other, 1e-5, 1e-6, equal_nan=True))
    return bool(np.array_equal(one, other))


def out_of_bounds(space: Any, value: Any) -> str:
    """Return which number of `value` is out of the bounds of a Box in `space`, "" if none is."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict) and isinstance(value, Mapping):
        if more := [key for key in value if key not in space.spaces]:
            return f"it has {brief(more)}, which the space does not have"
        parts = [out_of_bounds(part, value[key]) for key, part in space.items() if key in value]
        return next(filter(None, parts), "")
    if isinstance(space, spaces.Tuple) and isinstance(value, tuple | list):
        return next(filter(None, map(out_of_bounds, space.spaces, value)), "")
    return _outside_box(space, value) if isinstance(space, spaces.Box) else ""


def _outside_box(space: Any, value: Any) -> str:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):  # refused as no numbers
        return ""
    if array.shape != space.shape:
        return ""
    slack = 1e-6 * np.maximum(1.0, np.abs(array))
    out = (array < space.low - slack) | (array > space.high + slack)
    if not out.any():
        return ""
    place = tuple(np.argwhere(out)[0])
    low, high = space.low[place], space.high[place]
    where = f" at {[int(i) for i in place]}" * bool(place)
    return f"{array[place]:g}{where} is outside of [{low:g}, {high:g}]"
