"""Draws games: payoffs and the team's values as tables, the two-step game as a tree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tfmix.watch.record import Record
from tfmix.watch.shapes import (
    GREY,
    INK,
    PALE,
    PAPER,
    Circle,
    Line,
    Rect,
    Scene,
    Shape,
    Text,
    chip,
    colour,
    mixed,
    number,
)

MOST_ACTIONS = 24  # of an agent, in a table
GAP, HEAD, SIGN = 26, 64, 24
LOW, HIGH = "#b35806", "#005a8c"  # ends of the scale of a table
CHOSEN, BEST = "#111111", "#d5007f"
# Algorithms whose Q_tot never falls if a Q_i rises.
MONOTONIC = ("vdn", "qmix", "qatten", "cw_qmix", "ow_qmix")


def _shade(value: float, low: float, high: float) -> str:
    """Return a cell's colour: white in the middle, orange for low and blue for high values."""
    share = 0.0 if high <= low else (value - low) / (high - low) * 2 - 1
    return mixed(HIGH if share > 0 else LOW, abs(share) * 0.55)


def table(
    x: float,
    y: float,
    side: float,
    title: str,
    values: np.ndarray,
    chosen: tuple[int, ...] | None,
    bold: bool = True,
) -> list[Shape]:
    """Return a table of A's and B's actions.

    Args:
      x: the left end of the cells.
      y: the upper end of the cells.
      side: their width and height together.
      title: what the values are.
      values: [A, A].
      chosen: the joint action taken, or None.
      bold: whether the title is bold.
    """
    rows, columns = values.shape
    w, h = side / columns, side / rows
    low, high = float(values.min()), float(values.max())
    shapes: list[Shape] = [Text(x - SIGN, y - 46, title, 15, INK, "start", bold)]
    shapes += [*chip(x - 13, y - 13, 8, 0, 2), *chip(x + side / 2, y - 29, 8, 1, 2)]
    for row in range(rows):
        if h > 11:
            shapes.append(Text(x - 8, y + (row + 0.5) * h, str(row), min(13, h), colour(0), "end"))
    for column in range(columns):
        if w > 11:
            at = x + (column + 0.5) * w
            shapes.append(Text(at, y - 10, str(column), min(13, w), colour(1)))
    for row, column in itertools.product(range(rows), range(columns)):
        value = float(values[row, column])
        fill = _shade(value, low, high)
        left, top = x + column * w, y + row * h
        shapes.append(Rect(left, top, w, h, fill, PALE, 1))
        if w > 34:
            size = min(w / 3.6, 17)
            shapes.append(Text(left + w / 2, top + h / 2, number(value), size, INK))
    best = np.unravel_index(values.argmax(), values.shape)
    pad = 6 if w > 34 else 3 if w > 16 else 0  # inside the border of the chosen cell
    shapes.append(
        Rect(x + best[1] * w + pad, y + best[0] * h + pad, w - 2 * pad, h - 2 * pad, "none", BEST)
    )
    if chosen:
        row, column = chosen
        shapes.append(Rect(x + column * w, y + row * h, w, h, "none", CHOSEN, 4))
    return shapes


def explained(record: Record, payoff: np.ndarray, chosen: tuple[int, ...]) -> list[str]:
    """Return sentences that say why the team finds the best joint action of a game, or not.

    They are about the first step, at which `chosen` is the joint action taken.
    """
    best = tuple(int(i) for i in np.unravel_index(payoff.argmax(), payoff.shape))
    got = f"The team plays {chosen} and gets {number(payoff[chosen])}"
    if payoff[chosen] >= payoff.max():
        found = [f"{got}, the best payoff."]
    else:
        found = [f"{got}; the best payoff is {number(payoff.max())} at {best}."]
    if not record.tables:
        return found
    name, values = next((name, table[0]) for name, table in record.tables.items())
    error = float(np.abs(values - payoff).max())
    misses = f"{name} differs from the payoff by up to {number(error)}"
    if record.algo in MONOTONIC and _depends(payoff):
        gap = float(values[best] - payoff[best])
        found.append(
            f"{name} rises with every agent's own value, whatever the others do. In this payoff "
            "the best action of one agent depends on the other's, so no such values can equal it: "
            f"{misses}, and by {gap:+.2f} at {best}."
        )
    elif record.algo.startswith("qtran"):
        found.append(
            f"Nothing constrains Q_jt: {misses}. The agents' values are tied to it, so that each "
            "agent's own best action is its part of the best joint action of Q_jt."
        )
    else:
        found.append(f"{misses}.")
    return found


def _depends(payoff: np.ndarray) -> bool:
    """Return whether the order of an agent's actions depends on the other agents' actions."""
    for axis in range(payoff.ndim):
        rows = np.moveaxis(payoff, axis, 0).reshape(payoff.shape[axis], -1)
        signs = np.sign(rows[:, None] - rows[None])  # [A, A, the others' joint actions]
        if ((signs.max(-1) > 0) & (signs.min(-1) < 0)).any():
            return True
    return False


def matrix(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw a matrix game: the payoff and each of the team's tables, with the path taken."""
    payoff, action = env.table, record.episode.action
    chosen = [tuple(int(a) for a in row) for row in action]
    notes = explained(record, payoff, chosen[0])
    if payoff.ndim != 2 or max(payoff.shape) > MOST_ACTIONS:
        return _listed(record, payoff, chosen, notes)
    drawn = ["payoff", *record.tables]
    across = min(len(drawn), 2)
    side = 216 if max(payoff.shape) <= 8 else 300
    width = across * (side + SIGN + GAP) + 12
    rows = -(-len(drawn) // across)
    height = rows * (side + HEAD + 10) + 44
    places = [
        (
            12 + SIGN + (i % across) * (side + SIGN + GAP),
            HEAD + (i // across) * (side + HEAD + 10),
        )
        for i in range(len(drawn))
    ]
    fixed: list[Shape] = [Rect(0, 0, width, height, PAPER)]
    moments = []
    for t in range(record.steps + 1):
        step, shapes = min(t, record.steps - 1), []
        for name, (x, y) in zip(drawn, places, strict=True):
            values = payoff if name == "payoff" else record.tables[name][step]
            # Before the first step nothing is chosen; a table is of the step before a moment.
            taken = chosen[t - 1] if t else None
            shapes += table(x, y, side, name, values, taken)
        if record.steps > 1:
            paid = np.cumsum([payoff[one] for one in chosen])[t - 1] if t else 0.0
            told = f"round {t} of {record.steps}, return {number(paid)}"
            shapes.append(Text(width - 12, 18, told, 13, INK, "end"))
        moments.append(shapes)
    fixed += key(12, height - 18)
    return Scene(width, height, fixed, moments, tuple(notes))


def key(x: float, y: float, chosen: str = "taken") -> list[Shape]:
    """Return what the borders of cells mean; `chosen` is the name of the chosen cell."""
    return [
        Rect(x + 2, y - 8, 16, 16, "none", CHOSEN, 4),
        Text(x + 26, y, chosen, 13, INK, "start"),
        Rect(x + 92, y - 8, 16, 16, "none", BEST, 2),
        Text(x + 116, y, "greatest of a table", 13, INK, "start"),
    ]


def _listed(
    record: Record, payoff: np.ndarray, chosen: list[tuple[int, ...]], notes: list[str]
) -> Scene:
    """Draw a game that is too large for a table: the joint actions taken and their payoffs."""
    moments: list[list[Shape]] = []
    for t in range(record.steps + 1):
        lines = [
            f"round {i + 1}: {chosen[i]} pays {number(payoff[chosen[i]])}"
            for i in range(max(t - 12, 0), t)
        ]
        lines = lines or [f"best payoff {number(payoff.max())}"]
        shapes: list[Shape] = []
        for row, line in enumerate(lines):
            shapes.append(Text(16, 26 + row * 24, line, 15, INK, "start"))
        moments.append(shapes)
    return Scene(480, 320, [Rect(0, 0, 480, 320, PAPER, PALE)], moments, tuple(notes))


def two_step(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw the two-step game: its tree with the path taken, and the team's values."""
    action = [tuple(int(a) for a in row) for row in record.episode.action]
    name = next(iter(record.tables), "")
    root, nodes, side = (240.0, 50.0), ((130.0, 150.0), (350.0, 150.0)), 120
    width, height = 480, 590 if name else 400
    moments = []
    for t in range(record.steps + 1):
        shapes: list[Shape] = [Rect(0, 0, width, height, PAPER)]
        for choice, node in enumerate(nodes):
            gone = t > 0 and action[0][0] == choice
            shapes.append(Line([root, node], CHOSEN if gone else PALE, 5 if gone else 2.5))
            x, y = (root[0] + node[0]) / 2, (root[1] + node[1]) / 2
            shapes.append(Text(x + (52 if choice else -52), y, f"A plays {choice}", 13, colour(0)))
        place = int(np.asarray(states[t]))
        for at, sign, index in ((root, "1", 0), (nodes[0], "2A", 1), (nodes[1], "2B", 2)):
            here = place == index
            fill = "#ffe28a" if here else "#f6f8fa"
            shapes.append(Circle(*at, 21, fill, CHOSEN if here else GREY, 3))
            shapes.append(Text(*at, sign, 15, INK, bold=True))
        for index, (x, _) in enumerate(nodes):
            taken = action[1] if t > 1 and place == index + 1 else None
            shapes += table(x - 45, 246, side, "payoff", env.PAYOFF[index], taken)
            if name and place == index + 1 and t:
                values = record.tables[name][1]
                shapes += table(
                    x - 45, 434, side, f"{name} in {'2A' if not index else '2B'}", values, taken
                )
        if name and not t:
            shapes += table(180, 434, side, f"{name} in 1", record.tables[name][0], None)
        moments.append(shapes)
    total = number(record.returns[-1])
    best = number(env.PAYOFF.max())
    notes = (f"The team gets {total}; the best is {best}, reached through 2B.",)
    return Scene(width, height, key(12, height - 16), moments, notes)


def squeeze(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw the Gaussian squeeze: the reward over the amount, and each agent's share of it."""
    factor, action = np.asarray(states[0]), record.episode.action[0]
    n, width, height = len(factor), 480, 400
    most = float(2 * env.HIGHEST_ACTION)
    amounts = np.linspace(0, most, 400)
    curve = sum(amounts * np.exp(-(((amounts - mean) / w) ** 2)) for mean, w in env.peaks)
    top = float(np.max(curve)) * 1.1

    def at(x: float, y: float) -> tuple[float, float]:
        return 40 + x / most * (width - 60), 240 - y / top * 180

    fixed: list[Shape] = [Rect(0, 0, width, height, PAPER, PALE)]
    fixed.append(Line([at(0, 0), at(most, 0)], GREY, 1.5))
    fixed.append(Line([at(x, y) for x, y in zip(amounts, curve, strict=True)], colour(0), 3))
    fixed.append(Text(14, 22, "reward over the amount that is squeezed out", 15, INK, "start"))
    for tick in range(0, int(most) + 1, 4):
        fixed.append(Text(at(tick, 0)[0], 256, str(tick), 13, GREY))
    fixed.append(Text(14, 288, "each agent's part of the amount", 15, INK, "start"))
    shares = action * factor / n
    moments: list[list[Shape]] = []
    for t in range(2):
        shapes: list[Shape] = []
        total = float(shares.sum()) if t else 0.0
        if t:
            left = 0.0
            for i, share in enumerate(shares):
                x, w = at(left, 0)[0], share / most * (width - 60)
                shapes.append(Rect(x, 306, max(float(w), 1), 34, colour(i), PAPER, 1))
                if w > 16:
                    shapes += chip(x + w / 2, 323, 8, i, n)
                left += float(share)
            reward = float(record.episode.reward[0])
            shapes.append(Line([at(total, 0), at(total, top * 0.98)], CHOSEN, 2))
            shapes.append(Circle(*at(total, reward), 7, "#d5007f", PAPER))
            told = f"amount {number(total)}, reward {number(reward)}"
            shapes.append(Text(14, 368, told, 15, INK, "start", True))
        moments.append(shapes)
    peaks = " and ".join(f"{mean:g}" for mean, _ in env.peaks)
    return Scene(width, height, fixed, moments, (f"The reward has its peaks near {peaks}.",))
