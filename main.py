"""tfmix's command line: `python main.py --algo=qtran_alt`, `--help` for more."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
import traceback

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "tfmix runs on Python 3.10 to 3.13, this is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: make a virtual environment with one of those"
    )

from pathlib import Path
from typing import Any

from absl import flags

from tfmix import config
from tfmix.config import FIELDS, MODES, RunFailedError, UserError

RUN_FAILED, WRONG_REQUEST = 1, 2
FLAGS = flags.FLAGS


def define(values: flags.FlagValues) -> flags.FlagValues:
    """Makes the flags in `values`: what main.py does, and every setting of tfmix.config.Config."""
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
    return config.define_flags(values)


def show_help() -> None:
    """Usage and every setting with its default."""
    print(f"{__doc__}\n\n  --mode={'|'.join(MODES)}")
    for name in ("seeds", "jobs", "compile_cache", "debug"):
        print(f"  --{name}\n      {FLAGS[name].help}")
    print("  --flagfile=FILE\n      Settings from a file, one --name=value a line.")
    print(config.describe())


def show_names() -> None:
    """The algorithms and environments there are."""
    from tfmix.algos import REGISTRY
    from tfmix.envs import GRAPH, PYTHON

    print("algorithms (--algo)")
    for name in REGISTRY:
        print(f"  {name}")
    print("environments (--env)")
    for name in GRAPH:
        print(f"  {name}")
    for prefix, (_, _, rest) in PYTHON.items():
        print(f"  {prefix}/{rest}")
    print("  <module:function> of your own, in any of these interfaces")


def keep_compiled(folder: str) -> None:
    """Has XLA keep what it compiles, for this machine and TensorFlow alone.

    Raises:
      UserError: no such folder can be made, or somebody else could put code there.
    """
    about = [platform.platform(), platform.processor(), importlib.metadata.version("tensorflow")]
    if (cpu := Path("/proc/cpuinfo")).exists():
        lines = cpu.read_text().splitlines()
        about += [x for x in lines if x.startswith(("model name", "flags", "Features"))][:2]
    path = Path(folder).expanduser().absolute()
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
    from tfmix import envs, folders

    run_dir, env = settings["run_dir"], settings.get("env")
    own = folders.read(run_dir).config.env  # a wrong folder is told before TensorFlow's seconds
    if env not in (None, own):
        raise UserError(f"{run_dir} was trained on {own}: --env cannot be another")
    if env:
        envs.trust(env)
    if mode != "export" and not own.startswith("custom/"):
        envs.check_trust(own, run_dir)


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


def look_at_names(settings: dict[str, Any]) -> None:
    """What `tfmix.train` refuses at once, told before TensorFlow's seconds."""
    from tfmix import algos, envs

    algos.check(settings.get("algo", config.Config.algo))
    envs.is_graph(settings.get("env", config.Config.env))
    config.resolve(settings)


def dispatch(mode: str, given: dict[str, Any]) -> int:
    """Does what was asked for and returns the exit code."""
    settings = {name: value for name, value in given.items() if name in FIELDS}
    for name in ("seeds", "jobs"):
        if name in given and mode != "benchmark":
            raise UserError(f"--{name} is for --mode=benchmark, and this is --mode={mode}")
    if mode == "list":
        show_names()
        return 0
    if mode == "benchmark":
        from tfmix import experiments

        experiments.from_command_line(settings, given.get("seeds"), given.get("jobs"))
        return 0
    if mode == "check_env":
        import tfmix

        report = tfmix.check_env(**settings)
        print(report)
        return 0 if report.ok else RUN_FAILED
    folder = ""
    if mode == "train":
        look_at_names(settings)
    else:
        also = {"resume": ("env_steps",), "evaluate": ("eval_episodes",)}.get(mode, ())
        folder = folder_of(settings, mode, also)
    import tfmix

    if mode == "train":
        finish(tfmix.train(verbose=True, **settings))
    elif mode == "resume":
        finish(tfmix.resume(folder, verbose=True, env_steps=settings.get("env_steps")))
    elif mode == "evaluate":
        print(tfmix.load(folder).report(settings.get("eval_episodes")))
    else:
        print(f"SavedModel   {tfmix.load(folder).export()}, compared with the live policy")
    return 0


def finish(run: Any) -> None:
    """The last words of a training."""
    if run.finished:
        print(run.summary())
        return
    print(f"stopped at {run.env_steps:,} of {run.config.env_steps:,} env steps, all is saved")
    from tfmix import envs

    also = f" --env={run.config.env}" if envs.names_code(run.config.env) else ""
    print(f"continue with: python main.py --mode=resume --run_dir={run.folder}{also}")


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""
    define(FLAGS)
    try:
        if any(
            word in ("--help", "-help", "-h", "--helpfull", "--helpshort") for word in arguments
        ):
            show_help()
            return 0
        given = config.parse(arguments, FLAGS)
        if FLAGS.compile_cache:
            keep_compiled(FLAGS.compile_cache)
        return dispatch(FLAGS.mode, given)
    except UserError as error:
        return complain(error, WRONG_REQUEST)
    except KeyboardInterrupt:
        return complain(KeyboardInterrupt("interrupted"), RUN_FAILED)
    except Exception as error:
        return complain(error, RUN_FAILED)


def complain(error: BaseException, code: int) -> int:
    """One line on standard error; with --debug the traceback first."""
    if FLAGS.is_parsed() and FLAGS.debug:
        traceback.print_exception(error)
    text = " ".join(str(error).split())
    if not isinstance(error, UserError | RunFailedError | KeyboardInterrupt):
        text = f"{type(error).__name__}: {text[:300]} (--debug shows where)"
        if FLAGS.is_parsed() and FLAGS.compile_cache:
            text += f"; if {FLAGS.compile_cache} (--compile_cache) was damaged, delete it"
    # What a file or a name brings along is not to steer the terminal.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    print(f"tfmix: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
