"""Games with a payoff, against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tests.envs.test_envs import make
from tfmix.config import resolve
from tfmix.errors import UserError

SEED = tf.constant([0, 1])
PENALTIES = [f"matrix/penalty_{k}" for k in (0, 25, 50, 75, 100)]


def total(env, *action, steps):
    """The return of the same joint action throughout an episode of so many steps."""
    state, seen = env.reset(SEED, 1)
    reward = 0.0
    for t in range(1, steps + 1):
        assert not seen.terminated[0] and not seen.truncated[0]
        state, seen = env.step(state, tf.constant([action]), SEED)
        reward += float(seen.reward[0])
        over = bool(seen.terminated[0]) or bool(seen.truncated[0])
        assert over == (t == steps)
    return reward


def test_two_step_pays_what_the_paper_says():
    env = make("two_step")
    for first in range(2):
        for a in range(2):
            for b in range(2):
                state, seen = env.reset(SEED, 1)
                np.testing.assert_array_equal(seen.state, [[1, 0, 0]])
                state, seen = env.step(state, tf.constant([[first, b]]), SEED)
                assert seen.reward[0] == 0 and not seen.terminated[0]
                np.testing.assert_array_equal(seen.obs[0], [[0, 1 - first, first]] * 2)
                _, seen = env.step(state, tf.constant([[a, b]]), SEED)
                assert seen.terminated[0] and not seen.truncated[0]
                assert seen.reward[0] == ([[0, 1], [1, 8]][a][b] if first else 7)


def test_matrix_game_pays_its_table_and_ends():
    env = make("matrix/qtran")
    action = tf.constant([[0, 0], [0, 1], [2, 0], [1, 2]])
    state, _ = env.reset(SEED, 4)
    _, seen = env.step(state, action, SEED)
    np.testing.assert_array_equal(seen.reward, [8, -12, -12, 0])
    np.testing.assert_array_equal(seen.obs, np.ones([4, 2, 1]))
    assert np.all(seen.terminated) and not np.any(seen.truncated)


def test_the_small_games_are_those_of_their_papers():
    np.testing.assert_array_equal(make("matrix/wqmix_1").table, np.eye(2))
    hard = make("matrix/qplex_hard").table
    np.testing.assert_array_equal(np.diag(hard), [8, 6, 6])
    np.testing.assert_array_equal(hard[0, 1:], [-12, -12])
    assert hard[1, 2] == 0
    np.testing.assert_array_equal(hard, hard.T)


def test_climbing_pays_275_at_best_and_175_and_125_on_the_way_up():
    env = make("matrix/climbing")
    assert total(env, 0, 0, steps=25) == 275 == 25 * env.table.max()
    assert total(env, 1, 1, steps=25) == 175
    assert total(env, 2, 2, steps=25) == 125
    # Who climbs alone falls, but the second agent may step up from the bottom.
    assert (env.table[0, 1], env.table[1, 0]) == (-30, -30)
    assert (env.table[2, 1], env.table[1, 2]) == (6, 0)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_pays_250_at_best_50_in_safety_and_its_number_for_a_miss(name):
    env, penalty = make(name), int(name.rpartition("_")[2])
    assert total(env, 0, 2, steps=25) == total(env, 2, 0, steps=25) == 250
    assert env.table.max() == 10
    assert total(env, 1, 1, steps=25) == 50
    assert total(env, 0, 0, steps=25) == total(env, 2, 2, steps=25) == -25 * penalty
    assert total(env, 0, 1, steps=25) == 0


def test_repeated_games_show_zeros_and_are_cut_by_the_clock():
    env = make("matrix/climbing")
    state, first = env.reset(SEED, 2)
    for _ in range(25):
        state, seen = env.step(state, tf.zeros([2, 2], tf.int32), SEED)
    assert np.all(seen.truncated) and not np.any(seen.terminated)
    np.testing.assert_array_equal(seen.obs, np.zeros([2, 2, 2]))
    np.testing.assert_array_equal(first.state, np.zeros([2, 2]))


def test_a_game_is_played_as_often_as_asked():
    assert total(make("matrix/custom", "payoff=[[1,2],[3,4]]", "max_cycles=3"), 1, 0, steps=3) == 9
    assert total(make("matrix/qtran", "max_cycles=2"), 0, 0, steps=2) == 16
    once = make("matrix/penalty_25", "max_cycles=1")
    state, _ = once.reset(SEED, 1)
    _, seen = once.step(state, tf.constant([[0, 0]]), SEED)
    assert seen.reward[0] == -25 and seen.terminated[0] and not seen.truncated[0]


def test_the_21_by_21_game_has_a_narrow_peak_of_10_and_a_broad_one_of_5():
    table = make("matrix/qtran_21x21").table
    assert table.shape == (21, 21)
    assert np.unravel_index(table.argmax(), table.shape) == (5, 15) and table[5, 15] == 10
    assert table[15, 5] == 5
    assert table[6, 15] == table[5, 14] == 9 and table[7, 17] == 2  # one and two steps away
    np.testing.assert_allclose(table[16, 5], 5 - 1 / 9, rtol=1e-6)
    # Where both are low the broad one counts.
    np.testing.assert_allclose(table[0, 0], 5 - 25 - 25 / 9, rtol=1e-6)
    assert (table[:11, 10:] > 0).sum() == 29 < (table[10:, :11] > 0).sum() / 4


def test_any_payoff_for_any_number_of_agents_with_unequal_actions():
    table = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    env = make("matrix/custom", f"payoff={table.tolist()}")
    assert env.spec.agent_n_actions == (2, 3, 2) and env.spec.n_actions == 3
    state, seen = env.reset(SEED, 1)
    np.testing.assert_array_equal(seen.legal[0], [[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    _, seen = env.step(state, tf.constant([[1, 2, 0]]), SEED)
    assert seen.reward[0] == table[1, 2, 0]


@pytest.mark.parametrize(
    "payoff,word",
    [
        ("[[1,2],[3]]", "full array"),
        ("[1,2]", "two or more agents"),
        ('[[1,"x"],[2,3]]', "full array"),
        ("[[],[]]", "two or more agents"),
        ("[[1,NaN],[2,3]]", "not finite"),
        ("[[1e39,0],[2,3]]", "not finite"),
    ],
)
def test_a_payoff_that_is_no_full_array_is_refused(payoff, word):
    with pytest.raises(UserError, match=word):
        make("matrix/custom", f"payoff={payoff}")


@pytest.mark.parametrize(
    "name,arguments,word",
    [
        ("matrix/custom", (), "needs --env_arg=payoff"),
        ("matrix/custom", ("payoff=[[1,2],[3,4]]", "max_cycles=0"), "whole number from 1"),
        ("matrix/climbing", ("max_cycles=often",), "whole number from 1"),
        ("matrix/climbing", ("payoff=[[1,2],[3,4]]",), "has no argument 'payoff'"),
        ("matrix/qtran_21x21", ("n=3",), "takes none"),
        ("two_step", ("n=3",), "takes none"),
        ("gaussian_squeeze/k1", ("n=0",), "whole number from 1"),
        ("gaussian_squeeze/k2", ("n=ten",), "whole number from 1"),
        ("gaussian_squeeze/k2", ("peaks=[]",), "it takes n"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, word):
    with pytest.raises(UserError, match=word):
        make(name, *arguments)


@pytest.mark.parametrize("name", ["matrix/climbing", *PENALTIES])
@pytest.mark.parametrize("algo", ["iql", "vdn", "qmix", "qplex"])
def test_repeated_games_are_not_trained_with_the_settings_of_one_step_games(name, algo):
    found = resolve.resolve({"env": name, "algo": algo})
    assert found.env_steps == 250_000 and found.epsilon_end == 0.05
    assert found.time_limit == "terminal" and found.standardise_rewards
    assert found.learning_rate_decay == "none" and found.hypernet_layers == 2
    assert found.learning_rate == (1e-4 if algo == "vdn" else 3e-4)
    assert found.duplex_alpha == 1


# The Gaussian squeeze.


def amounts(name, amount):
    """The reward where every action is 8 and every s such that they make `amount` [B]."""
    env = make(name, "n=4")
    state = tf.repeat(tf.constant(amount[:, None] / 8, tf.float32), 4, axis=1)
    _, seen = env.step(state, tf.fill([len(amount), 4], 8), SEED)
    assert np.all(seen.terminated) and not np.any(seen.truncated)
    return seen.reward.numpy()


def test_gaussian_squeeze_has_the_peaks_of_its_paper():
    x = np.linspace(0, 12, 12_001)
    for name in ("gaussian_squeeze/k1", "gaussian_squeeze/k2"):
        reward = amounts(name, x)
        np.testing.assert_allclose(reward.max(), 8.008, atol=2e-3)
        np.testing.assert_allclose(x[reward.argmax()], 8.016, atol=2e-3)
    low = x < 6.5
    assert amounts("gaussian_squeeze/k1", x)[low].max() < 0.01
    np.testing.assert_allclose(reward[low].max(), 5.049, atol=1e-3)
    np.testing.assert_allclose(x[low][reward[low].argmax()], 5.098, atol=2e-3)


def test_gaussian_squeeze_weighs_every_action_by_its_own_s():
    env = make("gaussian_squeeze/k2")
    state, seen = env.reset(SEED, 3)
    action = np.random.default_rng(0).integers(0, 11, [3, 10])
    x = (action * state.numpy()).sum(1) / 10
    wanted = x * np.exp(-((x - 5) ** 2)) + x * np.exp(-((x - 8) ** 2) / 0.25)
    _, seen_after = env.step(state, tf.constant(action, tf.int32), SEED)
    np.testing.assert_allclose(seen_after.reward, wanted, rtol=1e-4)
    for i in range(10):  # everybody sees all of the state
        np.testing.assert_array_equal(seen.obs[:, i], state)


def test_gaussian_squeeze_draws_s_between_0_and_2_for_as_many_agents_as_asked():
    assert make("gaussian_squeeze/k1").spec.n_agents == 10
    env = make("gaussian_squeeze/k1", "n=3")
    assert env.spec.agent_n_actions == (11, 11, 11)
    state = env.reset(SEED, 5000)[0].numpy()
    assert state.shape == (5000, 3)
    assert 0 <= state.min() < 0.001 and 1.999 < state.max() <= 2
    np.testing.assert_allclose(state.mean(0), 1, atol=0.04)
    assert abs(np.corrcoef(state.T)[0, 1]) < 0.06
