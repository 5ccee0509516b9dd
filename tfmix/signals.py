"""Ctrl-C and SIGTERM as a question that a loop asks."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and SIGTERM into a question that a loop asks between its parts.

    A second Ctrl-C interrupts at once. Outside of the main thread signals
    cannot be caught, and nothing is changed.
    """
    heard: list[int] = []
    old: dict[int, Any] = {}

    def hear(number: int, frame: Any) -> None:
        if heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard.append(number)

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            old[number] = signal.signal(number, hear)
    except ValueError:
        pass
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
