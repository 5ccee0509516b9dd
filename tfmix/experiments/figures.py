"""Draws the figures of runs with matplotlib, for a paper: PNG, SVG and PDF.

Nothing here keeps a state or opens a window.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tfmix.experiments.curves import Group, Key, Tasks, label_of
from tfmix.experiments.looks import DPI, GREY, STYLE, Look, looks_of
from tfmix.experiments.scores import Curve, Results, Score
from tfmix.experiments.statistics import LEAST_RUNS
from tfmix.utils import text

FORMATS = ("png", "svg", "pdf")
MOST_COLUMNS = 3
MOST_NOTE = 600  # characters of a footnote
WIDTH, HEIGHT = 3.1, 2.35  # of a panel, in inches
ALONE = 4.4  # width of a panel that is alone
LEGEND_LINE = 0.17
UNITS = {"env_steps": "env steps", "updates": "updates", "seconds": "training time in seconds"}


def write(folder: Path, tasks: Tasks, results: Results, show_runs: bool, note: str) -> list[Path]:
    """Draw all figures and write them into a folder.

    Args:
      folder: the folder, which exists.
      tasks: the runs.
      results: their numbers.
      show_runs: draw each run as a thin line too.
      note: printed below each figure, if it is not empty.

    Returns:
      the files.

    Raises:
      OSError: they cannot be written.
    """
    found: list[Path] = []
    with matplotlib.rc_context(STYLE):
        looks = looks_of(group.key for groups in tasks.values() for group in groups)
        drawn = {"curves": _curves(tasks, results, looks, show_runs)}
        if results.final:
            drawn["final"] = _final(results, looks)
            drawn["profile"] = _profiles(results, looks)
        if results.improvements:
            drawn["improvement"] = _improvements(results)
        for name, figure in drawn.items():
            _note(figure, note)
            found += save(figure, folder / name)
    return found


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG, SVG and PDF; the bytes do not depend on the date.

    Args:
      figure: the figure.
      path: the files without an ending.
    """
    about: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    found = []
    for ending in FORMATS:
        file = path.with_name(f"{path.name}.{ending}")
        figure.savefig(file, dpi=DPI, metadata=about[ending])
        found.append(file)
    return found


def metric_name(metric: str) -> str:
    """Return a metric for the label of an axis."""
    return text.clean(metric.replace("_", " "), 60)


def _curves(tasks: Tasks, results: Results, looks: dict[Key, Look], show_runs: bool) -> Figure:
    """Return the learning curves, a panel for each task."""
    figure, axes = _panels(len(tasks))
    for axis, (task, groups) in zip(axes, tasks.items(), strict=True):
        if task in results.bounds and results.metric == "greedy_return":
            axis.axhline(results.bounds[task][1], color=GREY, lw=0.9, ls=(0, (1, 2)), zorder=1)
        lines = [line for line in results.curves if line.task == task]
        for number, (group, line) in enumerate(zip(groups, lines, strict=True)):
            alone = not len(line.value)
            if alone or show_runs:
                _draw_runs(axis, group, results, looks[group.key], alone)
            if not alone:
                _draw_curve(axis, line, looks[group.key], number, len(lines))
        axis.set_title(text.clean(task, 48), loc="left")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.xaxis.set_major_formatter(FuncFormatter(_short))
    _label(axes, UNITS[results.x], metric_name(results.metric))
    _legend(figure, _counts(results.curves), looks)
    return figure


def _draw_runs(axis: Any, group: Group, results: Results, look: Look, alone: bool) -> None:
    """Draw each run of a group, with a marker at its end if there is no curve of all."""
    width, opacity = (1.1, 0.8) if alone else (0.5, 0.4)
    for run in group.runs:
        at, value = run.curve(results.metric, results.x)
        axis.plot(at, value, color=look.color, lw=width, alpha=opacity, ls=look.dashes, zorder=2)
        if alone:
            axis.plot(at[-1:], value[-1:], color=look.color, marker=look.marker, ms=5, zorder=4)


def _draw_curve(axis: Any, line: Curve, look: Look, number: int, count: int) -> None:
    """Draw a curve with its band.

    Markers of different curves are at different points, so that equal curves are seen.
    """
    if len(line.low):
        axis.fill_between(line.x, line.low, line.high, color=look.color, alpha=0.2, lw=0, zorder=2)
    every = max(len(line.x) // 5, 1)
    axis.plot(
        line.x, line.value, color=look.color, lw=1.6, ls=look.dashes, marker=look.marker, ms=5,
        mew=0.6, mec="white", markevery=(number * every // count, every), zorder=3,
    )  # fmt: skip


def _final(results: Results, looks: dict[Key, Look]) -> Figure:
    """Return the final scores, a panel for each task and a row for each group."""
    names = list(dict.fromkeys(score.task for score in results.final))
    panels = [[score for score in results.final if score.task == name] for name in names]
    figure, axes = _panels(len(panels), 0.6 + 0.3 * max(map(len, panels)))
    for axis, name, found in zip(axes, names, panels, strict=True):
        for row, score in enumerate(found):
            _draw_score(axis, score, row, looks[score.key])
        _rows(axis, [f"{label_of(score.key)} ({len(score.runs)})" for score in found])
        axis.set_title(text.clean(name, 48), loc="left")
        axis.margins(x=0.08)
        low, high = axis.get_xlim()
        if high - low < 0.2:  # all values are equal
            axis.set_xlim(low - 0.5, high + 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(5))
    _label(axes, f"final {metric_name(results.metric)}", "")
    return figure


def _draw_score(axis: Any, score: Score, row: int, look: Look) -> None:
    """Draw the interval, the interquartile mean and the single runs of a group."""
    if not math.isnan(score.value):
        width = score.high - score.low
        axis.barh(row, width, left=score.low, height=0.5, color=look.color, alpha=0.35, lw=0)
        axis.plot([score.value] * 2, [row - 0.25, row + 0.25], color=look.color, lw=2.2, zorder=3)
    count = len(score.runs)
    spread = np.linspace(-0.17, 0.17, count) if count > 1 else np.zeros(1)
    axis.scatter(
        score.runs, row + spread, s=14, marker=look.marker, color=look.color, edgecolor="white",
        linewidth=0.4, zorder=4,
    )  # fmt: skip


def _profiles(results: Results, looks: dict[Key, Look]) -> Figure:
    """Return the performance profiles, a panel for each task or one over all."""
    names = list(dict.fromkeys(line.task for line in results.profiles))
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        found = [line for line in results.profiles if line.task == name]
        for number, line in enumerate(found):
            _draw_curve(axis, line, looks[line.key], number, len(found))
        axis.set_title(text.clean(name, 48), loc="left")
        axis.set_ylim(-0.04, 1.04)
    _label(axes, f"final {metric_name(results.metric)} \N{GREEK SMALL LETTER TAU}",
           "share of runs above \N{GREEK SMALL LETTER TAU}")  # fmt: skip
    _legend(figure, _counts(results.profiles), looks)
    return figure


def _improvements(results: Results) -> Figure:
    """Return the probability of improvement, a row for each pair of groups."""
    found = results.improvements
    figure, axes = _panels(1, 0.6 + 0.3 * len(found))
    axis = axes[0]
    axis.axvline(0.5, color=GREY, lw=0.9, ls=(0, (1, 2)), zorder=1)
    for row, one in enumerate(found):
        if not math.isnan(one.low):
            axis.barh(row, one.high - one.low, left=one.low, height=0.5, color="#bdbdbd", lw=0)
        axis.plot([one.value] * 2, [row - 0.25, row + 0.25], color="#212121", lw=2.2)
    _rows(axis, [f"{label_of(one.first)} over {label_of(one.second)}" for one in found])
    axis.set_xlim(-0.02, 1.02)
    _label(axes, "probability of a higher final score", "")
    return figure


def _panels(count: int, height: float = HEIGHT) -> tuple[Figure, list[Any]]:
    """Return a figure and `count` axes in rows of at most `MOST_COLUMNS`."""
    columns = min(count, MOST_COLUMNS)
    rows = math.ceil(count / columns)
    width = WIDTH * columns if columns > 1 else ALONE
    figure = Figure(figsize=(width, height * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.remove()
    return figure, list(axes[:count])


def _rows(axis: Any, labels: Sequence[str]) -> None:
    """Name the rows of a panel, the first at the top."""
    axis.set_yticks(range(len(labels)), [text.clean(label, 60) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")


def _label(axes: Sequence[Any], x: str, y: str) -> None:
    """Label the axes: x at the lowest panels, y at the left."""
    columns = min(len(axes), MOST_COLUMNS)
    for number, axis in enumerate(axes):
        if number + columns >= len(axes):
            axis.set_xlabel(x)
        if number % columns == 0:
            axis.set_ylabel(y)


def _counts(lines: Iterable[Curve]) -> dict[Key, str]:
    """Return for each group the number of its seeds for the legend."""
    counts: dict[Key, list[int]] = {}
    for line in lines:
        counts.setdefault(line.key, []).append(line.seeds)
    found = {}
    for key, numbers in counts.items():
        low, high = min(numbers), max(numbers)
        shown = f"{low}" if low == high else f"{low} to {high}"
        found[key] = f"{shown} seed{'s' * (high > 1)}"
        if low < LEAST_RUNS:
            found[key] += ", no interval"
    return found


def _legend(figure: Figure, counts: dict[Key, str], looks: dict[Key, Look]) -> None:
    """Draw one legend for all panels, below them."""
    handles = [
        Line2D(
            [],
            [],
            color=looks[key].color,
            marker=looks[key].marker,
            ls=looks[key].dashes,
            lw=1.6,
            ms=5,
            mew=0.6,
            mec="white",
            label=f"{text.clean(label_of(key), 80)} ({counts[key]})",
        )
        for key in looks
        if key in counts
    ]
    longest = max(len(str(handle.get_label())) for handle in handles)
    width, height = figure.get_size_inches()
    columns = max(1, min(len(handles), int(width / (0.45 + 0.06 * longest))))
    lines = math.ceil(len(handles) / columns)
    figure.set_size_inches(width, height + (lines - 1) * LEGEND_LINE)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns,
        handlelength=2.4, columnspacing=1.4,
    )  # fmt: skip


def _note(figure: Figure, note: str) -> None:
    """Print a footnote, such as the differences that --force overlooks, below a figure."""
    if note:
        width = figure.get_size_inches()[0]
        shown = textwrap.fill(text.clean(note, MOST_NOTE), int(width * 20))
        figure.draw_without_rendering()  # panels keep their size: the picture grows by the note
        figure.set_layout_engine("none")
        figure.text(0.01, -0.01, shown, fontsize=6, color="#b71c1c", va="top")


def _short(value: float, _: Any = None) -> str:
    """Return a number for an axis, thousands as k and millions as M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
