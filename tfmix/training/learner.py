"""Does one update: loss, gradient, clipping, optimiser step, target networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from tfmix import ops
from tfmix.algos.base import Algorithm, Metrics
from tfmix.config.schema import Config
from tfmix.networks.agent import own_legal
from tfmix.training.optimizers import TorchRMSprop
from tfmix.training.reward_scale import RewardScale
from tfmix.types import EnvSpec, Episode
from tfmix.utils.system import cores

# Agent steps for which another core pays off; with fewer, its call costs as much as it gains.
SHARD_AGENT_STEPS = 1_000


class Shard(NamedTuple):
    """Gradient and metrics of a shard of a batch, means over its real steps.

    Attributes:
      gradients: one for each weight.
      metrics: [] float by name.
      steps: the number of real steps, [] float.
    """

    gradients: list[tf.Tensor]
    metrics: Metrics
    steps: tf.Tensor


class UpdateResult(NamedTuple):
    """Report of an update.

    Attributes:
      metrics: the loss and its parts by name, and `grad_norm`, the gradient's norm
        before clipping, [] float each.
      applied: [] bool. False if a metric is NaN or infinite; weights, targets and the
        optimiser are then unchanged.
    """

    metrics: Metrics
    applied: tf.Tensor


def shards_of(config: Config, spec: EnvSpec) -> int:
    """Return the number of equal shards of a batch, from which cores learn in parallel."""
    if config.update_shards:
        return config.update_shards
    episodes = config.batch_episodes
    if tf.config.list_physical_devices("GPU"):
        return 1
    agent_steps = episodes * (spec.episode_limit + 1) * spec.n_agents
    most = min(cores(), max(agent_steps // SHARD_AGENT_STEPS, 1))
    return max(n for n in range(1, most + 1) if episodes % n == 0)


class Learner(tf.Module):
    """Learner that updates an algorithm's live networks and its target networks.

    A batch is split into shards of equally many episodes. One compiled program
    computes the gradient of one shard on one core, in parallel with the others. Two
    cores gain more by that than by sharing each of the many narrow products.

    Args:
      algorithm: holds the networks and the loss.

    Attributes:
      shards: the number of shards of a batch, see `shards_of`.
      update: (batch, updates, learning_rate) -> UpdateResult, compiled, see `_update`.
    """

    def __init__(self, algorithm: Algorithm):
        super().__init__()
        # On a GPU, TensorFloat-32 would round the factors of every product to ten bits.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        config = algorithm.config
        self.algorithm, self.config = algorithm, config
        self.weights = algorithm.live.trainable_variables
        # A variable, so that the schedule can set it inside the compiled update.
        rate, epsilon = config.learning_rate, config.optimizer_epsilon
        self.optimizer = (
            # Adaptive: epsilon is added to the root of the corrected mean square (Kingma & Ba
            # 2015, algorithm 1), as in PyTorch, and not to the root of the plain one.
            tf_keras.optimizers.Adam(rate, epsilon=epsilon or 1e-8, adaptive_epsilon=True)
            if config.optimizer == "adam"
            else TorchRMSprop(rate, rho=0.99, epsilon=epsilon or 1e-5)
        )
        self.optimizer.build(self.weights)
        self.reward_scale = RewardScale()
        self.shards = shards_of(config, algorithm.spec)
        # One shard is one program. Several are programs that TensorFlow runs in parallel.
        # Nothing here needs AutoGraph, which would take time to rewrite every function.
        self.update = tf.function(self._update, jit_compile=self.shards == 1, autograph=False)
        self._learn = tf.function(self._learn_from, jit_compile=True, autograph=False)
        self._apply = tf.function(self._apply_mean, jit_compile=True, autograph=False)

    def clear(self) -> None:
        """Set the optimiser's state to zero and forget all rewards; the weights stay."""
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        self.reward_scale.clear()

    def _update(self, batch: Episode, updates: tf.Tensor, learning_rate: tf.Tensor) -> UpdateResult:
        """Do one optimiser step, or none if a metric is NaN or infinite.

        Args:
          batch: episodes.
          updates: [] int64, updates done before this one.
          learning_rate: [] float.

        Raises:
          ValueError: a tensor of the batch does not have the task's shape.
        """
        self.algorithm.check_batch(batch)
        shards = zip(*(tf.split(x, self.shards) for x in batch), strict=True)  # copies nothing
        learned = [self._learn(Episode(*shard)) for shard in shards]
        return self._apply(learned, updates, learning_rate)

    def parts(self, batch: Episode) -> tuple[Any, Any]:
        """Return the functions that an update consists of, traced.

        Args:
          batch: a `TensorSpec` of each field of a batch.

        Returns:
          the `ConcreteFunction` that learns from a shard, and that of the optimiser step.
        """

        def spec(x: Any, *first: int) -> tf.TensorSpec:
            return tf.TensorSpec([*first, *x.shape[len(first) :]], x.dtype)

        size = self.config.batch_episodes // self.shards
        learn = self._learn.get_concrete_function(Episode(*(spec(x, size) for x in batch)))
        shard = tf.nest.map_structure(spec, learn.structured_outputs)
        numbers = tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
        return learn, self._apply.get_concrete_function([shard] * self.shards, *numbers)

    def prepared(self, batch: Episode) -> Episode:
        """Return episodes as the loss reads them.

        Padding is zero, no agent has an illegal action, and rewards are standardised if the
        settings say so.
        """
        batch = ops.clear_padding(batch)
        batch = batch._replace(legal=own_legal(self.algorithm.agent_spec, batch.legal))
        if self.config.standardise_rewards:
            batch = batch._replace(reward=self.reward_scale.apply(batch.reward) * batch.mask)
        return batch

    def _learn_from(self, batch: Episode) -> Shard:
        """Compute the gradient and the metrics of a shard of a batch."""
        batch = self.prepared(batch)
        with tf.GradientTape() as tape:
            loss, metrics = self.algorithm.loss(batch)
        return Shard(tape.gradient(loss, self.weights), metrics, tf.reduce_sum(batch.mask))

    def _apply_mean(
        self, shards: list[Shard], updates: tf.Tensor, learning_rate: tf.Tensor
    ) -> UpdateResult:
        """Do the optimiser step with the mean of the shards' gradients, weighted by real steps."""
        steps = tf.stack([shard.steps for shard in shards])
        shares = tf.unstack(tf.math.divide_no_nan(steps, tf.reduce_sum(steps)))

        def mean(*values: tf.Tensor) -> tf.Tensor:
            return tf.add_n([share * x for share, x in zip(shares, values, strict=True)])

        gradients, metrics = tf.nest.map_structure(mean, *(shard[:2] for shard in shards))
        norm = tf.linalg.global_norm(gradients)
        if self.config.grad_clip_norm > 0:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.grad_clip_norm, norm)
        metrics = {**metrics, "grad_norm": norm}
        applied = ops.all_finite(metrics.values())

        def apply() -> None:
            self.optimizer.learning_rate.assign(learning_rate)
            self.optimizer.apply_gradients(zip(gradients, self.weights, strict=True))
            self._update_targets(updates + 1)

        tf.cond(applied, apply, lambda: None)
        return UpdateResult(metrics, applied)

    def _update_targets(self, updates: tf.Tensor) -> None:
        """Move the target networks by `target_tau`, or copy them every `target_period_updates`."""
        pairs = zip(self.algorithm.target.variables, self.algorithm.live.variables, strict=True)
        for target, live in pairs:
            if self.config.target_tau > 0:
                target.assign_add(self.config.target_tau * (live - target))
            else:
                due = updates % self.config.target_period_updates == 0
                target.assign(tf.where(due, live, target))
