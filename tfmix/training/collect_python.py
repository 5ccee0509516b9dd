"""Plays Python environments with a `NumpyTeam` and returns whole padded episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfmix.envs.python.workers.buffers import check_episodes
from tfmix.types import Episode, VectorEnv


class PythonCollector:
    """A `Collector` of episodes in Python environments.

    All randomness derives from the run's seed, the stream and the episode's
    number, so an episode does not depend on which worker plays it, and an episode
    that is played again is the same.

    Args:
      vector_env: plays the environments; closed by `close`, and when an episode
        cannot be played.
      team: returns the current team, a `tfmix.networks.in_numpy.NumpyTeam`;
        called before episodes.
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
        """Plays episodes as `GraphCollector.collect`; takes turns if environments are few.

        Raises:
          EnvError: an environment violates its interface, or workers fail too often.
        """
        seed, first_episode = [int(number) for number in np.asarray(seed)], int(first_episode)
        team, epsilon, turns = self.team(), float(epsilon), []
        try:
            for start in range(0, batch, self.vector_env.n_envs):
                count = min(self.vector_env.n_envs, batch - start)
                seeds = [
                    np.random.SeedSequence([*seed, first_episode + start + row])
                    for row in range(count)
                ]
                turns.append(self._play_turn(team, seeds, epsilon))
        except BaseException:
            self.close()
            raise
        return Episode(*(np.concatenate(parts) for parts in zip(*turns, strict=True)))

    def _play_turn(
        self, team: Any, seeds: list[np.random.SeedSequence], epsilon: float
    ) -> Episode[np.ndarray]:
        """Plays one episode for each of `seeds`, in the first rows of the buffers."""
        vector_env, buffers, count = self.vector_env, self.vector_env.buffers, len(seeds)
        for row, seed in enumerate(seeds):
            buffers.seed[row] = seed.generate_state(1)[0] >> 1
            draw = np.random.default_rng(seed.spawn(1)[0])
            buffers.explore_mask[row] = (
                draw.random(buffers.explore_mask[row].shape, np.float32) < epsilon
            )
            draw.random(out=buffers.exploration_scores[row], dtype=np.float32)
        todo = list(range(count))
        while todo:
            buffers.playing[:] = False
            buffers.playing[todo], buffers.clock[todo] = True, -1
            vector_env.play(team)
            todo, vector_env.rows_to_replay = vector_env.rows_to_replay, []
        played = Episode(*(x[:count].copy() for x in buffers.episode))
        check_episodes(self.spec, vector_env.agents, played, buffers.clock[:count])
        return played

    def close(self) -> None:
        """Closes the environments."""
        self.vector_env.close()
