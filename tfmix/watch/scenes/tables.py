"""Draws what has no drawing: observations as a table, or the pictures of an environment."""

from __future__ import annotations

import numpy as np

from tfmix.utils import text
from tfmix.watch.record import Record
from tfmix.watch.shapes import (
    GREY,
    INK,
    PALE,
    PAPER,
    Line,
    Picture,
    Rect,
    Scene,
    Shape,
    Text,
    chip,
    number,
)

MOST_ROWS, MOST_COLUMNS, ROW, FIRST, COLUMN = 24, 8, 19, 44, 84
MOST_SIDE = 480


def observations(record: Record, note: str = "") -> Scene:
    """Draw the agents' observations, one column per agent; large ones are cut."""
    seen = record.episode.obs  # [T+1, N, O]
    n, size = seen.shape[1:]
    columns, rows = min(n, MOST_COLUMNS), min(size, MOST_ROWS)
    width, height = FIRST + columns * COLUMN + 12, 70 + rows * ROW
    width = max(width, 340)
    fixed: list[Shape] = [Rect(0, 0, width, height, PAPER, PALE)]
    fixed.append(Text(10, 16, "observations", 14, INK, "start", True))
    for i in range(columns):
        x = FIRST + (i + 0.5) * COLUMN
        fixed += chip(x - 22, 40, 11, i, n)
        fixed.append(Text(x - 7, 40, text.clean(record.agents[i], 8), 11, INK, "start"))
    for row in range(rows):
        y = 66 + row * ROW
        fixed.append(Text(FIRST - 12, y, str(row), 12, GREY, "end"))
        fixed.append(Line([(8, y - ROW / 2), (width - 8, y - ROW / 2)], "#eaeef2", 1))
    moments: list[list[Shape]] = []
    for now in seen:
        shapes: list[Shape] = []
        for i in range(columns):
            for row in range(rows):
                x = FIRST + (i + 1) * COLUMN - 14
                shapes.append(Text(x, 66 + row * ROW, number(now[i, row]), 12, INK, "end"))
        moments.append(shapes)
    notes = [note] if note else []
    if columns < n or rows < size:
        notes.append(f"The table shows {columns} of {n} agents and {rows} of {size} numbers.")
    return Scene(width, height, fixed, moments, tuple(notes))


def pictures(frames: list[np.ndarray]) -> Scene:
    """Show the pictures [H, W, 3] uint8 that an environment draws itself."""
    high, wide = frames[0].shape[:2]
    scale = min(MOST_SIDE / max(high, wide), 4.0)
    width, height = max(round(wide * scale), 1), max(round(high * scale), 1)
    moments: list[list[Shape]] = [[Picture(0, 0, width, height, frame)] for frame in frames]
    return Scene(width, height, [], moments)
