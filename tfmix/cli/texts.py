"""What the command line prints: help, names, settings, version."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Mapping

from absl import flags

from tfmix.cli.words import help_of
from tfmix.config.describe import describe
from tfmix.config.modes import MODES, MODES_OF
from tfmix.config.resolve import DEFAULT, Resolved
from tfmix.config.schema import FIELDS
from tfmix.config.values import as_typed
from tfmix.errors import UserError
from tfmix.utils.command import program
from tfmix.utils.text import clean

WIDTH = 100
_EXAMPLES = (
    ("--algo=qmix --env=two_step", "Train QMIX on the two-step game."),
    (
        "--algo=vdn --env=mpe/simple_spread --env_arg=n=4 --env_steps=200k --seed=1",
        "Train VDN on a team of four.",
    ),
    ("--env=gymnasium/Foraging-8x8-2p-2f-coop-v3", "Train on an environment of another package."),
    ("--env=my_module:MyEnv --mode=check_env", "Examine your own environment."),
    (
        "--flagfile=flags/preset/pymarl.flags --algo=qmix --env=two_step",
        "Train with PyMARL's settings.",
    ),
    (
        "--mode=settings --algo=qmix --env=mpe/simple_spread",
        "Print the settings that a run would use.",
    ),
    ("--mode=evaluate --run_dir=runs/x", "Play a trained team."),
    ("--mode=watch --run_dir=runs/x", "Write episodes of it as pages, SVG and GIF."),
    ("--mode=resume --run_dir=runs/x --env_steps=2M", "Train it further."),
    (
        "--mode=benchmark --algo=vdn,qmix --env=two_step,matrix/qtran --seeds=0:3",
        "Train both on both.",
    ),
    ("--mode=plot --runs='runs/games/**'", "Draw their curves and scores."),
    ("--mode=runs --sort=env,-best", "Print a table of all runs."),
)


def help_text(values: flags.FlagValues) -> str:
    """Return usage, modes, examples, and every setting by group with its default."""
    run = program()
    lines = [
        "tfmix trains teams of agents by value decomposition with TensorFlow.",
        "",
        f"usage: {run} [--mode=MODE] [--name=value ...]",
        "",
        "modes (--mode)",
        *(f"  {mode:<10} {text}" for mode, text in MODES.items()),
        "",
        "examples",
    ]
    for words, text in _EXAMPLES:
        lines += [f"  {run} {words}", f"      {text}"]
    lines += ["", "Whole numbers may be written as 200k, 2M or 1e6.", "", "flags"]
    own = {
        "flagfile=FILE": "Settings from a file, one --name=value per line. Typed flags win.",
        **{name: help_of(values[name]) for name in (*MODES_OF, "compile_cache", "debug")},
        "version": "Print the version.",
    }
    for name, text in own.items():
        lines += [f"  --{name}", *_wrapped(text)]
    for line in describe().split("\n"):
        lines += _wrapped(line.strip()) if line.startswith("      ") else [line]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    """Return the lines of a help text."""
    return textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")


def names_text(part: str = "", algo: str = "") -> str:
    """Return the algorithms and environments that there are.

    Args:
      part: text that the names of environments contain.
      algo: likewise of algorithms.

    Raises:
      UserError: there is no such name.
    """
    from tfmix.algos import REGISTRY
    from tfmix.envs import GRAPH, PYTHON

    found = [f"{prefix}/{rest}" for prefix, (_, _, rest) in PYTHON.items()]
    environments = [name for name in (*GRAPH, *found) if part.lower() in name.lower()]
    algorithms = [name for name in REGISTRY if algo.lower() in name]
    if part and not environments:
        raise UserError(f"no environment has {clean(part)!r} in its name; --mode=list prints all")
    if algo and not algorithms:
        raise UserError(f"no algorithm has {clean(algo)!r} in its name; --mode=list prints all")
    lines: list[str] = []
    if algo or not part:
        lines += ["algorithms (--algo)", *(f"  {name}" for name in algorithms)]
    if part or not algo:
        lines += ["environments (--env)", *(f"  {name}" for name in environments)]
    if not (part or algo):
        lines.append("  <module>:<class or function>, your own, in any of these interfaces")
    return "\n".join(lines)


def settings_text(resolved: Resolved, unread: Mapping[str, str]) -> str:
    """Return every setting that a run would use, by group, with its source.

    Args:
      resolved: the settings.
      unread: of each setting that the run would not read, the reason.
    """
    lines: list[str] = []
    group = ""
    for name, field in FIELDS.items():
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += [group]
        value = getattr(resolved.config, name)
        shown = " ".join(value) if name == "env_arg" else as_typed(value)
        source = f"not read: {unread[name]}" if name in unread else resolved.sources.get(name)
        lines.append(f"  {name:<28} {clean(shown):<18} {source or DEFAULT}")
    return "\n".join(lines)


def version_text() -> str:
    """Return the versions of tfmix and of what it runs on."""
    from importlib import metadata

    import tfmix

    try:
        tensorflow = metadata.version("tensorflow")
    except metadata.PackageNotFoundError:
        tensorflow = "is not installed"
    return f"tfmix {tfmix.__version__}, Python {platform.python_version()}, TensorFlow {tensorflow}"
