"""What scenes are made of: shapes without transparency, which SVG and Pillow draw alike."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfmix.utils import text

INK, GREY, PALE, PAPER = "#1b1f24", "#57606a", "#d0d7de", "#ffffff"
GOOD, BAD = "#0b6e4f", "#a3262a"
# Okabe and Ito's colours, which the colour-blind can distinguish, without the palest ones.
COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#aa4499", "#8c6d00", "#56b4e9", "#444444", "#882255")
FONT = "font-family='DejaVu Sans,Verdana,Helvetica,Arial,sans-serif'"


class Circle(NamedTuple):
    """A circle; `line` is the colour of its border, "" for none."""

    x: float
    y: float
    r: float
    fill: str
    line: str = ""
    width: float = 2.0


class Rect(NamedTuple):
    """A rectangle with its upper left corner at (x, y)."""

    x: float
    y: float
    w: float
    h: float
    fill: str
    line: str = ""
    width: float = 2.0


class Polygon(NamedTuple):
    """A closed polygon."""

    points: Sequence[tuple[float, float]]
    fill: str
    line: str = ""
    width: float = 2.0


class Line(NamedTuple):
    """An open line through points."""

    points: Sequence[tuple[float, float]]
    colour: str
    width: float = 2.0


class Text(NamedTuple):
    """A text of one line, vertically centred at y; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    size: float = 14.0
    fill: str = INK
    anchor: str = "middle"
    bold: bool = False


class Picture(NamedTuple):
    """A picture [H, W, 3] uint8, scaled to w by h."""

    x: float
    y: float
    w: float
    h: float
    pixels: np.ndarray


Shape = Circle | Rect | Polygon | Line | Text | Picture


class Scene(NamedTuple):
    """The drawing of an episode.

    Attributes:
      width, height: in pixels.
      fixed: shapes that every moment has.
      moments: the other shapes of each of the T + 1 moments: one before each step, and the end.
      notes: sentences that explain the drawing.
    """

    width: int
    height: int
    fixed: list[Shape]
    moments: list[list[Shape]]
    notes: tuple[str, ...] = ()


def colour(agent: int) -> str:
    """Return an agent's colour."""
    return COLOURS[agent % len(COLOURS)]


def letter(agent: int, agents: int) -> str:
    """Return an agent's sign: a letter, or a number if there are more agents than letters."""
    return chr(ord("A") + agent) if agents <= 26 else str(agent)


def ink_on(fill: str) -> str:
    """Return black or white, the one that is easier to read on a colour."""
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def mixed(fill: str, share: float) -> str:
    """Return a colour mixed with white; `share` is that of the colour."""
    parts = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + share * (part - 255)):02x}" for part in parts)


def chip(x: float, y: float, r: float, agent: int, agents: int) -> list[Shape]:
    """Return an agent: a disc in its colour with its letter."""
    sign, fill = letter(agent, agents), colour(agent)
    size = min(r * 1.2 / max(len(sign), 1) ** 0.5, 22)
    return [
        Circle(x, y, r, fill, PAPER, 1.5),
        Text(x, y, sign, size, ink_on(fill), bold=True),
    ]


def number(x: Any) -> str:
    """Return a number with two decimals, or with none from 1,000 on."""
    x = float(x)
    if not np.isfinite(x):
        return str(x)
    return (
        f"{round(x, 2) + 0.0:.2f}" if abs(x) < 1000 else f"{x:,.0f}" if abs(x) < 1e7 else f"{x:.2e}"
    )


def markup(shapes: Sequence[Shape]) -> str:
    """Return shapes as SVG; every text is escaped."""
    return "".join(_markup(shape) for shape in shapes)


def escaped(line: str, most: int = 300) -> str:
    """Return a line as SVG and HTML show it: no markup, no control characters."""
    return html.escape(text.clean(line, most))


def _border(shape: Any) -> str:
    return f" stroke='{shape.line}' stroke-width='{shape.width:g}'" if shape.line else ""


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _markup(shape: Shape) -> str:
    if isinstance(shape, Circle):
        at = f"cx='{shape.x:.1f}' cy='{shape.y:.1f}' r='{shape.r:.1f}'"
        return f"<circle {at} fill='{shape.fill}'{_border(shape)}/>"
    if isinstance(shape, Rect):
        at = f"x='{shape.x:.1f}' y='{shape.y:.1f}' width='{shape.w:.1f}' height='{shape.h:.1f}'"
        return f"<rect {at} fill='{shape.fill}'{_border(shape)}/>"
    if isinstance(shape, Polygon):
        at = _points(shape.points)
        return f"<polygon points='{at}' fill='{shape.fill}'{_border(shape)}/>"
    if isinstance(shape, Line):
        look = f"fill='none' stroke='{shape.colour}' stroke-width='{shape.width:g}'"
        return f"<polyline points='{_points(shape.points)}' {look}/>"
    if isinstance(shape, Picture):
        at = f"x='{shape.x:g}' y='{shape.y:g}' width='{shape.w:g}' height='{shape.h:g}'"
        return f"<image {at} href='data:image/png;base64,{_png(shape.pixels)}'/>"
    bold = " font-weight='700'" if shape.bold else ""
    at = f"x='{shape.x:.1f}' y='{shape.y + 0.35 * shape.size:.1f}' font-size='{shape.size:.1f}'"
    look = f"fill='{shape.fill}' text-anchor='{shape.anchor}'{bold}"
    return f"<text {at} {look}>{escaped(shape.text)}</text>"


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
