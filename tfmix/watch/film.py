"""Adds to a scene what the moving pictures say: the step, the return, the agents' choices."""

from __future__ import annotations

from tfmix.utils import text
from tfmix.watch.record import Record
from tfmix.watch.shapes import GREY, INK, PAPER, Rect, Scene, Shape, Text, chip, number

MOST_AGENTS, ROW, WIDTH = 8, 26, 380


def steps_text(count: int) -> str:
    """Return a number of steps as text."""
    return f"{count:,} step{'s' * (count != 1)}"


def captioned(scene: Scene, record: Record, names: list[list[str]]) -> Scene:
    """Return a scene with a strip below it: the numbers of each moment.

    Args:
      scene: the drawing.
      record: the episode.
      names: of each agent's actions.
    """
    n = len(names)
    shown = min(n, MOST_AGENTS)
    top, width = scene.height, max(scene.width, WIDTH)
    height = top + 34 + shown * ROW + (18 if shown < n else 4)
    fixed: list[Shape] = [Rect(0, 0, width, height, PAPER), *scene.fixed]
    value_name = next(iter(record.team), "")
    moments = []
    for t, shapes in enumerate(scene.moments):
        ended = t == record.steps
        total = record.returns[t - 1] if t else 0.0
        line = f"end, after {steps_text(t)}" if ended else f"step {t + 1} of {record.steps}"
        line += f"   return {number(total)}"
        if value_name and not ended:
            line += f"   {value_name} {number(record.team[value_name][t])}"
        strip: list[Shape] = [Text(12, top + 18, line, 15, INK, "start", True)]
        for i in range(0 if ended else shown):
            y = top + 34 + (i + 0.5) * ROW
            strip += chip(22, y, 10, i, n)
            action = int(record.episode.action[t, i])
            value = record.q[t, i, action]
            strip.append(Text(42, y, text.clean(names[i][action], 24), 14, INK, "start"))
            strip.append(Text(width - 14, y, f"Q {number(value)}", 14, INK, "end"))
        if shown < n:
            strip.append(Text(12, height - 10, f"and {n - shown} more", 13, GREY, "start"))
        moments.append([*shapes, *strip])
    return Scene(width, height, fixed, moments, scene.notes)
