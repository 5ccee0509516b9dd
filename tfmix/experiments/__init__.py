"""Benchmarks: grids of runs over algorithms, environments and seeds, and their results.

Every run is a process. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfmix.config.schema import Config
from tfmix.config.wording import in_python
from tfmix.errors import RunFailedError, StoppedError, UserError
from tfmix.experiments import grid, processes, table
from tfmix.experiments.screen import Screen
from tfmix.experiments.table import Row
from tfmix.runs import folders
from tfmix.utils import text
from tfmix.utils.text import show

RUN_DIR = "runs/benchmark"
IN_USE = (
    "a benchmark works there, or runs of one that was killed are still saving; wait for their end"
)


@in_python
def benchmark(
    algos: str | Iterable[str],
    envs: str | Iterable[str],
    seeds: str | Iterable[int],
    run_dir: str | os.PathLike[str] = RUN_DIR,
    jobs: int | None = None,
    *,
    progress: bool = True,
    **settings: Any,
) -> list[Row]:
    """Train every algorithm on every environment with every seed, except finished runs.

    `status` marks the runs that failed and those that Ctrl-C or SIGTERM stopped. The same
    call continues them. A call with other algorithms, environments or seeds adds to the
    tables of the folder. A greater `env_steps` resumes the runs to the new end.

    Args:
      algos: names, in a list or as `a,b`.
      envs: likewise.
      seeds: in a list, as `first:last` (without the last) or as `0,3,7`.
      run_dir: the benchmark's folder. Runs are in `<env>/<algo>/seed<k>` below it, the table
        of all runs in the folder is in table.csv, table.md and table.tex.
      jobs: number of runs at a time, each on one core; None for one per core.
      progress: print when runs start and end, the progress and warnings; False prints
        nothing.
      **settings: settings of docs/settings.md by name, for every run.

    Returns:
      one row for each run of this call, as in table.csv.

    Raises:
      UserError: a name, setting or folder is wrong; no run was started.
    """
    asked = grid.make(algos, envs, seeds, folders.expand(run_dir), settings, jobs)
    with text.printing(progress):
        return _benchmark(asked)


def _benchmark(asked: grid.RunGrid) -> list[Row]:
    """Start the runs that are not finished, wait for them, and write the table."""
    with folders.locked(asked.run_dir, IN_USE) as lock:
        for cell in asked.cells:
            grid.refuse_others(cell)
        grid.warn_of_decay(asked.cells)
        todo = [cell for cell in asked.cells if not grid.is_finished(cell)]
        failed: dict[Path, str] = {}
        if todo:
            failed = processes.run_all(
                todo,
                processes.slots(asked.jobs),
                lambda cell, core: processes.RunProcess(cell, core, lock),
                Screen(asked.cells, todo),
            )
        rows = [table.row_of(cell, failed.get(cell.folder, "")) for cell in asked.cells]
        every = grid.with_stored(asked)
        known = rows + [table.row_of(cell) for cell in every.cells[len(rows) :]]
        table.write(every, known)
        _draw(asked.run_dir, known)
    return rows


def _draw(run_dir: Path, rows: list[Row]) -> None:
    """Draw the figures of a benchmark's folder; if that fails, a line says why.

    The tables and runs are there already, and nothing of them is lost.
    """
    from tfmix.experiments.plot import FOLDER, draw

    runs = [Path(row["folder"]) for row in rows if row["last_greedy_return"] is not None]
    if not runs:
        return
    try:
        draw(runs, out=run_dir / FOLDER)
    except Exception as error:
        reason = text.clean(error) if isinstance(error, UserError) else text.of_error(error)
        text.tell(f"tfmix: the tables are written, and no figures are drawn: {reason}")


def from_command_line(
    settings: dict[str, Any],
    seeds: str | None,
    jobs: int | None,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Do what `benchmark` does for `--mode=benchmark`, and print the table.

    Args:
      settings: by name; `algo` and `env` may name several.
      seeds: --seeds, None for --seed alone.
      jobs: --jobs.
      sources: where the settings were given; None for arguments of a Python function.

    Raises:
      UserError: as in `benchmark`.
      StoppedError: Ctrl-C or SIGTERM stopped the benchmark.
      RunFailedError: a run failed.
    """
    rest = dict(settings)
    algo, env = rest.pop("algo", Config.algo), rest.pop("env", Config.env)
    seed, run_dir = rest.pop("seed", Config.seed), rest.pop("run_dir", "") or RUN_DIR
    asked = grid.make(algo, env, [seed] if seeds is None else seeds, run_dir, rest, jobs, sources)
    rows = _benchmark(asked)
    show((asked.run_dir / "table.md").read_text().rstrip("\n"))
    states = [row["status"] for row in rows]
    if "unfinished" in states:
        raise StoppedError(
            f"stopped, {states.count('finished')} of {len(rows)} runs are finished; "
            f"continue with: {asked.command}"
        )
    if "failed" in states:
        raise RunFailedError(
            f"{states.count('failed')} of {len(rows)} runs failed; "
            f"this command tries them again: {asked.command}"
        )
