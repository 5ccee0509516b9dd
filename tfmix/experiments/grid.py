"""The runs of a benchmark: which ones a request names, and which are finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfmix import algos
from tfmix.config import parsing, resolve
from tfmix.config.schema import FIELDS, Config
from tfmix.errors import UserError
from tfmix.runs import folders, requests
from tfmix.runs.unread import why_unread
from tfmix.utils import text
from tfmix.utils.command import command
from tfmix.utils.text import tell

MOST = 10_000  # seeds, and runs at a time


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """Describes one run of a grid.

    Attributes:
      config: its resolved settings.
      flags: the command-line arguments that ask for it.
    """

    config: Config
    flags: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.run_dir)

    @property
    def log(self) -> Path:
        """The file next to the run folder that holds the output of the run's processes."""
        return self.folder.with_name(self.folder.name + ".log")

    def __str__(self) -> str:
        return f"{self.config.env} {self.config.algo} seed {self.config.seed}"


@dataclasses.dataclass(frozen=True)
class RunGrid:
    """Holds the runs of a benchmark, how many run at a time, and the command that asks for them."""

    cells: list[RunSpec]
    run_dir: Path
    jobs: int | None
    command: str


def names_of(asked: str | Iterable[str]) -> list[str]:
    """Return the names of `a,b` or of a list, each once."""
    if not isinstance(asked, str | Iterable):
        raise UserError(f"{asked!r} is not a list of names")
    names = asked.split(",") if isinstance(asked, str) else asked
    return list(dict.fromkeys(name.strip() for name in names))


def seeds_of(asked: str | Iterable[int]) -> list[int]:
    """Return the seeds of `first:last` (without the last), `0,3,7` or a list, each once.

    Raises:
      UserError: the text is something else, or there is no seed.
    """
    if isinstance(asked, int):
        raise UserError(
            f"--seeds={asked}: it takes a list of seeds, or text such as 0:3; the first {asked} "
            f"seeds are range({asked})"
        )
    if not isinstance(asked, str):
        return list(dict.fromkeys(asked))
    found: list[int] = []
    try:
        for part in asked.split(","):
            first, colon, last = part.partition(":")
            found += range(int(first), int(last))[: MOST + 1] if colon else [int(first)]
    except ValueError:
        raise UserError(
            f"--seeds={asked}: write first:last (the last is left out) or a list such as 0,3,7"
        ) from None
    if len(found) > MOST:
        raise UserError(f"--seeds={asked} holds more than {MOST:,} seeds")
    if not found:
        raise UserError(f"--seeds={asked} holds no seed: first:last leaves the last out")
    return list(dict.fromkeys(found))


def _seeds_text(seeds: list[int]) -> str:
    """Return the shortest text that `seeds_of` reads as `seeds`."""
    first, last = seeds[0], seeds[-1]
    consecutive = last - first == len(seeds) - 1  # else the range may be too large for the memory
    if len(seeds) > 1 and consecutive and seeds == list(range(first, last + 1)):
        return f"{first}:{last + 1}"
    return ",".join(map(str, seeds))


def make(
    algo_names: str | Iterable[str],
    env_names: str | Iterable[str],
    seeds: str | Iterable[int],
    run_dir: str | Path,
    settings: Mapping[str, Any],
    jobs: int | None = None,
    sources: Mapping[str, str] | None = None,
) -> RunGrid:
    """Make the grid. Its order is by seed, so that all pairs run their first seed first.

    A setting goes to the runs that read it.

    Args:
      algo_names, env_names, seeds: lists of them, or texts as on the command line.
      run_dir: the benchmark's folder.
      settings: other settings of all runs.
      jobs: runs at a time.
      sources: where the settings were given; None for arguments of a Python function.

    Raises:
      UserError: a name does not exist, there are no seeds, a setting is wrong, or no run
        reads it.
    """
    for name in ("algo", "env", "seed"):
        if name in settings:
            raise UserError(f"a benchmark takes lists, named {name}s, and no {name}")
    algo_names, env_names, seeds = names_of(algo_names), names_of(env_names), seeds_of(seeds)
    if all(name in algos.REGISTRY for name in env_names) and env_names:
        raise UserError(
            f"{', '.join(env_names)} are algorithms, and these come first: "
            "tfmix.benchmark(algos, envs, seeds)"
        )
    algo_names = list(dict.fromkeys(algos.find(algo) for algo in algo_names))
    for env in env_names:
        requests.check_env_name(env)
    if jobs is not None and not 1 <= jobs <= MOST:
        raise UserError(f"--jobs={jobs}: it takes a whole number from 1 to {MOST:,}")
    if not (algo_names and env_names and seeds):
        raise UserError("a benchmark needs an algorithm, an environment and a seed at least")
    read = _settings_read(algo_names, env_names, settings, sources or {})
    cells = []
    for seed in seeds:
        for env in env_names:
            for algo in algo_names:
                folder = _folder_in(run_dir, env, algo, seed)
                names = {"algo": algo, "env": env, "seed": seed, "run_dir": folder}
                asked = {**read[algo, env], **names}
                cells.append(RunSpec(resolve.resolve(asked), tuple(parsing.as_flags(asked))))
    every = [
        f"--algo={','.join(algo_names)}",
        f"--env={','.join(env_names)}",
        f"--seeds={_seeds_text(seeds)}",
        f"--run_dir={run_dir}",
        *([] if jobs is None else [f"--jobs={jobs}"]),
        *parsing.as_flags(settings),
    ]
    return RunGrid(cells, Path(run_dir), jobs, command(["--mode=benchmark", *every]))


def _settings_read(
    algo_names: list[str],
    env_names: list[str],
    settings: Mapping[str, Any],
    sources: Mapping[str, str],
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return those of the settings that the runs of each algorithm and environment read.

    Raises:
      UserError: a setting that the user gave is read by no run, or does not fit one.
    """
    found, reasons = {}, dict.fromkeys(settings, "")
    for env in env_names:
        for algo in algo_names:
            names = {"algo": algo, "env": env}
            config = resolve.resolve({**settings, **names})
            unread = {name: why_unread(name, config) for name in settings}
            found[algo, env] = {name: settings[name] for name, why in unread.items() if not why}
            requests.check_request({**found[algo, env], **names})
            reasons.update(unread)
    for name, why in reasons.items():
        is_typed = not sources.get(name, "").startswith("flags/")
        if is_typed and not any(name in read for read in found.values()):
            raise UserError(f"--{name} has no effect here: {why}")
    return found


def with_stored(asked: RunGrid) -> RunGrid:
    """Return the grid with the other runs of its folder after its own, by name and seed.

    A run that cannot be read is left out, and a line says so.
    """
    known = {cell.folder for cell in asked.cells}
    found = []
    for file in asked.run_dir.glob("*/*/seed*/run.json"):
        folder = file.parent
        levels = [folder, *folder.parents[:2]]
        if folder in known or any(level.is_symlink() for level in levels):
            continue
        try:
            folders.refuse_links(folder)
            config = folders.read(folder).config
            algos.find(config.algo)
        except UserError as error:
            tell(f"tfmix: the tables leave out {text.clean(folder, 200)}: {text.clean(error)}")
            continue
        if (
            _folder_in(asked.run_dir, config.env, config.algo, config.seed) == folder
        ):  # else a copy or another program's
            found.append(RunSpec(dataclasses.replace(config, run_dir=str(folder)), ()))
    found.sort(key=lambda cell: (cell.config.env, cell.config.algo, cell.config.seed))
    return dataclasses.replace(asked, cells=[*asked.cells, *found])


def _folder_in(run_dir: str | Path, env: str, algo: str, seed: int) -> Path:
    """Return the folder that a benchmark in `run_dir` gives a run."""
    return Path(run_dir, folders.safe(env), folders.safe(algo), f"seed{seed}")


def is_finished(cell: RunSpec) -> bool:
    """Return whether a run is finished."""
    return folders.is_finished(cell.folder, cell.config.env_steps)


def refuse_others(cell: RunSpec) -> None:
    """Refuse a folder that holds a run with other settings than the grid's, or a longer one.

    A shorter run is not refused: it is resumed to the grid's end.

    Raises:
      UserError: a setting differs, which the message names, or a file cannot be read.
    """
    if not (cell.folder / "run.json").exists():
        return
    folders.refuse_links(cell.folder)
    stored = folders.read(cell.folder).config
    for name in FIELDS:
        was, asked = getattr(stored, name), getattr(cell.config, name)
        if name == "run_dir" or was == asked or why_unread(name, cell.config):
            continue
        advice = "give what it has"
        if name == "env_steps":
            if asked > was:
                continue
            advice = f"a run cannot become shorter, so give --env_steps={was} or more"
        raise UserError(
            f"{cell.folder} holds a run with {_flag(name, was)}, this benchmark asks for "
            f"{_flag(name, asked)}: {advice}, choose another --run_dir or delete the folder"
        )


def warn_of_decay(cells: Iterable[RunSpec]) -> None:
    """Print how many runs learn at another rate than runs that had the grid's end at once."""
    changed = 0
    for cell in cells:
        if cell.config.learning_rate_decay == "linear" and (cell.folder / "run.json").exists():
            changed += folders.read(cell.folder).config.env_steps < cell.config.env_steps
    if changed:
        tell(
            "tfmix: runs that continue past their old end differ from runs that had the new end at "
            f"once, because of --learning_rate_decay=linear ({changed} of this grid); another "
            "--run_dir trains runs of this length"
        )


def _flag(name: str, value: Any) -> str:
    """Return a setting as a flag."""
    return " ".join(parsing.as_flags({name: value})) or f"no --{name}"
