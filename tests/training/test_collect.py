import numpy as np
import pytest
import tensorflow as tf

from tfmix import envs
from tfmix.config.schema import Config
from tfmix.envs.python.workers.stepper import InProcess
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.collect_python import PythonCollector
from tfmix.training.playing import returns
from tfmix.types import EnvSpec, Step

RUN = tf.constant([3, 1])


def first_legal(obs, legal, policy_state, epsilon, seed):
    """Acts with the lowest legal action; counts the steps in its carry."""
    return tf.argmax(legal, -1, tf.int32), None, policy_state + 1.0


class FirstLegalInNumpy:
    policy_state_size = 2

    def act(self, obs, legal, policy_state, explore_mask, exploration_scores):
        return legal.argmax(-1), policy_state + 1.0


class Countdown:
    """Row i of a batch ends after i + 1 steps; NaN comes behind the end."""

    spec = EnvSpec("countdown", 2, 3, 1, 1, 5, (3, 3))

    def _seen(self, clock, length):
        over = clock >= length
        past = tf.where(clock > length, tf.constant(np.nan), 0.0)
        time = tf.cast(clock, tf.float32) + past
        return Step(
            obs=tf.broadcast_to(time[:, None, None], [clock.shape[0], 2, 1]),
            state=time[:, None],
            legal=tf.broadcast_to(tf.constant([False, True, True]), [clock.shape[0], 2, 3]),
            reward=tf.where(clock > 0, 1.0, 0.0) + past,
            terminated=over & (length % 2 == 0),
            truncated=over & (length % 2 == 1),
        )

    def reset(self, seed, batch):
        clock, length = tf.zeros([batch], tf.int32), tf.range(1, batch + 1)
        return (clock, length), self._seen(clock, length)

    def step(self, state, action, seed):
        clock, length = state[0] + 1, state[1]
        return (clock, length), self._seen(clock, length)


class PythonCountdown:
    """One row of `Countdown`, outside of the graph."""

    spec = Countdown.spec

    def __init__(self, length):
        self.length, self.clock, self.seeds = length, 0, []

    def _look(self):
        legal = np.broadcast_to([False, True, True], [2, 3])
        return np.full([2, 1], self.clock), np.full([1], self.clock), legal

    def reset(self, seed):
        self.clock = 0
        self.seeds.append(seed)
        return self._look()

    def step(self, action):
        assert self.clock < self.length, "stepped behind the end"
        self.clock += 1
        over, even = self.clock >= self.length, self.length % 2 == 0
        return (*self._look(), 1.0, over and even, over and not even, {})

    def close(self):
        pass


def collectors(cut_is_terminal):
    python = [PythonCountdown(i + 1) for i in range(4)]
    return [
        GraphCollector(Countdown(), first_legal, 2, cut_is_terminal),
        PythonCollector(InProcess(python, cut_is_terminal), FirstLegalInNumpy),
    ]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("cut_is_terminal", [False, True])
def test_episodes_of_any_length_are_padded_and_keep_their_last_observation(kind, cut_is_terminal):
    collector = collectors(cut_is_terminal)[kind]
    played = collector.collect(RUN, tf.constant(0, tf.int64), 0.0, 4)
    lengths = np.asarray([1, 2, 3, 4])
    np.testing.assert_array_equal(played.mask, np.arange(5) < lengths[:, None])
    np.testing.assert_array_equal(returns(played), lengths)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(
            np.asarray(played.obs)[row, : length + 1, 0, 0], range(length + 1)
        )
        np.testing.assert_array_equal(np.asarray(played.action)[row, :length], 1)
        ends = np.asarray(played.terminated)[row]
        assert ends[length - 1] == float(cut_is_terminal or length % 2 == 0)
        assert ends.sum() == ends[length - 1]


def test_python_environments_get_seeds_of_the_run_and_the_episodes_number():
    seeds = []
    for _ in range(2):
        environments = [PythonCountdown(2) for _ in range(2)]
        collector = PythonCollector(InProcess(environments, False), FirstLegalInNumpy)
        collector.collect(RUN, tf.constant(10, tf.int64), 0.0, 5)  # three turns of two
        seeds.append([e.seeds for e in environments])
    assert seeds[0] == seeds[1]
    assert len({s for env in seeds[0] for s in env}) == 5
    other = PythonCountdown(2)
    PythonCollector(InProcess([other], False), FirstLegalInNumpy).collect(
        tf.constant([4, 1]), tf.constant(10, tf.int64), 0.0, 1
    )
    assert other.seeds[0] != seeds[0][0][0]


def random_legal(obs, legal, policy_state, epsilon, seed):
    from tfmix import ops

    return ops.select_actions(tf.zeros(legal.shape), legal, 1.0, seed), None, policy_state


def test_graph_episodes_depend_on_seed_and_number_and_on_nothing_else():
    env = envs.make_graph("mpe/simple_spread", Config())
    collector = GraphCollector(env, random_legal, 1, True)

    def play(seed, number):
        return collector.collect(tf.constant(seed), tf.constant(number, tf.int64), 1.0, 4)

    first = play([3, 1], 8)
    for a, b in zip(first, play([3, 1], 8), strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (play([3, 1], 9), play([4, 1], 8), play([3, 2], 8)):
        assert not np.array_equal(first.obs, other.obs)
        assert not np.array_equal(first.action, other.action)
    assert len(np.unique(first.obs[:, 0, 0, 2])) == 4  # every row starts elsewhere
    assert collector.collect.experimental_get_tracing_count() == 1


def test_many_graph_episodes_are_those_of_groups_played_by_themselves():
    env = envs.make_graph("mpe/simple_spread", Config())
    collector = GraphCollector(env, random_legal, 1, True)
    first, epsilon = tf.constant(7, tf.int64), tf.constant(1.0)
    found = collector.collect(RUN, first, epsilon, 130)
    parts = [
        collector.play_group(RUN, first + at, epsilon, n).episode for at, n in ((0, 44), (44, 43))
    ]
    for name, x in found._asdict().items():
        np.testing.assert_array_equal(x[:87], np.concatenate([getattr(p, name) for p in parts]))
    assert len(np.unique(found.obs[:, 0, 0, 2])) == len(found.mask) == 130


def test_a_random_team_and_an_idle_one_return_the_known_values():
    """Own numbers of an independent NumPy simulation: -79.37 and -72.45 summed over agents."""
    env = envs.make_graph("mpe/simple_spread", Config())
    for act, wanted in ((random_legal, -79.37), (first_legal, -72.45)):
        collector = GraphCollector(env, act, 1, True)
        found = returns(collector.collect(RUN, tf.constant(0, tf.int64), 1.0, 4000)).numpy()
        assert abs(found.mean() - wanted) < 3 * found.std() / np.sqrt(4000) + 0.2
