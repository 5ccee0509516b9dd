"""The hunting games; boards are drawn with digits for agents, letters for prey."""

import numpy as np
import pytest
import tensorflow as tf

from tfmix import envs
from tfmix.config.schema import Config
from tfmix.envs.graph.predator_prey import Chase
from tfmix.envs.graph.stag_hunt import Hunt
from tfmix.errors import UserError
from tfmix.training.collect_graph import GraphCollector

SEED = tf.constant([3, 5])
RIGHT, DOWN, LEFT, UP, STAY, CATCH = range(6)
STEP_OF = {RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1), UP: (-1, 0)}


def make(name, *arguments, **settings):
    return envs.make_graph(name, Config(env=name, env_arg=arguments, **settings))


def hunt(drawing, batch=1, gone="", **arguments):
    """A stag hunt and its state as drawn, `batch` times; who is in `gone` has left."""
    rows = drawing.split()
    found = {c: (i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c != "."}
    names = sorted({*found, *gone})
    agents, stags = [c for c in names if c.isdigit()], [c for c in names if c.isalpha()]
    arguments = {
        "size": len(rows),
        "n_agents": len(agents),
        "n_stags": len(stags),
        **arguments,
    }
    env = make("predator_prey/stag_hunt", *(f"{k}={v}" for k, v in arguments.items()))
    cell = {
        c: env.cells[found[c][0] * len(rows) + found[c][1]] if c in found else env.gone
        for c in names
    }
    clock = penalties = tf.zeros([batch], tf.int32)
    bodies = (tf.constant([[cell[c] for c in x]] * batch) for x in (agents, stags))
    return env, Hunt(*bodies, clock, penalties)


def chase(drawing, batch=1, **arguments):
    """A modified predator-prey and its state as drawn, `batch` times."""
    rows = drawing.split()
    found = {c: (i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c != "."}
    names = sorted(found)  # digits before letters
    arguments = {
        "size": len(rows),
        "n_predators": sum(map(str.isdigit, names)),
        "n_prey": sum(map(str.isalpha, names)),
        **arguments,
    }
    env = make("predator_prey/qtran", *(f"{k}={v}" for k, v in arguments.items()))
    bodies = [env.cells[found[c][0] * len(rows) + found[c][1]] for c in names]
    return env, Chase(tf.constant([bodies] * batch), tf.zeros([batch], tf.int32))


def places(env, bodies):
    """Cells as (row, column), (-1, -1) for who has left, [..., 2]."""
    size = round(len(env.cells) ** 0.5)
    table = np.full([(size + 4) ** 2 + 1, 2], -1)
    table[env.cells] = np.stack(np.divmod(np.arange(size * size), size), -1)
    return table[np.asarray(bodies)]


def act(env, state, *actions, seed=SEED):
    return env.step(state, tf.constant([actions] * state.clock.shape[0]), seed)


@pytest.mark.parametrize("action", range(6))
def test_an_agent_moves_one_cell_and_not_by_staying_or_catching(action):
    env, state = hunt("....1 .0... ..... ....a .....", punishment=0)
    after, _ = act(env, state, action, STAY)
    down, right = STEP_OF.get(action, (0, 0))
    np.testing.assert_array_equal(places(env, after.agents[0]), [[1 + down, 1 + right], [0, 4]])


def test_walls_agents_and_stags_block_a_move():
    # 0 faces the wall, 1 agent 2 who stays, 3 a stag.
    env, state = hunt("0... .12. .3a. ....", batch=32)
    after, _ = act(env, state, LEFT, RIGHT, STAY, RIGHT)
    assert np.all(after.agents == state.agents)
    after, _ = act(env, state, UP, RIGHT, STAY, RIGHT)
    assert np.all(after.agents == state.agents)


def test_agents_move_one_after_the_other_in_a_random_order():
    # Both want the cell between them: one gets it, each as often.
    env, state = hunt("0.1. .... .... ...a", batch=2000)
    after, _ = act(env, state, RIGHT, LEFT)
    columns = places(env, after.agents)[..., 1]
    first = columns[:, 0] == 1
    assert np.all(first ^ (columns[:, 1] == 1))
    assert abs(first.mean() - 0.5) < 0.05
    # 0 follows 1, which works where 1 goes first; so does a column of three
    # with one chance in six.
    env, state = hunt("012. .... .... ...a", batch=3000)
    after, _ = act(env, state, RIGHT, RIGHT, RIGHT)
    moved = places(env, after.agents)[..., 1] == [1, 2, 3]
    assert np.all(moved[:, 2]) and np.all(moved[:, 1] | ~moved[:, 0])
    np.testing.assert_allclose(moved.mean(0), [1 / 6, 1 / 2, 1], atol=0.04)


def test_legal_moves_stay_on_the_grid_and_a_catch_needs_a_stag_beside():
    env, state = hunt("0.... ..1.. ..a.. ..... 2...3", gone="4")
    after, seen = act(env, state, *[STAY] * 5)
    # Whoever is beside the stag where it went may catch.
    beside = np.abs(places(env, after.agents) - places(env, after.stags)).sum(-1) == 1
    wanted = [
        [1, 1, 0, 0, 1, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(seen.legal[0, :, :5], np.asarray(wanted)[:, :5])
    np.testing.assert_array_equal(seen.legal[0, :, CATCH], beside[0])
    env, state = hunt("0a2 1.. ...")
    legal = env._make_step(state, tf.zeros([1])).legal
    # Cells taken by others are legal to walk to; 1 is diagonal to the stag.
    np.testing.assert_array_equal(
        legal[0], [[1, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 1]]
    )


def test_two_that_catch_one_stag_are_paid_and_leave_with_it():
    env, state = hunt("0a1.. ..... ..2b. ..... .....", batch=64)
    after, seen = act(env, state, CATCH, CATCH, STAY)
    assert np.all(seen.reward == 10)
    np.testing.assert_array_equal(after.agents[:, :2], env.gone)
    np.testing.assert_array_equal(after.stags[:, 0], env.gone)
    assert np.all(after.agents[:, 2] == state.agents[:, 2]) and np.all(after.stags[:, 1] < env.gone)
    assert not np.any(seen.terminated)
    # Who has left sees nothing, may only stay, and is on no map.
    assert not np.any(seen.obs[:, :2]) and np.all(tf.reduce_any(seen.obs[:, 2] > 0, -1))
    np.testing.assert_array_equal(seen.legal[0, :2], [[0, 0, 0, 0, 1, 0]] * 2)
    assert np.all(tf.reduce_sum(seen.state, -1) == 2)
    # What one who has left is told to do makes no difference.
    for action in range(6):
        later, seen = act(env, after, action, action, STAY)
        assert np.all(later.agents[:, :2] == env.gone) and np.all(seen.reward == 0)


def test_all_who_catch_a_stag_leave_and_who_stands_by_does_not():
    env, state = hunt(".0... 1a2.. .3... ..... ....b")
    after, seen = act(env, state, CATCH, CATCH, CATCH, STAY)
    assert seen.reward[0] == 10
    np.testing.assert_array_equal(after.agents[0, :3], env.gone)
    assert after.agents[0, 3] == state.agents[0, 3]


def test_a_lone_catch_is_punished_once_for_each_stag():
    env, state = hunt(".a... .0b.. ..... ..... ....1", punishment=-1.5, batch=64)
    after, seen = act(env, state, CATCH, STAY)
    assert np.all(seen.reward == -3)
    assert np.all(after.agents == state.agents) and np.all(after.stags < env.gone)
    # Not once for each agent, and not for a catch beside nothing.
    env, state = hunt("a0... 1..2. ..... ..... ....b", gone="3")
    assert act(env, state, STAY, CATCH, CATCH, CATCH)[1].reward[0] == -2


def test_stags_take_their_turns_in_a_random_order():
    # a is caught by 0 and 1, of whom 1 alone is beside b: b's turn costs 2
    # where it comes before a's, and nothing where 1 has left already.
    env, state = hunt("0a1b. ..... ..... ..... .....", batch=2000)
    _, seen = act(env, state, CATCH, CATCH)
    assert set(seen.reward.numpy()) == {8.0, 10.0}
    assert abs(np.mean(seen.reward == 10) - 0.5) < 0.05


def test_a_stag_goes_to_any_free_cell_beside_it_and_rests_only_if_there_is_none():
    env, state = hunt("..... ..0.. ..a.. ..... ....1", batch=6000)
    after, _ = act(env, state, STAY, STAY)
    ends, counts = np.unique(places(env, after.stags[:, 0]), axis=0, return_counts=True)
    np.testing.assert_array_equal(ends, [[2, 1], [2, 3], [3, 2]])
    np.testing.assert_allclose(counts / 6000, 1 / 3, atol=0.03)
    env, state = hunt("a0. 1.. ...", batch=64)
    after, _ = act(env, state, STAY, STAY)
    assert np.all(after.stags == state.stags)
    # b stands in a's only way out, and clears it where its turn comes first.
    env, state = hunt("ab. 0.. ..1", batch=2000)
    after, _ = act(env, state, STAY, STAY)
    assert abs(np.mean(after.stags[:, 0] != state.stags[:, 0]) - 0.5) < 0.05


def test_agents_move_before_stags():
    # The stag's only free cell is taken by the agent first, whatever the seed.
    env, state = hunt("a.1 0.. ...", batch=200)
    after, _ = act(env, state, STAY, LEFT)
    np.testing.assert_array_equal(places(env, after.agents[:, 1]), [[0, 1]] * 200)
    assert np.all(after.stags == state.stags)


def test_observation_is_the_window_around_oneself_and_state_the_whole_grid():
    env, state = hunt("0a.... b..1.. ...... ..2..c ...... .....3", gone="d4")
    seen = env._make_step(state, tf.zeros([1]))
    windows = np.zeros([5, 5, 5, 3])
    for agent, row, column, kind in [
        (0, 2, 2, 0), (0, 2, 3, 1), (0, 3, 2, 1),  # the corner: outside are zeros; 1 is too far
        (1, 2, 2, 0), (1, 1, 0, 1), (1, 4, 1, 0), (1, 4, 4, 1),
        (2, 2, 2, 0), (2, 0, 0, 1), (2, 0, 3, 0),
        (3, 2, 2, 0), (3, 0, 2, 1),
    ]:  # fmt: skip
        windows[agent, row, column, kind] = 1
    np.testing.assert_array_equal(seen.obs[0], windows.reshape(5, 75))
    grid = np.zeros([6, 6, 3])
    grid[[0, 1, 3, 5], [0, 3, 2, 5], 0] = 1
    grid[[0, 1, 3], [1, 0, 5], 1] = 1
    np.testing.assert_array_equal(seen.state[0], grid.ravel())


def test_the_hunt_ends_with_the_stags_or_the_agents_and_is_cut_by_the_clock():
    env, state = hunt("0a1 ... ..2", max_cycles=1)
    _, seen = act(env, state, CATCH, CATCH, STAY)  # the last stag, as the clock strikes
    assert seen.terminated[0] and not seen.truncated[0] and seen.reward[0] == 10
    env, state = hunt("0a1 ... ..b")
    _, seen = act(env, state, CATCH, CATCH)  # the last agents
    assert seen.terminated[0] and not seen.truncated[0]
    env, state = hunt("0.1 ... ..b", max_cycles=2)
    after, seen = act(env, state, STAY, STAY)
    assert not seen.terminated[0] and not seen.truncated[0]
    _, seen = act(env, after, STAY, STAY)
    assert seen.truncated[0] and not seen.terminated[0]


def test_the_pair_hunt_is_a_stag_hunt_of_two():
    env = make("predator_prey/pair_hunt")
    assert (env.spec.n_agents, env.n_stags, env.spec.episode_limit) == (2, 1, 40)
    assert env.punishment == -4 and env.spec.state_size == 3 * 5 * 5
    assert make("predator_prey/pair_hunt", "punishment=-1", "size=6").punishment == -1


def test_a_hunt_starts_anywhere_with_everybody_in_a_cell_of_their_own():
    env = make("predator_prey/stag_hunt")
    state, seen = env.reset(SEED, 3000)
    everybody = np.concatenate([state.agents, state.stags], 1)
    assert np.all(np.diff(np.sort(everybody, 1), axis=1) > 0)
    assert seen.state.shape == [3000, 300] and seen.obs.shape == [3000, 8, 75]
    share = np.reshape(np.mean(seen.state, 0), [100, 3])
    np.testing.assert_allclose(share[:, :2], 0.08, atol=0.025)  # 5 standard errors
    assert not share[:, 2].any() and not np.any(seen.reward) and not np.any(seen.terminated)


def random_team(obs, legal, policy_state, epsilon, seed):
    draw = tf.random.stateless_uniform(legal.shape, seed)
    return tf.argmax(tf.where(legal, draw, -1.0), -1, tf.int32), None, policy_state


def test_a_random_team_hunts_as_in_the_papers_code_and_nobody_shares_a_cell():
    collector = GraphCollector(make("predator_prey/stag_hunt"), random_team, 1, False)
    played = collector.collect(SEED, tf.constant(0, tf.int64), tf.constant(1.0), 256)
    grid = played.state.numpy().reshape(256, 201, 100, 3)
    assert grid.sum(-1).max() == 1
    agents, stags = grid[..., 0].sum(-1), grid[..., 1].sum(-1)
    caught = 8 - stags[:, -1]
    assert caught.max() > 1 and np.all(agents[:, 0] == 8) and np.all(stags[:, 0] == 8)
    assert np.all(np.diff(agents) <= 0) and np.all(8 - agents[:, -1] >= 2 * caught)
    alive = (played.obs.numpy() > 0).any(-1).sum(-1)
    np.testing.assert_array_equal(alive, agents)
    reward = played.reward.numpy()
    fails = (10 * -np.diff(stags) - reward) / 2
    assert np.all(fails == np.round(fails)) and np.all((fails >= 0) & (fails <= 8))
    # 300 random episodes of the paper's code return -90.5 on average, standard
    # error 1.5, and last 200 steps all.
    returned = reward.sum(-1)
    assert abs(returned.mean() + 90.5) < 8 and returned.std() < 40
    assert played.mask.numpy().mean() > 0.99


def test_the_seed_decides_everything_and_rows_differ():
    env = make("predator_prey/stag_hunt")
    action = tf.random.stateless_uniform([64, 8], SEED, 0, 5, tf.int32)

    def play(seed):
        state, _ = env.reset(seed, 64)
        return env.step(state, action, seed)

    (one, seen), (same, again), (other, _) = play(SEED), play(SEED), play(SEED + 1)
    for a, b in zip([*one, *seen], [*same, *again], strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(one.agents != other.agents)
    assert len(np.unique(one.stags, axis=0)) == 64


NORTH, WEST, WAIT, EAST, SOUTH = range(5)
LEADS = {NORTH: (-1, 0), WEST: (0, -1), WAIT: (0, 0), EAST: (0, 1), SOUTH: (1, 0)}


@pytest.mark.parametrize("action", range(5))
def test_a_predator_moves_one_cell_and_walls_stop_it(action):
    env, state = chase("0.... .1... ..... ..... ....a")
    after, _ = act(env, state, WAIT, action)
    assert places(env, after.bodies[0, 1]).tolist() == [1 + LEADS[action][0], 1 + LEADS[action][1]]
    after, _ = act(env, state, action, WAIT)
    wanted = [max(0, x) for x in LEADS[action]]
    assert places(env, after.bodies[0, 0]).tolist() == wanted


@pytest.mark.parametrize(
    "actions,columns",
    [
        ((EAST, EAST, EAST), [1, 2, 3]),  # a column moves up
        ((EAST, EAST, WAIT), [0, 1, 2]),  # blocked at its head
        ((WAIT, WEST, WEST), [0, 1, 2]),
        ((EAST, WEST, EAST), [0, 1, 3]),  # nobody changes places
        ((EAST, SOUTH, WEST), [1, 1, 2]),  # the lower number gets the cell
    ],
)
def test_who_stands_in_the_way_moves_first(actions, columns):
    env, state = chase("012.. ..... ..... ..... ....a")
    after, _ = act(env, state, *actions)
    assert places(env, after.bodies[0, :3])[:, 1].tolist() == columns


def test_a_ring_does_not_turn_and_a_later_number_waits_for_no_one():
    env, state = chase("01... 32... ..... ..... ....a")
    after, _ = act(env, state, EAST, SOUTH, WEST, NORTH)
    np.testing.assert_array_equal(after.bodies[:, :4], state.bodies[:, :4])
    # 1 leaves before 2 looks at its cell; 0 looked before.
    env, state = chase("..... 0.12. ..... ..... ....a")
    after, _ = act(env, state, EAST, WEST, WEST)
    assert places(env, after.bodies[0, :3])[:, 1].tolist() == [1, 2, 3]
    after, _ = act(env, state, WAIT, WEST, WEST)
    assert places(env, after.bodies[0, :3])[:, 1].tolist() == [0, 1, 2]


def test_prey_take_each_of_five_moves_alike_and_wait_at_walls():
    env, state = chase("0.... ..... ..a.. ..... ....1", batch=5000, n_predators=2)
    after, seen = act(env, state, WAIT, WAIT)
    ends, counts = np.unique(places(env, after.bodies[:, 2]), axis=0, return_counts=True)
    assert ends.tolist() == [[1, 2], [2, 1], [2, 2], [2, 3], [3, 2]]
    np.testing.assert_allclose(counts / 5000, 0.2, atol=0.03)
    assert not np.any(seen.reward)
    env, state = chase("a.... ..... ..... ..... 0...1", batch=5000)
    after, _ = act(env, state, WAIT, WAIT)
    assert abs(np.mean(after.bodies[:, 2] == state.bodies[:, 2]) - 0.6) < 0.04


def test_two_predators_beside_a_prey_are_paid_and_it_appears_elsewhere():
    # The prey cannot move: its four neighbours are taken.
    env, state = chase(".0... 1a2.. .3... ..... .....", batch=4000)
    after, seen = act(env, state, *[WAIT] * 4)
    assert np.all(seen.reward == 1) and not np.any(seen.terminated) and not np.any(seen.truncated)
    np.testing.assert_array_equal(after.bodies[:, :4], state.bodies[:, :4])
    cells, counts = np.unique(after.bodies[:, 4], return_counts=True)
    assert set(cells) == set(env.cells) - set(state.bodies[0].numpy())
    np.testing.assert_allclose(counts / 4000, 1 / 20, atol=0.02)


def test_one_predator_beside_a_prey_costs_the_penalty():
    # The prey goes east, beside nobody, south, beside 1, or stays, beside 0.
    env, state = chase("0a. ... .1.", batch=3000, penalty=0.75)
    after, seen = act(env, state, WAIT, WAIT)
    prey = [tuple(x) for x in places(env, after.bodies[:, 2])]
    wanted = {(0, 1): -0.75, (1, 1): -0.75, (0, 2): 0.0}
    assert set(prey) == set(wanted)
    np.testing.assert_array_equal(seen.reward, [wanted[x] for x in prey])


def test_every_prey_counts_and_the_caught_appear_one_after_the_other():
    # a and b are caught and c is threatened, unless b goes to the free cell.
    env, state = chase("a01 2b3 4.c", batch=2000, penalty=0.5)
    after, seen = act(env, state, *[WAIT] * 5)
    both = seen.reward.numpy() == 1.5
    assert np.all(seen.reward.numpy()[~both] == 1 - 0.5 - 0.5) and abs(both.mean() - 0.8) < 0.05
    # a takes the only free cell and b the one that a has left.
    prey = places(env, after.bodies[:, 5:])
    assert np.all(prey[both, 1] == 0)
    assert set(map(tuple, prey[both, 0])) == {(2, 1), (2, 2)}  # the latter where c went west
    assert np.all(np.diff(np.sort(after.bodies, 1), axis=1) > 0)


@pytest.mark.parametrize("rule,reward", [("sum", 1), ("mean", 0.25), ("one", 0.25)])
def test_predators_share_their_pay(rule, reward):
    _, state = chase(".0... 1a2.. .3... ..... .....")
    env = make("predator_prey/qtran", "n_predators=4", team_reward=rule)
    assert act(env, state, *[WAIT] * 4)[1].reward[0] == reward
    assert env.spec.team_reward == rule


def test_what_predators_see_is_the_code_of_all_positions():
    env, state = chase("0...a ..... ..... .1... .....")
    seen = env._make_step(state, tf.zeros([1]))
    first, second, prey = np.asarray([[-0.5, -0.5], [0.1, -0.3], [-0.5, 0.3]])
    np.testing.assert_allclose(seen.state[0], [*first, *second, *prey], atol=1e-6)
    zero = [0, 0]
    wanted = [
        [*zero, *(second - first), *(prey - first), 0.0, *first],
        [*(first - second), *zero, *(prey - second), 0.5, *second],
    ]
    np.testing.assert_allclose(seen.obs[0], wanted, atol=1e-6)
    assert np.all(seen.legal)


@pytest.mark.parametrize(
    "arguments,published,spread",
    [((), -36.1, 12), (("size=7", "n_predators=4", "n_prey=2", "penalty=0.5"), -20.7, 6.1)],
)
def test_a_random_team_chases_as_in_the_papers_code_until_the_clock_stops(
    arguments, published, spread
):
    env = make("predator_prey/qtran", *arguments)
    collector = GraphCollector(env, random_team, 1, False)
    played = collector.collect(SEED, tf.constant(0, tf.int64), tf.constant(1.0), 300)
    assert np.all(played.mask == 1) and not np.any(played.terminated)
    assert played.mask.shape == [300, 100]
    bodies = played.state.numpy().reshape(300, 101, -1, 2)
    apart = np.abs(bodies[:, :, :, None] - bodies[:, :, None]).sum(-1)
    assert apart[..., ~np.eye(apart.shape[-1], dtype=bool)].min() > 0.1  # nobody shares a cell
    assert np.abs(bodies).max() == 0.5
    # The mean over 300 episodes of the authors' code; five standard errors of both.
    returned = played.reward.numpy().sum(-1)
    assert abs(returned.mean() - published) < 5 * spread * (2 / 300) ** 0.5
    assert abs(returned.std() - spread) < 0.2 * spread


@pytest.mark.parametrize(
    "name,argument,word",
    [
        ("stag_hunt", "n_agents=1", "whole number from 2"),
        ("stag_hunt", "n_stags=0", "whole number from 1"),
        ("stag_hunt", "size=1", "whole number from 2"),
        ("stag_hunt", "size=3", "do not fit into 3x3"),
        ("stag_hunt", "max_cycles=2.5", "whole number from 1"),
        ("stag_hunt", 'punishment="much"', r"between -1e\+09 and 0"),
        ("stag_hunt", "punishment=NaN", r"between -1e\+09 and 0"),
        ("stag_hunt", "punishment=2", r"between -1e\+09 and 0"),
        ("stag_hunt", "penalty=2", "no argument"),
        ("qtran", "n_predators=1", "whole number from 2"),
        ("qtran", "n_prey=true", "whole number from 1"),
        ("qtran", "size=1.0", "whole number from 2"),
        ("qtran", "max_cycles=0", "whole number from 1"),
        ("qtran", "n_prey=23", "no free cell of 5x5"),
        ("qtran", "penalty=-2", "between 0 and"),
    ],
)
def test_unusable_arguments_are_refused_in_one_line(name, argument, word):
    with pytest.raises(UserError, match=word):
        make(f"predator_prey/{name}", argument)
