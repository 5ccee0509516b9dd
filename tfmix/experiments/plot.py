"""Figures and data of runs: `--mode=plot` and `tfmix.plot`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfmix.config.wording import in_python
from tfmix.errors import UserError
from tfmix.experiments import curves, curves_csv, find_runs, marl_eval, scores
from tfmix.experiments.comparable import differences
from tfmix.experiments.curves import Tasks
from tfmix.runs import folders
from tfmix.utils import files, text
from tfmix.utils.text import nearest, tell

METRIC, AXIS, FOLDER = "greedy_return", "env_steps", "plots"


class Drawn(NamedTuple):
    """What was drawn.

    Attributes:
      files: the files that were written.
      lines: the numbers of the figures, for a person.
    """

    files: list[Path]
    lines: list[str]


@in_python
def plot(
    runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    metric: str = METRIC,
    x: str = AXIS,
    out: str | os.PathLike[str] | None = None,
    *,
    show_runs: bool = False,
    force: bool = False,
) -> list[Path]:
    """Draw learning curves and final scores of runs, and write their data.

    The curves are interquartile means over seeds with 95% stratified bootstrap intervals.
    Of fewer than five seeds the runs themselves are drawn. The files are

    - curves, final, profile and improvement, each as png, svg and pdf;
    - curves.csv, one row for each point of each run;
    - statistics.csv, the numbers that are drawn;
    - marl_eval.json, for the package marl-eval.

    Args:
      runs: run folders, folders with runs below them, or globs; one or several.
      metric: a column of metrics.csv.
      x: `env_steps`, `updates` or `seconds`.
      out: the folder of the files; None for `plots` in the runs' common folder.
      show_runs: draw each run as a thin line too.
      force: draw runs that cannot be compared; a footnote of the figures says how they differ.

    Returns:
      the files.

    Raises:
      UserError: no run is found or has a value of the metric, runs on one task differ in what
        makes their curves comparable, or the folder cannot be written.
    """
    return draw(find_runs.find(runs), metric, x, out, show_runs, force).files


def draw(
    found: list[Path],
    metric: str = METRIC,
    x: str = AXIS,
    out: str | os.PathLike[str] | None = None,
    show_runs: bool = False,
    force: bool = False,
) -> Drawn:
    """Do what `plot` does, with run folders that were found already."""
    if x not in curves.AXES:
        hint = nearest(x, curves.AXES)
        raise UserError(f"--x={text.clean(x, 60)}: it is one of {', '.join(curves.AXES)}{hint}")
    tasks = curves.by_task(curves.with_metric(curves.read(found), metric))
    note = _note(differences(tasks, x), force)
    shown = _drop_empty(tasks, metric, x)
    folder = folders.expand(out) if out else _common(found) / FOLDER
    results = scores.of(shown, metric, x)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        from tfmix.experiments import figures  # imports matplotlib

        written = figures.write(folder, shown, results, show_runs, note)
        pages = {
            "curves.csv": curves_csv.points(tasks, metric),
            "statistics.csv": curves_csv.statistics(results),
            "marl_eval.json": marl_eval.as_json(tasks, metric),
        }
        for name, page in pages.items():
            files.write_text(folder / name, page)
            written.append(folder / name)
    except OSError as error:
        raise UserError(
            f"cannot write to {text.clean(error.filename or folder, 300)}: {error.strerror}"
        ) from error
    return Drawn(written, scores.lines(results))


def _note(found: list[str], force: bool) -> str:
    """Return the footnote of figures; raise UserError for differences without `force`."""
    if not found:
        return ""
    if not force:
        more = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
        raise UserError(f"{found[0]}{more}; --force draws them and marks the figures")
    for line in found:
        tell(f"tfmix: forced: {line}")
    return "drawn with --force, not comparable: " + "; ".join(found)


def _drop_empty(tasks: Tasks, metric: str, x: str) -> Tasks:
    """Return the tasks without groups whose runs have no common points, and print which."""
    kept: Tasks = {}
    for task, groups in tasks.items():
        for group in groups:
            if len(curves.on_common_points(group, metric, x)[0]):
                kept.setdefault(task, []).append(group)
            else:
                tell(
                    f"tfmix: left out: the runs of {group.label} on {text.clean(task, 200)} have "
                    f"no common range of {x}"
                )
    if not kept:
        raise UserError(f"no runs have a common range of {x}")
    return kept


def _common(found: list[Path]) -> Path:
    """Return the folder that holds all runs; of one run its own folder."""
    if len(found) == 1:
        return found[0]
    try:
        return Path(os.path.commonpath([str(folder) for folder in found]) or ".")
    except ValueError:  # relative and absolute paths
        return Path(os.path.commonpath([str(folder.absolute()) for folder in found]))
