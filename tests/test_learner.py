import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import make_batch
from tfmix import algos
from tfmix.learner import Learner, RewardScale, shards_of

RATE = tf.constant(1e-2)


def learner_of(spec, config, **changes):
    algorithm = algos.make("qmix", spec, dataclasses.replace(config, **changes))
    algorithm.reset(tf.constant([1, 2]))
    return Learner(algorithm)


def at(number):
    return tf.constant(number, tf.int64)


def test_update_is_adam_on_the_clipped_gradient(spec, config, batch):
    learner = learner_of(spec, config, grad_clip_norm=0.5)
    weights = learner.weights
    with tf.GradientTape() as tape:
        loss, _ = learner.algorithm.loss(batch)
    gradient = [g.numpy() for g in tape.gradient(loss, weights)]
    norm = np.sqrt(sum(np.sum(g**2) for g in gradient))
    before = [w.numpy() for w in weights]
    metrics = learner.update(batch, at(0), RATE)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)
    assert norm > 0.5
    for w, b, g in zip(weights, before, gradient, strict=True):
        clipped = g * 0.5 / norm
        step = 1e-2 * clipped / (np.abs(clipped) + 1e-8 / np.sqrt(1 - 0.999))  # first Adam step
        np.testing.assert_allclose(w, b - step, atol=2e-5)


def test_products_keep_all_bits_of_float32(spec, config):
    tf.config.experimental.enable_tensor_float_32_execution(True)
    Learner(algos.make("vdn", spec, config))
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_learning_lowers_the_loss_and_compiles_once(spec, config, batch):
    learner = learner_of(spec, config, target_period_updates=1000)
    losses = [float(learner.update(batch, at(i), RATE)["loss"]) for i in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    assert learner.update.experimental_get_tracing_count() == 1


def test_hard_target_is_a_copy_at_every_period_and_still_between(spec, config, batch):
    learner = learner_of(spec, config, target_period_updates=3)
    live, target = learner.algorithm.live.variables, learner.algorithm.target.variables
    old = [t.numpy() for t in target]
    for done in range(6):
        learner.update(batch, at(done), RATE)
        if (done + 1) % 3 == 0:
            old = [w.numpy() for w in live]
        for t, o in zip(target, old, strict=True):
            np.testing.assert_array_equal(t, o)
        assert (done + 1) % 3 == 0 or any(
            not np.array_equal(t, w) for t, w in zip(target, live, strict=True)
        )


def test_soft_target_goes_its_share_of_the_way(spec, config, batch):
    learner = learner_of(spec, config, target_tau=0.25)
    live, target = learner.algorithm.live.variables, learner.algorithm.target.variables
    old = [t.numpy() for t in target]
    learner.update(batch, at(0), RATE)
    for t, o, w in zip(target, old, live, strict=True):
        np.testing.assert_allclose(t, o + 0.25 * (w.numpy() - o), atol=1e-6)


def test_reset_starts_over_exactly(spec, config, batch):
    learner = learner_of(spec, config, standardise_rewards=True)
    found = []
    for _ in range(2):
        learner.algorithm.reset(tf.constant([1, 2]))
        learner.reset()
        learner.reward_scale.observe(batch.reward, batch.mask)
        for i in range(3):
            learner.update(batch, at(i), RATE)
        found.append([w.numpy() for w in learner.weights])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("algo", sorted(algos.REGISTRY))
def test_a_batch_learned_from_in_parts_has_the_gradient_of_the_whole(algo, spec, config, batch):
    # With so large an epsilon and step the optimiser subtracts the gradient itself.
    plain = {"optimizer": "rmsprop", "optimizer_epsilon": 1e6, "grad_clip_norm": 0.0}
    config = dataclasses.replace(config, algo=algo, **plain, update_shards=2)
    algorithm = algos.make(algo, spec, config)
    algorithm.reset(tf.constant([1, 2]))
    with tf.GradientTape() as tape:
        loss, metrics = algorithm.loss(batch)
    learner = Learner(algorithm)
    gradient = [g.numpy() for g in tape.gradient(loss, learner.weights)]
    before = [w.numpy() for w in learner.weights]
    found = learner.update(batch, at(0), tf.constant(1e6))
    assert learner.shards == 2 and found["applied"]
    for name, value in metrics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(g**2) for g in gradient))
    np.testing.assert_allclose(found["grad_norm"], norm, rtol=1e-5)
    for w, b, g in zip(learner.weights, before, gradient, strict=True):
        np.testing.assert_allclose(b - w.numpy(), g, atol=1e-5 * max(norm, 1.0))


def test_a_part_of_padding_alone_counts_nothing(spec, config):
    batch = make_batch(spec, lengths=(6, 4, 6, 5))
    empty = tf.nest.map_structure(tf.zeros_like, batch)
    padded = tf.nest.map_structure(lambda *x: tf.concat(x, 0), batch, empty)
    found = []
    for given, shards in ((batch, 1), (padded, 2)):
        learner = learner_of(spec, config, update_shards=shards)
        metrics = learner.update(given, at(0), RATE)
        assert metrics["applied"]
        found.append([float(metrics[name]) for name in sorted(metrics)])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_batch_is_cut_where_its_parts_are_large_and_of_one_size(monkeypatch, spec, config):
    def shards(cores, episodes, steps, asked=0):
        monkeypatch.setattr("tfmix.learner.cores", lambda: cores)
        changed = dataclasses.replace(config, batch_episodes=episodes, update_shards=asked)
        return shards_of(changed, dataclasses.replace(spec, episode_limit=steps))

    assert [shards(cores, 32, 119) for cores in (1, 2, 3, 4, 16)] == [1, 2, 2, 4, 8]
    assert shards(2, 33, 119) == 1
    assert [shards(2, 32, steps) for steps in (1, 20, 21)] == [1, 2, 2]
    assert shards(1, 32, 1, asked=4) == 4


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_every_optimizer_learns(optimizer, spec, config, batch):
    learner = learner_of(spec, config, optimizer=optimizer, target_period_updates=1000)
    losses = [float(learner.update(batch, at(i), RATE)["loss"]) for i in range(40)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("epsilon,used", [(0.0, 1e-5), (0.3, 0.3)])
def test_rmsprop_adds_its_epsilon_outside_of_the_root(epsilon, used, spec, config, batch):
    learner = learner_of(
        spec, config, optimizer="rmsprop", optimizer_epsilon=epsilon, grad_clip_norm=0.0
    )
    square = [np.zeros(w.shape) for w in learner.weights]
    for i in range(3):
        with tf.GradientTape() as tape:
            loss, _ = learner.algorithm.loss(batch)
        gradient = tape.gradient(loss, learner.weights)
        before = [w.numpy() for w in learner.weights]
        learner.update(batch, at(i), RATE)
        for j, (w, b, g) in enumerate(zip(learner.weights, before, gradient, strict=True)):
            square[j] = 0.99 * square[j] + 0.01 * g.numpy() ** 2
            step = 1e-2 * g / (np.sqrt(square[j]) + used)
            np.testing.assert_allclose(w, b - step, atol=1e-4)


def test_reward_scale_is_the_mean_and_deviation_of_all_real_rewards(spec):
    scale = RewardScale()
    seen = []
    for seed in range(5):
        batch = make_batch(spec, seed=seed)
        reward = tf.where(batch.mask > 0, batch.reward * 3 + 7, np.nan)
        scale.observe(reward, batch.mask)
        seen.append(reward.numpy()[batch.mask.numpy() > 0])
    seen = np.concatenate(seen)
    found = scale.apply(tf.constant(seen))
    np.testing.assert_allclose(found, (seen - seen.mean()) / seen.std(), atol=1e-5)


def test_a_constant_reward_is_standardised_to_zero():
    scale = RewardScale()
    scale.observe(tf.fill([4, 3], 7.0), tf.ones([4, 3]))
    np.testing.assert_array_equal(scale.apply(tf.fill([2], 7.0)), [0.0, 0.0])
