"""tfmix's command line: `python main.py --algo=qtran_alt`, `--help` for more."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from tfmix.config import parsing
from tfmix.config.schema import FIELDS, MODES, describe
from tfmix.errors import STOPPED, RunFailedError, StoppedError, UserError
from tfmix.utils import signals, text

DONE, RUN_FAILED, WRONG_REQUEST = 0, 1, 2
HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")
# Of an error's text: our own is as long as the longest path and command in it.
MOST_CHARACTERS = 10_000
MOST_TRACEBACK_LINES = 400


def define(values: flags.FlagValues) -> flags.FlagValues:
    """Makes the flags in `values`: what main.py does, and every setting of `Config`."""
    flags.DEFINE_enum("mode", "train", MODES, "What to do.", flag_values=values)
    flags.DEFINE_string(
        "seeds",
        None,
        "Seeds of --mode=benchmark: first:last (the last is left out) or a list such as 0,3,7; "
        "without it --seed alone.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "jobs",
        None,
        "Runs of --mode=benchmark at a time, each on one core; without it one a core.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "compile_cache",
        "",
        "Folder, of nobody else's, where compiled code is kept and looked for; later starts of the "
        "same kind take a third less time. Empty: none.",
        flag_values=values,
    )
    flags.DEFINE_boolean("debug", False, "Show the traceback of an error.", flag_values=values)
    return parsing.define_flags(values)


def answer(lines: str) -> None:
    """Prints what was asked for; a reader that has gone away has what it wanted.

    Raises:
      RunFailedError: it cannot be written, to a full disk for instance.
    """
    try:
        print(lines, flush=True)
    except BrokenPipeError:
        pass
    except OSError as error:
        raise RunFailedError(f"cannot write to standard output: {error.strerror}") from error


def help_text(values: flags.FlagValues) -> str:
    """Usage and every setting with its default."""
    lines = [f"{__doc__}\n\n  --mode={'|'.join(MODES)}"]
    for name in ("seeds", "jobs", "compile_cache", "debug"):
        lines.append(f"  --{name}\n      {values[name].help}")
    lines.append("  --flagfile=FILE\n      Settings from a file, one --name=value a line.")
    return "\n".join([*lines, describe()])


def names_text() -> str:
    """The algorithms and environments there are."""
    from tfmix.algos import REGISTRY
    from tfmix.envs import GRAPH, PYTHON

    lines = ["algorithms (--algo)", *(f"  {name}" for name in REGISTRY)]
    lines += ["environments (--env)", *(f"  {name}" for name in GRAPH)]
    lines += [f"  {prefix}/{rest}" for prefix, (_, _, rest) in PYTHON.items()]
    return "\n".join([*lines, "  <module:function> of your own, in any of these interfaces"])


def keep_compiled(folder: str) -> None:
    """Has XLA keep what it compiles, for this machine and TensorFlow alone.

    Raises:
      UserError: no such folder can be made, or somebody else could put code there.
    """
    about = [platform.platform(), platform.processor(), importlib.metadata.version("tensorflow")]
    if (cpu := Path("/proc/cpuinfo")).exists():
        lines = cpu.read_text().splitlines()
        about += [x for x in lines if x.startswith(("model name", "flags", "Features"))][:2]
    try:
        path = Path(folder).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user that does not exist
        raise UserError(f"--compile_cache={folder}: {error}") from error
    path /= hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    if any(letter.isspace() for letter in str(path)):
        raise UserError(f"--compile_cache={folder}: XLA takes no path with spaces")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise UserError(f"--compile_cache={folder}: {error.strerror}") from error
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UserError(
            f"--compile_cache={folder}: others can write to {path}, and what lies there is run; "
            "choose a folder of your own"
        )
    # Read when TensorFlow compiles for the first time, in the processes of a benchmark too.
    asked = [os.environ.get("TF_XLA_FLAGS", ""), f"--tf_xla_persistent_cache_directory={path}"]
    os.environ["TF_XLA_FLAGS"] = " ".join(asked).strip()


def trust_code(settings: dict[str, Any], mode: str) -> None:
    """--env beside --run_dir says that the code which the run's run.json names may be imported."""
    from tfmix import envs
    from tfmix.runs import folders

    run_dir, env = settings["run_dir"], settings.get("env")
    own = folders.read(run_dir).config.env  # a wrong folder is told before TensorFlow's seconds
    if env not in (None, own):
        raise UserError(f"{run_dir} was trained on {own}: --env cannot be another")
    if env:
        envs.allow_import(env)
    if mode != "export" and not own.startswith("custom/"):
        envs.check_import(own, run_dir)


def folder_of(settings: dict[str, Any], mode: str, also: tuple[str, ...] = ()) -> str:
    """The run folder; other settings than `also` come from the run and may not be given."""
    if not settings.get("run_dir"):
        raise UserError(f"--mode={mode} needs --run_dir")
    for name in settings:
        if name not in ("run_dir", "env", *also):
            raise UserError(
                f"--mode={mode} takes its settings from the run: --{name} cannot be set"
            )
    trust_code(settings, mode)
    return str(settings["run_dir"])


def dispatch(mode: str, given: dict[str, Any]) -> int:
    """Does what was asked for and returns the exit code."""
    settings = {name: value for name, value in given.items() if name in FIELDS}
    for name in ("seeds", "jobs"):
        if name in given and mode != "benchmark":
            raise UserError(f"--{name} is for --mode=benchmark, and this is --mode={mode}")
    if mode == "list":
        answer(names_text())
        return DONE
    if mode == "benchmark":
        from tfmix import experiments

        experiments.from_command_line(settings, given.get("seeds"), given.get("jobs"))
        return DONE
    if mode == "check_env":
        import tfmix

        report = tfmix.check_env(**settings)
        answer(str(report))
        return DONE if report.ok else RUN_FAILED
    import tfmix

    if mode == "train":
        return finish(tfmix.train(verbose=True, **settings))
    also = {"resume": ("env_steps",), "evaluate": ("eval_episodes",)}.get(mode, ())
    folder = folder_of(settings, mode, also)
    if mode == "resume":
        return finish(tfmix.resume(folder, verbose=True, env_steps=settings.get("env_steps")))
    if mode == "evaluate":
        answer(tfmix.load(folder).report(settings.get("eval_episodes")))
    else:
        answer(f"SavedModel   {tfmix.load(folder).export()}, compared with the live policy")
    return DONE


def finish(run: Any) -> int:
    """Prints the end of a training, which is saved whether it can be printed or not.

    Returns:
      the exit code.
    """
    if run.finished:
        text.show(run.summary())
        return DONE
    from tfmix import envs

    also = f" --env={run.config.env}" if envs.imports_user_code(run.config.env) else ""
    text.show(
        f"stopped at {run.env_steps:,} of {run.config.env_steps:,} env steps, all is saved\n"
        f"continue with: python main.py --mode=resume --run_dir={run.folder}{also}"
    )
    return STOPPED


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""
    # Not absl's own: a module of the user's may have a flag there that is called as one of ours.
    values = define(flags.FlagValues())
    flags.FLAGS.mark_as_parsed()  # and reads its defaults
    try:
        if any(word in HELP for word in arguments):
            answer(help_text(values))
            return DONE
        given = parsing.parse(arguments, values)
        if values.compile_cache:
            keep_compiled(values.compile_cache)
        return dispatch(values.mode, given)
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
            "library, and what was asked for is not done; --debug shows where"
        )
        return complain(left.with_traceback(error.__traceback__), RUN_FAILED, values)
    except Exception as error:
        return complain(error, RUN_FAILED, values)


def complain(error: BaseException, code: int, values: flags.FlagValues) -> int:
    """Prints one line on standard error, with --debug the traceback first; returns `code`."""
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
    """Prints a traceback whose text, which others may have written, obeys no terminal."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    if len(lines) > MOST_TRACEBACK_LINES:
        half = MOST_TRACEBACK_LINES // 2
        lines = [*lines[:half], "...", *lines[-half:]]
    for line in lines:
        text.tell(" " * (len(line) - len(line.lstrip(" "))) + text.clean(line))


def open_streams() -> None:
    """Has the null device stand in for standard streams that are closed.

    Else the next file that is opened becomes standard output, and gets what
    libraries print there.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def drop_unwritten() -> None:
    """Drops text that no one reads any more, which Python would complain about as it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def console() -> NoReturn:
    """Runs the command line of this process and ends it: `main.py` and the command `tfmix`."""
    open_streams()
    signals.owns_process = True
    code = main(sys.argv[1:])
    drop_unwritten()
    sys.exit(code)
