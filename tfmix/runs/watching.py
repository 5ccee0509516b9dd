"""Plays episodes of a run and writes them as pages, SVG and GIF, see `Run.watch`."""

from __future__ import annotations

import base64
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmix.errors import RunFailedError, UserError
from tfmix.runs.atomic import whole_or_nothing
from tfmix.training.collect_graph import GROUP_EPISODES, GraphCollector
from tfmix.training.collect_python import PythonCollector
from tfmix.training.playing import Scores, check_playing_memory, play_episodes
from tfmix.training.seeds import Stream, stream_of
from tfmix.utils import files, text
from tfmix.watch import frames, gif, scenes, svg
from tfmix.watch.film import captioned
from tfmix.watch.page import page
from tfmix.watch.record import Record, record
from tfmix.watch.scenes import tables
from tfmix.watch.shapes import Scene, letter, number

if TYPE_CHECKING:
    from tfmix.runs.run import Run

MOST_DRAWN = 1000  # steps of an episode that pages and pictures show
MOST_LINES = 12  # of the table in the terminal
EQUAL = 1e-4  # relative difference of two returns that are the same but for rounding


@dataclasses.dataclass(frozen=True)
class Watched:
    """The episodes that `Run.watch` played.

    Attributes:
      records: what was recorded, one record an episode.
      pages: paths of the HTML files, one per episode.
      svgs: paths of the animated SVG files.
      gifs: paths of the animated GIF files.
      agreement: a sentence that compares the loaded team's return with the logged one.
      table: the first episode as text.
      notes: what a user should know.
    """

    records: list[Record]
    pages: list[Path]
    svgs: list[Path]
    gifs: list[Path]
    agreement: str
    table: str
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """Return the animations as HTML that needs no other file."""
        shown = []
        for one, path in zip(self.records, self.svgs, strict=True):
            data = base64.b64encode(files.read_text(path, 1 << 28).encode()).decode()
            label = f"episode {one.number}"
            shown.append(f"<img alt='{label}' src='data:image/svg+xml;base64,{data}'>")
        return "\n".join(shown)

    def __str__(self) -> str:
        lines = [self.table, *self.notes, self.agreement]
        for one, *paths in zip(self.records, self.pages, self.svgs, self.gifs, strict=True):
            total = number(one.returns[-1])
            shown = f"{paths[0]} ({', '.join(path.suffix[1:] for path in paths[1:])} next to it)"
            lines.append(f"episode {one.number}   return {total} in {one.steps} steps   {shown}")
        return "\n".join(lines)


def watch(run: Run, episodes: int, seed: int | None, epsilon: float) -> Watched:
    """Do `Run.watch`."""
    _check(episodes, seed, epsilon)
    check_playing_memory(run.spec, episodes)
    collector = run.collector
    env = collector.env if isinstance(collector, GraphCollector) else None
    own = run.config.seed if seed is None else seed
    stream = stream_of(epsilon)
    names = scenes.agent_names(env, run.spec.n_agents)
    if isinstance(collector, PythonCollector):
        names = [text.clean(name, 40) for name in collector.vector_env.agents]
    tables_too = scenes.has_tables(env)
    records, whole = record(
        run.algorithm, collector, own, stream, episodes, epsilon, names, tables_too
    )
    drawn, notes = _draw_all(run, records, whole.action, own, stream)
    actions = scenes.action_names(env, run.spec.agent_n_actions)
    if run.config.standardise_rewards:
        notes.append("The run standardises rewards: the team's values are in units of these.")
    if not records[0].episode.terminated[-1]:
        notes.append(
            "The time limit cuts the episode: values also count what would come after it, and "
            "the return to come does not."
        )
    try:
        paths = _write(run.folder / "watch", records, drawn, actions, tuple(notes))
    except OSError as error:
        raise RunFailedError(
            f"{run.folder / 'watch'} cannot be written: {error.strerror or error}"
        ) from error
    table = _table(records[0], actions)
    return Watched(records, *paths, agreement(run), table, tuple(notes))


def _check(episodes: Any, seed: Any, epsilon: Any) -> None:
    """Raise UserError if an argument of `Run.watch` is out of bounds."""
    if type(episodes) is not int or not 1 <= episodes <= GROUP_EPISODES:
        raise UserError(
            f"--episodes={text.clean(episodes, 60)}: --mode=watch takes a whole number from 1 to "
            f"{GROUP_EPISODES}"
        )
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**31):
        raise UserError(f"--seed={text.clean(seed, 60)}: it takes a whole number from 0 to 2^31-1")
    if type(epsilon) not in (int, float) or not 0 <= epsilon <= 1:
        raise UserError(f"--epsilon={text.clean(epsilon, 60)}: it takes a number from 0 to 1")


def _draw_all(
    run: Run, records: list[Record], action: np.ndarray, seed: int, stream: Stream
) -> tuple[list[Scene], list[str]]:
    """Return the drawing of each episode, and sentences for the user."""
    collector = run.collector
    if isinstance(collector, GraphCollector):
        first = tf.constant(0, tf.int64)
        states = collector.states_of(tf.stack([seed, int(stream)]), first, action)
        drawn = []
        for row, one in enumerate(records):
            own = [
                tf.nest.map_structure(lambda x, row=row: x.numpy()[row], state)
                for state in states[: one.steps + 1]
            ]
            drawn.append(scenes.draw(one, collector.env, own))
        return drawn, []
    if not isinstance(collector, PythonCollector):
        return [tables.observations(one) for one in records], []
    drawn = []
    try:
        for one in records:
            drawn.append(tables.pictures(frames.pictures(one, collector, run.config, stream)))
    except frames.NoPicturesError as error:
        note = f"{text.clean(run.config.env, 100)} does not draw itself ({text.clean(error, 300)})"
        text.tell(f"tfmix: {note}: observations are shown instead")
        return [tables.observations(one) for one in records], [f"{note}."]
    return drawn, []


def _write(
    folder: Path,
    records: list[Record],
    drawn: list[Scene],
    names: list[list[str]],
    notes: tuple[str, ...],
) -> tuple[list[Path], list[Path], list[Path]]:
    """Write the files of all episodes, which replace those of the folder, and return the paths.

    Raises:
      OSError: they cannot be written.
    """
    spare = folder.with_name(".watch")
    with whole_or_nothing(spare, folder):
        for one, scene in zip(records, drawn, strict=True):
            if len(scene.moments) > MOST_DRAWN + 1:
                one, scene = _shortened(one, scene)
            film = captioned(scene, one, names)
            pace = 1200 if one.steps <= 3 else 250 if one.steps <= 60 else 120  # milliseconds
            title = f"{one.algo} on {text.clean(one.env, 100)}, episode {one.number}"
            files.write_text(spare / f"{one.number}.html", page(one, scene, names, notes))
            files.write_text(spare / f"{one.number}.svg", svg.animated(film, title, pace))
            with files.create(spare / f"{one.number}.gif") as file:
                gif.write(film, file, pace)
    html, svgs, gifs = (
        [folder / f"{one.number}.{kind}" for one in records] for kind in ("html", "svg", "gif")
    )
    return html, svgs, gifs


def _shortened(one: Record, scene: Scene) -> tuple[Record, Scene]:
    """Return the first `MOST_DRAWN` steps of a longer episode."""
    n = MOST_DRAWN
    with_last, cut = one.episode[:3], one.episode[3:]
    episode = type(one.episode)(*(x[: n + 1] for x in with_last), *(x[:n] for x in cut))
    note = f"The episode has {one.steps:,} steps, and the first {n:,} are shown."
    short = dataclasses.replace(
        one,
        episode=episode,
        q=one.q[: n + 1],
        team={name: x[:n] for name, x in one.team.items()},
        slopes=None if one.slopes is None else one.slopes[:n],
    )
    return short, scene._replace(moments=scene.moments[: n + 1], notes=(*scene.notes, note))


def _table(one: Record, names: list[list[str]]) -> str:
    """Return an episode as a table of at most `MOST_LINES` steps."""
    chosen = np.unique(np.linspace(0, one.steps - 1, min(one.steps, MOST_LINES)).astype(int))
    shown = names[:6]
    signs = [letter(i, len(names)) for i in range(len(shown))]
    value = next(iter(one.team), "")
    rows = [["step", *signs, "reward", "return", *([value] if value else []), "to come"]]
    for t in chosen:
        taken = [text.clean(own[int(one.episode.action[t, i])], 14) for i, own in enumerate(shown)]
        numbers = [one.episode.reward[t], one.returns[t]]
        numbers += [one.team[value][t]] if value else []
        rows.append([str(t + 1), *taken, *(number(x) for x in (*numbers, one.to_come[t]))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(lines)


def agreement(run: Run) -> str:
    """Return a sentence that compares the loaded team's greedy return with the logged one.

    The run's own evaluation is repeated: its episodes depend on the seed and the env steps.
    """
    try:
        columns = run.metrics()
    except RunFailedError as error:
        return f"the loaded team's return cannot be compared: {error}"
    steps, logged = (
        np.asarray(columns[name], float) if name in columns else np.zeros(0)
        for name in ("env_steps", "greedy_return")
    )
    count = min(len(steps), len(logged))
    evaluated = np.flatnonzero(np.isfinite(logged[:count]))
    at = [i for i in evaluated if int(steps[i]) == run.env_steps]
    if not at:
        last = (
            f"the last is at {int(steps[evaluated[-1]]):,}" if len(evaluated) else "there is none"
        )
        return (
            f"the loaded team's return cannot be compared: metrics.csv has no evaluation at "
            f"{run.env_steps:,} env steps, {last}"
        )
    episodes, written = run.config.eval_episodes, float(logged[at[-1]])
    played = play_episodes(
        run.collector, run.config.seed, Stream.EVALUATE, episodes, first=run.env_steps
    )
    found = Scores.of(played).returns
    mean = float(found.mean())
    numbers = (
        f"{mean:.4g} over {text.counted(episodes, 'episode')}, metrics.csv has {written:.4g} at "
    )
    numbers += f"{run.env_steps:,} env steps"
    if abs(mean - written) <= EQUAL * max(1.0, abs(written)):
        return f"the loaded team's return agrees with the logged one: {numbers}"
    if abs(mean - written) <= 2 * float(found.std()) / math.sqrt(episodes):
        return (
            f"the loaded team's return is within two standard errors of the logged one: {numbers}; "
            "another machine or version rounds differently"
        )
    return f"the loaded team's return DIFFERS from the logged one: {numbers}"
