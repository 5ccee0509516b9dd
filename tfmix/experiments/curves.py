"""Reads runs as arrays: by task and group of settings, curves on common points, final scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmix import algos
from tfmix.config.schema import FIELDS, Config
from tfmix.config.values import as_typed
from tfmix.envs.bounds import return_bounds
from tfmix.errors import UserError
from tfmix.experiments.statistics import Array
from tfmix.monitoring.metrics_csv import COLUMNS, NotMetricsError, read_columns
from tfmix.runs import folders
from tfmix.runs.unread import why_unread
from tfmix.types import EnvSpec
from tfmix.utils import text
from tfmix.utils.text import nearest, tell

AXES = ("env_steps", "updates", "seconds")
RETURNS = ("train_return", "greedy_return")
Key = tuple[str, tuple[str, ...]]  # an algorithm, and settings in which its groups differ
MOST_POINTS = 500  # of a curve whose runs have different points
# Names of algorithms in print, in the registry's order.
NAMES = {
    "iql": "IQL",
    "vdn": "VDN",
    "qmix": "QMIX",
    "qatten": "Qatten",
    "cw_qmix": "CW-QMIX",
    "ow_qmix": "OW-QMIX",
    "qtran_base": "QTRAN-base",
    "qtran_alt": "QTRAN-alt",
    "qplex": "QPLEX",
}
# Settings that do not change what a run learns, or that are the task's.
_NOT_LEARNING = {
    *("algo", "env", "env_arg", "seed", "run_dir", "env_workers", "max_worker_restarts"),
    *("env_timeout_seconds", "gpu_buffer_gb", "update_shards"),
    *(name for name, field in FIELDS.items() if field.metadata["group"] == "output"),
}


@dataclasses.dataclass(frozen=True)
class RunCurves:
    """Holds what was read of a run.

    Attributes:
      folder: the run folder.
      config: its settings.
      spec: its task's shape.
      about: its run.json.
      columns: its metrics.csv by column, [rows] each.
    """

    folder: Path
    config: Config
    spec: EnvSpec
    about: dict[str, Any]
    columns: dict[str, Array]

    @property
    def task(self) -> str:
        """The environment and its arguments."""
        return " ".join([self.config.env, *sorted(self.config.env_arg)])

    def curve(self, metric: str, x: str) -> tuple[Array, Array]:
        """Return the points at which a metric has a value, [P] and [P], x increasing."""
        at, value = self.columns[x].astype(np.float64), self.columns[metric].astype(np.float64)
        known = np.isfinite(value) & np.isfinite(at)
        at, value = at[known], value[known]
        # Of rows with the same x, such as rows before the first update, the last counts.
        at, newest = np.unique(at[::-1], return_index=True)
        return at, value[::-1][newest]

    @property
    def is_complete(self) -> bool:
        """Whether the last row is at the run's end."""
        done = self.columns["env_steps"]
        return bool(len(done) and done[-1] >= self.config.env_steps)


class Group(NamedTuple):
    """Runs of a task that differ in their seed alone.

    Attributes:
      algo: the algorithm.
      variant: settings, name=value, in which groups of the algorithm differ; often none.
      runs: the runs by seed.
    """

    algo: str
    variant: tuple[str, ...]
    runs: tuple[RunCurves, ...]

    @property
    def key(self) -> Key:
        """What the group is called on every task."""
        return self.algo, self.variant

    @property
    def label(self) -> str:
        """The name of the group for a legend."""
        return label_of(self.key)


Tasks = dict[str, list[Group]]


def label_of(key: Key) -> str:
    """Return the name of a group for a legend."""
    return " ".join([NAMES[key[0]], *key[1]])


def read(found: Iterable[Path]) -> list[RunCurves]:
    """Read runs; leave out those that cannot be read, and print why.

    Raises:
      UserError: none can be read.
    """
    runs: list[RunCurves] = []
    reason = ""
    for folder in found:
        try:
            folders.refuse_links(folder)
            config, spec, about = folders.read(folder)
            algos.find(config.algo)
            columns = read_columns(folder / "metrics.csv")
        except FileNotFoundError:
            reason = f"{text.clean(folder, 200)} has no metrics.csv yet"
        except (UserError, NotMetricsError, OSError) as error:
            why = text.clean(getattr(error, "strerror", None) or error, 300)
            reason = why if str(folder) in why else f"{text.clean(folder, 200)}: {why}"
        else:
            runs.append(RunCurves(folder, config, spec, about, columns))
            continue
        tell(f"tfmix: left out: {reason}")
    if not runs:
        raise UserError(f"none of the runs can be read: {reason}")
    return runs


def with_metric(runs: Sequence[RunCurves], metric: str) -> list[RunCurves]:
    """Return the runs that have a value of a metric; print how many have none.

    Raises:
      UserError: no run has such a column, or no run has a value of it yet.
    """
    named = [run for run in runs if metric in run.columns]
    if not named:
        known = sorted({name for run in runs for name in run.columns} - set(COLUMNS[:4]))
        close = nearest(metric, known) or f"; there are {text.clean(', '.join(known), 400)}"
        raise UserError(f"no run has a metric {text.clean(metric, 100)!r}{close}")
    found = [run for run in named if len(run.curve(metric, "env_steps")[0])]
    without = [run.folder for run in runs if run not in found]
    if not found:
        raise UserError(
            f"{_names(without)} {'has' if len(without) == 1 else 'have'} no value of {metric} "
            "yet: the first evaluation is at --eval_period_env_steps"
        )
    if without:
        tell(f"tfmix: left out, no value of {metric}: {_names(without)}")
    return found


def _names(found: Sequence[Path]) -> str:
    """Return the first folders and how many more there are."""
    shown = ", ".join(text.clean(folder, 200) for folder in found[:3])
    return shown + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def by_task(runs: Iterable[RunCurves]) -> Tasks:
    """Return the runs by task and group, algorithms in the registry's order.

    Runs of one algorithm with different settings are different groups, and their labels name
    the settings that differ within a task.
    """
    tasks: dict[str, list[RunCurves]] = {}
    for run in sorted(runs, key=lambda run: (run.task, run.config.seed, str(run.folder))):
        tasks.setdefault(run.task, []).append(run)
    varied = _varied(tasks)
    order = list(NAMES)
    found: Tasks = {}
    for task, members in tasks.items():
        groups: dict[Key, list[RunCurves]] = {}
        for run in members:
            groups.setdefault(_key(run, varied), []).append(run)
        found[task] = sorted(
            (Group(algo, variant, tuple(same)) for (algo, variant), same in groups.items()),
            key=lambda group: (order.index(group.algo), group.variant),
        )
    return found


def _varied(tasks: dict[str, list[RunCurves]]) -> dict[str, list[str]]:
    """Return for each algorithm the settings in which its runs differ within some task."""
    found: dict[str, dict[str, None]] = {}
    for members in tasks.values():
        for algo in {run.config.algo for run in members}:
            same = [_learning(run.config) for run in members if run.config.algo == algo]
            for name in dict.fromkeys(name for settings in same for name in settings):
                if len({settings.get(name) for settings in same}) > 1:
                    found.setdefault(algo, {})[name] = None
    return {algo: [name for name in FIELDS if name in names] for algo, names in found.items()}


def _learning(config: Config) -> dict[str, Any]:
    """Return the settings that a run reads and that change what it learns.

    A longer run is the same run, unless its learning rate decays to its end.
    """
    skipped = _NOT_LEARNING | ({"env_steps"} if config.learning_rate_decay == "none" else set())
    return {
        name: getattr(config, name)
        for name in FIELDS
        if name not in skipped and not why_unread(name, config)
    }


def _key(run: RunCurves, varied: dict[str, list[str]]) -> Key:
    """Return the algorithm of a run and the settings that distinguish its group from others."""
    settings = _learning(run.config)
    names = [name for name in varied.get(run.config.algo, ()) if name in settings]
    return run.config.algo, tuple(
        f"{name}={text.clean(as_typed(settings[name]), 60)}" for name in names
    )


def on_common_points(group: Group, metric: str, x: str) -> tuple[Array, Array]:
    """Return the points that all runs of a group cover, and the runs' values there.

    Runs that have the same points keep them. Otherwise values between two points of a run
    are on the line through these.

    Returns:
      x, [P], and values, [R, P]. P is 0 if the runs do not overlap.
    """
    curves = [run.curve(metric, x) for run in group.runs]
    low, high = max(at[0] for at, _ in curves), min(at[-1] for at, _ in curves)
    points = np.unique(np.concatenate([at for at, _ in curves]))
    points = points[(points >= low) & (points <= high)]
    if len(points) > MOST_POINTS:
        points = np.linspace(low, high, MOST_POINTS)
    return points, np.asarray([np.interp(points, at, value) for at, value in curves])


def final_scores(tasks: Tasks, metric: str) -> dict[str, dict[Key, Array]]:
    """Return the last value of each run that is at its end, [R], by task and group."""
    found: dict[str, dict[Key, Array]] = {}
    for task, groups in tasks.items():
        for group in groups:
            done = [run for run in group.runs if run.is_complete]
            if done:
                last = [run.curve(metric, "env_steps")[1][-1] for run in done]
                found.setdefault(task, {})[group.key] = np.asarray(last)
    return found


def bounds_of(tasks: Tasks, metric: str) -> dict[str, tuple[float, float]]:
    """Return the bounds of the metric that tasks declare; only returns have any."""
    if metric not in RETURNS:
        return {}
    declared = {task: return_bounds(groups[0].runs[0].config) for task, groups in tasks.items()}
    return {task: bounds for task, bounds in declared.items() if bounds}
