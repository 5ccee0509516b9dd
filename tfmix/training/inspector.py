"""Computes what TensorBoard shows of a team at an evaluation; it only reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmix import ops
from tfmix.algos.base import Algorithm, Views
from tfmix.algos.joint_actions import MOST_JOINT, greedy_is_best
from tfmix.training.inspection import TAGS, Inspection, add_batch, add_greedy
from tfmix.training.replay import EpisodeReplay
from tfmix.training.seeds import Stream
from tfmix.types import EnvSpec, Episode

# Most episodes that are looked at, and most agent steps in them.
MOST_EPISODES, MOST_AGENT_STEPS = 32, 20_000
# Of the joint values: most steps, joint actions at all steps, and numbers that are read.
MOST_STEPS, MOST_CELLS, MOST_NUMBERS = 32, 8_192, 8_000_000


def episodes_of(spec: EnvSpec, most: int) -> int:
    """Return how many of `most` episodes are looked at."""
    allowed = MOST_AGENT_STEPS // (spec.n_agents * (spec.episode_limit + 1))
    return max(min(most, MOST_EPISODES, allowed), 1)


class Inspector:
    """Computes numbers and histograms of a team. Its programs are not compiled by XLA.

    Compiling would take longer than all evaluations of a run of a few minutes.

    Args:
      algorithm: the networks.
      prepared: (episodes) -> the episodes as the loss reads them, see `Learner.prepared`.
      replay: where a batch is drawn from.
      seed: the run's seed, [] int32.

    Attributes:
      of_greedy: (greedy episodes) -> numbers by name, see `_of_greedy`.
      of_batch: (episodes of the replay) -> numbers by name and gradients, see `_of_batch`.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        prepared: Callable[[Episode], Episode],
        replay: EpisodeReplay,
        seed: tf.Tensor,
    ):
        self.algorithm, self.prepared = algorithm, prepared
        self.replay, self.seed = replay, seed
        spec, live = algorithm.spec, algorithm.live
        self.batch_episodes = episodes_of(spec, algorithm.config.batch_episodes)
        self.greedy_episodes = episodes_of(spec, algorithm.config.eval_episodes)
        self.networks = {
            name: part.trainable_variables
            for name, part in vars(live).items()
            if isinstance(part, tf.Module) and part.trainable_variables
        }
        self.of_greedy = tf.function(self._of_greedy, autograph=False)
        self.of_batch = tf.function(self._of_batch, autograph=False)

    def inspect(self, greedy: Episode[Any], env_steps: int) -> Inspection:
        """Look at greedy episodes and at a batch of the replay.

        Args:
          greedy: the first greedy episodes of an evaluation, `greedy_episodes` of them.
          env_steps: of the run; the batch depends on it.

        Returns:
          what TensorBoard shows. What a batch says is missing if the replay is empty, as
          after a resume without it.
        """
        found = Inspection()
        played = Episode(*(tf.convert_to_tensor(x) for x in greedy))
        add_greedy(found, self.algorithm, _numpy(self.of_greedy(played)))
        for name, weights in self.networks.items():
            found.histograms[f"weights/{name}"] = _joined(weights), TAGS["weights"].text
        if int(self.replay.num_episodes()):
            stream = tf.stack([self.seed, Stream.INSPECT])
            seed = tf.random.experimental.stateless_fold_in(stream, env_steps)
            batch = self.replay.sample(seed, self.batch_episodes)
            numbers, own, gradients = self.of_batch(batch)
            add_batch(found, self.algorithm, _numpy(numbers), _numpy(own))
            each = iter(gradients)
            for name, part in self.networks.items():
                values = _joined([next(each) for _ in part])
                found.histograms[f"gradients/{name}"] = values, TAGS["gradients"].text
        return found

    # Greedy episodes.

    def _of_greedy(self, episode: Episode) -> dict[str, tf.Tensor]:
        """Compute numbers of greedy episodes.

        Args:
          episode: B episodes.

        Returns:
          by name: `q` and `legal` [B, T, N, A], `action` [B, T, N], `slope` [B, T, N] if there
          is a mixer, `value` [B, T+1], `reward`, `terminated` and `mask` [B, T], and
          `igm_<value>` [K] bool.
        """
        episode, algorithm = self.prepared(episode), self.algorithm
        views = algorithm.views(episode)
        greedy = ops.legal_argmax(views.q, views.legal)  # [B, T+1, N]
        values, slopes = algorithm.values_and_slopes(views, greedy)
        found = self._steps_of(views.q[:, :-1], episode)
        # Each of the independent learners estimates the team's return.
        best = tf.reduce_mean(ops.legal_max(views.q, views.legal), -1)
        found |= {"value": next(iter(values.values()), best)}
        found |= {"reward": episode.reward, "terminated": episode.terminated}
        if slopes is not None:
            found["slope"] = slopes[:, :-1]
        if algorithm.judges:
            some, enumerate_all = self._some_steps(views, episode.mask)
            for name, holds in greedy_is_best(algorithm, some, enumerate_all).items():
                found[f"igm_{name}"] = holds
        return found

    def _steps_of(self, q: tf.Tensor, episode: Episode) -> dict[str, tf.Tensor]:
        """Return what the agents value, may do and did at each step."""
        legal, action, mask = episode.legal[:, :-1], episode.action, episode.mask
        return {"q": q, "legal": legal, "action": action, "mask": mask}

    def _some_steps(self, views: Views, mask: tf.Tensor) -> tuple[Views, bool]:
        """Return real steps at equal distances as one row, and whether to value all joint actions.

        Args:
          views: at T + 1 steps of B episodes.
          mask: [B, T].

        Returns:
          views [1, K, ...]. K depends on the task alone.
        """
        counts = self.algorithm.spec.agent_n_actions
        numbers = sum(math.prod(list(x.shape)[2:]) for x in views)  # of a step
        joint = math.prod(counts)
        enumerate_all = joint <= MOST_JOINT and joint * numbers <= MOST_NUMBERS
        cells = (joint if enumerate_all else sum(counts)) + 1
        rows, steps = mask.shape
        count = min(MOST_STEPS, MOST_CELLS // cells, MOST_NUMBERS // (cells * numbers))
        count = min(max(count, 1), rows * steps)
        real = tf.where(tf.reshape(mask, [-1]) > 0)[:, 0]
        last = tf.shape(real)[0] - 1
        chosen = tf.gather(real, tf.range(count) * last // max(count - 1, 1))

        def row(x: tf.Tensor) -> tf.Tensor:
            x = x[:, :-1]
            return tf.gather(tf.reshape(x, [rows * steps, *x.shape[2:]]), chosen)[None]

        return Views(*map(row, views)), enumerate_all

    # A batch of the replay.

    def _of_batch(
        self, batch: Episode
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], list[tf.Tensor]]:
        """Compute numbers of episodes of the replay.

        Args:
          batch: B episodes.

        Returns:
          by name: `q` and `legal` [B, T, N, A], `action` [B, T, N], `td_error` as `Terms` has
          it and `mask` [B, T]; what `Algorithm.inspect` returns; and the gradient of each
          weight, network after network.
        """
        batch, algorithm = self.prepared(batch), self.algorithm
        with tf.GradientTape() as tape:
            terms = algorithm.terms(batch)
        weights = [w for part in self.networks.values() for w in part]
        found = self._steps_of(terms.q, batch) | {"td_error": terms.td_error}
        return found, algorithm.inspect(batch, terms), tape.gradient(terms.loss, weights)


def _numpy(tensors: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in tensors.items()}


def _joined(tensors: Sequence[tf.Tensor]) -> np.ndarray:
    return np.concatenate([x.numpy().ravel() for x in tensors])
