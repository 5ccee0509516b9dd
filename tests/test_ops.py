import numpy as np
import tensorflow as tf

from tests.conftest import make_batch
from tfmix import ops


def test_masked_mean_ignores_padding_even_where_it_is_nan():
    x = tf.constant([[1.0, 3.0, np.nan], [5.0, np.inf, np.nan]])
    mask = tf.constant([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert ops.masked_mean(x, mask).numpy() == 3.0


def test_masked_mean_of_nothing_is_zero():
    assert ops.masked_mean(tf.fill([2, 3], np.nan), tf.zeros([2, 3])).numpy() == 0.0


def test_clear_padding_keeps_real_steps_and_the_last_observation(spec):
    batch = make_batch(spec)
    real = batch.mask.numpy() > 0
    seen = np.concatenate([np.ones_like(real[:, :1]), real], 1)

    def spoil(x, keep):
        keep = keep.reshape(keep.shape + (1,) * (x.ndim - 2))
        return tf.constant(np.where(keep, x, np.nan), tf.float32)

    spoilt = batch._replace(
        obs=spoil(batch.obs.numpy(), seen),
        state=spoil(batch.state.numpy(), seen),
        reward=spoil(batch.reward.numpy(), real),
        terminated=spoil(batch.terminated.numpy(), real),
    )
    for cleared, clean in zip(ops.clear_padding(spoilt), batch, strict=True):
        np.testing.assert_array_equal(cleared, clean)


def test_legal_argmax_never_takes_an_illegal_action():
    q = tf.constant([[9.0, 1.0, 2.0], [np.nan, -5.0, -7.0], [1.0, 2.0, 3.0]])
    legal = tf.constant([[False, True, True], [False, True, True], [False] * 3])
    np.testing.assert_array_equal(ops.legal_argmax(q, legal), [2, 1, 0])


def test_take_reads_the_action_and_sends_no_gradient_elsewhere():
    q = tf.constant([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    with tf.GradientTape() as tape:
        tape.watch(q)
        taken = ops.take(q, tf.constant([1, 2]))
    np.testing.assert_array_equal(taken, [2.0, 6.0])
    np.testing.assert_array_equal(tape.gradient(taken, q), [[0, 1, 0], [0, 0, 1]])


def test_one_step_target_stops_at_termination_and_is_constant():
    value = tf.constant([[10.0, 10.0]])
    with tf.GradientTape() as tape:
        tape.watch(value)
        target = ops.one_step_target(
            tf.constant([[1.0, 2.0]]), tf.constant([[0.0, 1.0]]), value, 0.5
        )
    np.testing.assert_allclose(target, [[6.0, 2.0]])
    assert tape.gradient(target, value) is None


def test_random_actions_are_uniform_over_the_legal_ones():
    legal = tf.broadcast_to(tf.constant([[True, False, True, True]]), [30_000, 1, 4])
    action = ops.select_actions(tf.zeros([30_000, 1, 4]), legal, 1.0, tf.constant([0, 1]))
    share = np.bincount(action.numpy().ravel(), minlength=4) / 30_000
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.01)


def test_epsilon_is_each_agents_own_chance_of_exploring():
    q = tf.broadcast_to(tf.constant([0.0, 1.0]), [20_000, 2, 2])
    legal = tf.fill([20_000, 2, 2], True)
    best = ops.select_actions(q, legal, 0.5, tf.constant([3, 4])).numpy() == 1
    np.testing.assert_allclose(best.mean(0), [0.75, 0.75], atol=0.01)
    np.testing.assert_allclose((best[:, 0] & best[:, 1]).mean(), 0.75**2, atol=0.01)
    assert np.all(ops.select_actions(q, legal, 0.0, tf.constant([3, 4])) == 1)


def test_schedule_is_linear_and_then_stays():
    found = [float(ops.linear_schedule(1.0, 0.2, 100, tf.constant(t))) for t in (0, 25, 100, 999)]
    np.testing.assert_allclose(found, [1.0, 0.8, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(ops.linear_schedule(1.0, 0.2, 0, tf.constant(1)), 0.2, rtol=1e-6)
