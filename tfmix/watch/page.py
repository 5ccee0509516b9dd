"""Writes the page of an episode: one file without any reference to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfmix.utils import text
from tfmix.watch import svg
from tfmix.watch.film import steps_text
from tfmix.watch.record import Record
from tfmix.watch.shapes import Scene, colour, escaped, ink_on, letter, number

TEMPLATE = Path(__file__).with_name("page.html")


def content(record: Record, names: list[list[str]]) -> dict[str, Any]:
    """Return what the page's script reads, as JSON has it."""
    n = len(names)
    agents = [
        {
            "sign": letter(i, n),
            "name": text.clean(record.agents[i], 40),
            "colour": colour(i),
            "ink": ink_on(colour(i)),
            "actions": [text.clean(name, 40) for name in names[i]],
        }
        for i in range(n)
    ]
    return {**record.values(), "agents": agents}


def safe_json(value: Any) -> str:
    """Return JSON that no HTML parser takes for markup."""
    found = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        found = found.replace(sign, f"\\u{ord(sign):04x}")
    return found


def page(record: Record, scene: Scene, names: list[list[str]], notes: tuple[str, ...] = ()) -> str:
    """Return the page of an episode.

    Args:
      record: the episode.
      scene: its drawing.
      names: of each agent's actions.
      notes: sentences in addition to those of the scene.
    """
    title = f"{record.algo} on {text.clean(record.env, 100)}"
    choice = "greedy" if not record.epsilon else f"epsilon {record.epsilon:g}"
    total = number(record.returns[-1]) if record.steps else "0"
    about = (
        f"Episode {record.number}, seed {record.seed}, {choice}: {steps_text(record.steps)}, "
        f"return {total}."
    )
    said = "".join(f"<li>{escaped(note, 1000)}</li>" for note in (*scene.notes, *notes))
    parts = {
        "TITLE": escaped(title),
        "ABOUT": escaped(about),
        "NOTES": said,
        "SCENE": svg.still(scene),
        "JSON": safe_json(content(record, names)),
    }
    found = TEMPLATE.read_text(encoding="utf-8")
    head, *rest = found.split("{{")
    filled = [head]  # each name is replaced once: what is filled in is not read again
    for piece in rest:
        name, _, tail = piece.partition("}}")
        filled += [parts[name], tail]
    return "".join(filled)
