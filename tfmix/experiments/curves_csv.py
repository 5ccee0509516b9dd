"""The data of the figures as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tfmix.experiments.curves import AXES, Key, Tasks, label_of
from tfmix.experiments.scores import Results

POINTS = ("task", "algorithm", "settings", "seed", *AXES, "metric", "value", "folder")
STATISTICS = ("figure", "task", "algorithm", "n", "x", "value", "low", "high")


def _page(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the text of a CSV; NaN is an empty cell."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if isinstance(x, float) and math.isnan(x) else x for x in row])
    return page.getvalue()


def points(tasks: Tasks, metric: str) -> str:
    """Return the text of curves.csv: a row for each value of each run."""
    rows = []
    for task, groups in tasks.items():
        for group in groups:
            for run in group.runs:
                known = zip(*(run.columns[name] for name in (*AXES, metric)), strict=True)
                about = (task, group.algo, " ".join(group.variant), run.config.seed)
                rows += [
                    (*about, *map(int, at[:2]), float(at[2]), metric, float(at[3]), run.folder)
                    for at in known
                    if math.isfinite(at[3])
                ]
    return _page(POINTS, rows)


def statistics(results: Results) -> str:
    """Return the text of statistics.csv: the numbers that the figures draw."""
    rows: list[Sequence[Any]] = []
    for figure, lines in (("curves", results.curves), ("profile", results.profiles)):
        for line in lines:
            for number in range(len(line.value)):
                ends = [float(e[number]) if len(e) else math.nan for e in (line.low, line.high)]
                x, value = float(line.x[number]), float(line.value[number])
                rows.append((figure, line.task, label_of(line.key), line.seeds, x, value, *ends))
    for score in results.final:
        name = label_of(score.key)
        rows.append(
            ("final", score.task, name, len(score.runs), "", score.value, score.low, score.high)
        )
    for one in results.improvements:
        rows.append(
            ("improvement", f"{one.tasks} tasks", _pair(one.first, one.second), "", "",
             one.value, one.low, one.high)
        )  # fmt: skip
    return _page(STATISTICS, rows)


def _pair(first: Key, second: Key) -> str:
    """Return the name of a pair of groups."""
    return f"{label_of(first)} over {label_of(second)}"
