"""tfmix's command line: `tfmix --help`, or `python main.py --help` in a checkout."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterable
from typing import Any, NoReturn

from absl import flags

from tfmix.cli import words
from tfmix.cli.texts import help_text, names_text, settings_text, version_text
from tfmix.cli.words import define
from tfmix.config import parsing, wording
from tfmix.config.modes import MODES_OF
from tfmix.config.schema import FIELDS
from tfmix.errors import STOPPED, RunFailedError, StoppedError, UserError
from tfmix.utils import signals, text
from tfmix.utils.command import command

DONE, RUN_FAILED, WRONG_REQUEST = 0, 1, 2
HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")
VERSION = ("--version", "-version", "-V")
# Of an error's text, which may hold a long path or command.
MOST_CHARACTERS = 10_000
MOST_TRACEBACK_LINES = 400
# What a training has for flags of --mode=watch.
IN_TRAINING = {"episodes": "env_steps", "epsilon": "epsilon_start and --epsilon_end"}


def answer(lines: str) -> None:
    """Print an answer; a pipe that its reader has closed is not an error.

    Raises:
      RunFailedError: it cannot be written, to a full disk for instance.
    """
    try:
        print(lines, flush=True)
    except BrokenPipeError:
        pass
    except OSError as error:
        raise RunFailedError(f"cannot write to standard output: {error.strerror}") from error


def trust_code(settings: dict[str, Any], mode: str) -> None:
    """Check --run_dir, and allow the code that its run.json names if --env names it too."""
    from tfmix import envs
    from tfmix.runs import folders

    run_dir, env = settings["run_dir"], settings.get("env")
    own = folders.read(run_dir).config.env  # before TensorFlow is imported
    if env not in (None, own):
        raise UserError(f"{run_dir} was trained on {own}: --env cannot be another")
    if env:
        envs.allow_import(env)
    if mode != "export" and not own.startswith("custom/"):
        envs.check_import(own, run_dir)


def folder_of(settings: dict[str, Any], mode: str, also: tuple[str, ...] = ()) -> str:
    """Return the run folder; refuse settings other than `also`, which come from the run."""
    if not settings.get("run_dir"):
        raise UserError(f"--mode={mode} needs --run_dir")
    for name in settings:
        if name not in ("run_dir", "env", *also):
            raise UserError(
                f"--mode={mode} takes its settings from the run: --{name} cannot be set"
            )
    trust_code(settings, mode)
    return str(settings["run_dir"])


def refuse_settings(mode: str, settings: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise UserError for the first of `settings` that a mode does not read."""
    allowed = list(allowed)
    for name in settings:
        if name not in allowed:
            own = [flag for flag, modes in MODES_OF.items() if mode in modes]
            takes = f"it reads {', '.join(f'--{one}' for one in [*allowed, *own])}"
            raise UserError(f"--mode={mode} does not read --{name}; {takes}")


def refuse_flags(given: parsing.Given, mode: str) -> None:
    """Raise UserError for a flag of other modes."""
    for name, modes in MODES_OF.items():
        if name in given.values and mode not in modes:
            meant = " and ".join(f"--mode={one}" for one in modes)
            hint = f"; a training has --{IN_TRAINING[name]}" if name in IN_TRAINING else ""
            raise UserError(f"--{name} is for {meant}, and this is --mode={mode}{hint}")


def dispatch(mode: str, given: parsing.Given) -> int:
    """Do what a request says and return the exit code."""
    settings = {name: value for name, value in given.values.items() if name in FIELDS}
    refuse_flags(given, mode)
    if mode == "list":
        refuse_settings(mode, settings, ("env", "algo"))
        answer(names_text(settings.get("env", ""), settings.get("algo", "")))
    elif mode == "settings":
        answer(show_settings(settings, given))
    elif mode == "benchmark":
        benchmark(settings, given)
    elif mode in ("plot", "runs"):
        if "run_dir" in settings:
            raise UserError(f"--mode={mode} reads --runs: write --runs={settings['run_dir']}")
        refuse_settings(mode, settings, ())
        answer(plot(given) if mode == "plot" else list_runs(given))
    elif mode == "check_env":
        from tfmix.envs import check

        refuse_settings(mode, settings, ("env", *check.SETTINGS))
        report = check.check_env(**settings)
        answer(str(report))
        return DONE if report.ok else RUN_FAILED
    elif mode == "train":
        from tfmix.runs import requests

        asked = requests.new_run(None, settings, given.sources, given.flagfiles)
        return finish(requests.start(asked, True, given.values.get("profile")))
    else:
        return use_run(mode, settings, given.values)
    return DONE


def use_run(mode: str, settings: dict[str, Any], values: dict[str, Any]) -> int:
    """Resume, evaluate, watch or export a run folder, and return the exit code."""
    from tfmix.runs import requests
    from tfmix.runs.formats import SAVED_MODEL, TITLES, read_formats

    readers = {"resume": ("env_steps",), "evaluate": ("eval_episodes",), "watch": ("seed",)}
    also = readers.get(mode, ())
    folder = folder_of(settings, mode, also)
    if mode == "resume":
        end, window = settings.get("env_steps"), values.get("profile")
        return finish(requests.resume(folder, env_steps=end, profile=window))
    formats = read_formats(values.get("format", SAVED_MODEL))  # before TensorFlow is imported
    run = requests.load(folder, which=values.get("which", "last"))
    if mode == "evaluate":
        text.tell("evaluating ...")
        answer(run.report(settings.get("eval_episodes")))
    elif mode == "watch":
        text.tell("playing ...")
        asked = {name: values[name] for name in ("episodes", "seed", "epsilon") if name in values}
        answer(str(run.watch(**asked)))
    else:
        made = " and ".join(TITLES[name] for name in formats)
        answer(f"{made:<12} {run.export(formats)}, compared with the live policy")
    return DONE


def show_settings(settings: dict[str, Any], given: parsing.Given) -> str:
    """Return the text of --mode=settings."""
    from tfmix.runs import requests
    from tfmix.runs.unread import why_unread

    resolved = requests.check_request(settings, given.sources, given.flagfiles)
    reasons = {name: why_unread(name, resolved.config) for name in FIELDS}
    return settings_text(resolved, {name: why for name, why in reasons.items() if why})


def benchmark(settings: dict[str, Any], given: parsing.Given) -> None:
    """Do --mode=benchmark.

    Raises:
      UserError, RunFailedError: as `experiments.from_command_line`; or no grid is named.
    """
    from tfmix import experiments

    seeds = given.values.get("seeds")
    if not {"algo", "env"} & settings.keys() and seeds is None:
        raise UserError(
            "--mode=benchmark needs a grid: name algorithms, environments and seeds, such as "
            "--algo=vdn,qmix --env=two_step,matrix/qtran --seeds=0:3"
        )
    if seeds is not None and seeds.isdigit() and int(seeds) > 0:
        text.tell(
            f"tfmix: --seeds={seeds} is the one seed {seeds}; the first {seeds} seeds are "
            f"--seeds=0:{seeds}"
        )
    experiments.from_command_line(settings, seeds, given.values.get("jobs"), given.sources)


def plot(given: parsing.Given) -> str:
    """Do --mode=plot and return what it prints.

    Raises:
      UserError: as `tfmix.plot`; or no runs are named.
    """
    from tfmix.experiments import find_runs
    from tfmix.experiments.plot import draw

    values = {name: given.values[name] for name in MODES_OF if name in given.values}
    if not values.get("runs"):
        raise UserError("--mode=plot needs --runs, such as --runs=runs/games or --runs='runs/**'")
    drawn = draw(find_runs.find(values.pop("runs")), **values)
    figures = [file.name for file in drawn.files if file.suffix == ".png"]
    data = [file.name for file in drawn.files if file.suffix in (".csv", ".json")]
    return "\n".join(
        [
            *drawn.lines,
            f"folder   {drawn.files[0].parent}",
            f"figures  {', '.join(figures)}, each as .svg and .pdf too",
            f"data     {', '.join(data)}",
        ]
    )


def list_runs(given: parsing.Given) -> str:
    """Do --mode=runs and return the table; raise UserError as `tfmix.list_runs`."""
    from tfmix.experiments import runs_table

    asked, sort = given.values.get("runs"), given.values.get("sort")
    return runs_table.as_text(
        runs_table.list_runs(asked or runs_table.RUNS, sort or runs_table.SORT)
    )


def finish(run: Any) -> int:
    """Print the end of a training, which is saved whether it can be printed or not.

    Returns:
      the exit code.
    """
    if run.finished:
        text.tell("evaluating ...")
        text.show(run.summary())
        return DONE
    from tfmix import envs

    own = envs.imports_user_code(run.config.env)
    words = ["--mode=resume", f"--run_dir={run.folder}", *([f"--env={run.config.env}"] * own)]
    text.show(
        f"stopped at {run.env_steps:,} of {run.config.env_steps:,} env steps, all is saved\n"
        f"continue with: {command(words)}"
    )
    return STOPPED


def main(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    # Not absl's global flags: a module of the user may define a flag of the same name there.
    values = define(flags.FlagValues())
    flags.FLAGS.mark_as_parsed()  # a module of the user may read its flags' defaults
    try:
        with wording.of_flags():
            return _run(arguments, values)
    except UserError as error:
        return complain(error, WRONG_REQUEST, values)
    except StoppedError as error:
        return complain(error, STOPPED, values)
    except KeyboardInterrupt as error:
        told = KeyboardInterrupt("interrupted").with_traceback(error.__traceback__)
        return complain(told, signals.INTERRUPTED, values)
    except SystemExit as error:
        left = RunFailedError(
            f"sys.exit({text.clean(error.code, 100)}) was called by the environment's code or a "
            "library, and the request is not done; --debug shows where"
        )
        return complain(left.with_traceback(error.__traceback__), RUN_FAILED, values)
    except Exception as error:
        return complain(error, RUN_FAILED, values)


def _run(arguments: list[str], values: flags.FlagValues) -> int:
    """Do what a command line asks for and return the exit code."""
    if any(word.partition("=")[0] in HELP for word in arguments):
        answer(help_text(values))
        return DONE
    if any(word in VERSION for word in arguments):
        answer(version_text())
        return DONE
    given = words.read(arguments, values)
    if values.compile_cache:
        from tfmix.cli.compile_cache import keep_compiled

        keep_compiled(values.compile_cache)
    return dispatch(values.mode, given)


def complain(error: BaseException, code: int, values: flags.FlagValues) -> int:
    """Print one line on standard error, with --debug the traceback first; return `code`."""
    parsed = values.is_parsed()
    if parsed and values.debug:
        show_traceback(error)
    if isinstance(error, UserError | RunFailedError | KeyboardInterrupt):
        line = text.clean(error, MOST_CHARACTERS)
    else:
        line = f"{text.of_error(error)} (--debug shows where)"
        if parsed and values.compile_cache:
            cache = text.clean(values.compile_cache)
            line += f"; if {cache} (--compile_cache) was damaged, delete it"
    text.tell(f"tfmix: {line}")
    return code


def show_traceback(error: BaseException) -> None:
    """Print a traceback; its text, which may be foreign, cannot control the terminal."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    if len(lines) > MOST_TRACEBACK_LINES:
        half = MOST_TRACEBACK_LINES // 2
        lines = [*lines[:half], "...", *lines[-half:]]
    for line in lines:
        text.tell(" " * (len(line) - len(line.lstrip(" "))) + text.clean(line))


def open_streams() -> None:
    """Open the null device as each standard stream that is closed.

    Otherwise the next file that is opened becomes standard output, and gets what
    libraries print there.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def drop_unwritten() -> None:
    """Drop text that no one reads; otherwise Python reports it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def console() -> NoReturn:
    """Run the command line of this process and end it: `main.py` and the command `tfmix`."""
    open_streams()
    signals.owns_process = True
    code = main(sys.argv[1:])
    drop_unwritten()
    sys.exit(code)
