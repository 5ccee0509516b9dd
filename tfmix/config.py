"""Every setting, declared once: default, unit, help and bounds.

The flags of the command line, `docs/settings.md`, `--help` and the checks of
a value's type and range are all made from the fields of `Config`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

FLAGS_FOLDER = Path(__file__).resolve().parent.parent / "flags"
MODES = ("train", "resume", "evaluate", "export", "benchmark", "check_env", "list")

# Of a hidden layer; more is a slip of the finger, and no machine's memory.
MOST_UNITS = 65_536
# Flagfiles that include one another; more is a mistake.
MOST_FLAGFILES = 100
# main.py's exit code for a training or benchmark that Ctrl-C or SIGTERM stopped, all saved. A code
# apart from 130 and 143, which a shell reports for a process that a signal ended: there, what came
# after the last checkpoint is lost.
STOPPED = 3
# Of any whole number: what the loop counts in 64 bits with room to spare.
LARGEST = 10**15


class UserError(Exception):
    """A wrong request: one line that says what is wrong and what to do."""


class RunFailedError(RuntimeError):
    """A run that was rightly asked for and could not go on."""


class StoppedError(RunFailedError):
    """A benchmark that Ctrl-C or SIGTERM stopped; what its runs learned is saved."""


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _setting(default: Any, text: str, group: str, unit: str = "", **bounds: Any) -> Any:
    """A field of `Config`; bounds are `low`, `high` (both allowed) or `choices`."""
    return dataclasses.field(
        default=default, metadata={"help": text, "group": group, "unit": unit, **bounds}
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run. See docs/settings.md, which is made from this class."""

    algo: str = _setting("qmix", "Algorithm; --mode=list names them.", "run")
    env: str = _setting("mpe/simple_spread", "Environment; --mode=list names them.", "run")
    env_arg: tuple[str, ...] = _setting(
        (),
        "Argument of the environment, name=value with the value in JSON; repeats, and the "
        "later value of a name wins.",
        "run",
    )
    seed: int = _setting(0, "Seed of everything that is random.", "run", low=0, high=2**31 - 1)
    run_dir: str = _setting("", "Run folder; empty: runs/<env>/<algo>/<seed and time>.", "run")
    env_steps: int = _setting(1_000_000, "Length of the training.", "run", "env steps", low=1)

    n_envs: int = _setting(8, "Environments stepped side by side.", "collection", low=1)
    env_workers: int = _setting(
        -1,
        "Processes that step Python environments, at most n_envs; -1: one a core; 0: this process "
        "alone, for debugging.",
        "collection",
        "processes",
        low=-1,
    )
    max_worker_restarts: int = _setting(
        10,
        "Workers replaced in a run because they died, hung or raised; one more ends it.",
        "collection",
        "restarts",
        low=0,
    )
    env_timeout_seconds: float = _setting(
        60.0,
        "Longest wait for a step of a worker's environments; ten times as much to build them.",
        "collection",
        "seconds",
        low=0.1,
        high=86_400.0,  # ten times as much is still a number of milliseconds that `poll` takes
    )
    epsilon_start: float = _setting(
        1.0, "Chance of a random action at the start.", "collection", low=0.0, high=1.0
    )
    epsilon_end: float = _setting(
        0.05, "Chance of a random action behind the anneal.", "collection", low=0.0, high=1.0
    )
    epsilon_anneal_env_steps: int = _setting(
        50_000, "Length of epsilon's linear way down.", "collection", "env steps", low=0
    )
    team_reward: str = _setting(
        "sum",
        "How agents' rewards become the team's: added, averaged, or one copy of the number "
        "that all receive.",
        "collection",
        choices=("sum", "mean", "one"),
    )
    time_limit: str = _setting(
        "bootstrap",
        "Where the clock cuts an episode: count on the future (bootstrap) or not (terminal).",
        "collection",
        choices=("bootstrap", "terminal"),
    )
    episode_limit: int = _setting(
        0, "Longest episode; 0: the environment's own limit.", "collection", "env steps", low=0
    )

    buffer_type: str = _setting(
        "float32",
        "Number type of observations and states in the replay; uint8 is for whole numbers "
        "from 0 to 255.",
        "learning",
        choices=("float32", "float16", "uint8"),
    )
    buffer_episodes: int = _setting(5_000, "Room of the replay.", "learning", "episodes", low=1)
    buffer_gb: float = _setting(
        0.0,
        "Most memory that the replay takes; where buffer_episodes would take more it holds fewer. "
        "0: whatever they take.",
        "learning",
        "GB",
        low=0.0,
    )
    gpu_buffer_gb: float = _setting(
        4.0,
        "Where there is a GPU: a replay up to that size is kept in its memory, a larger one in the "
        "host's.",
        "learning",
        "GB",
        low=0.0,
    )
    batch_episodes: int = _setting(32, "Episodes in an update.", "learning", "episodes", low=1)
    update_shards: int = _setting(
        0,
        "Parts of a batch that are learned from side by side, a core each; 0: one a core, fewer "
        "where they would be small.",
        "learning",
        "parts",
        low=0,
    )
    updates_per_episode: float = _setting(
        1.0,
        "Updates for each collected episode; one happens whenever it adds up to 1.",
        "learning",
        "updates",
        low=0.0,
        high=1000.0,
    )
    gamma: float = _setting(0.99, "Discount of the future.", "learning", low=0.0, high=1.0)
    learning_rate: float = _setting(5e-4, "Step size at the start.", "learning", low=0.0)
    learning_rate_decay: str = _setting(
        "none",
        "Way of the step size over env_steps: constant, or linearly to 0. A resume with another "
        "env_steps draws the line to the new end, and says so: a finished run's step size rises "
        "from 0 again.",
        "learning",
        choices=("none", "linear"),
    )
    optimizer: str = _setting("adam", "Optimiser.", "learning", choices=("adam", "rmsprop"))
    optimizer_epsilon: float = _setting(
        0.0,
        "Added to the root that a step is divided by, outside of the root as in PyTorch (for adam "
        "after the correction of its bias); 0: 1e-8 for adam, 1e-5 for rmsprop.",
        "learning",
        low=0.0,
    )
    grad_clip_norm: float = _setting(
        10.0, "Longest gradient, over all weights together; 0: no clipping.", "learning", low=0.0
    )
    target_period_updates: int = _setting(
        200, "Updates between copies to the target networks.", "learning", "updates", low=1
    )
    target_tau: float = _setting(
        0.0,
        "Share of the way that the target networks go at every update; 0: copies instead.",
        "learning",
        low=0.0,
        high=1.0,
    )
    double_q: bool = _setting(
        True, "The live networks choose the next action, the target networks value it.", "learning"
    )
    td_lambda: float = _setting(
        0.0,
        "TD(lambda): share of the longer returns in the target; 0: one step.",
        "learning",
        low=0.0,
        high=1.0,
    )
    q_lambda: bool = _setting(
        False, "Q(lambda): td_lambda's returns are corrected for exploring actions.", "learning"
    )
    n_step: int = _setting(
        1, "Rewards that a target counts before it bootstraps.", "learning", "rewards", low=1
    )
    standardise_rewards: bool = _setting(
        False,
        "Shift and scale rewards by the mean and deviation of all that were collected, to at most "
        "10 while few differ from the others. The shift changes the task where the team's actions "
        "decide how long an episode is.",
        "learning",
    )

    hidden_size: int = _setting(
        64,
        "Units of the agents' GRU, or of each hidden layer.",
        "networks",
        "units",
        low=1,
        high=MOST_UNITS,
    )
    recurrent: bool = _setting(True, "Agents have a GRU; else they are feed-forward.", "networks")
    agent_layers: int = _setting(
        2, "Hidden layers of feed-forward agents.", "networks", "layers", low=1, high=64
    )
    share_parameters: bool = _setting(
        True, "One network serves all agents; else each has its own, and no index.", "networks"
    )
    last_action: bool = _setting(True, "Agents read their last action.", "networks")
    agent_id: bool = _setting(True, "Agents read their own index.", "networks")
    mixer_embed: int = _setting(
        32,
        "Units of QMIX's mixing layer, size of Qatten's queries.",
        "networks",
        "units",
        low=1,
        high=MOST_UNITS,
    )
    hypernet_embed: int = _setting(
        64,
        "Hidden units of QMIX's, Qatten's and QPLEX's hypernetworks.",
        "networks",
        "units",
        low=1,
        high=MOST_UNITS,
    )
    hypernet_layers: int = _setting(
        2, "Layers of QMIX's hypernetworks.", "networks", "layers", low=1, high=2
    )
    attention_heads: int = _setting(4, "Heads of Qatten.", "networks", "heads", low=1, high=64)
    attention_bias: bool = _setting(
        True,
        "Qatten's keys and the last layer of its queries have a bias (PyMARL2; without: the "
        "authors of WQMIX).",
        "networks",
    )
    attention_logit_loss: float = _setting(
        0.0, "Weight of Qatten's mean square of the attention's logits.", "networks", low=0.0
    )
    central_embed: int = _setting(
        256,
        "Hidden units of the central mixer of CW-QMIX and OW-QMIX.",
        "networks",
        "units",
        low=1,
        high=MOST_UNITS,
    )
    wqmix_alpha: float = _setting(
        0.1,
        "Weight of a joint action that CW-QMIX and OW-QMIX do not count fully.",
        "networks",
        low=0.0,
        high=1.0,
    )
    duplex_kernels: int = _setting(
        10, "Attention kernels of QPLEX.", "networks", "kernels", low=1, high=256
    )
    duplex_layers: int = _setting(
        3, "Layers of each of QPLEX's kernels.", "networks", "layers", low=1, high=64
    )
    qtran_embed: int = _setting(
        64, "Hidden units of QTRAN's joint networks.", "networks", "units", low=1, high=MOST_UNITS
    )
    qtran_state_value: str = _setting(
        "state",
        "What QTRAN's V_jt reads: the state, nothing (it is 0), or the agents' features.",
        "networks",
        choices=("state", "zero", "features"),
    )
    opt_loss: float = _setting(1.0, "Weight of QTRAN's L_opt.", "networks", low=0.0)
    nopt_min_loss: float = _setting(
        0.1, "Weight of QTRAN's L_nopt (base) or L_nopt-min (alt).", "networks", low=0.0
    )

    eval_episodes: int = _setting(
        100, "Greedy episodes of an evaluation.", "output", "episodes", low=1
    )
    eval_period_env_steps: int = _setting(
        50_000, "Distance between evaluations.", "output", "env steps", low=1
    )
    log_period_env_steps: int = _setting(
        0,
        "Distance between rows of metrics; 0: a 200th of env_steps.",
        "output",
        "env steps",
        low=0,
    )
    checkpoint_period_seconds: float = _setting(
        60.0,
        "Time between checkpoints, longer where writing one takes more than a 50th of it; one is "
        "always written at the end.",
        "output",
        "seconds",
        low=0.0,
    )
    checkpoint_period_env_steps: int = _setting(
        0, "Distance between checkpoints beside that; 0: none.", "output", "env steps", low=0
    )
    checkpoint_replay: bool = _setting(
        True,
        "Keep the replay in checkpoints. Without it they are small, and a resumed run, which "
        "fills its replay anew, is not the run that was never stopped.",
        "output",
    )


FIELDS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(Config)}
_TYPES = typing.get_type_hints(Config)


def define_flags(values: flags.FlagValues) -> flags.FlagValues:
    """Makes an absl flag of every setting in `values`."""
    for name, field in FIELDS.items():
        kind, default, meta = _TYPES[name], field.default, field.metadata
        text = meta["help"] + (f" [{meta['unit']}]" if meta["unit"] else "")
        if "choices" in meta:
            flags.DEFINE_enum(name, default, list(meta["choices"]), text, flag_values=values)
        elif kind is bool:
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        elif kind is int:
            flags.DEFINE_integer(
                name, default, text, meta.get("low"), meta.get("high", LARGEST), flag_values=values
            )
        elif kind is float:
            flags.DEFINE_float(
                name, default, text, meta.get("low"), meta.get("high"), flag_values=values
            )
        elif kind is str:
            flags.DEFINE_string(name, default, text, flag_values=values)
        else:
            flags.DEFINE_multi_string(name, default, text, flag_values=values)
    return values


def _flagfile_of(word: str, rest: list[str]) -> str | None:
    """The file that a word (with the first of `rest`, then taken from it) asks for, or None."""
    if word in ("--flagfile", "-flagfile") and rest:
        return rest.pop(0)
    if word.startswith(("--flagfile=", "-flagfile=")):
        return word.partition("=")[2]
    return None


def _read_flagfile(name: str, outer: tuple[Path, ...] = ()) -> list[str]:
    """The arguments in a flagfile, one a line, those of flagfiles that it names in their place.

    Lines that begin with # or // are comments. absl reads flagfiles too, but
    follows a chain of them into a RecursionError and reports a circle on
    standard error alone, which belongs to all threads.

    Raises:
      UserError: it cannot be read, or includes itself, or too many one in the other.
    """
    if not name.strip():
        return []  # as if it had not been given
    try:
        path = Path(name.strip()).expanduser().resolve()
        if path in outer:
            raise UserError(f"{name!r}: a flagfile includes itself, by way of others or not")
        if len(outer) >= MOST_FLAGFILES:
            raise UserError(
                f"{str(outer[0])!r}: more than {MOST_FLAGFILES} flagfiles in one another"
            )
        lines = [line.strip() for line in path.read_text().split("\n")]
    except (OSError, ValueError, RuntimeError) as error:  # no text, NUL in a name, ~nobody
        raise UserError(f"cannot read a flagfile, {name!r}: {error}") from error
    found: list[str] = []
    pending = [line for line in lines if line and not line.startswith(("#", "//"))]
    while pending:
        word = pending.pop(0)
        inner = _flagfile_of(word, pending)
        found += [word] if inner is None else _read_flagfile(inner, (*outer, path))
    return found


def expand_flagfiles(arguments: Iterable[str]) -> list[str]:
    """Puts what is in --flagfile files first, so that what was typed wins over it.

    Raises:
      UserError: a flagfile that cannot be read.
    """
    files: list[str] = []
    rest: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        name = _flagfile_of(word, pending)
        if name is None:
            rest.append(word)
        else:
            files += _read_flagfile(name)
    return files + rest


def parse(arguments: Iterable[str], values: flags.FlagValues | None = None) -> dict[str, Any]:
    """Reads command-line words, flagfiles included, and returns what they set.

    Args:
      arguments: words such as `--algo=vdn` or `--flagfile=flags/paper/x.flags`.
      values: flags of the caller beside the settings, `define_flags` done.

    Raises:
      UserError: an unknown flag, a stray word, a value of the wrong type or
        out of bounds, an unreadable flagfile.
    """
    values = values if values is not None else define_flags(flags.FlagValues())
    try:
        left = values(["tfmix", *expand_flagfiles(arguments)])
    except flags.Error as error:
        text = re.sub(r"\('Non-boolean argument.*", "write true or false", str(error), flags=re.S)
        raise UserError(" ".join(text.split())) from error
    if len(left) > 1:
        raise UserError(f"stray word {left[1]!r}: settings look like --name=value")
    found = {name: values[name].value for name in values if values[name].present}
    for name, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"flag --{name}={value}: it must be a finite number")
        if "\0" in str(value):
            raise UserError(f"flag --{name}={value!r}: there is a NUL character in it")
    return found


def layers(algo: str, env: str) -> list[Path]:
    """The flagfiles that belong to an environment and an algorithm, in order.

    Each word of the environment's name, split at / and . and without a version
    or number at its end (`_v3`, `_25`), may have one in flags/env (`mpe` serves
    `mpe/simple_spread` and its PettingZoo twin, `penalty` all penalty games), then
    the algorithm in flags/algo, then the two together
    (flags/env/simple_spread.qtran_alt.flags), the later ones winning. A name
    `module:function` is the user's own, and no flagfile was written for it.
    """
    own = ":" in env and "/" not in env
    words = [] if own else [re.sub(r"_v?\d+$", "", word) for word in re.split(r"[/.:]", env)]
    words = list(dict.fromkeys(words))
    names = [*(f"env/{w}" for w in words), f"algo/{algo}", *(f"env/{w}.{algo}" for w in words)]
    files = [FLAGS_FOLDER / f"{name}.flags" for name in names]
    return [file for file in files if file.is_file()]


def resolve(settings: Mapping[str, Any]) -> Config:
    """A full configuration from what was asked for.

    Defaults, then the flagfiles of `layers`, then `settings`.

    Raises:
      UserError: a setting that does not exist or does not fit.
    """
    files = layers(settings.get("algo", Config.algo), settings.get("env", Config.env))
    below = parse(f"--flagfile={file}" for file in files)
    above = parse(as_words(settings))
    found = {name: value for name, value in {**below, **above}.items() if name in FIELDS}
    found["env_arg"] = (*below.get("env_arg", ()), *above.get("env_arg", ()))
    chosen = Config(**found)
    if chosen.batch_episodes > chosen.buffer_episodes:
        raise UserError(
            f"--batch_episodes={chosen.batch_episodes} is more than the replay holds "
            f"(--buffer_episodes={chosen.buffer_episodes})"
        )
    if chosen.update_shards and chosen.batch_episodes % chosen.update_shards:
        raise UserError(
            f"--update_shards={chosen.update_shards} does not divide "
            f"--batch_episodes={chosen.batch_episodes}; 0 chooses for you"
        )
    if chosen.n_step > 1 and chosen.td_lambda > 0:
        raise UserError(
            f"--n_step={chosen.n_step} and --td_lambda={chosen.td_lambda:g} exclude each other"
        )
    if chosen.q_lambda and chosen.td_lambda == 0:
        raise UserError("--q_lambda does nothing without --td_lambda above 0")
    return chosen


def describe() -> str:
    """Every setting by group, with default and bounds, for `--help`."""
    lines: list[str] = []
    group = ""
    for name, field in FIELDS.items():
        meta = field.metadata
        if meta["group"] != group:
            group = meta["group"]
            lines += ["", group]
        default = "" if field.default == () else field.default
        unit = f" {meta['unit']}" if meta["unit"] else ""
        lines += [f"  --{name}={default}{unit}", f"      {meta['help']}{bounds(field)}"]
    return "\n".join(lines)


def bounds(field: dataclasses.Field[Any]) -> str:
    """What values a setting allows, in words."""
    meta = field.metadata
    if "choices" in meta:
        return f" One of {', '.join(meta['choices'])}."
    low, high = meta.get("low"), meta.get("high")
    if low is not None and high is not None:
        return f" From {low} to {high}."
    return "" if low is None else f" At least {low}."


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings from Python as command-line words, so that one parser judges both."""
    words = []
    for name, value in settings.items():
        if value is None:
            continue  # as if it had not been given
        if name not in FIELDS:
            raise UserError(f"there is no setting {name!r}{nearest(name, FIELDS)}")
        if name == "env_arg" and isinstance(value, Mapping):
            value = [f"{key}={json.dumps(one)}" for key, one in value.items()]
        many = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name}={one}" for one in many]
    return words


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no name is close."""
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def env_arguments(config: Config) -> dict[str, Any]:
    """--env_arg words as a dictionary; a value that is not JSON stays a string.

    Raises:
      UserError: a word without `=`.
    """
    arguments: dict[str, Any] = {}
    for word in config.env_arg:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"--env_arg={word}: write it as name=value")
        try:
            arguments[name] = json.loads(text)
        except (ValueError, RecursionError):
            arguments[name] = text
    return arguments


def from_dict(stored: Mapping[str, Any]) -> Config:
    """The configuration of a run folder's run.json.

    Raises:
      UserError: a field this version does not know, or one of the wrong type or out
        of bounds.
    """
    for name, value in stored.items():
        if name not in FIELDS:
            raise UserError(f"run.json holds a setting {name!r} that this version does not know")
        kind = list if name == "env_arg" else _TYPES[name]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"run.json: setting {name!r} has a value of the wrong type")
    try:
        parse(as_words(stored))  # are all in bounds?
    except UserError as error:
        raise UserError(f"run.json: {error}") from error
    return Config(**{n: tuple(v) if n == "env_arg" else v for n, v in stored.items()})
