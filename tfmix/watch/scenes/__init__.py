"""Draws the episodes of each environment from its states."""

from __future__ import annotations

from typing import Any

from tfmix.envs.graph.matrix import MatrixGame, TwoStep
from tfmix.envs.graph.mpe import SimpleSpread
from tfmix.envs.graph.mpe_talk import SimpleReference, SimpleSpeakerListener
from tfmix.envs.graph.predator_prey import ModifiedPredatorPrey
from tfmix.envs.graph.squeeze import GaussianSqueeze
from tfmix.envs.graph.stag_hunt import StagHunt
from tfmix.watch.record import Record
from tfmix.watch.scenes import games, grids, particles, tables
from tfmix.watch.shapes import Scene, letter

MOVES = ("none", "left", "right", "down", "up")
DRAW = {
    SimpleSpread: particles.spread,
    SimpleSpeakerListener: particles.speaker_listener,
    SimpleReference: particles.reference,
    ModifiedPredatorPrey: grids.predator_prey,
    StagHunt: grids.stag_hunt,
    MatrixGame: games.matrix,
    TwoStep: games.two_step,
    GaussianSqueeze: games.squeeze,
}


def draw(record: Record, env: Any, states: list[Any]) -> Scene:
    """Return the drawing of an episode.

    Args:
      record: the episode.
      env: the graph environment, or None.
      states: T + 1 states of the environment, for this episode alone.
    """
    drawn = DRAW.get(type(env))
    return drawn(record, env, states) if drawn else tables.observations(record)


def has_tables(env: Any) -> bool:
    """Return whether the environment is a game, whose joint actions are all valued."""
    return isinstance(env, MatrixGame | TwoStep)


def agent_names(env: Any, count: int) -> list[str]:
    """Return the names of a graph environment's agents."""
    if isinstance(env, SimpleSpeakerListener):
        return ["speaker", "listener"]
    prefix = "predator " if isinstance(env, ModifiedPredatorPrey) else "agent "
    return [f"{prefix}{letter(i, count)}" for i in range(count)]


def action_names(env: Any, counts: tuple[int, ...]) -> list[list[str]]:
    """Return the names of each agent's actions: their numbers if they have no names."""
    if isinstance(env, SimpleSpread):
        return [list(MOVES) for _ in counts]
    if isinstance(env, SimpleSpeakerListener):
        return [[f"says {word}" for word in range(counts[0])], list(MOVES)]
    if isinstance(env, SimpleReference):
        both = [f"{MOVES[i % 5]}, says {i // 5}" for i in range(counts[0])]
        return [both, both]
    if isinstance(env, ModifiedPredatorPrey):
        return [["up", "left", "stay", "right", "down"] for _ in counts]
    if isinstance(env, StagHunt):
        return [["right", "down", "left", "up", "stay", "catch"] for _ in counts]
    return [[str(i) for i in range(count)] for count in counts]
