"""Opens a run folder for use: acting, evaluating, exporting."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfmix.algos.base import Algorithm
from tfmix.config.wording import in_python
from tfmix.monitoring.metrics_csv import read_metrics
from tfmix.runs import folders
from tfmix.runs.by_name import read_team_input
from tfmix.runs.export import copy_export, write_export
from tfmix.runs.formats import SAVED_MODEL, read_formats
from tfmix.runs.inputs import refuse_agents
from tfmix.runs.texts import report_text, summary_text
from tfmix.training.playing import Scores, check_playing_memory, play_episodes, without_padding
from tfmix.training.seeds import stream_of
from tfmix.training.state import Counters, updates_owed
from tfmix.training.trainer import Trainer
from tfmix.types import AgentShape, Collector, Episode, Played
from tfmix.utils import text

if TYPE_CHECKING:
    from tfmix.runs.watching import Watched

SUMMARY_EPISODES = 100


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
      best_at: the env steps at the evaluation of the best team if `algorithm` holds that
        team; None if it holds the last one.

    Attributes:
      folder: the run folder.
      config: its settings.
      spec: its task's shape.
      algorithm: the networks.
      which: which team it is, `last` or `best`.
      team_env_steps: the env steps after which the team had these weights.
      stopped: whether Ctrl-C or SIGTERM stopped its training in this process.
    """

    def __init__(
        self,
        folder: Path,
        algorithm: Algorithm,
        counters: Counters,
        open_collector: Callable[[Algorithm], Collector],
        open_trainer: Callable[[], Trainer],
        best_at: int | None = None,
    ):
        self.folder, self.algorithm, self._counters = folder, algorithm, counters
        self.config, self.spec = algorithm.config, algorithm.spec
        self._open_collector, self._open_trainer = open_collector, open_trainer
        self._best_at = best_at
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
        """Return the trainer, which holds all that a checkpoint holds; build it at first use.

        It holds the last team. The best one, if this run was loaded with it, stays in place.
        """
        if self._trainer is None and self._best_at is not None:
            self._trainer = self._open_trainer()
        elif self._trainer is None:
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

    @property
    def which(self) -> str:
        """Return which team this is: `last`, or `best` if it was loaded so."""
        return "last" if self._best_at is None else "best"

    @property
    def team_env_steps(self) -> int:
        """Return the env steps after which the team had its weights."""
        return self.env_steps if self._best_at is None else self._best_at

    def __repr__(self) -> str:
        config = self.config
        best = "" if self._best_at is None else f", best team of {self._best_at:,}"
        return (
            f"<tfmix.Run: {config.algo} on {text.clean(config.env)}, seed {config.seed}, "
            f"{self.env_steps:,} of {config.env_steps:,} env steps{best}, "
            f"{self.folder}>"
        )

    def reset(self) -> None:
        """Start new episodes for `act`: the agents' memory becomes zero."""
        self._policy_state = None

    @functools.cached_property
    def agents(self) -> tuple[AgentShape, ...]:
        """Return the names and the observation sizes of the agents, in their order."""
        return folders.agents_of(self.folder)

    @in_python
    def act(self, obs: Any, legal: Any = None) -> Any:
        """Return the team's greedy actions; the agents remember the episode until `reset`.

        An action that an agent does not have is never taken, even if `legal` allows it.

        Args:
          obs: [N, O], or [B, N, O] for B episodes in parallel. Or a dict by agent name, as
            PettingZoo's environments return it for one episode: each agent's own
            observation, perhaps with its mask. An agent that is missing or None has left.
          legal: [N, A] or [B, N, A], True or 1 for a legal action, False or 0 for an
            illegal one; None if all actions that an agent has are legal. With a dict: by
            agent name, a mask of the agent's actions, or an info that holds one.

        Returns:
          [N] or [B, N] int32, or by agent name the number of its action, counted from 0.

        Raises:
          UserError: a shape differs from the task's, an observation is not finite, the
            mask has other values, a name fits no agent, or an agent has no legal action.
            The message names the agent, and the agents' memory is unchanged.
        """
        given = read_team_input(self.spec, self._agents_for(obs), obs, legal)
        action, _, self._policy_state = self._step(given.obs, given.legal)
        return given.give(action)

    @in_python
    def q_values(self, obs: Any, legal: Any = None) -> Any:
        """Return the agents' values of their actions at this moment of the episode.

        The agents' memory is unchanged: `act` with the same observations takes the step.

        Args:
          obs: as in `act`.
          legal: as in `act`.

        Returns:
          [N, A] or [B, N, A] float32, or by agent name the values of its own actions;
          minus infinity for actions that are not legal.

        Raises:
          UserError: as in `act`.
        """
        given = read_team_input(self.spec, self._agents_for(obs), obs, legal)
        q = np.where(given.legal, self._step(given.obs, given.legal)[1], np.float32(-np.inf))
        return given.give(q, self.spec.agent_n_actions)

    def _agents_for(self, obs: Any) -> tuple[AgentShape, ...]:
        """Return the agents if observations are given by name; arrays need no names."""
        return self.agents if isinstance(obs, Mapping) else ()

    def _step(self, seen: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, tf.Tensor]:
        """Return the actions [B, N], the values [B, N, A] and the next policy state."""
        state = self._policy_state
        if state is None or state.shape[0] != len(seen):
            state = tf.zeros([*seen.shape[:2], self.algorithm.agent_spec.policy_state_size])
        action, q, next_state = self.algorithm.act(tf.constant(seen), tf.constant(mask), state)
        overflows = ~np.isfinite(q.numpy()).all(-1)
        refuse_agents(overflows, "has values that are not finite: its observation is too large")
        return action.numpy(), q.numpy(), next_state

    @in_python
    def evaluate(self, episodes: int = SUMMARY_EPISODES, epsilon: float = 0.0) -> np.ndarray:
        """Play new episodes and return their returns, [episodes].

        Args:
          episodes: the number of episodes.
          epsilon: the probability of a random action; 0 is greedy, 1 plays a random team.

        Raises:
          UserError: the machine has less memory than the episodes need.
        """
        return Scores.of(self._play(episodes, epsilon)).returns

    @in_python
    def rollout(self, episodes: int = 1, epsilon: float = 0.0) -> list[Episode[np.ndarray]]:
        """Play new episodes and return them; they are those that `evaluate` plays.

        Args:
          episodes: the number of episodes.
          epsilon: as in `evaluate`.

        Returns:
          for each episode of T steps: obs [T+1, N, O], state [T+1, S], legal
          [T+1, N, A], action [T, N], reward [T], terminated [T] and mask [T], NumPy
          arrays with the types of `tfmix.types.Episode`.

        Raises:
          UserError: as in `evaluate`.
        """
        return without_padding(self._play(episodes, epsilon).episode)

    def _play(self, episodes: int, epsilon: float) -> Played:
        """Play new episodes; raise UserError as `evaluate`."""
        check_playing_memory(self.spec, episodes)
        stream = stream_of(epsilon)
        return play_episodes(self.collector, self.config.seed, stream, episodes, epsilon)

    @in_python
    def watch(self, episodes: int = 3, *, seed: int | None = None, epsilon: float = 0.0) -> Watched:
        """Play episodes and write them into the folder's `watch` as HTML, SVG and GIF.

        Args:
          episodes: the number of episodes, at most 64. With the run's own seed they are
            those of `rollout`.
          seed: of the episodes; None is the run's own.
          epsilon: as in `evaluate`.

        Returns:
          the episodes, which a notebook shows, with the paths of the files.

        Raises:
          UserError: an argument is out of bounds, or as in `evaluate`.
          RunFailedError: the files cannot be written.
        """
        from tfmix.runs.watching import watch

        return watch(self, episodes, seed, epsilon)

    def metrics(self) -> Any:
        """Return metrics.csv by column: a pandas.DataFrame, or arrays without pandas.

        The columns are those of docs/metrics.md; `run.metrics()["greedy_return"]` is [rows],
        NaN in rows without an evaluation.

        Raises:
          RunFailedError: metrics.csv is missing or damaged.
        """
        columns = read_metrics(self.folder)
        if importlib.util.find_spec("pandas") is None:
            return columns
        return importlib.import_module("pandas").DataFrame(columns)

    @in_python
    def export(self, format: str | Sequence[str] = SAVED_MODEL) -> Path:  # noqa: A002
        """Write the policy into the folder and compare each format with this policy.

        Its folder is `export`, or `export_best` for the best team. It is replaced as a whole,
        so that all of its files hold the same team.

        Args:
          format: `saved_model`, `tflite`, `onnx`, several of them as a list or with commas.
            The SavedModel is written in any case.

        Returns:
          the folder of the export.

        Raises:
          UserError: there is no such format, or it needs a package that is missing.
          RunFailedError: it cannot be written, or does not act like this policy.
        """
        name, made = "export" if self._best_at is None else "export_best", read_formats(format)
        return write_export(self.algorithm, self.folder / name, self.team_env_steps, made)

    def export_best(self) -> Path | None:
        """Write the trainer's best team into the folder's `export_best`; see `export`.

        Returns:
          the folder of the export; None if there was no evaluation.
        """
        best, place = self.trainer.best, self.folder / "export_best"
        if not best.exists:
            return None
        if int(best.env_steps) == self.env_steps:  # the last team is the best
            return copy_export(self.folder / "export", place)
        algorithm = self.trainer.algorithm
        with best.in_place_of(algorithm.live):
            return write_export(algorithm, place, int(best.env_steps), (SAVED_MODEL,))

    def close(self) -> None:
        """Close the environments, if any are open; `evaluate` opens them again."""
        if self._collector is not None:
            self._collector.close()
        if self._trainer is None:
            self._collector = None

    @in_python
    def report(self, episodes: int | None = None) -> str:
        """Return a text with the greedy team's mean return and metrics, and a random team's return.

        Args:
          episodes: the number of episodes of each; None is `SUMMARY_EPISODES`.
        """
        return report_text(self, episodes or SUMMARY_EPISODES)

    def summary(self) -> str:
        """Return the text that is printed at the end of a training; its commands can be pasted."""
        best = None if self._trainer is None else self._trainer.best
        return summary_text(self, self.report(), best)
