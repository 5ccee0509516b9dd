"""The particle tasks in the graph beside PettingZoo's, whose source is their specification."""

import numpy as np
import pytest
import tensorflow as tf

from tests.envs.test_envs import make
from tfmix.errors import UserError
from tfmix.utils.quiet import quiet_import

SEED = tf.constant([0, 1])
TASKS = {
    "mpe/simple_spread": "pettingzoo.mpe.simple_spread_v3",
    "mpe/simple_speaker_listener": "pettingzoo.mpe.simple_speaker_listener_v4",
    "mpe/simple_reference": "pettingzoo.mpe.simple_reference_v3",
}


@pytest.fixture(params=TASKS, ids=lambda name: name.partition("/")[2])
def pair(request):
    """A task in the graph and its original."""
    return make(request.param), quiet_import(TASKS[request.param]).parallel_env()


def put(world, original):
    """Makes the first world of a batch the original's."""
    for i, agent in enumerate(original.agents):
        agent.state.p_pos = world.position.numpy()[0, i].astype(float)
        agent.state.p_vel = world.velocity.numpy()[0, i].astype(float)
    for i, landmark in enumerate(original.landmarks):
        landmark.state.p_pos = world.landmark.numpy()[0, i].astype(float)
    for i, goal in enumerate(world.goal.numpy()[0]):
        original.agents[i].goal_b = original.landmarks[goal]


def assert_seen_alike(seen, observations, upstream):
    obs = seen.obs.numpy()[0]
    for own, view in zip(obs, observations.values(), strict=True):
        np.testing.assert_allclose(own[: view.size], view, atol=1e-5)
        assert not own[view.size :].any()  # padding
    np.testing.assert_allclose(seen.state[0], upstream.state(), atol=1e-5)


def test_the_spec_is_pettingzoos(pair):
    env, upstream = pair
    agents = upstream.possible_agents
    sizes = [upstream.observation_space(agent).shape[0] for agent in agents]
    upstream.reset(seed=0)
    assert env.spec.n_agents == len(agents) and env.spec.obs_size == max(sizes)
    assert env.spec.agent_n_actions == tuple(upstream.action_space(a).n for a in agents)
    assert env.spec.state_size == sum(sizes) == upstream.state().size
    assert env.spec.episode_limit == upstream.unwrapped.max_cycles == 25


def test_1000_steps_equal_pettingzoos(pair):
    """From the same state with the same actions: observations, states and rewards."""
    env, upstream = pair

    @tf.function(jit_compile=True)
    def step(state, action):
        state, seen = env.step(state, action, SEED)
        return state, seen, env.agent_rewards(state)

    random = np.random.default_rng(0)
    original = upstream.unwrapped.world
    unequal = 0
    for episode in range(40):
        state, seen = env.reset(tf.constant([episode, 5]), 1)
        upstream.reset(seed=episode)
        put(state, original)
        start = {a: upstream.unwrapped.observe(a) for a in upstream.agents}
        assert_seen_alike(seen, start, upstream)
        if episode % 2:  # half of the episodes start crowded, so that agents collide
            state = state._replace(position=state.position * 0.2)
            put(state, original)
        for t in range(25):
            action = random.integers(0, env.spec.agent_n_actions)
            state, seen, own = step(state, tf.constant(action[None], tf.int32))
            obs, rewards, ends, cuts, _ = upstream.step(
                dict(zip(upstream.possible_agents, map(int, action), strict=True))
            )
            assert_seen_alike(seen, obs, upstream)
            wanted = list(rewards.values())
            np.testing.assert_allclose(own[0], wanted, atol=1e-5)
            np.testing.assert_allclose(seen.reward[0], sum(wanted), atol=1e-5)
            assert bool(seen.truncated[0]) == any(cuts.values()) == (t == 24)
            assert not seen.terminated[0] and not any(ends.values())
            unequal += wanted[0] != wanted[1]
            # What float32 loses must not grow over an episode: start from there again.
            state = state._replace(
                position=tf.constant([[a.state.p_pos for a in original.agents]], tf.float32),
                velocity=tf.constant([[a.state.p_vel for a in original.agents]], tf.float32),
            )
    assert unequal == 0 if env.SAME_REWARD else unequal > 20


def test_episodes_start_as_pettingzoos_do(pair):
    """Mean and deviation of every number that is seen, over 2,000 episodes of each."""
    env, upstream = pair
    _, seen = env.reset(SEED, 2000)
    found, wanted = seen.state.numpy(), []
    for episode in range(2000):
        upstream.reset(seed=episode)
        wanted.append(upstream.state())
    wanted = np.stack(wanted)
    # Five deviations of the difference of two means; the widest numbers deviate by 0.82.
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=0.13)
    np.testing.assert_allclose(found.std(0), wanted.std(0), atol=0.08)
    np.testing.assert_allclose(found.min(0), wanted.min(0), atol=0.25)
    np.testing.assert_allclose(found.max(0), wanted.max(0), atol=0.25)


def test_everybody_starts_anywhere_in_the_square_at_rest(pair):
    env, _ = pair
    world, seen = env.reset(SEED, 4000)
    places = tf.concat([world.position, world.landmark], 1).numpy()
    assert -1 <= places.min() < -0.99 and 0.99 < places.max() <= 1
    np.testing.assert_allclose(places.mean((0, 1)), 0, atol=0.03)
    assert not np.any(world.velocity) and np.all(seen.reward == 0)
    assert len(np.unique(places[:, 0, 0])) > 3900


def test_every_landmark_is_as_often_a_goal_whatever_the_other_goal():
    goals = make("mpe/simple_speaker_listener").reset(SEED, 9000)[0].goal.numpy()
    np.testing.assert_allclose(np.bincount(goals[:, 0]) / 9000, 1 / 3, atol=0.02)
    goals = make("mpe/simple_reference").reset(SEED, 9000)[0].goal.numpy()
    np.testing.assert_allclose(np.bincount(goals @ [3, 1]) / 9000, 1 / 9, atol=0.015)


def test_bodies_at_one_point_do_not_make_nan():
    env = make("mpe/simple_spread")
    world, _ = env.reset(SEED, 1)
    world = world._replace(position=tf.zeros([1, 3, 2]))
    _, seen = env.step(world, tf.zeros([1, 3], tf.int32), SEED)
    assert np.isfinite(seen.obs).all() and np.isfinite(seen.reward).all()


def test_team_reward_is_the_sum_the_mean_or_one_copy_where_all_receive_the_same():
    for name in TASKS:
        found = {}
        for rule in ("sum", "mean", "one"):
            if rule == "one" and name != "mpe/simple_speaker_listener":
                with pytest.raises(UserError, match="sum or mean"):
                    make(name, team_reward="one")
                continue
            env = make(name, team_reward=rule)
            state, _ = env.reset(SEED, 2)
            action = tf.ones([2, env.spec.n_agents], tf.int32)
            found[rule] = env.step(state, action, SEED)[1].reward.numpy()
            assert env.spec.team_reward == rule
        np.testing.assert_allclose(found["sum"], env.spec.n_agents * found["mean"], rtol=1e-6)
        np.testing.assert_allclose(found.get("one", found["mean"]), found["mean"], rtol=1e-6)


def test_local_ratio_weighs_what_is_an_agents_own():
    own, shared = (make("mpe/simple_reference", f"local_ratio={x}") for x in (1, 0))
    world, _ = own.reset(SEED, 3)
    alone, together = own.agent_rewards(world).numpy(), shared.agent_rewards(world).numpy()
    assert (alone[:, 0] != alone[:, 1]).all()
    np.testing.assert_allclose(together, np.repeat(alone.mean(1)[:, None], 2, 1), rtol=1e-6)


@pytest.mark.parametrize(
    "name,argument,word",
    [
        ("mpe/simple_spread", "max_cycle=3", "did you mean 'max_cycles'"),
        ("mpe/simple_spread", "n=0", "n=0 must be a whole number"),
        ("mpe/simple_spread", "n=true", "n=True must be a whole number"),
        ("mpe/simple_spread", "local_ratio=2", "between 0 and 1"),
        ("mpe/simple_reference", "local_ratio=-1", "between 0 and 1"),
        ("mpe/simple_reference", "max_cycles=2.5", "whole number"),
        ("mpe/simple_speaker_listener", "max_cycles=0", "whole number"),
        ("mpe/simple_speaker_listener", "n=3", "it takes max_cycles"),
    ],
)
def test_wrong_arguments_are_named(name, argument, word):
    with pytest.raises(UserError, match=word):
        make(name, argument)
