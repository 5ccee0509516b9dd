"""Judges single values that an environment returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfmix.envs.check.findings import Findings, brief


class Held:
    """Arrays that were handed out, to see whether the next step writes into them."""

    def __init__(self) -> None:
        self._held: list[tuple[str, Any, np.ndarray, np.ndarray]] = []

    def hold(self, what: str, who: Any, value: Any) -> None:
        """Keeps the arrays of `value` beside copies."""
        self._held += [(what, who, x, x.copy()) for x in leaves(value) if x.dtype != object]

    def release(self, findings: Findings | None) -> None:
        """Forgets them; tells `findings`, where given, of those that have changed."""
        for what, who, array, copy in self._held if findings else ():
            if findings and not same(array, copy):
                findings.add("reused", who, what=what)
        self._held = []


class Range:
    """The lowest and the highest of numbers."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def take(self, values: Any) -> None:
        """Counts numbers in; those that are not finite are left out."""
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            self.low, self.high = min(self.low, values.min()), max(self.high, values.max())

    def __str__(self) -> str:
        """In words."""
        if self.low >= self.high:
            return f"always {self.low:.4g}" if self.low == self.high else "never seen"
        return f"from {self.low:.4g} to {self.high:.4g}"


def leaves(value: Any) -> Iterator[np.ndarray]:
    """The arrays in nested dictionaries, tuples and lists."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, np.ndarray):
        yield value


def kind(value: Any) -> str:
    """Number types and shapes of the arrays in `value`."""
    return ", ".join(f"{x.dtype} {list(x.shape)}" for x in leaves(value)) or "no array"


def finite(value: Any) -> bool:
    """Whether no number in `value` is NaN or infinite."""
    parts = leaves(value if isinstance(value, Mapping | tuple) else [np.asarray(value)])
    return all(np.isfinite(x).all() for x in parts if x.dtype.kind == "f")


def same(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same numbers, but for rounding; NaN equals NaN."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "biuf" and other.dtype.kind in "biuf":
        return bool(np.allclose(one, other, 1e-5, 1e-6, equal_nan=True))
    return bool(np.array_equal(one, other))


def number(value: Any) -> float | None:
    """`value` as a float, None where it is no single number."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return None
    return float(array) if array.ndim == 0 and array.dtype.kind in "biuf" else None


def flag(value: Any) -> bool | None:
    """`value` as a bool, None where it is not one yes or no."""
    found = number(value)
    return bool(found) if found in (0.0, 1.0) else None


def misfit(space: Any, value: Any) -> tuple[str, bool]:
    """What forbids `value` in a Gymnasium space, and whether it can be read all the same."""
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return _misfit_box(space, value)
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        fits = bool(space.contains(value))
        return "" if fits else f"{brief(value)} is not in {brief(space)}", fits
    keyed = isinstance(space, spaces.Dict)
    if not isinstance(value, Mapping if keyed else tuple | list):
        return f"it is {brief(value)}, not a {'dict' if keyed else 'tuple'}", False
    parts, given = (dict(x) if keyed else dict(enumerate(x)) for x in (space.spaces, value))
    if set(parts) != set(given):
        return f"it has the parts {list(given)}, not {list(parts)}", False
    wrong = [misfit(part, given[key]) for key, part in parts.items()]
    return next((text for text, _ in wrong if text), ""), all(usable for _, usable in wrong)


def _misfit_box(space: Any, value: Any) -> tuple[str, bool]:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return f"{brief(value)} is not of numbers", False
    if array.shape != space.shape:
        return f"its shape is {list(array.shape)}, not {list(space.shape)}", False
    slack = 1e-6 * np.maximum(1.0, np.abs(array))
    out = (array < space.low - slack) | (array > space.high + slack)
    if not out.any():
        return "", True
    place = tuple(np.argwhere(out)[0])
    low, high = space.low[place], space.high[place]
    where = f" at {[int(i) for i in place]}" * bool(place)
    return f"{array[place]:g}{where} is outside of [{low:g}, {high:g}]", True
