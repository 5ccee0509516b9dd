"""Imports tfmix before TensorFlow, as a user would; small helpers for all tests."""

import os

import tfmix  # noqa: F401  (sets what TensorFlow reads when it is imported)
from tfmix.utils.quiet import quiet_import

quiet_import("tensorflow")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfmix.config.schema import Config  # noqa: E402
from tfmix.types import EnvSpec, Episode  # noqa: E402


def pytest_configure():
    """One thread: tests run in as many processes as there are cores."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items):
    """The games first, each by itself: they are long, and of two processes none is to wait.

    Of another file all tests go to one process: tracing is one thread's work.
    """
    items.sort(key=lambda item: item.path.name != "test_learning.py")
    for item in items:
        if item.path.name != "test_learning.py":
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture
def spec():
    """A small task with unequal action sets."""
    return EnvSpec(
        name="test",
        n_agents=3,
        n_actions=4,
        obs_size=5,
        state_size=7,
        episode_limit=6,
        agent_n_actions=(4, 4, 3),
    )


@pytest.fixture
def config():
    """Settings that keep networks small."""
    return Config(hidden_size=8, mixer_embed=6, hypernet_embed=9, qtran_embed=10, gamma=0.9)


@pytest.fixture
def batch(spec):
    """Four random episodes of lengths 6, 3, 1 and 6, padding zeroed, legal actions taken."""
    return make_batch(spec)


def make_batch(spec, lengths=(6, 3, 1, 6), seed=0):
    """Random episodes; all but the last end by termination."""
    random = np.random.default_rng(seed)
    b, t, n, a = len(lengths), spec.episode_limit, spec.n_agents, spec.n_actions
    real = np.arange(t) < np.asarray(lengths)[:, None]
    seen = np.arange(t + 1) <= np.asarray(lengths)[:, None]
    own = np.arange(a) < np.asarray(spec.agent_n_actions)[:, None]
    legal = (random.random([b, t + 1, n, a]) < 0.6) & own
    legal[..., 0] = True
    action = np.argmax(np.where(legal, random.random(legal.shape), -1.0), -1)[:, :t]
    terminated = np.zeros([b, t])
    for row, length in enumerate(lengths[:-1]):
        terminated[row, length - 1] = 1.0
    return Episode(
        obs=tf.constant(
            random.normal(size=[b, t + 1, n, spec.obs_size]) * seen[..., None, None], tf.float32
        ),
        state=tf.constant(
            random.normal(size=[b, t + 1, spec.state_size]) * seen[..., None], tf.float32
        ),
        legal=tf.constant(legal & seen[..., None, None]),
        action=tf.constant(action * real[..., None], tf.int32),
        reward=tf.constant(random.normal(size=[b, t]) * real, tf.float32),
        terminated=tf.constant(terminated, tf.float32),
        mask=tf.constant(real, tf.float32),
    )
