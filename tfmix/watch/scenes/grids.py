"""Draws the tasks on a grid: agents as discs, prey as triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmix.watch.record import Record
from tfmix.watch.shapes import BAD, INK, PALE, PAPER, Polygon, Rect, Scene, Shape, Text, chip

SIDE, TOP = 480, 34


def _board(size: int) -> list[Shape]:
    """Return the cells."""
    cell = SIDE / size
    board: list[Shape] = [Rect(0, 0, SIDE, TOP + SIDE, PAPER)]
    for row in range(size):
        for column in range(size):
            fill = "#f6f8fa" if (row + column) % 2 else PAPER
            board.append(Rect(column * cell, TOP + row * cell, cell, cell, fill, PALE, 1))
    return board


def _scene(
    record: Record,
    cells: np.ndarray,
    size: int,
    agents: np.ndarray,
    prey: np.ndarray,
    noun: str,
    note: str,
) -> Scene:
    """Return the drawing of bodies on a grid.

    Args:
      record: the episode.
      cells: the environment's numbers of the cells, row by row.
      size: rows, and columns.
      agents: [T+1, N] cells; another number has left the grid.
      prey: [T+1, M] likewise.
      noun: what a prey is.
      note: explains the drawing.
    """
    place, cell = {int(c): divmod(i, size) for i, c in enumerate(cells)}, SIDE / size
    n, moments = agents.shape[1], []
    for t in range(record.steps + 1):
        shapes: list[Shape] = []
        for body in prey[t]:
            if int(body) in place:
                row, column = place[int(body)]
                x, y, r = (column + 0.5) * cell, TOP + (row + 0.5) * cell, 0.36 * cell
                corners = [(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)]
                shapes.append(Polygon(corners, BAD, INK, 1))
        for i, body in enumerate(agents[t]):
            if int(body) in place:
                row, column = place[int(body)]
                at = (column + 0.5) * cell, TOP + (row + 0.5) * cell
                shapes += chip(*at, 0.38 * cell, i, n)
        left = sum(int(body) in place for body in prey[t])
        paid = record.episode.reward[t - 1] if t else 0.0
        text = f"{left} {noun}, {sum(int(b) in place for b in agents[t])} agents on the grid"
        text += f", last reward {paid:g}" if t else ""
        moments.append([*shapes, Text(10, TOP / 2, text, 15, INK, "start", True)])
    return Scene(SIDE, SIDE + TOP, _board(size), moments, (note,))


def predator_prey(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw QTRAN's predator-prey."""
    n, bodies = env.spec.n_agents, np.stack([state.bodies for state in states])
    note = f"Triangles are prey. Two predators beside one pay 1, one alone costs {env.penalty:g}."
    return _scene(record, env.cells, env.size, bodies[:, :n], bodies[:, n:], "prey", note)


def stag_hunt(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw WQMIX's predator-prey; caught stags and their catchers leave the grid."""
    agents, stags = (np.stack([getattr(s, x) for s in states]) for x in ("agents", "stags"))
    size = round(len(env.cells) ** 0.5)
    note = (
        f"Triangles are stags. Two agents that catch one get {env.PRIZE:g} and leave with it, "
        f"one alone gets {env.punishment:g}."
    )
    return _scene(record, env.cells, size, agents, stags, "stags", note)
