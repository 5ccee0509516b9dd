"""Plays environments in Python and returns whole padded episodes; a `NumpyTeam` acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfmix.envs.python.workers.buffers import check_episodes
from tfmix.types import Episode, VectorEnv


class PythonCollector:
    """Episodes of environments in Python.

    What is random comes of the run's seed, the stream and the episode's number,
    so that it is all the same who plays it, and an episode that is played
    again is the same one.

    Args:
      lane: plays the environments, an `InProcess` or `Pool` of
        `tfmix.envs.python`; closed by `close` and where an episode cannot be
        played.
      team: gives the team as it is now, called before episodes, a
        `tfmix.networks.in_numpy.NumpyTeam`.
    """

    compiled = False

    def __init__(self, vector_env: VectorEnv, team: Callable[[], Any]):
        self.vector_env, self.spec, self.team = vector_env, vector_env.spec, team

    @property
    def restarts(self) -> int:
        """Workers that were replaced."""
        return self.vector_env.restarts

    def collect(
        self, seed: Any, first_episode: Any, epsilon: Any, batch: int
    ) -> Episode[np.ndarray]:
        """As `GraphCollector.collect`; more episodes than environments come in turns.

        Raises:
          EnvError: an environment breaks its word, or its workers fail too often.
        """
        seed, first_episode = [int(word) for word in np.asarray(seed)], int(first_episode)
        team, epsilon, turns = self.team(), float(epsilon), []
        try:
            for start in range(0, batch, self.vector_env.n_envs):
                count = min(self.vector_env.n_envs, batch - start)
                words = [
                    np.random.SeedSequence([*seed, first_episode + start + row])
                    for row in range(count)
                ]
                turns.append(self._turn(team, words, epsilon))
        except BaseException:
            self.close()
            raise
        return Episode(*(np.concatenate(parts) for parts in zip(*turns, strict=True)))

    def _turn(
        self, team: Any, words: list[np.random.SeedSequence], epsilon: float
    ) -> Episode[np.ndarray]:
        """Plays the episodes that come of `words`, one a row."""
        vector_env, rows, count = self.vector_env, self.vector_env.buffers, len(words)
        for row, word in enumerate(words):
            rows.seed[row] = word.generate_state(1)[0] >> 1
            draw = np.random.default_rng(word.spawn(1)[0])
            rows.explore_mask[row] = draw.random(rows.explore_mask[row].shape, np.float32) < epsilon
            draw.random(out=rows.exploration_scores[row], dtype=np.float32)
        todo = list(range(count))
        while todo:
            rows.playing[:] = False
            rows.playing[todo], rows.clock[todo] = True, -1
            vector_env.play(team)
            todo, vector_env.rows_to_replay = vector_env.rows_to_replay, []
        played = Episode(*(x[:count].copy() for x in rows.episode))
        check_episodes(self.spec, vector_env.agents, played, rows.clock[:count])
        return played

    def close(self) -> None:
        """Closes the environments."""
        self.vector_env.close()
