import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from pool_envs import Walk

from tfmix import envs
from tfmix.config.schema import Config
from tfmix.envs.graph.matrix import TwoStep
from tfmix.envs.kinds import Kind, kind_of
from tfmix.errors import UserError

SEED = tf.constant([0, 1])
TWIN = "pettingzoo/pettingzoo.mpe.simple_spread_v3"


def make(name, *arguments, **settings):
    return envs.make_graph(name, Config(env=name, env_arg=arguments, **settings))


def test_an_argument_that_is_no_pair_is_refused():
    with pytest.raises(UserError, match="name=value"):
        make("mpe/simple_spread", "nonsense")


def test_misspelt_environments_are_told_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'mpe/simple_spread'"):
        envs.is_graph("mpe/simple_spred")
    with pytest.raises(UserError, match=f"did you mean '{TWIN}'"):
        envs.is_graph("petingzoo/pettingzoo.mpe.simple_spread_v3")
    with pytest.raises(UserError, match="pettingzoo/<module"):
        envs.is_graph("pettingzoo")


def test_kind_of_tells_a_users_environments_from_those_of_tfmix():
    class Subclass(TwoStep):
        """May use Python's control flow, which needs AutoGraph."""

    assert kind_of(TwoStep("game")) is Kind.BUILT_IN
    assert kind_of(Subclass("game")) is Kind.GRAPH and Kind.GRAPH.in_graph
    assert kind_of(Walk()) is Kind.PYTHON and not Kind.PYTHON.in_graph
    assert kind_of(envs.make_python(TWIN, Config())) is Kind.ADAPTED


@pytest.fixture(scope="module")
def upstream():
    from tfmix.utils.quiet import quiet_import

    module = quiet_import("pettingzoo.mpe.simple_spread_v3")
    return module.parallel_env()


def test_every_graph_environment_compiles_and_keeps_its_promises():
    extra = {"matrix/custom": ("payoff=[[1,2],[3,4]]",)}
    for name in envs.GRAPH:
        env = make(name, *extra.get(name, ()))
        spec = env.spec
        assert kind_of(env) is Kind.BUILT_IN

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


# Python environments.


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


def test_team_reward_rules_of_python_environments():
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
    "fault,word",
    [
        ("nan", "observation of b is NaN .* at step 1"),
        ("shape", r"its shape is \[5\], not \[2\]"),
        ("short", r"its shape is \[1\], not \[2\]"),
        ("mask", "no legal"),
        ("vector", "reward of a is .*, not one number"),
        ("state", "the state cannot be read: .* not an array of numbers"),
    ],
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
        if alive and self.fault == "short":
            obs["b"] = np.ones(1, np.float32)
        if alive and self.fault == "mask":
            infos["b"] = {"action_mask": [0, 0]}
        rewards = {dying: 1.0, **dict.fromkeys(alive, 2.0)}
        if not alive:
            rewards = {dying: 2.0}
        if self.fault == "vector":
            rewards["a"] = [1.0, 1.0]
        return obs, rewards, {dying: True, "b": not alive}, {dying: False, "b": False}, infos

    def state(self):
        if self.fault != "state":
            raise NotImplementedError
        return np.zeros(3) if len(self.agents) > 1 else np.asarray("none")

    def close(self):
        pass


def standin(monkeypatch, env):
    from tfmix.envs.python.adapters import pettingzoo

    monkeypatch.setattr(pettingzoo, "_load", lambda *_: env)
    return envs.make_python("pettingzoo/x", dataclasses.replace(Config(), env="pettingzoo/x"))
