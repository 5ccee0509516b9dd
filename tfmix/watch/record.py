"""Records episodes with all that the team valued in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.algos.base import Algorithm, Views
from tfmix.algos.joint_actions import all_joint_actions, value_each
from tfmix.training.playing import play_episodes, without_padding
from tfmix.types import Collector, Episode

# Most joint actions, over all steps, that tables of a game are computed for.
MOST_CELLS = 65_536


@dataclasses.dataclass(frozen=True)
class Record:
    """An episode of T steps and what the team valued in it.

    Attributes:
      number: the episode's number, from 1.
      algo: the algorithm.
      env: the environment's name.
      seed: the seed that the episode was played with.
      epsilon: the probability of a random action.
      gamma: the discount factor.
      agents: the agents' names.
      episode: obs [T+1, N, O], state [T+1, S], legal [T+1, N, A], action [T, N],
        reward [T], terminated [T] and mask [T].
      q: [T+1, N, A], the agents' values.
      team: values of the joint actions taken by name, [T] each. The first is what the
        algorithm learns.
      slopes: [T, N], the mixer's dQ_tot/dQ_i at the actions taken; None without a mixer.
      tables: values of all joint actions by name, [T, A, ..., A] each; games have them.
    """

    number: int
    algo: str
    env: str
    seed: int
    epsilon: float
    gamma: float
    agents: tuple[str, ...]
    episode: Episode[np.ndarray]
    q: np.ndarray
    team: dict[str, np.ndarray]
    slopes: np.ndarray | None
    tables: dict[str, np.ndarray]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.episode.reward)

    @property
    def returns(self) -> np.ndarray:
        """The sum of the rewards up to and with each step, [T]."""
        return np.cumsum(self.episode.reward.astype(np.float64))

    @property
    def to_come(self) -> np.ndarray:
        """The discounted sum of the rewards from each step to the end, [T]."""
        found = np.zeros(self.steps + 1)
        for t in reversed(range(self.steps)):
            found[t] = self.episode.reward[t] + self.gamma * found[t + 1]
        return found[:-1]

    @property
    def greedy(self) -> np.ndarray:
        """Each agent's best legal action at each step, [T, N]."""
        legal = self.episode.legal[:-1]
        found: np.ndarray = np.argmax(np.where(legal, self.q[:-1], -np.inf), -1)
        return found

    def values(self) -> dict[str, Any]:
        """Return all numbers of the record as JSON has them: null for what is not finite."""
        episode, q = self.episode, np.where(self.episode.legal, self.q, np.nan)
        return {
            "number": self.number,
            "gamma": self.gamma,
            "obs": as_json(episode.obs),
            "state": as_json(episode.state),
            "action": as_json(episode.action),
            "greedy": as_json(self.greedy),
            "reward": as_json(episode.reward),
            "terminated": bool(self.steps and episode.terminated[-1]),
            "returns": as_json(self.returns),
            "to_come": as_json(self.to_come),
            "q": as_json(q[:-1]),
            "team": {name: as_json(value) for name, value in self.team.items()},
            "slopes": None if self.slopes is None else as_json(self.slopes),
        }


def as_json(x: np.ndarray) -> Any:
    """Return an array as lists of numbers, rounded to seven digits; null if not finite."""
    if x.ndim:
        return [as_json(row) for row in x]
    if x.dtype.kind != "f":
        return x.item()
    return float(f"{x:.7g}") if np.isfinite(x) else None


def record(
    algorithm: Algorithm,
    collector: Collector,
    seed: int,
    stream: int,
    episodes: int,
    epsilon: float,
    names: Sequence[str],
    with_tables: bool = False,
) -> tuple[list[Record], Episode[np.ndarray]]:
    """Play episodes and record them.

    Args:
      algorithm: the networks.
      collector: plays the team.
      seed: of the episodes.
      stream: what the seed is used for, a `Stream`.
      episodes: how many.
      epsilon: the probability of a random action.
      names: of the agents.
      with_tables: also value all joint actions, if there are few.

    Returns:
      the records; and the episodes, whole and padded.
    """
    played = play_episodes(collector, seed, stream, episodes, epsilon).episode
    whole = Episode(*(np.asarray(part) for part in played))
    found, about = [], algorithm.config
    for number, episode in enumerate(without_padding(whole), 1):
        batch = Episode(*(tf.constant(part[None]) for part in episode))
        views = algorithm.views(batch)  # of T + 1 steps
        before = Views(*(part[:, :-1] for part in views))
        team, slopes = algorithm.values_and_slopes(before, batch.action)
        tables = value_tables(algorithm, before) if with_tables else {}
        found.append(
            Record(
                number=number,
                algo=about.algo,
                env=about.env,
                seed=seed,
                epsilon=epsilon,
                gamma=about.gamma,
                agents=tuple(names),
                episode=episode,
                q=views.q.numpy()[0],
                team={name: value.numpy()[0] for name, value in team.items()},
                slopes=None if slopes is None else slopes.numpy()[0],
                tables=tables,
            )
        )
    return found, whole


def value_tables(algorithm: Algorithm, views: Views) -> dict[str, np.ndarray]:
    """Value every joint action at every step, [T, A, ..., A] by name; nothing if too many.

    Args:
      algorithm: the networks.
      views: of one row, [1, T, ...].
    """
    counts, steps = algorithm.spec.agent_n_actions, views.q.shape[1]
    if len(counts) > 3 or np.prod(counts) * steps > MOST_CELLS:
        return {}
    action = np.repeat(all_joint_actions(counts)[:, None], steps, axis=1)  # [C, T, N]
    found = value_each(algorithm, views, tf.constant(action))
    return {
        name: value.numpy().T.reshape(steps, *counts)
        for name, value in found.items()
        if name != "V_jt"
    }
