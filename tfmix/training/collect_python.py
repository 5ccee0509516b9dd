"""Collects whole padded episodes of environments in Python, with a `NumpyTeam`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfmix.envs.python.workers.buffers import check_episodes
from tfmix.types import Episode, Played, VectorEnv


def env_seed(sequence: np.random.SeedSequence) -> int:
    """Return the seed that an environment's `reset` gets for an episode, from 0 to 2^31 - 1."""
    return int(sequence.generate_state(1)[0] >> 1)


class PythonCollector:
    """Collector of whole episodes of environments in Python.

    All randomness depends on the run's seed, the stream and the episode's number.
    An episode is therefore reproducible, and does not depend on the worker that
    plays it.

    Args:
      vector_env: the environments, an `InProcess` or `Pool` of `tfmix.envs.python`.
        `close` closes them, and so does an episode that cannot be played.
      team: returns a `tfmix.networks.in_numpy.NumpyTeam` with the present weights;
        `collect` calls it once.
      one_more: returns an environment of the same kind, to draw an episode in; None if
        there is no way to make one.
    """

    compiled = False

    def __init__(
        self,
        vector_env: VectorEnv,
        team: Callable[[], Any],
        one_more: Callable[[], Any] | None = None,
    ):
        self.vector_env, self.spec, self.team = vector_env, vector_env.spec, team
        self.one_more = one_more
        self.metric_names = vector_env.metric_names

    @property
    def restarts(self) -> int:
        """Return the number of workers that were replaced."""
        return self.vector_env.restarts

    def collect(
        self, seed: Any, first_episode: Any, epsilon: Any, batch: int
    ) -> Episode[np.ndarray]:
        """Play `batch` episodes and return them; see `play`."""
        return self.play(seed, first_episode, epsilon, batch).episode

    def play(self, seed: Any, first_episode: Any, epsilon: Any, batch: int) -> Played:
        """Play `batch` episodes, at most n_envs at a time.

        Args:
          seed: [2] int, the run's seed and the stream.
          first_episode: the number of the first of these episodes.
          epsilon: the probability of a random action.
          batch: B.

        Raises:
          EnvError: an environment violates its interface, or its workers fail too often.
        """
        seed, first_episode = [int(number) for number in np.asarray(seed)], int(first_episode)
        team, epsilon, rounds = self.team(), float(epsilon), []
        try:
            for start in range(0, batch, self.vector_env.n_envs):
                count = min(self.vector_env.n_envs, batch - start)
                sequences = [
                    np.random.SeedSequence([*seed, first_episode + start + env])
                    for env in range(count)
                ]
                rounds.append(self._play_round(team, sequences, epsilon))
        except BaseException:
            self.close()
            raise
        episodes, metrics = zip(*rounds, strict=True)
        joined = Episode(*(np.concatenate(fields) for fields in zip(*episodes, strict=True)))
        return Played(joined, np.concatenate(metrics))

    def _play_round(
        self, team: Any, sequences: list[np.random.SeedSequence], epsilon: float
    ) -> Played:
        """Play one episode in each of the first environments, from one seed sequence each."""
        vector_env, buffers, count = self.vector_env, self.vector_env.buffers, len(sequences)
        explore_mask, scores = buffers.explore_mask, buffers.exploration_scores
        for env, sequence in enumerate(sequences):
            buffers.seed[env] = env_seed(sequence)
            random = np.random.default_rng(sequence.spawn(1)[0])
            explore_mask[env] = random.random(explore_mask[env].shape, np.float32) < epsilon
            random.random(out=scores[env], dtype=np.float32)
        to_play = list(range(count))
        while to_play:
            buffers.playing[:] = False
            buffers.playing[to_play], buffers.clock[to_play] = True, -1
            vector_env.play(team)
            to_play, vector_env.rows_to_replay = vector_env.rows_to_replay, []
        played = Episode(*(x[:count].copy() for x in buffers.episode))
        check_episodes(self.spec, vector_env.agents, played, buffers.clock[:count])
        return Played(played, buffers.metrics[:count].copy())

    def close(self) -> None:
        """Close the environments."""
        self.vector_env.close()
