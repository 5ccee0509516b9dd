import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.python.framework import kernels

from tests.conftest import make_batch
from tfmix.training.replay import EpisodeReplay
from tfmix.training.replay_size import episode_spec, stored_spec


def numbered(spec, first, count):
    """Episodes whose reward is their number."""
    batch = make_batch(spec, lengths=(6,) * count)
    numbers = tf.range(first, first + count, dtype=tf.float32)
    return batch._replace(reward=tf.broadcast_to(numbers[:, None], [count, 6]))


def held(replay, batch=2000):
    drawn = replay.sample(tf.constant([1, 2]), batch).reward[:, 0].numpy()
    values, counts = np.unique(drawn, return_counts=True)
    return dict(zip(values.astype(int).tolist(), (counts / batch).tolist(), strict=True))


def test_sampling_is_uniform_over_what_is_there_and_the_oldest_goes_first(spec):
    replay = EpisodeReplay(spec, n_envs=2, capacity_episodes=6)
    for first in range(0, 4, 2):
        replay.add_batch(numbered(spec, first, 2))
    assert replay.num_episodes() == 4
    shares = held(replay)
    assert sorted(shares) == [0, 1, 2, 3]
    np.testing.assert_allclose(list(shares.values()), 0.25, atol=0.04)
    for first in range(4, 10, 2):
        replay.add_batch(numbered(spec, first, 2))
    shares = held(replay)
    assert sorted(shares) == [4, 5, 6, 7, 8, 9] and replay.num_episodes() == 6
    np.testing.assert_allclose(list(shares.values()), 1 / 6, atol=0.04)


def test_an_episode_comes_back_as_it_was(spec):
    replay = EpisodeReplay(spec, n_envs=4, capacity_episodes=4)
    batch = make_batch(spec)
    replay.add_batch(batch)
    drawn = replay.sample(tf.constant([0, 0]), 50)
    for found, kind in zip(drawn, episode_spec(spec), strict=True):
        assert found.shape[1:] == kind.shape and found.dtype == kind.dtype
    for row in range(50):
        match = [i for i in range(4) if np.array_equal(drawn.obs[row], batch.obs[i])]
        assert len(match) == 1
        for found, wanted in zip(drawn, batch, strict=True):
            np.testing.assert_array_equal(found[row], wanted[match[0]])


@pytest.mark.skipif(
    not tf.sysconfig.get_build_info()["is_cuda_build"], reason="this TensorFlow knows no GPU"
)
def test_rows_are_of_types_that_a_gpu_can_write_and_read(spec):
    known = types_on_gpu("ResourceScatterUpdate") & types_on_gpu("ResourceGather")
    assert tf.float32 in known and not {tf.int32, tf.bool} & known
    for many in (5, 300, 70_000):
        wide = dataclasses.replace(spec, n_actions=many)
        for number_type in ("float32", "float16", "uint8"):
            stored = stored_spec(wide, number_type)
            assert {x.dtype for x in stored} <= known
            assert stored.action.dtype.max >= many - 1


def types_on_gpu(op):
    """Of the rows that an operation takes on a GPU, numbered by int64."""
    return {
        tf.dtypes.as_dtype(kind)
        for kernel in kernels.get_registered_kernels_for_op(op).kernel
        if kernel.device_type == "GPU" and tf.int64.as_datatype_enum in allowed(kernel, "Tindices")
        for kind in allowed(kernel, "dtype")
    }


def allowed(kernel, name):
    """The types that a kernel takes by the name of its attribute."""
    return {
        kind
        for constraint in kernel.constraint
        if constraint.name == name
        for kind in constraint.allowed_values.list.type
    }


def test_small_number_types_hold_what_they_can_and_refuse_the_rest(spec):
    small = EpisodeReplay(spec, n_envs=4, capacity_episodes=4, number_type="uint8")
    batch = make_batch(spec)
    grid = batch._replace(
        obs=tf.round(200 * tf.abs(tf.sin(batch.obs))),
        state=7.0 * batch.mask[:, :1, None] + tf.zeros_like(batch.state),
    )
    small.add_batch(grid)
    drawn = small.sample(tf.constant([0, 0]), 20)
    assert drawn.obs.dtype == tf.float32 and small.variables()[0].dtype == tf.uint8
    for row in drawn.obs.numpy():
        assert any(np.array_equal(row, wanted) for wanted in grid.obs.numpy())
    np.testing.assert_array_equal(drawn.state, np.full(drawn.state.shape, 7.0))
    for non_finite in (-1.0, 0.5, 256.0):
        with pytest.raises(tf.errors.InvalidArgumentError, match="buffer_type"):
            small.add_batch(grid._replace(state=tf.fill(grid.state.shape, non_finite)))
    half = EpisodeReplay(spec, n_envs=4, capacity_episodes=4, number_type="float16")
    half.add_batch(batch)
    found = half.sample(tf.constant([0, 0]), 1).obs.numpy()[0]
    nearest = min(np.abs(found - wanted).max() for wanted in batch.obs.numpy())
    assert 0 < nearest < 2e-3


def test_same_seed_same_draw(spec):
    replay = EpisodeReplay(spec, n_envs=4, capacity_episodes=40)
    for first in range(0, 40, 4):
        replay.add_batch(numbered(spec, first, 4))
    draw = [replay.sample(tf.constant([s, 0]), 16).reward[:, 0].numpy() for s in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # `spec` never changes
)
@given(
    n_envs=st.integers(1, 4),
    capacity=st.integers(1, 13),
    # Adds before each clearing.
    adds=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    seed=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
)
def test_the_replay_is_like_a_list(spec, n_envs, capacity, adds, seed):
    replay = EpisodeReplay(spec, n_envs, capacity)
    length = -(-capacity // n_envs)
    batch = make_batch(spec, lengths=(6,) * n_envs)
    held, number = [], 0
    for count in adds:
        replay.clear()
        held.clear()
        assert replay.num_episodes() == 0
        for _ in range(count):
            added = list(range(number, number + n_envs))
            rewards = np.repeat(np.float32(added)[:, None], 6, 1)
            replay.add_batch(batch._replace(reward=rewards))
            held, number = (held + added)[-length * n_envs :], number + n_envs
    assert replay.num_episodes() == len(held)
    order = replay.rows_in_order()
    np.testing.assert_array_equal(replay.read(order).reward[:, 0], held)
    if not held:
        return
    np.testing.assert_array_equal(replay.newest().reward[:, 0], held[-n_envs:])
    assert (replay.numbers(order)[-n_envs:] == replay.variables()[-1]).numpy().all()
    # The seed draws among the filled rows; their order is part of every run's results.
    filled = len(held) // n_envs
    draw = tf.random.stateless_uniform([7], seed, 0, len(held), tf.int64).numpy()
    rows = draw // filled * length + draw % filled
    assert set(rows) <= set(order.numpy())
    np.testing.assert_array_equal(replay.draw_rows(seed, 7), rows)
    np.testing.assert_array_equal(
        replay.sample(seed, 7).reward, replay.read(tf.constant(rows)).reward
    )


def test_a_compiled_add_is_traced_once(spec):
    replay, traces = EpisodeReplay(spec, n_envs=2, capacity_episodes=6), []

    @tf.function(autograph=False)
    def add_and_sample(episode, seed):
        traces.append(seed)
        replay.add_batch(episode)
        return replay.sample(seed, 3).reward

    for number in range(5):
        drawn = add_and_sample(numbered(spec, 2 * number, 2), tf.constant([number, 0]))
        assert 0 <= np.min(drawn) <= np.max(drawn) < 2 * number + 2  # what was just added counts
    assert len(traces) == 1


def test_episodes_of_another_shape_are_refused(spec):
    replay = EpisodeReplay(spec, n_envs=2, capacity_episodes=6)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="shape"):
        replay.add_batch(numbered(spec, 0, 3))
    assert replay.num_episodes() == 0


def test_the_capacity_is_rounded_up_to_whole_rounds(spec):
    replay = EpisodeReplay(spec, n_envs=4, capacity_episodes=5)
    for first in range(0, 12, 4):
        replay.add_batch(numbered(spec, first, 4))
    assert replay.num_episodes() == 8
