import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfmix import envs
from tfmix.config import Config, UserError
from tfmix.envs.graph.mpe import World

SEED = tf.constant([0, 1])
TWIN = "pettingzoo/pettingzoo.mpe.simple_spread_v3"


def make(name, *arguments, **settings):
    return envs.make_graph(name, Config(env=name, env_arg=arguments, **settings))


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
    assert np.all(seen.terminated)


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
        ("two_step", ("n=3",), "takes none"),
        ("mpe/simple_spread", ("max_cycle=3",), "did you mean 'max_cycles'"),
        ("mpe/simple_spread", ("n=0",), "whole number"),
        ("mpe/simple_spread", ("local_ratio=2",), "between 0 and 1"),
        ("mpe/simple_spread", ("nonsense",), "name=value"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, word):
    with pytest.raises(UserError, match=word):
        make(name, *arguments)


def test_misspelt_environments_are_told_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'mpe/simple_spread'"):
        envs.is_graph("mpe/simple_spred")
    with pytest.raises(UserError, match="did you mean 'pettingzoo'"):
        envs.is_graph("petingzoo/pettingzoo.mpe.simple_spread_v3")
    with pytest.raises(UserError, match="pettingzoo/<module"):
        envs.is_graph("pettingzoo")


@pytest.fixture(scope="module")
def upstream():
    from tfmix.quiet import quiet_import

    module = quiet_import("pettingzoo.mpe.simple_spread_v3")
    return module.parallel_env()


def test_simple_spread_equals_pettingzoo_for_1000_steps(upstream):
    """From the same state with the same actions: observations, states and rewards."""
    env = make("mpe/simple_spread")
    step = tf.function(env.step, jit_compile=True)
    random = np.random.default_rng(0)
    world = upstream.unwrapped.world
    touched = 0
    for episode in range(40):
        state, seen = env.reset(tf.constant([episode, 5]), 1)
        upstream.reset(seed=episode)
        # Half of the episodes start crowded, so that agents collide.
        scale = 0.2 if episode % 2 else 1.0
        state = state._replace(position=state.position * scale)
        for i, agent in enumerate(world.agents):
            agent.state.p_pos = state.position.numpy()[0, i].astype(float)
            agent.state.p_vel = np.zeros(2)
        for i, landmark in enumerate(world.landmarks):
            landmark.state.p_pos = state.landmark.numpy()[0, i].astype(float)
        for t in range(25):
            action = random.integers(0, 5, size=3)
            state, seen = step(state, tf.constant(action[None], tf.int32), SEED)
            obs, rewards, ends, cuts, _ = upstream.step(
                {f"agent_{i}": int(a) for i, a in enumerate(action)}
            )
            for i in range(3):
                np.testing.assert_allclose(seen.obs[0, i], obs[f"agent_{i}"], atol=1e-5)
            np.testing.assert_allclose(seen.state[0], upstream.state(), atol=1e-5)
            np.testing.assert_allclose(
                env.agent_rewards(state)[0], list(rewards.values()), atol=1e-5
            )
            np.testing.assert_allclose(seen.reward[0], sum(rewards.values()), atol=1e-5)
            assert bool(seen.truncated[0]) == any(cuts.values()) == (t == 24)
            assert not seen.terminated[0] and not any(ends.values())
            touched += rewards["agent_0"] != rewards["agent_1"]
            # What float32 loses must not grow over an episode: start from there again.
            state = state._replace(
                position=tf.constant([[a.state.p_pos for a in world.agents]], tf.float32),
                velocity=tf.constant([[a.state.p_vel for a in world.agents]], tf.float32),
            )
    assert touched > 20


def test_simple_spread_starts_anywhere_in_the_square_at_rest():
    env = make("mpe/simple_spread")
    world, seen = env.reset(SEED, 4000)
    places = tf.concat([world.position, world.landmark], 1).numpy()
    assert -1 <= places.min() < -0.99 and 0.99 < places.max() <= 1
    np.testing.assert_allclose(places.mean((0, 1)), 0, atol=0.02)
    assert not np.any(world.velocity) and np.all(seen.reward == 0)
    assert len(np.unique(places[:, 0, 0])) > 3900


def test_bodies_at_one_point_do_not_make_nan():
    env = make("mpe/simple_spread")
    world, _ = env.reset(SEED, 1)
    stacked = World(tf.zeros([1, 3, 2]), world.velocity, world.landmark, world.clock)
    _, seen = env.step(stacked, tf.zeros([1, 3], tf.int32), SEED)
    assert np.isfinite(seen.obs).all() and np.isfinite(seen.reward).all()


def test_team_reward_is_the_sum_or_the_mean():
    action = tf.ones([2, 3], tf.int32)
    found = {}
    for rule in ("sum", "mean"):
        env = make("mpe/simple_spread", team_reward=rule)
        state, _ = env.reset(SEED, 2)
        found[rule] = env.step(state, action, SEED)[1].reward.numpy()
    np.testing.assert_allclose(found["sum"], 3 * found["mean"], rtol=1e-6)
    with pytest.raises(UserError, match="sum or mean"):
        make("mpe/simple_spread", team_reward="one")


def test_every_graph_environment_compiles_and_keeps_its_promises():
    extra = {"matrix/custom": ("payoff=[[1,2],[3,4]]",)}
    for name in envs.GRAPH:
        env = make(name, *extra.get(name, ()))
        spec = env.spec

        @tf.function(jit_compile=True)
        def play(env=env, spec=spec):
            state, first = env.reset(SEED, 5)
            _, second = env.step(state, tf.zeros([5, spec.n_agents], tf.int32), SEED)
            return first, second

        for seen in play():
            assert seen.obs.shape == [5, spec.n_agents, spec.obs_size]
            assert seen.state.shape == [5, spec.state_size]
            assert seen.legal.shape == [5, spec.n_agents, spec.n_actions]
            assert seen.legal.dtype == seen.terminated.dtype == seen.truncated.dtype == tf.bool
            legal = seen.legal.numpy()
            assert legal.any(-1).all() and not (legal & ~np.asarray(spec.own_actions)).any()


# The Python lane.


def test_pettingzoo_adapter_gives_what_the_environment_gives(upstream):
    env = envs.make_python(TWIN, Config(env=TWIN))
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size) == (3, 5, 18)
    assert (spec.state_size, spec.episode_limit) == (54, 25)
    obs, state, legal = env.reset(7)
    wanted, _ = upstream.reset(seed=7)
    np.testing.assert_array_equal(obs, np.stack(list(wanted.values())))
    assert legal.all() and state.shape == (54,)
    for t in range(25):
        obs, _, legal, reward, terminated, truncated, _ = env.step(np.asarray([1, 2, 3]))
        wanted, rewards, *_ = upstream.step({"agent_0": 1, "agent_1": 2, "agent_2": 3})
        np.testing.assert_array_equal(obs, np.stack(list(wanted.values())))
        np.testing.assert_allclose(reward, sum(rewards.values()))
        assert not terminated and truncated == (t == 24)
    env.close()


def test_team_reward_rules_of_the_python_lane():
    sums = envs.make_python(TWIN, Config(env=TWIN))
    means = envs.make_python(TWIN, Config(env=TWIN, team_reward="mean"))
    sums.reset(1), means.reset(1)
    action = np.asarray([0, 1, 2])
    assert np.isclose(sums.step(action)[3], 3 * means.step(action)[3])
    ones = envs.make_python(TWIN, Config(env=TWIN, team_reward="one"))
    with pytest.raises(RuntimeError, match="choose sum or mean"):
        for seed in range(200):  # the first collision
            ones.reset(seed)
            for _ in range(25):
                ones.step(action)


@pytest.mark.parametrize(
    "name,arguments,word",
    [
        ("pettingzoo/no.such.module", (), "cannot import"),
        ("pettingzoo/json", (), "has no parallel_env"),
        (TWIN, ("continuous_actions=true",), "discrete actions"),
        (TWIN, ("N=1",), "two agents or more"),
        (TWIN, ("colour=3",), "colour"),
        (TWIN, ("local_ratio=2",), "cannot be made"),
        ("pettingzoo/.foo", (), "cannot import"),
    ],
)
def test_unusable_pettingzoo_environments_are_refused_in_one_line(name, arguments, word):
    with pytest.raises(UserError, match=word):
        envs.make_python(name, Config(env=name, env_arg=arguments))


def test_unequal_agents_are_padded_and_the_limit_can_be_given():
    name = "pettingzoo/pettingzoo.mpe.simple_speaker_listener_v4"
    env = envs.make_python(name, Config(env=name, episode_limit=4))
    spec = env.spec
    assert spec.agent_n_actions == (3, 5) and spec.obs_size == 11 and spec.episode_limit == 4
    obs, _, legal = env.reset(0)
    np.testing.assert_array_equal(legal, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert not obs[0, 3:].any()
    for t in range(4):
        truncated = env.step(np.asarray([0, 0]))[5]
        assert truncated == (t == 3)


def test_a_team_that_dies_one_by_one_keeps_a_no_op_until_the_end(monkeypatch):
    env = standin(monkeypatch, DyingTeam())
    obs, state, legal = env.reset(0)
    np.testing.assert_array_equal(legal, [[False, True], [True, True]])  # masks of infos
    np.testing.assert_array_equal(state, obs.ravel())  # no state() of its own
    obs, _, legal, reward, terminated, truncated, _ = env.step(np.asarray([1, 0]))
    np.testing.assert_array_equal(obs[0], [0, 0])  # a is dead
    np.testing.assert_array_equal(legal, [[True, False], [True, True]])
    assert (reward, terminated, truncated) == (3.0, False, False)
    _, _, _, reward, terminated, truncated, _ = env.step(np.asarray([0, 1]))
    assert (reward, terminated, truncated) == (2.0, True, False)
    assert env._env.asked == [{"a": 1, "b": 0}, {"b": 1}]


@pytest.mark.parametrize(
    "ends,cuts,terminated,truncated",
    [
        ((True, True), (True, True), True, False),  # a true end as the clock strikes
        ((True, True), (False, False), True, False),
        ((False, False), (True, True), False, True),
        ((True, False), (False, True), False, True),  # one died, the clock cut the other
        ((False, False), (True, False), False, False),  # the other goes on
    ],
)
def test_a_true_end_is_told_from_a_time_limit(monkeypatch, ends, cuts, terminated, truncated):
    env = standin(monkeypatch, DyingTeam())
    team = env._env
    env.reset(0)

    def step(action):
        over = [e or c for e, c in zip(ends, cuts, strict=True)]
        team.agents = [a for a, o in zip("ab", over, strict=True) if not o]
        obs = {a: np.full(2, 0.5, np.float32) for a in "ab"}  # the dying one's last look
        infos = {
            a: {"action_mask": [0, 0] if o else [1, 1]} for a, o in zip("ab", over, strict=True)
        }
        ended, was_cut = ({"a": x[0], "b": x[1]} for x in (ends, cuts))
        return obs, dict.fromkeys("ab", 1.0), ended, was_cut, infos

    team.step = step
    obs, _, legal, *_, found_terminated, found_truncated, _ = env.step(np.asarray([1, 1]))
    assert (found_terminated, found_truncated) == (terminated, truncated)
    if not (terminated or truncated):  # gone, while the other goes on
        np.testing.assert_array_equal(obs[0], [0, 0])
        np.testing.assert_array_equal(legal, [[True, False], [True, True]])
    else:  # what is seen behind a cut counts
        np.testing.assert_array_equal(obs[0], [0.5, 0.5])


def test_what_an_environment_raises_is_told_in_one_line(monkeypatch):
    env = standin(monkeypatch, DyingTeam())
    env.reset(0)
    env._env.step = lambda action: 1 / 0
    with pytest.raises(RuntimeError, match=r"step\(\) raised ZeroDivisionError"):
        env.step(np.asarray([1, 0]))


@pytest.mark.parametrize(
    "fault,word", [("nan", "NaN"), ("shape", "does not fit"), ("mask", "no legal")]
)
def test_an_environment_that_breaks_its_word_is_named(monkeypatch, fault, word):
    env = standin(monkeypatch, DyingTeam(fault))
    with pytest.raises(RuntimeError, match=word):
        env.reset(0)
        env.step(np.asarray([1, 0]))


class DyingTeam:
    """A ParallelEnv by interface: agent a dies at the first step, b at the second."""

    possible_agents = ["a", "b"]
    metadata = {"name": "dying"}

    def __init__(self, fault=""):
        from gymnasium import spaces

        self.agents, self.asked, self.fault = [], [], fault
        self.action_space = lambda agent: spaces.Discrete(2)
        self.observation_space = lambda agent: spaces.Box(-1, 1, (2,))
        self.max_cycles = 10

    def reset(self, seed=None):
        self.agents, self.asked = ["a", "b"], []
        masks = {"a": {"action_mask": [0, 1]}, "b": {}}
        return {a: np.ones(2, np.float32) for a in self.agents}, masks

    def step(self, action):
        self.asked.append(action)
        dying = self.agents[0]
        alive = self.agents = self.agents[1:]
        obs = {a: np.ones(2, np.float32) for a in alive}
        infos = {a: {} for a in alive}
        if alive and self.fault == "nan":
            obs["b"][0] = np.nan
        if alive and self.fault == "shape":
            obs["b"] = np.ones(5, np.float32)
        if alive and self.fault == "mask":
            infos["b"] = {"action_mask": [0, 0]}
        rewards = {dying: 1.0, **dict.fromkeys(alive, 2.0)}
        if not alive:
            rewards = {dying: 2.0}
        return obs, rewards, {dying: True, "b": not alive}, {dying: False, "b": False}, infos

    def close(self):
        pass


def standin(monkeypatch, env):
    from tfmix.envs.python import pettingzoo

    monkeypatch.setattr(pettingzoo, "_load", lambda *_: env)
    return envs.make_python("pettingzoo/x", dataclasses.replace(Config(), env="pettingzoo/x"))
