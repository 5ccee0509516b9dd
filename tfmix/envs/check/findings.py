"""What is wrong with an environment: each kind once, and where it was first seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class Finding:
    """One kind of fault.

    Attributes:
      text: what was seen; `{who}` stands for the agents.
      advice: what to do.
      episode: the first episode that showed it, from 1; 0 before the first.
      step: the step of that episode, 0 for its reset.
      who: names of the agents, where it is theirs.
      count: how often it was seen.
    """

    text: str
    advice: str
    episode: int
    step: int
    who: list[str] = dataclasses.field(default_factory=list)
    count: int = 0

    def __str__(self) -> str:
        """What and where."""
        return f"{self.what} ({self.where})"

    @property
    def what(self) -> str:
        """What was seen, in one line."""
        return self.text.replace("{who}", listed(self.who))

    @property
    def where(self) -> str:
        """Where it was first seen."""
        if not self.episode:
            return "everywhere"
        step = f"step {self.step}" if self.step else "at its reset"
        return f"episode {self.episode}, {step}" + (f", {self.count:,} times" * (self.count > 1))


class Findings:
    """Collects findings while episodes are played.

    Attributes:
      violations: what breaks a rule, by kind.
      warnings: what may be meant so, by kind.
      episode: the episode now, from 1.
      step: its step now, 0 for its reset.
    """

    def __init__(self) -> None:
        self.violations: dict[str, Finding] = {}
        self.warnings: dict[str, Finding] = {}
        self.episode = self.step = 0

    def add(
        self, kind: str, text: str, advice: str, who: Any = None, warning: bool = False
    ) -> None:
        """Notes one sight of a kind; the first sight's words are kept."""
        found = self.warnings if warning else self.violations
        finding = found.setdefault(kind, Finding(text, advice, self.episode, self.step))
        finding.count += 1
        if who is not None and str(who) not in finding.who:
            finding.who.append(str(who))


class Held:
    """Arrays that were handed out, to see whether the next step writes into them."""

    def __init__(self) -> None:
        self._held: list[tuple[str, Any, np.ndarray, np.ndarray]] = []

    def hold(self, what: str, who: Any, value: Any) -> None:
        """Keeps the arrays of `value` beside copies."""
        self._held += [(what, who, x, x.copy()) for x in leaves(value) if x.dtype != object]

    def release(self, findings: Findings | None = None) -> None:
        """Forgets them; tells `findings` of those that have changed."""
        for what, who, array, copy in self._held if findings else ():
            if not same(array, copy) and findings:
                findings.add(
                    f"reused {what}",
                    f"the {what}{' of {who}' * (who is not None)} that was returned is changed by "
                    "the next step",
                    "return a new array at every step, such as a .copy()",
                    who,
                )
        self._held = []


def listed(names: list[str], most: int = 4) -> str:
    """Names in a line, the later ones counted."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def leaves(value: Any) -> Iterator[np.ndarray]:
    """The arrays in nested dictionaries, tuples and lists."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, np.ndarray):
        yield value


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
    return None if found not in (0.0, 1.0) else bool(found)


def finite(value: Any) -> bool:
    """Whether no number in `value` is NaN or infinite."""
    return all(np.isfinite(x).all() for x in leaves([np.asarray(value)]) if x.dtype.kind == "f")


def brief(value: Any, most: int = 60) -> str:
    """`value` in a few letters of one line."""
    text = " ".join(f"{value!r}".split())
    return text if len(text) <= most else text[: most - 3] + "..."


def misfit(space: Any, value: Any) -> tuple[str, bool]:
    """What forbids `value` in a Gymnasium space, and whether it can be read all the same."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict | spaces.Tuple):
        keyed = isinstance(space, spaces.Dict)
        if not isinstance(value, Mapping if keyed else tuple | list):
            return f"it is {brief(value)}, not a {'dict' if keyed else 'tuple'}", False
        parts = dict(space.spaces) if keyed else dict(enumerate(space.spaces))
        given = dict(value) if keyed else dict(enumerate(value))
        if set(parts) != set(given):
            return f"it has the parts {list(given)}, not {list(parts)}", False
        wrong = [misfit(part, given[key]) for key, part in parts.items()]
        return next((w for w in wrong if w[0]), ("", True))[0], all(usable for _, usable in wrong)
    if not isinstance(space, spaces.Box):
        fits = bool(space.contains(value))
        return "" if fits else f"{brief(value)} is not in {brief(space)}", fits
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
    return f"{array[place]:g} at {[int(i) for i in place]} is outside of [{low:g}, {high:g}]", True
