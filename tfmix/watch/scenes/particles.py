"""Draws the particle tasks: agents as discs, landmarks as squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmix.watch.record import Record
from tfmix.watch.shapes import (
    GOOD,
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
    letter,
    mixed,
)

SIDE, MARGIN = 480, 16
GOAL_COLOURS = ("#b3261e", "#1a7f37", "#0550ae")  # of the landmarks of the tasks with messages


class View:
    """Maps places of an episode to pixels, so that all of its bodies are in the picture."""

    def __init__(self, *places: np.ndarray):
        flat = np.concatenate([np.reshape(place, [-1, 2]) for place in places])
        low, high = np.minimum(flat.min(0), -1.0), np.maximum(flat.max(0), 1.0)
        self.low, self.span = (low + high) / 2, float((high - low).max()) * 1.12
        self.low = self.low - self.span / 2
        self.unit = (SIDE - 2 * MARGIN) / self.span  # pixels of one unit of length

    def at(self, place: np.ndarray) -> tuple[float, float]:
        """Return the pixels of a place; the second axis points up."""
        x, y = (place - self.low) * self.unit
        return MARGIN + float(x), SIDE - MARGIN - float(y)

    def frame(self) -> list[Shape]:
        """Return the border, and the square in which episodes begin."""
        left, top = self.at(np.asarray([-1.0, 1.0]))
        side = 2 * self.unit
        return [
            Rect(1, 1, SIDE - 2, SIDE - 2, PAPER, PALE, 2),
            Rect(left, top, side, side, "#f6f8fa", PALE, 1),
        ]


def _trail(view: View, places: np.ndarray, agent: int) -> list[Shape]:
    """Return the path of an agent until a moment."""
    if len(places) < 2:
        return []
    return [Line([view.at(place) for place in places], mixed(colour(agent), 0.35), 3)]


def spread(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw simple_spread: a landmark with an agent near it is green and has a tick."""
    places = np.stack([state.position for state in states])  # [T+1, N, 2]
    landmarks, n = np.asarray(states[0].landmark), places.shape[1]
    view = View(places, landmarks - env.COVERED, landmarks + env.COVERED)
    moments: list[list[Shape]] = []
    for t, now in enumerate(places):
        near = np.linalg.norm(landmarks[:, None] - now, axis=-1).min(1)  # [L]
        shapes: list[Shape] = []
        for landmark in landmarks[near < env.COVERED]:
            shapes.append(Circle(*view.at(landmark), env.COVERED * view.unit, "#d8f3e3", GOOD, 2.5))
        for i in range(n):
            shapes += _trail(view, places[: t + 1, i], i)
        for landmark, gap in zip(landmarks, near, strict=True):
            x, y = view.at(landmark)
            shapes.append(
                Rect(x - 8, y - 8, 16, 16, GOOD if gap < env.COVERED else GREY, PAPER, 1.5)
            )
        for i in range(n):
            shapes += chip(*view.at(now[i]), max(env.SIZE * view.unit * 0.72, 9), i, n)
        touching = np.linalg.norm(now[:, None] - now, axis=-1) < 2 * env.SIZE
        pairs = (int(touching.sum()) - n) // 2
        covered = int((near < env.COVERED).sum())
        text = f"{covered} of {len(landmarks)} landmarks covered"
        text += f", {pairs} collision{'s' * (pairs != 1)}" if pairs else ""
        shapes.append(Text(14, 20, text, 15, INK, "start", True))
        moments.append(shapes)
    notes = (
        f"Squares are landmarks: green with a ring if an agent is within {env.COVERED:g} of it. "
        "Lines are the agents' paths.",
    )
    return Scene(SIDE, SIDE, view.frame(), moments, notes)


def _goals(view: View, landmarks: np.ndarray) -> list[Shape]:
    """Return the coloured landmarks with their numbers."""
    shapes: list[Shape] = []
    for number, place in enumerate(landmarks):
        x, y = view.at(place)
        shapes.append(Rect(x - 15, y - 15, 30, 30, GOAL_COLOURS[number], INK, 1))
        shapes.append(Text(x, y, str(number), 16, PAPER, bold=True))
    return shapes


def _word(state: Any, agent: int) -> str:
    """Return an agent's message of the last step."""
    word = np.asarray(state.word)[agent]
    return f"says {word.argmax()}" if word.any() else "silent"


def speaker_listener(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw simple_speaker_listener: the goal has a ring in the listener's colour."""
    places = np.stack([state.position for state in states])
    landmarks, goal = np.asarray(states[0].landmark), int(np.asarray(states[0].goal)[0])
    view = View(places, landmarks)
    x, y = view.at(landmarks[goal])
    fixed = [*view.frame(), Circle(x, y, 27, PAPER, colour(1), 4), *_goals(view, landmarks)]
    moments = []
    for t, state in enumerate(states):
        shapes = _trail(view, places[: t + 1, 1], 1)
        for i in range(2):
            shapes += chip(*view.at(places[t, i]), 17, i, 2)
        x, y = view.at(places[t, 0])
        shapes.append(Text(x, y - 27, _word(state, 0), 14, colour(0), bold=True))
        gap = float(np.linalg.norm(places[t, 1] - landmarks[goal]))
        shapes.append(Text(14, 20, f"goal {goal}, {gap:.2f} away", 15, INK, "start", True))
        moments.append(shapes)
    notes = ("A sees the goal and speaks, B hears and moves. The ring marks B's goal.",)
    return Scene(SIDE, SIDE, fixed, moments, notes)


def reference(record: Record, env: Any, states: list[Any]) -> Scene:
    """Draw simple_reference: the goal of each agent has a ring in that agent's colour."""
    places = np.stack([state.position for state in states])
    landmarks, goals = np.asarray(states[0].landmark), np.asarray(states[0].goal)
    view = View(places, landmarks)
    rings: list[Shape] = []
    for agent, goal in ((1, int(goals[0])), (0, int(goals[1]))):  # agent i knows the other's goal
        x, y = view.at(landmarks[goal])
        radius = 33 if agent else 26
        rings.insert(0, Circle(x, y, radius, PAPER, colour(agent), 4))
    rings.sort(key=lambda ring: -ring.r if isinstance(ring, Circle) else 0)
    fixed = [*view.frame(), *rings, *_goals(view, landmarks)]
    moments = []
    for t, state in enumerate(states):
        shapes: list[Shape] = []
        for i in range(2):
            shapes += _trail(view, places[: t + 1, i], i)
        for i in range(2):
            x, y = view.at(places[t, i])
            shapes += chip(x, y, 17, i, 2)
            shapes.append(Text(x, y - 27, _word(state, i), 14, colour(i), bold=True))
        gaps = [np.linalg.norm(places[t, 1 - i] - landmarks[goals[i]]) for i in (1, 0)]
        text = ", ".join(f"{letter(i, 2)} is {gap:.2f} from its goal" for i, gap in enumerate(gaps))
        moments.append([*shapes, Text(14, 20, text, 15, INK, "start", True)])
    notes = ("A ring in an agent's colour marks its goal, which only the other agent knows.",)
    return Scene(SIDE, SIDE, fixed, moments, notes)
