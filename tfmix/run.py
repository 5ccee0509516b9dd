"""Runs as folders: train, resume, load, and what can be done with a loaded one."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import tfmix
from tfmix import algos, envs
from tfmix.config import resolve
from tfmix.config.schema import Config
from tfmix.envs.python import EnvError, own, pool
from tfmix.envs.python.apart import RESET, Progress
from tfmix.envs.python.worker import build, in_graph
from tfmix.errors import RunFailedError, UserError
from tfmix.monitoring.metrics_csv import cut_metrics
from tfmix.monitoring.tensorboard import cut_events
from tfmix.networks.in_numpy import NumpyTeam
from tfmix.runs import checkpoint, folders
from tfmix.runs.export import export
from tfmix.runs.session import REPORTED, Session
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.collect_python import PythonCollector
from tfmix.training.replay_size import HOST, check, plan
from tfmix.training.seeds import RANDOM_TEAM, SUMMARY
from tfmix.training.trainer import Trainer, check_playing
from tfmix.types import TEAM_REWARD, EnvSpec
from tfmix.utils import files, memory, text
from tfmix.utils.signals import STOPPING, listening, raise_again
from tfmix.utils.system import cores
from tfmix.utils.text import clean, show, tell

tf.get_logger().setLevel("ERROR")  # its advice to developers is not for a run's screen

SUMMARY_EPISODES = 100
IN_USE = "another process trains there; wait for its end or stop it"
LARGE_REPLAY = 500_000_000  # bytes that are worth a line
GPU_SIGNS = ("/dev/nvidia0", "/proc/driver/nvidia/version")


def device_line() -> str:
    """What the run computes on, and what to install where a GPU lies idle."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return f"device: {name}"
    line = f"device: CPU, {cores()} cores"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not hidden and any(Path(sign).exists() for sign in GPU_SIGNS):
        line += (
            "; there is an NVIDIA GPU that TensorFlow cannot use: make gpu installs what it needs"
        )
    return line


def open_env(settings: Config, env: Any = None) -> tuple[EnvSpec, Callable[..., Any]]:
    """The task's shape, and what builds its collector from an algorithm.

    Args:
      settings: with the environment's name and arguments.
      env: None, or an environment or a factory of the user's instead of the
        name, in any interface of docs/environments.md.

    Raises:
      UserError: no such environment, or more memory than there is.
    """
    factory: Callable[[], Any] | None = None
    first: Any = None
    if env is None and envs.is_graph(settings.env):
        first = envs.make_graph(settings.env, settings)
    elif env is None:
        factory = functools.partial(envs.make_python, settings.env, settings)
    elif own.is_made(env):
        first = own.adapt(env, settings.env, settings.team_reward, settings.episode_limit)
    else:
        names = (settings.env, settings.team_reward, settings.episode_limit)
        factory = functools.partial(own.call, env, *names)
    crew = pool.start(factory, settings)
    if crew is not None and crew.spec is None:  # of the graph, which this process compiles
        crew.close()
        crew = None
    if crew is None:
        return _open_here(settings, first, factory)
    try:
        _check_memory(settings, crew.spec)
        _tell_notices(crew.spec, crew.about.notices)
        crew.open()
    except BaseException:
        crew.close()
        raise
    return crew.spec, _collects(crew)


def _open_here(
    settings: Config, first: Any, factory: Callable[[], Any] | None
) -> tuple[EnvSpec, Callable[..., Any]]:
    """Opens environments that this process steps or compiles; as `open_env`.

    Args:
      settings: as `open_env`.
      first: an environment; None if `factory` makes it.
      factory: makes an environment; None if there is `first` alone.
    """
    told = Progress.of_this_process()
    if factory is not None:
        factory = functools.partial(build, factory, settings.env, told)
        first = factory()
    _check_memory(settings, first.spec)
    if in_graph(first):
        cut = settings.time_limit == "terminal"
        return first.spec, lambda algorithm: GraphCollector(
            first, algorithm.act, algorithm.layout.carry_size, cut
        )
    if hasattr(first, "rehearse"):
        _tell_notices(first.spec, told.call(RESET, first.rehearse))
    if factory is None and settings.n_envs > 1:
        raise UserError(
            f"one environment was given and n_envs={settings.n_envs}: give a factory, or n_envs=1"
        )
    others = [factory() for _ in range(settings.n_envs - 1)] if factory else []
    return first.spec, _collects(pool.in_process([first, *others], settings))


def _check_memory(settings: Config, spec: EnvSpec) -> None:
    """Raises UserError if the task needs more memory than there is, before more is built."""
    check(settings, spec)  # an EpisodeReplay checks too
    check_playing(spec, settings.eval_episodes)


def _tell_notices(spec: EnvSpec, notices: Iterable[str]) -> None:
    """Prints what the rehearsal of an environment found worth knowing."""
    for notice in notices:
        tell(f"tfmix: {clean(spec.name, 100)} {clean(notice)}")


def _collects(lane: Any) -> Callable[..., Any]:
    """Returns what builds the collector of an `InProcess` or a `Pool` from an algorithm."""
    return lambda algorithm: PythonCollector(lane, lambda: NumpyTeam.of(algorithm.live.agent))


def _folder_name(settings: Config) -> Path:
    """`runs/<env>/<algo>/<seed and UTC time>`."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    parts = [settings.env, settings.algo, f"seed{settings.seed}-{stamp}"]
    return Path("runs", *map(folders.safe, parts))


def _git_commit() -> str:
    """The commit of the source, with a + where files have changed; empty outside of git."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("tensorflow", "tf-keras", "tf-agents", "numpy", "pettingzoo", "gymnasium")
    return {
        "tfmix": tfmix.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def _refuse_used(folder: Path) -> None:
    """Raises UserError where `folder` holds something already."""
    if (folder / "run.json").exists():
        raise UserError(
            f"{folder} already holds a run: --mode=resume continues it; "
            "for a new one choose another --run_dir"
        )
    if folder.is_file() or (
        folder.is_dir() and any(path.name != folders.LOCK for path in folder.iterdir())
    ):
        raise UserError(f"{folder} is not an empty folder; choose another --run_dir")


def _create(folder: Path, settings: Config, spec: EnvSpec) -> None:
    """Makes a run folder with its run.json.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        about = {
            "format": folders.FORMAT,
            "config": dataclasses.asdict(settings),
            "spec": dataclasses.asdict(spec),
            "seed": settings.seed,
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "git_commit": _git_commit(),
            "versions": _versions(),
            "finished": 0,  # env steps at which it came to its end, see folders.is_finished
            "hardware": {
                "machine": platform.machine(),
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "device": device_line(),
            },
        }
        with (folder / "run.json").open("x") as file:  # x: another run was faster
            file.write(json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def _refuse(wrong: np.ndarray, what: str) -> None:
    """Raises UserError that names the first agent for which `wrong` [B, N] is True."""
    if wrong.any():
        episode, agent = np.argwhere(wrong)[0]
        place = f" of episode {episode}" if len(wrong) > 1 else ""
        raise UserError(f"agent {agent}{place} {what}")


def _read_array(name: str, given: Any, kinds: str, wanted: str) -> np.ndarray:
    """Returns what a caller gave as `name` as an array of one of NumPy's `kinds` of numbers.

    Raises:
      UserError: it is something else, such as text or rows of several lengths.
    """
    try:
        found = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} is not an array: {text.clean(error, 200)}") from error
    if found.dtype.kind not in kinds:
        raise UserError(f"{name} holds values of type {found.dtype}: {wanted}")
    return found


def _read_obs(spec: EnvSpec, obs: Any) -> np.ndarray:
    """Returns the observations that a caller gave as [B, N, O] float32.

    Raises:
      UserError: they have another shape or are no finite numbers.
    """
    found = _read_array("obs", obs, "biuf", "it takes numbers")
    with np.errstate(over="ignore"):  # what is too large for float32 is refused below
        found = found.astype(np.float32)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[1:] != (spec.n_agents, spec.obs_size):
        raise UserError(
            f"obs has shape {list(found.shape)}, not [B, {spec.n_agents}, {spec.obs_size}]"
        )
    _refuse(~np.isfinite(found).all(-1), "has an observation that is NaN or infinite")
    return found


def _read_legal(spec: EnvSpec, legal: Any, batch: int) -> np.ndarray:
    """Returns the agents' own legal actions, [B, N, A] bool, of a caller's mask.

    Raises:
      UserError: it has another shape, other values than true and false (or 1 and 0),
        or leaves an agent without an action.
    """
    own, shape = np.asarray(spec.own_actions), (batch, spec.n_agents, spec.n_actions)
    wanted = "it takes true or false (or 1 or 0) for each action"
    mask = own if legal is None else _read_array("legal", legal, "biuf", wanted)
    if mask.shape not in (shape, shape[1:]):
        raise UserError(f"legal has shape {list(mask.shape)}, not {list(shape)}")
    mask = np.broadcast_to(mask, shape)
    odd = (mask != 0) & (mask != 1)
    if odd.any():
        found = mask[odd][0]
        _refuse(odd.any(-1), f"has a mask of legal actions with {found} in it: {wanted}")
    allowed = mask.astype(bool) & own
    _refuse(~allowed.any(-1), "cannot act: none of its own actions is legal")
    return allowed


class Run:
    """A run folder opened: the trained team, its task and its settings.

    Attributes:
      folder: the run folder.
      config: its settings.
      spec: its task's shape.
      algorithm: the networks.
      trainer: everything that a checkpoint holds.
      stopped: Ctrl-C or SIGTERM ended its training here before its end.
    """

    def __init__(self, folder: Path, trainer: Trainer):
        self.folder, self.trainer = folder, trainer
        self.config, self.spec, self.algorithm = trainer.config, trainer.spec, trainer.algorithm
        self.stopped = False
        self._carry: tf.Tensor | None = None

    @property
    def finished(self) -> bool:
        """Whether the run has done all of its env_steps, and learned from them."""
        done = self.trainer.env_steps() >= self.config.env_steps
        return done and not self.stopped and not self.trainer.owes_updates()

    @property
    def env_steps(self) -> int:
        """Environment steps that the team was trained for."""
        return self.trainer.env_steps()

    def reset(self) -> None:
        """Starts a new episode for `act`."""
        self._carry = None

    def act(self, obs: Any, legal: Any = None) -> np.ndarray:
        """The team's greedy actions; remembers the episode until `reset`.

        An action that an agent does not have is never taken, whatever `legal` says.

        Args:
          obs: [N, O], or [B, N, O] for B episodes side by side.
          legal: [N, A] or [B, N, A], True or 1 for an action that is allowed, False or
            0 for one that is not; None where every own action is allowed.

        Returns:
          [N] or [B, N] int32.

        Raises:
          UserError: a shape that is not the task's, an observation that is no finite
            number, a mask of other values, or an agent without a legal action of its
            own; the agent is named, and the episode is as it was before the call.
        """
        seen = _read_obs(self.spec, obs)
        mask = _read_legal(self.spec, legal, seen.shape[0])
        if self._carry is None or self._carry.shape[0] != seen.shape[0]:
            self._carry = tf.zeros([*seen.shape[:2], self.algorithm.layout.carry_size])
        action, q, carry = self.algorithm.act(tf.constant(seen), tf.constant(mask), self._carry)
        overflows = ~np.isfinite(q.numpy()).all(-1)
        _refuse(overflows, "has values that are not finite: its observation is too large")
        self._carry = carry
        return action.numpy()[0] if np.ndim(obs) == 2 else action.numpy()

    def evaluate(self, episodes: int = SUMMARY_EPISODES, epsilon: float = 0.0) -> np.ndarray:
        """Returns of fresh episodes, [episodes]; epsilon 1 plays a random team.

        Raises:
          UserError: more episodes than the machine has memory for.
        """
        check_playing(self.spec, episodes)
        stream = RANDOM_TEAM if epsilon >= 1.0 else SUMMARY
        return self.trainer.play(stream, episodes, epsilon)

    def export(self) -> Path:
        """Writes the SavedModel into the folder's `export`, compared with this policy.

        Raises:
          RunFailedError: it cannot be written.
        """
        try:
            return export(self.algorithm, self.folder / "export")
        except OSError as error:
            raise RunFailedError(
                f"the export into {self.folder} cannot be written: {error.strerror or error}; "
                "--mode=export writes it again"
            ) from error

    def close(self) -> None:
        """Closes the environments."""
        self.trainer.collector.close()

    def report(self, episodes: int | None = None) -> str:
        """The team's greedy return beside a random team's, in words."""
        count = episodes or SUMMARY_EPISODES
        trained, random = self.evaluate(count), self.evaluate(count, epsilon=1.0)
        reward = TEAM_REWARD[self.spec.team_reward]
        return (
            f"{self.config.algo} on {text.clean(self.config.env)}, seed {self.config.seed}, "
            f"{self.env_steps:,} env steps\n"
            f"greedy return {trained.mean():.2f} over {count} episodes ({reward}), "
            f"a random team {random.mean():.2f}"
        )

    def summary(self) -> str:
        """What stands at the end of a training."""
        lines = [
            self.report(),
            f"run folder   {self.folder}",
            f"TensorBoard  tensorboard --logdir {self.folder}",
        ]
        if (self.folder / "export").is_dir():
            lines.append(f"SavedModel   {self.folder / 'export'}")
        return "\n".join(lines)


def train(env: Any = None, verbose: bool = False, **settings: Any) -> Run:
    """Trains a team in a new run folder.

    Args:
      env: a name of `--mode=list`, or an environment or a factory of yours.
      verbose: print the device, the seed and the folder first.
      **settings: settings of docs/settings.md by name.

    Ctrl-C and SIGTERM end the training early, and all is saved. A SIGTERM is
    then raised again: a script that does not handle it ends there.

    Returns:
      the run, trained; if it was stopped early its `finished` is False.

    Raises:
      UserError: a setting, environment or folder that does not serve.
      RunFailedError: the environment broke its word.
      KeyboardInterrupt: a second Ctrl-C; what came after the last checkpoint
        is lost.
    """
    given: Any = None
    if isinstance(env, str):
        settings["env"] = env
    elif env is not None:
        given = env
        settings["env"] = own.name_of(env)
    algos.check(settings.get("algo", Config.algo))
    if given is None:
        envs.is_graph(settings.get("env", Config.env))
        envs.trust(settings.get("env", Config.env))
    chosen = resolve.resolve(settings)
    folder = Path(chosen.run_dir) if chosen.run_dir else _folder_name(chosen)
    try:
        _refuse_used(folder)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", error)
        raise UserError(f"cannot write to {folder}: {reason}") from error
    spec, make_collector = open_env(chosen, given)
    if verbose:
        _announce(chosen, spec, folder)
    trainer = Trainer(chosen, make_collector, spec)
    with folders.locked(folder, IN_USE):
        _create(folder, chosen, spec)
        run = Run(folder, trainer)
        heard = _go_on(run, 0.0)
    raise_again(heard)
    return run


class MissingEnv:
    """Stands for the user's own environment, which no run folder holds or may import."""

    compiled = False

    def __init__(self, folder: Path, name: str, *_: Any):
        self.folder, self.name = folder, name

    def collect(self, *_: Any) -> Any:
        """Raises UserError: there is nothing to play in."""
        envs.check_trust(self.name, self.folder)
        raise UserError(
            f"{self.folder} was trained on an environment of your own: give it with env=..."
        )

    def close(self) -> None:
        """Nothing to close."""


def _store(folder: Path, env_steps: int | None = None, finished: int | None = None) -> None:
    """Changes a run.json, whole or not at all.

    Args:
      folder: the run folder.
      env_steps: the run's new end, None for the one it has.
      finished: env steps at which it came to its end, None for what is there, or
        for 0 in a folder of a tfmix that did not write it.

    Raises:
      RunFailedError: it cannot be written.
    """
    about = folders.read(folder).about
    if env_steps is not None:
        about["config"]["env_steps"] = env_steps
    about["finished"] = about.get("finished", 0) if finished is None else finished
    try:
        files.write_text(folder / "run.json", json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise RunFailedError(
            f"{folder / 'run.json'} cannot be written: {error.strerror or error}"
        ) from error


def _report_decay(run: Run, old_end: int) -> None:
    """Prints what a new end makes of a step size that goes down to the end of the run."""
    trainer, end = run.trainer, run.config.env_steps
    before, after = (float(trainer.learning_rate(x)) for x in (old_end, end))
    if run.env_steps and before != after:
        tell(
            f"tfmix: --learning_rate_decay=linear ends at {end:,} env steps, not at {old_end:,}: "
            f"the step size at {run.env_steps:,} is {after:.3g} instead of {before:.3g}"
        )


def resume(
    run_dir: str | os.PathLike[str],
    env: Any = None,
    verbose: bool = False,
    env_steps: int | None = None,
) -> Run:
    """Continues a run from its newest checkpoint, or from its start if it has none.

    Ctrl-C and SIGTERM do what they do in `train`.

    Args:
      run_dir: the run folder.
      env: the environment or factory where the run was given one, or the run's
        name of code of yours, which a run folder alone does not import.
      verbose: print the device, the seed and the folder first.
      env_steps: a new end, None for the run's own. A linear decay of the step size
        reaches 0 there, which is reported on standard error: at a finished run it
        rises from 0 again.

    Raises:
      UserError: no run there, one with links, pipes or devices in it, or one
        whose checkpoint does not fit.
      RunFailedError, KeyboardInterrupt: as `train`.
    """
    folders.read(run_dir)  # before the lock: a folder that is no run stays as it is
    folders.refuse_links(Path(run_dir), to_write=True)
    with folders.locked(Path(run_dir), IN_USE):
        run, newest = _open(run_dir, env, env_steps)
        if env_steps is not None and run.env_steps > env_steps:
            raise UserError(
                f"{run.folder} is at {run.env_steps:,} env steps, "
                f"which is more than --env_steps={env_steps}"
            )
        if env_steps is not None:
            _report_decay(run, folders.read(run_dir).config.env_steps)
        finished = run.finished and folders.is_finished(run.folder, run.config.env_steps)
        if env_steps is not None or not finished:
            _store(run.folder, env_steps)
        if verbose:
            _announce(run.config, run.spec, run.folder)
        if finished:
            if verbose:
                show("this run is finished; a greater --env_steps continues it")
            return run
        if verbose and newest and not run.config.checkpoint_replay:
            show("the replay is not in the checkpoint: it is filled anew before learning")
        seconds = checkpoint.seconds_of(newest) if newest else 0.0
        reported = checkpoint.count_of(newest, REPORTED) if newest else None
        # Rows that a later checkpoint would have held are written again.
        _cut(run.folder, run.env_steps if reported is None else reported)
        heard = _go_on(run, seconds, reported)
    raise_again(heard)
    return run


def _cut(folder: Path, env_steps: int) -> None:
    """Drops what metrics.csv and TensorBoard's files hold after `env_steps`.

    Raises:
      RunFailedError: they cannot be read or written.
    """
    try:
        cut_metrics(folder / "metrics.csv", env_steps)
        cut_events(folder, env_steps)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or text.clean(error, 200)
        raise RunFailedError(
            f"{getattr(error, 'filename', None) or folder} cannot be cut back to "
            f"{env_steps:,} env steps: {reason}"
        ) from error


def load(run_dir: str | os.PathLike[str], env: Any = None) -> Run:
    """Opens a run folder with its newest checkpoint.

    Args:
      run_dir: the run folder.
      env: the environment or factory where the run was given one, or the run's
        name of code of yours, which a run folder alone does not import.

    Raises:
      UserError: no run there, one with symbolic links, pipes or devices in it,
        one not trained yet, or one whose checkpoint does not fit.
    """
    run, newest = _open(run_dir, env)
    if newest is None:
        raise UserError(f"{run.folder} has no checkpoint yet: --mode=resume trains it")
    return run


def _open(
    run_dir: str | os.PathLike[str], env: Any, env_steps: int | None = None
) -> tuple[Run, Path | None]:
    """The run of a folder and the checkpoint that it was restored from."""
    folder, (settings, spec, _) = Path(run_dir), folders.read(run_dir)
    folders.refuse_links(folder)
    if env_steps is not None:
        resolve.resolve({"env_steps": env_steps})  # is it in bounds?
        settings = dataclasses.replace(settings, env_steps=env_steps)
    algos.check(settings.algo)
    if isinstance(env, str):
        if env != settings.env:
            raise UserError(f"{folder} was trained on {settings.env}, not on {env}")
        envs.trust(env)
        env = None
    newest = checkpoint.latest(folder / "checkpoints")
    make_collector: Callable[..., Any]
    if env is None and (settings.env.startswith("custom/") or not envs.is_trusted(settings.env)):
        found, make_collector = spec, functools.partial(MissingEnv, folder, settings.env)
    else:
        found, make_collector = open_env(settings, env)
    if found != spec:
        tell(f"tfmix: {settings.env} is not quite what {folder} was trained on")
    trainer = Trainer(settings, make_collector, found)
    if newest is not None:
        checkpoint.restore(newest, trainer.tensors)
        if newest.name != str(trainer.env_steps()):
            raise UserError(
                f"checkpoint {newest} is of another moment of a run, or of another run: it was "
                f"written at {trainer.env_steps():,} env steps"
            )
    return Run(folder, trainer), newest


def _announce(settings: Config, spec: EnvSpec, folder: Path) -> None:
    """The first lines of a start."""
    show(device_line())
    room = plan(settings, spec)
    if room.size >= LARGE_REPLAY:
        where = "" if room.device == HOST else ", in the GPU's memory"
        show(f"replay: {room.episodes:,} episodes, {memory.in_words(room.size)}{where}")
    show(f"{settings.algo} on {settings.env}, seed {settings.seed}, run folder {folder}")


def _go_on(run: Run, seconds: float, reported: int | None = None) -> int:
    """Trains `run` to its end, exports it and marks it as finished, or trains it to a stop.

    Args:
      run: what is trained.
      seconds: time that it took before.
      reported: env steps at its last row of metrics, None for where it is.

    Returns:
      the signal that was heard, 0 for none.

    Raises:
      RunFailedError: the environment broke its word, learning went astray, or
        the folder cannot be written any more.
    """
    try:
        with listening(STOPPING) as stop:
            session = Session(run.trainer, run.folder, seconds, stop, reported)
            with contextlib.closing(session):
                try:
                    run.stopped = not session.run()
                except (RunFailedError, OSError, tf.errors.OpError):
                    raise
                except Exception as error:  # of the environment: what was learned is kept
                    session.save()
                    if isinstance(error, EnvError):
                        raise RunFailedError(
                            f"{error}; what was learned is saved in {run.folder}"
                        ) from error
                    raise
    except OSError as error:
        raise RunFailedError(
            f"{run.folder} cannot be written: {error.strerror or error}; its last checkpoint "
            "is whole, and --mode=resume continues from there"
        ) from error
    if not run.stopped:
        run.export()
        _store(run.folder, finished=run.env_steps)
    return stop.number
