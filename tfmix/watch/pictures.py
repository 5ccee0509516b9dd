"""Draws what the inspector shows as images: values of games, and other tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmix.algos.base import About, Algorithm, Views
from tfmix.envs.graph.matrix import MatrixGame, TwoStep
from tfmix.networks.agent import own_legal
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.inspection import Inspection
from tfmix.types import Collector, Episode
from tfmix.watch import gif
from tfmix.watch.record import value_tables
from tfmix.watch.scenes import games
from tfmix.watch.shapes import GREY, INK, PALE, PAPER, Rect, Scene, Shape, Text, mixed, number

BLUE = "#005a8c"
MOST_ROWS = 32  # and columns of a table
WIDTH = 340  # of a card of TensorBoard, in which text is shown in its size
# Tag of a game's picture, and what it shows.
GAME = "game/values"
ABOUT_GAME = (
    "Payoff and the team's values of all joint actions; rows are A's actions, columns B's. Black: "
    "the greedy joint action. Magenta: the greatest number of a table."
)


class Values(NamedTuple):
    """A table of all joint actions of two agents.

    Attributes:
      title: what the values are.
      values: [A, A].
      greedy: the agents' greedy actions.
    """

    title: str
    values: np.ndarray
    greedy: tuple[int, ...]


def pictures(
    found: Inspection, algorithm: Algorithm, collector: Collector
) -> dict[str, tuple[np.ndarray, str]]:
    """Return pictures [H, W, 3] uint8 and their descriptions by tag.

    Args:
      found: by the inspector.
      algorithm: the networks.
      collector: plays the team; its environment is drawn if it is a game of two agents.
    """
    drawn = {
        tag: (pixels(heat_map(values, about)), about.text)
        for tag, (values, about) in found.tables.items()
    }
    env = collector.env if isinstance(collector, GraphCollector) else None
    drawn.update({tag: (pixels(scene), ABOUT_GAME) for tag, scene in game(algorithm, env).items()})
    return drawn


def pixels(scene: Scene) -> np.ndarray:
    """Return a scene's only moment as pixels [H, W, 3] uint8."""
    found: np.ndarray = np.asarray(gif.image(scene, 0))
    return found


def game(algorithm: Algorithm, env: Any) -> dict[str, Scene]:
    """Return drawings of a game's payoff and the team's values by tag; none for other tasks.

    A matrix game has one drawing. The two-step game has one for each state.
    """
    if isinstance(env, MatrixGame):
        if env.table.ndim != 2 or max(env.table.shape) > games.MOST_ACTIONS:
            return {}
        played = play(env, np.zeros([1, 1, 2], np.int32))
        return {GAME: column(team_tables(algorithm, played, 0, 0), env.table)}
    if isinstance(env, TwoStep):
        # A's first action leads to 2A or to 2B. B's has no effect, and both rows have 0.
        played = play(env, np.asarray([[[0, 0], [0, 0]], [[1, 0], [0, 0]]], np.int32))
        places = {"1": (0, 0), "2A": (0, 1), "2B": (1, 1)}
        return {
            f"{GAME}_{name}": column(
                team_tables(algorithm, played, row, t),
                env.PAYOFF[row] if t else None,
                f" in {name}",
            )
            for name, (row, t) in places.items()
        }
    return {}


def play(env: Any, action: np.ndarray) -> Episode:
    """Play the given actions [B, T, N] in an environment in the graph, without its end."""
    seed = tf.zeros([2], tf.int32)
    state, now = env.reset(seed, len(action))
    steps = [now]
    for t in range(action.shape[1]):
        state, now = env.step(state, tf.constant(action[:, t]), seed)
        steps.append(now)
    obs, seen, legal = (
        tf.stack([getattr(x, name) for x in steps], 1) for name in ("obs", "state", "legal")
    )
    reward = tf.stack([x.reward for x in steps[1:]], 1)
    terminated = tf.stack([tf.cast(x.terminated, tf.float32) for x in steps[1:]], 1)
    return Episode(obs, seen, legal, tf.constant(action), reward, terminated, tf.ones_like(reward))


def team_tables(algorithm: Algorithm, played: Episode, row: int, t: int) -> list[Values]:
    """Return the team's values of all joint actions at a step, and those of the agents' sum."""
    legal = own_legal(algorithm.agent_spec, played.legal)
    whole = algorithm.views(played._replace(legal=legal))
    views = Views(*(x[row : row + 1, t : t + 1] for x in whole))
    q = np.where(views.legal.numpy(), views.q.numpy(), -np.inf)[0, 0]
    greedy = tuple(int(action) for action in q.argmax(-1))
    tables = value_tables(algorithm, views)
    own = [q[i, :count] for i, count in enumerate(algorithm.spec.agent_n_actions)]
    found = {name: value[0] for name, value in tables.items() if name != "sum of Q_i"}
    name, share = ("sum of Q_i", 1.0) if tables else ("mean of Q_i", 0.5)
    found[name] = share * np.add.outer(*own)
    return [Values(title, value, greedy) for title, value in found.items()]


def column(tables: list[Values], payoff: np.ndarray | None, place: str = "") -> Scene:
    """Return tables as one drawing, one below another, as wide as a card of TensorBoard.

    Args:
      tables: the team's values.
      payoff: [A, A], drawn first; None for a state that pays nothing.
      place: the end of each title.
    """
    if payoff is not None:
        tables = [Values("payoff", payoff, tables[0].greedy), *tables]
    side = WIDTH - 12 - games.SIGN - 14 if max(tables[0].values.shape) <= 8 else 432
    width, step = 12 + games.SIGN + side + 14, games.HEAD + side + 12
    height = len(tables) * step + 34
    shapes: list[Shape] = [Rect(0, 0, width, height, PAPER)]
    for row, one in enumerate(tables):
        x, y = 12 + games.SIGN, games.HEAD + row * step
        shapes += games.table(x, y, side, f"{one.title}{place}", one.values, one.greedy, bold=False)
    shapes += games.key(12, height - 16, "greedy")
    return Scene(width, height, shapes, [[]])


def heat_map(values: np.ndarray, about: About) -> Scene:
    """Return a table [rows, columns] of numbers from 0 on as a drawing, darker for higher ones.

    Args:
      values: the numbers.
      about: what they are; its axes name rows and columns.
    """
    values = values[:MOST_ROWS, :MOST_ROWS]
    rows, columns = values.shape
    w, h, left, top = (72 if columns <= 12 else 40), 44, 92, 44
    width, height = left + columns * w + 12, top + rows * h + 12
    most = max(float(values.max()), 1e-9)
    shapes: list[Shape] = [Rect(0, 0, width, height, PAPER)]
    for column in range(columns):
        name = f"{about.axes[1]} {column}" if columns <= 12 else str(column)
        shapes.append(Text(left + (column + 0.5) * w, 24, name, 14, GREY))
    for row in range(rows):
        y = top + row * h
        shapes.append(Text(left - 10, y + h / 2, f"{about.axes[0]} {row}", 14, GREY, "end"))
        for column in range(columns):
            value, x = float(values[row, column]), left + column * w
            share = value / most
            shapes.append(Rect(x, y, w, h, mixed(BLUE, 0.9 * share), PALE, 1))
            ink = PAPER if share > 0.6 else INK
            shapes.append(Text(x + w / 2, y + h / 2, number(value), min(w / 3.6, 17), ink))
    return Scene(width, height, shapes, [[]])
