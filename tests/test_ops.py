import numpy as np
import pytest
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

    non_finite = batch._replace(
        obs=spoil(batch.obs.numpy(), seen),
        state=spoil(batch.state.numpy(), seen),
        reward=spoil(batch.reward.numpy(), real),
        terminated=spoil(batch.terminated.numpy(), real),
    )
    for cleared, clean in zip(ops.clear_padding(non_finite), batch, strict=True):
        np.testing.assert_array_equal(cleared, clean)


def test_legal_argmax_never_takes_an_illegal_action():
    q = tf.constant([[9.0, 1.0, 2.0], [np.nan, -5.0, -7.0], [1.0, 2.0, 3.0]])
    legal = tf.constant([[False, True, True], [False, True, True], [False] * 3])
    np.testing.assert_array_equal(ops.legal_argmax(q, legal), [2, 1, 0])


def test_take_reads_the_action_and_sends_no_gradient_elsewhere():
    q = tf.constant([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    with tf.GradientTape() as tape:
        tape.watch(q)
        taken = ops.gather_actions(q, tf.constant([1, 2]))
    np.testing.assert_array_equal(taken, [2.0, 6.0])
    np.testing.assert_array_equal(tape.gradient(taken, q), [[0, 1, 0], [0, 0, 1]])


def by_hand(batch, value, taken, gamma, lambda_=0.0, n=1, q_lambda=False):
    """Every return of the definitions, summed out step by step."""
    reward, over = batch.reward.numpy(), batch.terminated.numpy()
    length = batch.mask.numpy().sum(1).astype(int)
    found = np.zeros_like(reward)
    for row, end in enumerate(length):

        def n_step(t, count, row=row, end=end):
            last = min(t + count, end) - 1
            total = sum(gamma ** (k - t) * reward[row, k] for k in range(t, last + 1))
            future = gamma ** (last + 1 - t) * value[row, last]
            return total + (1 - over[row, last]) * future

        for t in range(end):
            if q_lambda:  # Q_t and the sum of TD errors, each worth lambda less
                errors = [
                    reward[row, k] + gamma * (1 - over[row, k]) * value[row, k] - taken[row, k]
                    for k in range(t, end)
                ]
                found[row, t] = taken[row, t] + sum(
                    (gamma * lambda_) ** i * e for i, e in enumerate(errors)
                )
            elif lambda_:  # the mean of all n-step returns, each weighing lambda less
                left = end - t
                weights = [(1 - lambda_) * lambda_ ** (k - 1) for k in range(1, left)]
                weights.append(lambda_ ** (left - 1))
                found[row, t] = sum(w * n_step(t, k + 1) for k, w in enumerate(weights))
            else:
                found[row, t] = n_step(t, n)
    return found


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"n": 2},
        {"n": 9},
        {"lambda_": 0.6},
        {"lambda_": 1.0},
        {"lambda_": 0.6, "q_lambda": True},
        {"lambda_": 1.0, "q_lambda": True},
    ],
    ids=str,
)
def test_returns_are_their_definitions_written_out(spec, kind):
    batch = make_batch(spec)  # terminated and cut short, of unequal lengths
    random = np.random.default_rng(1)
    value, taken = random.normal(size=[2, 4, 6]).astype(np.float32)
    discount = 0.9 * (1 - batch.terminated)
    if "lambda_" in kind:
        extra = [taken] if kind.get("q_lambda") else []
        found = tf.function(ops.lambda_return, jit_compile=True)(
            batch.reward, discount, batch.mask, value, kind["lambda_"], *extra
        )
    else:
        found = ops.n_step_return(batch.reward, discount, batch.mask, value, kind.get("n", 1))
    wanted = by_hand(batch, value, taken, 0.9, **kind)
    real = batch.mask.numpy() > 0
    np.testing.assert_allclose(found.numpy()[real], wanted[real], atol=1e-5)


def test_lambda_returns_serve_one_value_an_agent_too():
    reward = tf.random.stateless_normal([2, 4, 3], [1, 1])
    value = tf.random.stateless_normal([2, 4, 3], [1, 2])
    discount, mask = tf.fill([2, 4, 3], 0.9), tf.ones([2, 4, 3])
    found = ops.lambda_return(reward, discount, mask, value, 0.5)
    for i in range(3):
        parts = (x[..., i] for x in (reward, discount, mask, value))
        np.testing.assert_allclose(found[..., i], ops.lambda_return(*parts, 0.5), atol=1e-6)


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


@pytest.mark.parametrize(
    "call,text",
    [
        (
            lambda x: ops.legal_argmax(x([2, 3, 4]), x([2, 3, 5]) > 0),
            r"legal has shape \[2, 3, 5\] and must have \[\.\.\., A\] with axis 0 = 2, .* A = 4",
        ),
        (lambda x: ops.legal_max(x([2, 4]), x([3, 4]) > 0), r"legal has shape \[3, 4\]"),
        (
            lambda x: ops.gather_actions(x([2, 3, 4]), tf.zeros([2], tf.int32)),
            r"action has shape \[2\] and must have \[\.\.\.\]",
        ),
        (lambda x: ops.masked_mean(x([2, 3]), x([2])), r"mask has shape \[2\]"),
        (
            lambda x: ops.n_step_return(x([2, 3]), x([2, 3]), x([2, 3]), x([2, 3, 4]), 2),
            r"next_value has shape \[2, 3, 4\]",
        ),
        (
            lambda x: ops.lambda_return(*[x([2, 3])] * 4, 0.5, x([2, 1])),
            r"chosen_value has shape \[2, 1\]",
        ),
        (
            lambda x: ops.select_actions(x([3, 4]), x([3, 4]) > 0, 0.1, [0, 0]),
            r"q has shape \[3, 4\] and must have \[B, N, A\]",
        ),
    ],
)
def test_a_wrong_shape_is_an_error_when_a_function_is_traced(call, text):
    with pytest.raises(ValueError, match=text):
        tf.function(lambda: call(tf.zeros)).get_concrete_function()


def test_check_shapes_lets_unknown_sizes_pass():
    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec(None)])
    def add(x, y):
        ops.check_shapes({"A": 3}, x=(x, "B A"), y=(y, "B T A"))
        return x + y

    assert add(tf.ones([2, 3]), tf.ones([])).shape == [2, 3]
