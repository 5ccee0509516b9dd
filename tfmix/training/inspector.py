"""Computes what TensorBoard shows of a team at an evaluation; it only reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
MOST_STEPS, MOST_CELLS, MOST_NUMBERS = 64, 16_384, 8_000_000


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
            values = np.concatenate([w.numpy().ravel() for w in weights])
            found.histograms[f"weights/{name}"] = values, TAGS["weights"].text
        if int(self.replay.num_episodes()):
            stream = tf.stack([self.seed, Stream.INSPECT])
            seed = tf.random.experimental.stateless_fold_in(stream, env_steps)
            batch = self.replay.sample(seed, self.batch_episodes)
            numbers, own, gradients = self.of_batch(batch)
            add_batch(found, self.algorithm, _numpy(numbers), _numpy(own))
            for name, gradient in _numpy(gradients).items():
                found.histograms[f"gradients/{name}"] = gradient, TAGS["gradients"].text
        return found

    # Greedy episodes.

    def _of_greedy(self, episode: Episode) -> dict[str, tf.Tensor]:
        """Compute numbers of greedy episodes.

        Args:
          episode: B episodes.

        Returns:
          by name: `utility` and `advantage` [N], `slope` and `slope_least` [N] if there is a
          mixer, `actions` [N, A], `value` [B, T+1], `reward`, `terminated` and `mask` [B, T],
          and `igm_<value>` [].
        """
        episode, algorithm = self.prepared(episode), self.algorithm
        mask, views = episode.mask, algorithm.views(episode)
        greedy = ops.legal_argmax(views.q, views.legal)  # [B, T+1, N]
        values, slopes = algorithm.values_and_slopes(views, greedy)
        utility, mean = ops.legal_max(views.q, views.legal), legal_mean(views.q, views.legal)
        found = {
            "utility": ops.mean_over_steps(utility[:, :-1], mask),
            "advantage": ops.mean_over_steps((utility - mean)[:, :-1], mask),
            "actions": ops.mean_over_steps(
                tf.one_hot(episode.action, algorithm.spec.n_actions), mask
            ),
            # Each of the independent learners estimates the team's return.
            "value": next(iter(values.values()), tf.reduce_mean(utility, -1)),
            "reward": episode.reward,
            "terminated": episode.terminated,
            "mask": mask,
        }
        if slopes is not None:
            slopes, real = slopes[:, :-1], mask[..., None] > 0
            found["slope"] = ops.mean_over_steps(slopes, mask)
            found["slope_least"] = tf.reduce_min(tf.where(real, slopes, slopes.dtype.max), [0, 1])
        if algorithm.judges:
            some, enumerate_all = self._some_steps(views, mask)
            for name, holds in greedy_is_best(algorithm, some, enumerate_all).items():
                found[f"igm_{name}"] = tf.reduce_mean(tf.cast(holds, tf.float32))
        return found

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
        last = tf.cast(tf.shape(real)[0] - 1, tf.float64)
        chosen = tf.gather(
            real, tf.cast(tf.linspace(tf.zeros([], tf.float64), last, count), tf.int64)
        )

        def row(x: tf.Tensor) -> tf.Tensor:
            x = x[:, :-1]
            return tf.gather(tf.reshape(x, [rows * steps, *x.shape[2:]]), chosen)[None]

        return Views(*map(row, views)), enumerate_all

    # A batch of the replay.

    def _of_batch(
        self, batch: Episode
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Compute numbers of episodes of the replay.

        Args:
          batch: B episodes.

        Returns:
          by name: `chosen`, `greatest` and `advantage` [N], `td_error` as `Terms` has it and
          `mask` [B, T]; what `Algorithm.inspect` returns; and by network the gradient, flat.
        """
        batch, algorithm = self.prepared(batch), self.algorithm
        with tf.GradientTape() as tape:
            terms = algorithm.terms(batch)
        parts = self.networks.values()
        gradients = iter(tape.gradient(terms.loss, [w for part in parts for w in part]))
        legal = batch.legal[:, :-1]
        chosen = ops.gather_actions(terms.q, batch.action)
        agents = {
            "chosen": chosen,
            "greatest": ops.legal_max(terms.q, legal),
            "advantage": chosen - legal_mean(terms.q, legal),
        }
        numbers = {name: ops.mean_over_steps(x, batch.mask) for name, x in agents.items()}
        numbers |= {"td_error": terms.td_error, "mask": batch.mask}
        flat = {
            name: tf.concat([tf.reshape(next(gradients), [-1]) for _ in part], 0)
            for name, part in self.networks.items()
        }
        return numbers, algorithm.inspect(batch, terms), flat


def legal_mean(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """Return the mean value of the legal actions, [..., N, A] to [..., N]; zero without any."""
    count = tf.reduce_sum(tf.cast(legal, q.dtype), -1)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(legal, q, tf.zeros_like(q)), -1), count)


def _numpy(tensors: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in tensors.items()}
