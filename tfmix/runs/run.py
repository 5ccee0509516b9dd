"""Opens a run folder for use: acting, evaluating, exporting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.algos.base import Algorithm
from tfmix.errors import RunFailedError, UserError
from tfmix.runs.export import export
from tfmix.training.playing import check_playing_memory, play
from tfmix.training.seeds import Stream
from tfmix.training.state import Counters, updates_owed
from tfmix.training.trainer import Trainer
from tfmix.types import TEAM_REWARD, Collector, EnvSpec
from tfmix.utils import text

SUMMARY_EPISODES = 100


def _refuse_agents(wrong: np.ndarray, fault: str) -> None:
    """Raise UserError with the first agent for which `wrong` [B, N] is True, and its fault."""
    if wrong.any():
        episode, agent = np.argwhere(wrong)[0]
        place = f" of episode {episode}" if len(wrong) > 1 else ""
        raise UserError(f"agent {agent}{place} {fault}")


def _read_array(name: str, given: Any, kinds: str, wanted: str) -> np.ndarray:
    """Return a caller's argument as an array.

    Args:
      name: the argument's name.
      given: its value.
      kinds: the letters of the NumPy kinds that are allowed.
      wanted: for the error, what it takes.

    Raises:
      UserError: it has no array of these kinds, such as text or rows of several lengths.
    """
    try:
        found = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} is not an array: {text.clean(error, 200)}") from error
    if found.dtype.kind not in kinds:
        raise UserError(f"{name} holds values of type {found.dtype}: {wanted}")
    return found


def _read_obs(spec: EnvSpec, obs: Any) -> np.ndarray:
    """Return a caller's observations as [B, N, O] float32.

    Raises:
      UserError: they have another shape or are not finite numbers.
    """
    found = _read_array("obs", obs, "biuf", "it takes numbers")
    with np.errstate(over="ignore"):  # too large numbers become infinite and are refused below
        found = found.astype(np.float32)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[1:] != (spec.n_agents, spec.obs_size):
        raise UserError(
            f"obs has shape {list(found.shape)}, not [B, {spec.n_agents}, {spec.obs_size}]"
        )
    _refuse_agents(~np.isfinite(found).all(-1), "has an observation that is NaN or infinite")
    return found


def _read_legal(spec: EnvSpec, legal: Any, batch: int) -> np.ndarray:
    """Return a caller's mask without actions that an agent does not have, [B, N, A] bool.

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
        _refuse_agents(odd.any(-1), f"has a mask of legal actions with {found} in it: {wanted}")
    allowed = mask.astype(bool) & own
    _refuse_agents(~allowed.any(-1), "cannot act: none of its own actions is legal")
    return allowed


class Run:
    """Opened run folder: the trained team, its task and its settings.

    A loaded run holds only the team's weights. Environments are opened when it plays.
    The replay, the optimiser and everything else are built when `trainer` is first read.

    Args:
      folder: the run folder.
      algorithm: the networks.
      counters: the run's progress.
      open_collector: (algorithm) -> the collector that plays the team; it opens
        environments.
      open_trainer: () -> the `Trainer`, restored from its checkpoint.

    Attributes:
      folder: the run folder.
      config: its settings.
      spec: its task's shape.
      algorithm: the networks.
      stopped: whether Ctrl-C or SIGTERM stopped its training in this process.
    """

    def __init__(
        self,
        folder: Path,
        algorithm: Algorithm,
        counters: Counters,
        open_collector: Callable[[Algorithm], Collector],
        open_trainer: Callable[[], Trainer],
    ):
        self.folder, self.algorithm, self._counters = folder, algorithm, counters
        self.config, self.spec = algorithm.config, algorithm.spec
        self._open_collector, self._open_trainer = open_collector, open_trainer
        self._collector: Collector | None = None
        self._trainer: Trainer | None = None
        self.stopped = False
        self._policy_state: tf.Tensor | None = None

    @classmethod
    def of(cls, folder: Path, trainer: Trainer) -> Run:
        """Return the run that `trainer` trains in a folder."""
        run = cls(
            folder,
            trainer.algorithm,
            trainer.counters,
            lambda algorithm: trainer.collector,
            lambda: trainer,
        )
        run._trainer, run._collector = trainer, trainer.collector
        return run

    @property
    def trainer(self) -> Trainer:
        """Return the trainer, which holds all that a checkpoint holds; build it at first use."""
        if self._trainer is None:
            if self._collector is not None:
                self._collector.close()
            self._trainer = self._open_trainer()
            self.algorithm, self._counters = self._trainer.algorithm, self._trainer.counters
            self._collector = self._trainer.collector
        return self._trainer

    @property
    def collector(self) -> Collector:
        """Return the collector that plays the team; open environments at first use."""
        if self._collector is None:
            self._collector = self._open_collector(self.algorithm)
        return self._collector

    @property
    def finished(self) -> bool:
        """Return whether the run has done all of its env_steps and all of their updates."""
        counters, config = self._counters, self.config
        if self._trainer is not None:
            owed = self._trainer.owes_updates()
        else:  # without its replay a run does no update before it collects again
            owed = config.checkpoint_replay and bool(
                updates_owed(config, counters.episodes, counters.updates)
            )
        return self.env_steps >= config.env_steps and not self.stopped and not owed

    @property
    def env_steps(self) -> int:
        """Return the environment steps that the team was trained for."""
        return int(self._counters.env_steps)

    def reset(self) -> None:
        """Start new episodes for `act`: the agents' memory becomes zero."""
        self._policy_state = None

    def act(self, obs: Any, legal: Any = None) -> np.ndarray:
        """Return the team's greedy actions; the agents remember the episode until `reset`.

        An action that an agent does not have is never taken, even if `legal` allows it.

        Args:
          obs: [N, O], or [B, N, O] for B episodes in parallel.
          legal: [N, A] or [B, N, A], True or 1 for a legal action, False or 0 for an
            illegal one; None if all actions that an agent has are legal.

        Returns:
          [N] or [B, N] int32.

        Raises:
          UserError: a shape differs from the task's, an observation is not finite, the
            mask has other values, or an agent has no legal action. The message names
            the agent, and the agents' memory is unchanged.
        """
        seen = _read_obs(self.spec, obs)
        mask = _read_legal(self.spec, legal, seen.shape[0])
        if self._policy_state is None or self._policy_state.shape[0] != seen.shape[0]:
            self._policy_state = tf.zeros(
                [*seen.shape[:2], self.algorithm.agent_spec.policy_state_size]
            )
        action, q, policy_state = self.algorithm.act(
            tf.constant(seen), tf.constant(mask), self._policy_state
        )
        overflows = ~np.isfinite(q.numpy()).all(-1)
        _refuse_agents(overflows, "has values that are not finite: its observation is too large")
        self._policy_state = policy_state
        return action.numpy()[0] if np.ndim(obs) == 2 else action.numpy()

    def evaluate(self, episodes: int = SUMMARY_EPISODES, epsilon: float = 0.0) -> np.ndarray:
        """Play new episodes and return their returns, [episodes].

        Args:
          episodes: the number of episodes.
          epsilon: the probability of a random action; 0 is greedy, 1 plays a random team.

        Raises:
          UserError: the machine has less memory than the episodes need.
        """
        check_playing_memory(self.spec, episodes)
        stream = Stream.RANDOM_TEAM if epsilon >= 1.0 else Stream.SUMMARY
        return play(self.collector, self.config.seed, stream, episodes, epsilon)

    def export(self) -> Path:
        """Write the SavedModel into the folder's `export` and compare it with this policy.

        Returns:
          the folder of the export.

        Raises:
          RunFailedError: it cannot be written, or does not act like this policy.
        """
        try:
            return export(self.algorithm, self.folder / "export")
        except OSError as error:
            raise RunFailedError(
                f"the export into {self.folder} cannot be written: {error.strerror or error}; "
                "--mode=export writes it again"
            ) from error

    def close(self) -> None:
        """Close the environments, if any are open."""
        if self._collector is not None:
            self._collector.close()

    def report(self, episodes: int | None = None) -> str:
        """Return a text with the mean return of the greedy team and of a random team.

        Args:
          episodes: the number of episodes of each; None is `SUMMARY_EPISODES`.
        """
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
        """Return the text that is printed at the end of a training."""
        lines = [
            self.report(),
            f"run folder   {self.folder}",
            f"TensorBoard  tensorboard --logdir {self.folder}",
        ]
        if (self.folder / "export").is_dir():
            lines.append(f"SavedModel   {self.folder / 'export'}")
        return "\n".join(lines)
