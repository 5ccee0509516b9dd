import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import make_batch, slow_unless
from tfmix import algos
from tfmix.training.learner import Learner, shards_of
from tfmix.training.reward_scale import RewardScale

RATE = tf.constant(1e-2)


def learner_of(spec, config, **changes):
    """A learner of QMIX with feed-forward agents, which compile faster."""
    changes = {"recurrent": False, "agent_layers": 1, **changes}
    algorithm = algos.make("qmix", spec, dataclasses.replace(config, **changes))
    algorithm.init_weights(tf.constant([1, 2]))
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
    metrics = learner.update(batch, at(0), RATE).metrics
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)
    assert norm > 0.5
    for w, b, g in zip(weights, before, gradient, strict=True):
        clipped = g * 0.5 / norm
        step = 1e-2 * clipped / (np.abs(clipped) + 1e-8)  # first Adam step
        large = np.abs(clipped) > 1e-6  # a smaller one is rounding, and its step any
        np.testing.assert_allclose(w.numpy()[large], (b - step)[large], atol=2e-5)


def test_products_keep_all_bits_of_float32(spec, config):
    tf.config.experimental.enable_tensor_float_32_execution(True)
    Learner(algos.make("vdn", spec, config))
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_learning_lowers_the_loss_and_compiles_once(spec, config, batch):
    learner = learner_of(spec, config, target_period_updates=1000)
    losses = [float(learner.update(batch, at(i), RATE).metrics["loss"]) for i in range(60)]
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
        learner.algorithm.init_weights(tf.constant([1, 2]))
        learner.clear()
        learner.reward_scale.observe(batch.reward, batch.mask)
        for i in range(3):
            learner.update(batch, at(i), RATE)
        found.append([w.numpy() for w in learner.weights])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "algo", slow_unless(["iql", "qmix", "ow_qmix", "qtran_alt"], algos.REGISTRY)
)
def test_a_batch_learned_from_in_parts_has_the_gradient_of_the_whole(algo, spec, config, batch):
    # With so large an epsilon and step the optimiser subtracts the gradient itself.
    plain = {"optimizer": "rmsprop", "optimizer_epsilon": 1e6, "grad_clip_norm": 0.0}
    config = dataclasses.replace(config, algo=algo, **plain, update_shards=2)
    algorithm = algos.make(algo, spec, config)
    algorithm.init_weights(tf.constant([1, 2]))
    with tf.GradientTape() as tape:
        loss, metrics = algorithm.loss(batch)
    learner = Learner(algorithm)
    gradient = [g.numpy() for g in tape.gradient(loss, learner.weights)]
    before = [w.numpy() for w in learner.weights]
    found = learner.update(batch, at(0), tf.constant(1e6))
    assert learner.shards == 2 and found.applied
    for name, value in metrics.items():
        np.testing.assert_allclose(found.metrics[name], value, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(g**2) for g in gradient))
    np.testing.assert_allclose(found.metrics["grad_norm"], norm, rtol=1e-5)
    for w, b, g in zip(learner.weights, before, gradient, strict=True):
        np.testing.assert_allclose(b - w.numpy(), g, atol=1e-5 * max(norm, 1.0))


def test_a_part_of_padding_alone_counts_nothing(spec, config):
    batch = make_batch(spec, lengths=(6, 4, 6, 5))
    empty = tf.nest.map_structure(tf.zeros_like, batch)
    padded = tf.nest.map_structure(lambda *x: tf.concat(x, 0), batch, empty)
    found = []
    for given, shards in ((batch, 1), (padded, 2)):
        learner = learner_of(spec, config, update_shards=shards)
        metrics, applied = learner.update(given, at(0), RATE)
        assert applied
        found.append([float(metrics[name]) for name in sorted(metrics)])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_batch_is_cut_where_its_parts_are_large_and_of_one_size(monkeypatch, spec, config):
    def shards(cores, episodes, steps, asked=0):
        monkeypatch.setattr("tfmix.training.learner.cores", lambda: cores)
        changed = dataclasses.replace(config, batch_episodes=episodes, update_shards=asked)
        return shards_of(changed, dataclasses.replace(spec, episode_limit=steps))

    assert [shards(cores, 32, 119) for cores in (1, 2, 3, 4, 16)] == [1, 2, 2, 4, 8]
    assert shards(2, 33, 119) == 1
    assert [shards(2, 32, steps) for steps in (1, 20, 21)] == [1, 2, 2]
    assert shards(1, 32, 1, asked=4) == 4


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_every_optimizer_learns(optimizer, spec, config, batch):
    learner = learner_of(spec, config, optimizer=optimizer, target_period_updates=1000)
    losses = [float(learner.update(batch, at(i), RATE).metrics["loss"]) for i in range(40)]
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


@pytest.mark.parametrize("epsilon,used", [(0.0, 1e-8), (1e-3, 1e-3)])
def test_adam_is_algorithm_1_of_kingma_and_ba(epsilon, used, spec, config):
    learner = learner_of(spec, config, optimizer_epsilon=epsilon)
    random = np.random.default_rng(0)
    weights = [w.numpy().astype(np.float64) for w in learner.weights]
    first, second = ([np.zeros(w.shape) for w in weights] for _ in range(2))
    learner.optimizer.learning_rate.assign(1e-2)
    apply = tf.function(learner.optimizer.apply_gradients, autograph=False)
    for t in range(1, 6):
        # Gradients of the sizes at which epsilon matters, and larger ones.
        gradients = [
            (random.normal(size=w.shape) * 10.0 ** random.uniform(-9, 0, w.shape)).astype(
                np.float32
            )
            for w in weights
        ]
        apply(zip(map(tf.constant, gradients), learner.weights, strict=True))
        for i, g in enumerate(x.astype(np.float64) for x in gradients):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            m_hat, v_hat = first[i] / (1 - 0.9**t), second[i] / (1 - 0.999**t)
            weights[i] -= 1e-2 * m_hat / (np.sqrt(v_hat) + used)
            np.testing.assert_allclose(learner.weights[i], weights[i], atol=1e-6)


@pytest.mark.parametrize("algo", slow_unless(["qatten", "qplex", "qtran_alt"], algos.REGISTRY))
def test_every_algorithm_learns_in_a_task_without_a_state(algo, spec, config):
    spec = dataclasses.replace(spec, state_size=0)
    changed = dataclasses.replace(config, algo=algo, target_period_updates=1000, hypernet_layers=1)
    algorithm = algos.make(algo, spec, changed)
    algorithm.init_weights(tf.constant([1, 2]))
    learner, batch = Learner(algorithm), make_batch(spec)
    before = algorithm.live.agent.networks[0].head.numpy()
    losses = [float(learner.update(batch, at(i), RATE).metrics["loss"]) for i in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert not np.array_equal(algorithm.live.agent.networks[0].head, before)


@pytest.mark.parametrize("algo", ["vdn", "qtran_alt"])
def test_an_update_never_looks_at_actions_that_an_agent_does_not_have(algo, spec, config, batch):
    found = []
    for padding_is_legal in (False, True):
        algorithm = algos.make(algo, spec, dataclasses.replace(config, algo=algo))
        algorithm.init_weights(tf.constant([1, 2]))
        for network in algorithm.live.agent.networks:  # the padding action would be the best
            network.head_bias.assign([0.0, 0.0, 0.0, 99.0])
        padding = ~np.asarray(spec.own_actions) & padding_is_legal
        given = batch._replace(legal=batch.legal | padding)
        assert np.any(given.legal != batch.legal) == padding_is_legal
        found.append(float(Learner(algorithm).update(given, at(0), RATE).metrics["loss"]))
    assert found[0] == found[1]


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


def sparse(random, steps, share):
    """Rewards of 0 but for a share of ones between 0.25 and 1, [1, steps]."""
    size = random.choice([0.25, 0.5, 1.0], [1, steps])
    return np.where(random.random([1, steps]) < share, size, 0.0).astype(np.float32)


def test_rare_rewards_stay_bounded_and_keep_their_proportions():
    random, scale = np.random.default_rng(0), RewardScale()
    ordinary = 0.0
    for collection in range(50):  # 100,000 steps, a reward in 5,000
        reward = sparse(random, 2000, 2e-4)
        reward[0, 7] = 1.0 if collection == 0 else reward[0, 7]
        scale.observe(tf.constant(reward), tf.ones([1, 2000]))
        found = scale.apply(tf.constant([0.0, 0.25, 0.5, 1.0])).numpy()
        assert np.abs(found).max() <= 10.0 + 1e-5
        np.testing.assert_allclose(np.diff(found[:3]), [found[1] - found[0]] * 2, rtol=1e-4)
        ordinary = max(ordinary, float(np.sqrt(scale.count / scale.square)))
    assert ordinary > 40.0  # what a reward of 1 would have been
    assert found[3] > 9.0


@pytest.mark.parametrize("later", [0.05, 0.002])
def test_rewards_that_were_rare_are_standardised_as_any_once_many_were_seen(later):
    random, scale, seen = np.random.default_rng(1), RewardScale(), []
    for share, steps in ((2e-4, 20_000), (later, 2_000_000)):
        seen.append(sparse(random, steps, share))
        scale.observe(tf.constant(seen[-1]), tf.ones([1, steps]))
    seen = np.concatenate(seen, 1).astype(np.float64)
    wanted = (np.asarray([0.0, 0.5, 1.0]) - seen.mean()) / seen.std()
    np.testing.assert_allclose(scale.apply(tf.constant([0.0, 0.5, 1.0])), wanted, rtol=1e-5)
    assert (wanted[2] > 10.0) == (later == 0.002)


def test_rewards_far_from_zero_that_differ_at_every_step_have_no_floor():
    random, scale, seen = np.random.default_rng(2), RewardScale(), []
    for _ in range(20):
        reward = (1000.0 + random.normal(size=[4, 25])).astype(np.float32)
        scale.observe(tf.constant(reward), tf.ones([4, 25]))
        seen.append(reward.astype(np.float64))
        wanted = (seen[-1] - np.mean(seen)) / np.std(seen)
        np.testing.assert_allclose(scale.apply(tf.constant(reward)), wanted, rtol=1e-5, atol=1e-6)
    scale.clear()
    scale.observe(tf.constant([[1.0, 3.0]]), tf.ones([1, 2]))
    np.testing.assert_array_equal(scale.apply(tf.constant([1.0, 3.0])), [-1.0, 1.0])
