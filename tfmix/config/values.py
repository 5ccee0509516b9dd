"""Values of settings: read from text or taken from Python, with the same bounds and messages."""

from __future__ import annotations

import math
import numbers
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tfmix.config.schema import FIELDS, MAX_INT, TYPES

_WHOLE = re.compile(r"([+-]?[\d_]*\.?[\d_]*(?:e[+-]?\d+)?)([kmg]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_MOST_DIGITS = 40  # of a whole number; more are out of every bound


def wanted(name: str) -> str:
    """Return what values the setting `name` takes, such as `a number from 0 to 1`."""
    meta, kind = FIELDS[name].metadata, TYPES[name]
    if "choices" in meta:
        return f"one of {', '.join(meta['choices'])}"
    if kind is bool:
        return "true or false"
    if kind not in (int, float):
        return "text"
    number = "a whole number" if kind is int else "a number"
    low, high = meta.get("low"), meta.get("high", MAX_INT if kind is int else None)
    if low is not None and high not in (None, MAX_INT):
        return f"{number} from {low:g} to {_short(high)}"
    return number if low is None else f"{number} of at least {low:g}"


def _short(number: float) -> str:
    """Return a bound as text, all of its digits if it is a whole number."""
    return f"{number:g}" if isinstance(number, float) else str(number)


def read_whole(text: str) -> int:
    """Read a whole number: `1000000`, `1_000_000`, `1e6`, `200k` or `2M`.

    Raises:
      ValueError: it is none.
    """
    match = _WHOLE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        number = Decimal(match[1].replace("_", "")) * _FACTORS[match[2].lower()]
        if number.adjusted() > _MOST_DIGITS or number != number.to_integral_value():
            raise ValueError
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{text} is not a whole number") from error
    return int(number)


def as_typed(value: Any) -> str:
    """Return a setting's value as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Window(NamedTuple):
    """Updates of a run, counted from 1, the last one included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"


def read_window(text: str) -> Window:
    """Read `FIRST:LAST`.

    Raises:
      ValueError: it is not two whole numbers, from 1 on and in order.
    """
    first, colon, last = text.partition(":")
    try:
        window = Window(read_whole(first), read_whole(last))
    except ValueError:
        window = Window(0, 0)
    if not colon or not 1 <= window.first <= window.last <= MAX_INT:
        raise ValueError("it takes the first and the last update, counted from 1, such as 100:200")
    return window


def from_text(name: str, text: str) -> Any:
    """Read the value of a setting from what was typed.

    Raises:
      ValueError: it has another type, or is out of bounds.
    """
    kind = TYPES[name]
    value: Any = text
    if kind in (int, float):
        try:
            value = read_whole(text) if kind is int else float(text)
        except ValueError:
            raise ValueError(f"it takes {wanted(name)}") from None
    return check(name, value)


def check(name: str, value: Any) -> Any:
    """Return a value from Python as the type of the setting `name`.

    NumPy's numbers serve, and a float that is a whole number serves as an int. Text is
    not a number.

    Raises:
      ValueError: it has another type, or is out of bounds.
    """
    try:
        found = _typed(name, value)
    except (TypeError, OverflowError):  # infinity is not an int
        raise ValueError(f"it takes {wanted(name)}") from None
    meta = FIELDS[name].metadata
    if isinstance(found, int | float) and not isinstance(found, bool):
        low, high = meta.get("low", -math.inf), meta.get("high", math.inf)
        high = min(high, MAX_INT) if TYPES[name] is int else high
        if not (math.isfinite(found) and low <= found <= high):
            raise ValueError(f"it takes {wanted(name)}")
    elif "choices" in meta and found not in meta["choices"]:
        raise ValueError(f"it takes {wanted(name)}")
    return found


def _typed(name: str, value: Any) -> Any:
    """Return `value` with the type of the setting, or raise TypeError if it has another one."""
    kind = TYPES[name]
    is_bool = type(value).__name__ in ("bool", "bool_")  # Python's and NumPy's
    if is_bool != (kind is bool):
        raise TypeError
    if is_bool:
        return bool(value)
    if kind is float and isinstance(value, numbers.Real):
        return float(value)
    if kind is int and isinstance(value, numbers.Integral):
        return int(value)
    if kind is int and isinstance(value, numbers.Real) and float(value).is_integer():
        return int(float(value))
    if kind is str and (isinstance(value, str) or name == "run_dir"):
        text = os.fspath(value)
        return _expand(text) if name == "run_dir" else text
    raise TypeError


def _expand(path: str) -> str:
    """Return a path with `~` expanded, or raise ValueError if it names a user that is none."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise ValueError(str(error)) from error
