"""The results of a benchmark: one CSV row for each run, one row of a table for each pair."""

from __future__ import annotations

import contextlib
import csv
import io
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypedDict

from tfmix.config.schema import FIELDS
from tfmix.experiments import latex
from tfmix.experiments.grid import RunGrid, RunSpec, is_finished
from tfmix.monitoring.metrics_csv import NotMetricsError, metrics_rows
from tfmix.runs import folders
from tfmix.runs.unread import why_unread
from tfmix.types import TEAM_REWARD
from tfmix.utils import files, text

DASH = "-"
MOST_FACT = 200  # characters of one fact of a run.json


class Row(TypedDict):
    """Describes a run. env_steps, updates and seconds are from the last row of its metrics.csv.

    status is `finished`, `unfinished` or `failed`. The greedy returns are means over
    eval_episodes episodes, None before the first evaluation.
    """

    env: str
    algo: str
    seed: int
    status: str
    env_steps: int
    updates: int
    seconds: float
    last_greedy_return: float | None
    best_greedy_return: float | None
    eval_episodes: int
    folder: str
    reason: str


def row_of(cell: RunSpec, reason: str = "") -> Row:
    """Return the row of a run; `reason` says why it failed."""
    last = {"env_steps": "0", "updates": "0", "seconds": "0"}
    newest: float | None = None
    best: float | None = None
    with contextlib.suppress(FileNotFoundError, NotMetricsError):
        rows = metrics_rows(cell.folder / "metrics.csv")
        header = next(rows)
        for cells in rows:
            last = dict(zip(header, cells, strict=True))
            if last["greedy_return"]:
                newest = float(last["greedy_return"])
                best = newest if best is None else max(best, newest)
    return {
        "env": cell.config.env,
        "algo": cell.config.algo,
        "seed": cell.config.seed,
        "status": "failed" if reason else "finished" if is_finished(cell) else "unfinished",
        "env_steps": int(last["env_steps"]),
        "updates": int(last["updates"]),
        "seconds": float(last["seconds"]),
        "last_greedy_return": newest,
        "best_greedy_return": best,
        "eval_episodes": cell.config.eval_episodes,
        "folder": str(cell.folder),
        "reason": text.clean(reason),
    }


def as_csv(rows: Iterable[Row]) -> str:
    """Return the text of table.csv."""
    page = io.StringIO()
    writer = csv.DictWriter(page, list(Row.__annotations__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return page.getvalue()


def as_markdown(grid: RunGrid, rows: list[Row]) -> str:
    """Return the text of table.md.

    It says how it was made, has a row for each pair of environment and algorithm, and
    lists the runs that are not finished. Runs of one pair with different settings have
    different rows.

    Args:
      grid: all runs, and the command of the last call.
      rows: the row of each run, in the order of `grid.cells`.
    """
    groups = groups_of(grid.cells, rows)
    done = sum(row["status"] == "finished" for row in rows)
    lines = [
        "# Benchmark",
        "",
        f"    {grid.command}",
        "",
        "- This is the last command. The table has all runs of the folder.",
        f"- {done} of {len(rows)} runs are finished; the figures are of these: median over "
        "seeds (lowest to highest).",
        "- last, best: greedy return of a run's last and of its best evaluation, undiscounted, "
        "mean over the evaluation's episodes.",
        "- seconds: the time that a run took in all its starts, with compiling and evaluations; "
        "each run had one core if cores can be chosen.",
        *_figures(rows),
        *_made_by(grid.cells),
        *_differences(groups),
        "",
        "| env | algo | seeds finished | env_steps | updates | last | best | "
        "episodes an evaluation | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_markdown_line(columns(group.rows)) for group in groups]
    missing = [row for row in rows if row["status"] != "finished"]
    lines += [""] if missing else []
    for row in missing:
        reason = f": {row['reason']}" if row["reason"] else ""
        lines.append(
            f"- {row['status']} at {row['env_steps']:,} env steps: {row['folder']}{reason}"
        )
    return "\n".join(lines) + "\n"


class Group(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
      settings: what they read, by name, without seed and run_dir.
      rows: their rows.
    """

    settings: dict[str, Any]
    rows: list[Row]


def groups_of(cells: Iterable[RunSpec], rows: Iterable[Row]) -> list[Group]:
    """Return the runs by environment, algorithm and settings, an environment's together."""
    found: dict[tuple[Any, ...], Group] = {}
    for cell, row in zip(cells, rows, strict=True):
        settings = {
            name: getattr(cell.config, name)
            for name in FIELDS
            if name not in ("seed", "run_dir") and not why_unread(name, cell.config)
        }
        group = found.setdefault(tuple(settings.items()), Group(settings, []))
        group.rows.append(row)
    envs = list(dict.fromkeys(group.settings["env"] for group in found.values()))
    algos = list(dict.fromkeys(group.settings["algo"] for group in found.values()))
    return sorted(
        found.values(),
        key=lambda group: (envs.index(group.settings["env"]), algos.index(group.settings["algo"])),
    )


def _differences(groups: list[Group]) -> list[str]:
    """Return a line for each setting that rows of an environment read with different values."""
    pairs = Counter((group.settings["env"], group.settings["algo"]) for group in groups)
    found: dict[tuple[str, str], dict[Any, list[str]]] = {}
    for group in groups:
        env, label = group.settings["env"], group.settings["algo"]
        if pairs[env, label] > 1:
            seeds = [str(row["seed"]) for row in group.rows]
            label += f" seed{'s' * (len(seeds) > 1)} {','.join(seeds)}"
        for name, value in group.settings.items():
            if name not in ("env", "algo"):
                found.setdefault((env, name), {}).setdefault(value, []).append(label)
    lines = []
    for (env, name), values in found.items():
        if len(values) > 1:
            shown = (f"{_value(value)} ({', '.join(labels)})" for value, labels in values.items())
            lines.append(f"- rows of {env} differ in {name}: {'; '.join(shown)}")
    return lines


def _value(value: Any) -> str:
    """Return the value of a setting, safe to print."""
    if isinstance(value, tuple):
        value = " ".join(value) or "none"
    return text.clean(value if value != "" else "none", MOST_FACT)


def _made_by(cells: list[RunSpec]) -> list[str]:
    """Return lines from the run.json files: the kind of team reward, versions and hardware."""
    rewards: dict[str, dict[str, None]] = {}
    versions: Counter[str] = Counter()
    for cell in cells:
        if not (cell.folder / "run.json").exists():
            continue
        stored = folders.read(cell.folder)
        rewards.setdefault(TEAM_REWARD[stored.spec.team_reward], {})[cell.config.env] = None
        python, tensorflow, tfmix = _facts(stored, "versions", "python", "tensorflow", "tfmix")
        system, device = _facts(stored, "hardware", "system", "device")
        commit = text.clean(stored.about.get("git_commit") or "", MOST_FACT)
        versions[
            f"Python {python}, TensorFlow {tensorflow}, "
            f"tfmix {tfmix}{commit and f' at {commit}'}; {system}, {device}"
        ] += 1
    lines = [f"- returns on {', '.join(tasks)}: {word}" for word, tasks in rewards.items()]
    return lines + [f"- {text.counted(n, 'run')}: {version}" for version, n in versions.items()]


def _figures(rows: Iterable[Row]) -> list[str]:
    """Return a line that says what is drawn, nothing before the first evaluation."""
    if all(row["last_greedy_return"] is None for row in rows):
        return []
    return [
        "- plots/curves.png has the learning curves; plots/ has further figures and their data."
    ]


def _facts(stored: folders.RunFile, part: str, *names: str) -> list[str]:
    """Return facts of a run.json, which anybody may have written, safe to print."""
    found = stored.about.get(part)
    found = found if isinstance(found, dict) else {}
    return [text.clean(found.get(name, "unknown"), MOST_FACT) for name in names]


def columns(rows: list[Row]) -> dict[str, str]:
    """Return the cells of a table's row over the runs of a group, by column."""
    done = [row for row in rows if row["status"] == "finished"]

    def spread(name: str, show: Callable[[Any], str]) -> str:
        found = [row[name] for row in done if row[name] is not None]  # type: ignore[literal-required]  # a column
        if not found:
            return DASH
        low, high = show(min(found)), show(max(found))
        middle = show(statistics.median(found))
        return middle if low == high else f"{middle} ({low} to {high})"

    def count(value: float) -> str:
        return f"{value:,.0f}"

    def gain(value: float) -> str:
        return f"{value:,.2f}"

    return {
        "env": rows[0]["env"],
        "algo": rows[0]["algo"],
        "seeds": f"{len(done)} of {len(rows)}",
        "names": f" ({', '.join(str(row['seed']) for row in done)})" if done else "",
        "env_steps": spread("env_steps", count),
        "updates": spread("updates", count),
        "last": spread("last_greedy_return", gain),
        "best": spread("best_greedy_return", gain),
        "episodes": str(rows[0]["eval_episodes"]),
        "seconds": spread("seconds", count),
    }


def _markdown_line(found: dict[str, str]) -> str:
    """Return a row of the Markdown table from its cells."""
    found = {**found, "seeds": found["seeds"] + found["names"]}
    cells = (found[name].replace("|", "\\|") for name in found if name != "names")
    return f"| {' | '.join(cells)} |"


def write(grid: RunGrid, rows: list[Row]) -> None:
    """Write table.csv, table.md and table.tex into the benchmark's folder.

    Each is written whole or not at all.
    """
    groups = [columns(group.rows) for group in groups_of(grid.cells, rows)]
    pages = {
        "table.csv": as_csv(rows),
        "table.md": as_markdown(grid, rows),
        "table.tex": latex.as_latex(grid.command, groups),
    }
    for name, page in pages.items():
        files.write_text(grid.run_dir / name, page)
