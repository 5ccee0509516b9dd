"""Flags of the command line, and answers to what is not a flag."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any

from absl import flags

from tfmix.config import parsing
from tfmix.config.modes import MODES, MODES_MEANT, WHICH
from tfmix.config.parsing import StrayWordError
from tfmix.config.schema import TYPES
from tfmix.config.values import Window, read_whole, read_window
from tfmix.errors import UserError
from tfmix.utils.command import command


class _ModeParser(flags.ArgumentParser):  # type: ignore[misc]
    """Read --mode."""

    def parse(self, argument: str) -> str:
        """Return the mode, or raise ValueError, with the nearest one, if there is none."""
        if argument in MODES:
            return argument
        folded = argument.lower().replace("-", "_")
        close = difflib.get_close_matches(folded, [*MODES, *MODES_MEANT], 1, 0.6)
        mode = MODES_MEANT.get(close[0], close[0]) if close else ""
        hint = f"did you mean --mode={mode}? " if mode else ""
        raise ValueError(f"{hint}there are {', '.join(MODES)}")


class _CountParser(flags.ArgumentParser):  # type: ignore[misc]
    """Read --jobs and --episodes."""

    def parse(self, argument: Any) -> int:
        """Return the number, or raise ValueError if it is less than one."""
        try:
            found = read_whole(str(argument))
        except ValueError:
            found = 0
        if found < 1:
            raise ValueError("it takes a whole number of at least 1")
        return found


class _WindowParser(flags.ArgumentParser):  # type: ignore[misc]
    """Read --profile."""

    def parse(self, argument: Any) -> Window:
        """Return the updates, or raise ValueError if it is not FIRST:LAST."""
        return read_window(str(argument))


def define(values: flags.FlagValues) -> flags.FlagValues:
    """Make the flags of the command line and of every setting in `values`."""
    flags.DEFINE(_ModeParser(), "mode", "train", "What to do.", flag_values=values)
    flags.DEFINE_string(
        "seeds",
        None,
        "Seeds of --mode=benchmark: first:last (the last is left out) or a list such as 0,3,7. "
        "Default: --seed alone.",
        flag_values=values,
    )
    flags.DEFINE(
        _CountParser(),
        "jobs",
        None,
        "Number of runs of --mode=benchmark at a time, each on one core. Default: one per core.",
        flag_values=values,
    )
    flags.DEFINE(
        _CountParser(),
        "episodes",
        None,
        "Number of episodes of --mode=watch. Default: three.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "epsilon",
        None,
        "Probability of a random action in --mode=watch. Default: 0, the greedy team.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "which",
        WHICH[0],
        WHICH,
        "Team that --mode=evaluate, watch or export reads: the last one, or the best, of the "
        "evaluation with the highest greedy return.",
        flag_values=values,
    )
    flags.DEFINE(
        _WindowParser(),
        "profile",
        None,
        "Updates of a training to profile, FIRST:LAST. It prints where their time went, and writes "
        "a trace for TensorBoard's profiler.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "format",
        "saved_model",
        "Formats of --mode=export with commas between them: saved_model, tflite, onnx. The "
        "SavedModel is written in any case.",
        flag_values=values,
    )
    _define_plot(values)
    flags.DEFINE_string(
        "compile_cache",
        "",
        "Folder that only you can write to, in which XLA keeps compiled code. Later starts take "
        "about a third less time. Empty: none.",
        flag_values=values,
    )
    flags.DEFINE_boolean("debug", False, "Show the traceback of an error.", flag_values=values)
    return parsing.define_flags(values)


def help_of(flag: Any) -> str:
    """Return the help text of a flag, without what absl adds to it."""
    text = str(flag.help).partition(";\n")[0]  # of a flag that can be repeated
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        text = text.removeprefix(f"<{'|'.join(choices)}>: ") + f" One of {', '.join(choices)}."
    return text


def _define_plot(values: flags.FlagValues) -> None:
    """Make the flags of --mode=plot and --mode=runs in `values`."""
    flags.DEFINE_multi_string(
        "runs",
        None,
        "Runs of --mode=plot and --mode=runs: run folders, folders with runs below them, or "
        "globs in quotes such as 'runs/games/**'. Can be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "metric",
        None,
        "Column of metrics.csv that --mode=plot draws. Default: greedy_return.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "x",
        None,
        "Axis of --mode=plot: env_steps, updates or seconds. Default: env_steps.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "Folder for the files of --mode=plot. Default: plots, in the runs' common folder.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "show_runs", False, "--mode=plot draws each run as a thin line too.", flag_values=values
    )
    flags.DEFINE_boolean(
        "force",
        False,
        "--mode=plot draws runs that cannot be compared, with a footnote that says why.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "sort",
        None,
        "Columns of --mode=runs to sort by, such as env,-best; a minus puts the greatest first.",
        flag_values=values,
    )


def read(arguments: Iterable[str], values: flags.FlagValues) -> parsing.Given:
    """Read a command line.

    Raises:
      UserError: a flag that does not exist, a value that does not fit or a stray word.
    """
    arguments = list(arguments)
    try:
        return parsing.read(arguments, values)
    except StrayWordError as error:
        raise UserError(f"stray word {error.word!r}: {_meant(error.word, arguments)}") from error


def _meant(word: str, arguments: list[str]) -> str:
    """Return what a word that is not a flag may mean, as a flag."""
    from tfmix.algos import REGISTRY
    from tfmix.envs import GRAPH, PYTHON

    folded = word.lower().replace("-", "_")
    if (mode := MODES_MEANT.get(folded, folded)) in MODES:
        if mode == "train":
            return "training is the default; leave the word out"
        return f"write --mode={mode}"
    if folded in ("help", "version"):
        return f"write --{folded}"
    if folded in REGISTRY:
        return f"write --algo={folded}"
    if word in GRAPH or word.partition("/")[0] in PYTHON:
        return f"write --env={word}"
    before = arguments[: arguments.index(word)] if word in arguments else []
    name, equals, value = word.partition("=")
    if before and TYPES.get(before[-1].lstrip("-")) is bool:  # --recurrent false
        return f"write {before[-1]}={word}"
    if equals and name.isidentifier():
        return f"write --{name}={value}"
    if word.endswith((".flags", ".cfg")):
        return f"write {command([f'--flagfile={word}'])}"
    if "/" in word or os.path.exists(word):  # noqa: PTH110 (any text may have been typed)
        others = [argument for argument in arguments if argument != word]
        if {"--mode=plot", "--mode=runs"} & set(others):
            return f"runs are --runs, once for each: {command([*others, f'--runs={word}'])}"
        return f"a run folder is --run_dir: {command([*others, f'--run_dir={word}'])}"
    return "settings look like --name=value"
