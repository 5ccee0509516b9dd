"""Environments of other libraries and of users, stepped from Python."""

import csv
import importlib.util
import random
import re
import sys
import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces
from pettingzoo import AECEnv
from pettingzoo.utils import AgentSelector

import tfmix
from tfmix import algos, envs
from tfmix.config import parsing, resolve
from tfmix.config.schema import Config
from tfmix.envs.python import EnvError
from tfmix.errors import UserError
from tfmix.training.collect_graph import GraphCollector
from tfmix.training.playing import returns
from tfmix.training.task import open_task
from tfmix.types import EnvSpec

HERE = __name__
ZOO = "pettingzoo/pettingzoo"
FORAGING = "gymnasium/Foraging-8x8-2p-2f-coop-v3"
WAREHOUSE = "gymnasium/rware-tiny-2ag-v2"
TINY = {
    "n_envs": 2,
    "env_workers": 0,  # a worker would import this file, TensorFlow and all
    "batch_episodes": 2,
    "buffer_episodes": 4,
    "hidden_size": 8,
    "eval_episodes": 1,
}


def make(name, *arguments, **settings):
    return envs.make_python(name, Config(env=name, env_arg=arguments, **settings))


# Gymnasium.


class Unequal(gymnasium.Env):
    """Two agents: the first has 2 actions from 1 on and dies at step 2, the second has 3."""

    def __init__(self, fault="", as_dict=False, shared=False):
        self.fault, self.shared, self.asked = fault, shared, []
        self.keys = ["a", "b"] if as_dict else [0, 1]
        actions = [spaces.Discrete(2, start=1), spaces.Discrete(3)]
        seen = [spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,))]
        if fault == "continuous":
            actions[1] = spaces.Box(-1, 1, (2,))
        if fault == "odd":
            seen.append(seen[0])
        kind = spaces.Dict if as_dict else spaces.Tuple
        self.action_space = kind(self.pack(actions))
        self.observation_space = kind(self.pack(seen, range(len(seen))))

    def pack(self, values, keys=None):
        if isinstance(self.keys[0], str):
            return dict(zip(self.keys, values, strict=True))
        return tuple(values)

    def look(self):
        return self.pack([np.full(2, 0.5, np.float32), np.full(3, 0.25, np.float32)])

    def reset(self, seed=None, options=None):
        if self.fault == "reset":
            raise RuntimeError("no field\nto play on")
        self.steps = 0
        return self.look(), {"action_mask": self.pack([[0, 1], [1, 1, 0]])}

    def step(self, action):
        self.asked.append(action)
        self.steps += 1
        if self.fault == "step":
            raise RuntimeError("stuck")
        reward = 4.0 if self.shared else self.pack([1.0, 2.0])
        ends = self.pack([self.steps >= 2, False])
        info = {"seen": 7, self.keys[0]: "told"}
        return self.look(), reward, ends, self.pack([False, self.steps >= 3]), info

    def state(self):
        return np.arange(4)


if "Unequal-v0" not in gymnasium.registry:  # other tests import this file too
    gymnasium.register("Unequal-v0", Unequal, max_episode_steps=9)
UNEQUAL = f"gymnasium/{HERE}:Unequal-v0"


@pytest.mark.parametrize("name,limit", [(FORAGING, 0), (WAREHOUSE, 30)])
def test_foraging_and_the_warehouse_are_what_they_are_alone(name, limit):
    env = make(name, episode_limit=limit)
    bare = gymnasium.make(name.partition("/")[2], disable_env_checker=True)
    limit = limit or 50
    assert (env.spec.n_agents, env.spec.episode_limit) == (2, limit)
    assert env.spec.team_reward == "sum" and env.spec.state_size == 2 * env.spec.obs_size
    dice = np.random.default_rng(0)
    for seed in (3, 4):
        obs, state, legal = env.reset(seed)
        wanted, _ = bare.reset(seed=seed)
        np.testing.assert_array_equal(obs, np.stack(wanted))
        np.testing.assert_array_equal(state, obs.ravel())
        assert legal.all()
        for t in range(limit):
            action = dice.integers(0, env.spec.n_actions, 2)
            obs, _, _, reward, terminated, truncated, _ = env.step(action)
            wanted, rewards, ended, *_ = bare.step(tuple(action))
            np.testing.assert_array_equal(obs, np.stack(wanted))
            assert reward == pytest.approx(sum(rewards))
            assert (terminated, truncated) == (False, t == limit - 1)
            assert ended == (t == 49)  # alone it calls the end of its clock a termination
    env.close()


def test_a_field_that_is_empty_ends_foraging_for_good():
    env = make(FORAGING)
    env.reset(0)
    env._env.bare.field[:] = 0
    assert env.step(np.zeros(2, int))[4:6] == (True, False)


def test_a_foraging_episode_forgets_the_one_before():
    one, other = make(FORAGING), make(FORAGING)
    starts = [one.reset(seed)[0] for seed in range(150)]
    for seed in reversed(range(150)):
        np.testing.assert_array_equal(other.reset(seed)[0], starts[seed])


def test_foraging_is_worth_one_at_most():
    env = make(FORAGING)
    env.reset(0)
    field = env._env.bare
    total = 0.0
    for row, col in np.argwhere(field.field):  # everybody beside the food: levels suffice
        for player, side in zip(field.players, (-1, 1), strict=True):
            player.position = (int(row), int(col) + side)
        field._gen_valid_moves()
        total += env.step(np.full(2, 5))[3]
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("as_dict", [False, True])
def test_unequal_agents_are_padded_masked_and_die(as_dict):
    env = make(UNEQUAL, f"as_dict={str(as_dict).lower()}")
    bare = env._env.bare
    assert env.spec.agent_n_actions == (2, 3) and env.spec.obs_size == 3
    assert (env.spec.episode_limit, env.spec.state_size) == (9, 4)
    obs, state, legal = env.reset(0)
    np.testing.assert_array_equal(obs, [[0.5, 0.5, 0], [0.25, 0.25, 0.25]])
    np.testing.assert_array_equal(state, [0, 1, 2, 3])  # its own
    np.testing.assert_array_equal(legal, [[False, True, False], [True, True, False]])
    bare.asked.clear()
    *_, reward, terminated, truncated, info = env.step(np.asarray([1, 2]))
    assert (reward, terminated, truncated, info["seen"]) == (3.0, False, False, 7)
    obs, _, legal, *_, terminated, truncated, _ = env.step(np.asarray([0, 0]))
    np.testing.assert_array_equal(obs[0], 0)  # dead
    np.testing.assert_array_equal(legal, [[True, False, False], [True, True, True]])
    assert (terminated, truncated) == (False, False)
    assert env.step(np.asarray([0, 1]))[4:6] == (False, True)  # the clock cut the other
    given = [list(a.values()) if as_dict else list(a) for a in bare.asked]
    assert given == [[2, 2], [1, 0], [1, 1]]


def test_team_reward_rules_and_the_one_number_of_a_team():
    action = np.asarray([1, 0])
    for rule, wanted in (("sum", 3.0), ("mean", 1.5)):
        env = make(UNEQUAL, team_reward=rule)
        env.reset(0)
        assert env.step(action)[3] == wanted and env.spec.team_reward == rule
    env = make(UNEQUAL, team_reward="one")
    env.reset(0)
    with pytest.raises(EnvError, match="choose sum or mean"):
        env.step(action)
    env = make(UNEQUAL, "shared=true", team_reward="mean")
    env.reset(0)
    assert env.step(action)[3] == 4.0 and env.spec.team_reward == "team"


@pytest.mark.parametrize(
    "name,arguments,word",
    [
        ("gymnasium/CartPole-v1", (), "is for one agent"),
        ("gymnasium/Foragin-8x8-2p-2f-coop-v3", (), "did you mean 'Foraging-8x8-2p-2f-coop-v3'"),
        ("gymnasium/rware-tiny-2agg-v2", (), "did you mean 'rware-tiny-2ag-v2'"),
        ("gymnasium/no.such:X-v0", (), "cannot import no.such"),
        (WAREHOUSE, ("msg_bits=2",), "needs discrete actions"),
        (UNEQUAL, ('fault="continuous"',), "agent 1 has actions Box"),
        (UNEQUAL, ('fault="odd"',), "observations for"),
        (UNEQUAL, ('fault="reset"',), "RuntimeError: no field"),
        (UNEQUAL, ('fault="step"',), "RuntimeError: stuck"),
        (UNEQUAL, ("colour=3",), "colour"),
        (FORAGING, ("players=1",), "two agents or more"),
    ],
)
def test_unusable_gymnasium_environments_are_refused_in_one_line(name, arguments, word):
    with pytest.raises(UserError, match=word):
        make(name, *arguments)


def test_an_environment_without_a_limit_asks_for_one():
    with pytest.raises(UserError, match="--episode_limit"):
        make(UNEQUAL, "max_episode_steps=-1")
    env = make(UNEQUAL, "max_episode_steps=-1", episode_limit=1)
    env.reset(0)
    assert env.step(np.asarray([1, 0]))[4:6] == (False, True)


# PyMARL.


class Battle:
    """Three units; the last falls at step 1 and then has nothing but its no-op, action 0."""

    def __init__(self, limit=4, wins_at=9, fault="", **known):
        self.limit, self.wins_at, self.fault, self.known = limit, wins_at, fault, known
        self.map = np.random.random(2)  # drawn once, when it is made

    def reset(self):
        self.steps, self.asked = 0, []
        self.spot = np.random.random() + random.random()
        return self.get_obs(), self.get_state()

    def step(self, actions):
        self.asked.append(list(actions))
        self.steps += 1
        self.spot += np.random.random()
        won, late = self.steps >= self.wins_at, self.steps >= self.limit
        info = {"battle_won": won, **({"episode_limit": True} if late and not won else {})}
        return 1.5, won or late, info

    def get_obs(self):
        fallen = [1.0, 1.0, float(self.steps == 0)]
        return [np.asarray([self.spot, unit], np.float32) * fallen[unit] for unit in range(3)]

    def get_state(self):
        return np.asarray([self.spot, self.steps, *self.map], np.float32)

    def get_avail_actions(self):
        rows = [[0, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0] if self.steps else [0, 1, 1, 1]]
        return rows[:2] if self.fault == "mask" else rows

    def get_env_info(self):
        info = {"n_agents": 3, "n_actions": 4, "obs_shape": 2, "state_shape": 4}
        if self.fault == "info":
            del info["n_actions"]
        return {**info, "episode_limit": self.limit}

    def close(self):
        raise NotImplementedError


class SeededReset(Battle):
    """As EPyMARL's: reset takes the seed, step gives five values."""

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.steps, self.spot = 0, self.rng.random()
        return self.get_obs(), {}

    def step(self, actions):
        self.steps += 1
        self.spot += self.rng.random()
        return self.get_obs(), 1.0, False, self.steps >= 2, {}


class SeedMethod(Battle):
    """seed(number), and SMAC's attribute."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self._seed, self.rng = None, None

    def seed(self, number):
        self.rng = np.random.default_rng(number)

    def reset(self):
        super().reset()
        self.spot = self.rng.random() + (self._seed or 0)


class SeedAttribute(Battle):
    """The seed is read when an episode starts."""

    def __init__(self, seed=None, **arguments):
        super().__init__(**arguments)
        self.seed = seed

    def reset(self):
        super().reset()
        self.spot = np.random.default_rng(self.seed).random()


BATTLE = f"pymarl/{HERE}:Battle"


def test_pymarl_environment_gives_masks_states_and_ends():
    env = make(BATTLE)
    bare = env._env.env
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.obs_size) == (3, 4, 2)
    assert (env.spec.state_size, env.spec.episode_limit) == (4, 4)
    assert env.spec.team_reward == "team"
    obs, state, legal = env.reset(5)
    np.testing.assert_array_equal(obs, np.stack(bare.get_obs()))
    np.testing.assert_array_equal(state, bare.get_state())
    for t in range(4):
        np.testing.assert_array_equal(legal, np.asarray(bare.get_avail_actions(), bool))
        action = legal.argmax(-1)
        obs, state, legal, reward, terminated, truncated, info = env.step(action)
        assert bare.asked[-1] == list(action) and bare.asked[-1][2] == (1 if t == 0 else 0)
        np.testing.assert_array_equal(obs, np.stack(bare.get_obs()))
        np.testing.assert_array_equal(state, bare.get_state())
        assert (reward, terminated, truncated) == (1.5, False, t == 3)
        assert info["battle_won"] is False
    env.close()


def test_a_won_battle_ends_for_good_and_says_so():
    env = make(BATTLE, "wins_at=4")  # as the clock strikes
    legal = env.reset(0)[2]
    for _ in range(4):
        _, _, legal, _, terminated, truncated, info = env.step(legal.argmax(-1))
    assert (terminated, truncated, info["battle_won"]) == (True, False, True)
    early = make(BATTLE, episode_limit=2)
    legal = early.reset(0)[2]
    cuts = []
    for _ in range(2):
        _, _, legal, _, _, truncated, _ = early.step(legal.argmax(-1))
        cuts.append(truncated)
    assert cuts == [False, True]


def play(env, seed, disturb=False):
    """An episode's states."""
    _, state, legal = env.reset(seed)
    states, over = [state], False
    while not over:
        if disturb:
            np.random.random(), random.random()
        _, state, legal, _, *ends, _ = env.step(legal.argmax(-1))
        states.append(state)
        over = any(ends)
    return np.stack(states)


@pytest.mark.parametrize("kind", ["Battle", "SeededReset", "SeedMethod", "SeedAttribute"])
def test_an_episode_is_its_seeds_alone(kind):
    one, other = (make(f"pymarl/{HERE}:{kind}") for _ in range(2))
    first = play(one, 11)
    assert (play(one, 12)[:, 0] != first[:, 0]).any()
    np.testing.assert_array_equal(play(other, 11, disturb=True), first)
    np.testing.assert_array_equal(play(one, 11), first)


def test_an_environments_draws_are_nobody_elses():
    def draws(with_env):
        np.random.seed(1), random.seed(1)
        if with_env:
            play(make(BATTLE), 3)
        return np.random.random(), random.random()

    assert draws(True) == draws(False)


def test_five_values_of_a_step_are_read():
    env = make(f"pymarl/{HERE}:SeededReset")
    assert len(play(env, 0)) == 3  # truncated at 2


@pytest.mark.parametrize(
    "target,arguments,word",
    [
        ("json:dumps", ("obj=1",), "not PyMARL-style: it has no reset"),
        ("json", (), "write module:function"),
        ("json:nothing", (), "there is no nothing in json"),
        ("json:__doc__", (), "neither a function nor a class"),
        (f"{HERE}:Battle", ('fault="info"',), "n_actions"),
        (f"{HERE}:Battle", ('fault="mask"',), "actions' mask"),
        (f"{HERE}:Battle", ("limit=0",), "--episode_limit"),
    ],
)
def test_unusable_pymarl_environments_are_refused_in_one_line(target, arguments, word):
    with pytest.raises(UserError, match=word):
        make(f"pymarl/{target}", *arguments)


# Games that are not installed: stand-ins with their interfaces.


@pytest.mark.parametrize(
    "name,word",
    [
        ("smac/3m", "needs the package smac: .*SC2PATH"),
        ("smacv2/10gen_terran", "needs the package smacv2: .*SC2PATH"),
        ("football/academy_3_vs_1_with_keeper", "needs the package gfootball: "),
    ],
)
def test_a_game_that_is_missing_says_what_it_needs(name, word):
    if importlib.util.find_spec(word.split()[3].rstrip(":")):
        pytest.skip("it is here")
    with pytest.raises(UserError, match=word):
        make(name)


def stand_in(monkeypatch, path, **contents):
    """A module with its packages above it."""
    parts = path.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(
            sys.modules, ".".join(parts[:depth]), types.ModuleType(parts[depth - 1])
        )
    vars(sys.modules[path]).update(contents)


def test_smac_is_a_pymarl_environment_on_a_map(monkeypatch):
    class StarCraft2Env(SeedMethod):
        def __init__(self, map_name="8m", seed=None, **known):
            super().__init__(**known)
            self.map_name, self._seed = map_name, seed

        def seed(self):
            return self._seed

        def reset(self):
            self.launched_with = self._seed
            Battle.reset(self)

    stand_in(monkeypatch, "smac.env", StarCraft2Env=StarCraft2Env)
    env = make("smac/3m", "limit=3")
    assert env._env.env.map_name == "3m" and env.spec.episode_limit == 3
    assert len(play(env, 77)) == 4 and env._env.env.launched_with == 77


def test_smacv2_gets_teams_of_the_maps_race(monkeypatch):
    class Wrapper(Battle):
        def __init__(self, **kwargs):
            super().__init__()
            self.given = kwargs

    path = "smacv2.env.starcraft2.wrapper"
    stand_in(monkeypatch, path, StarCraftCapabilityEnvWrapper=Wrapper)
    given = make("smacv2/10gen_zerg", "n_units=10", "n_enemies=11")._env.env.given
    assert given["map_name"] == "10gen_zerg" and "n_units" not in given
    teams = given["capability_config"]
    assert (teams["n_units"], teams["n_enemies"]) == (10, 11)
    assert teams["team_gen"]["unit_types"] == ["zergling", "hydralisk", "baneling"]
    own = make("smacv2/mine", 'capability_config={"n_units": 3}')._env.env.given
    assert own["capability_config"] == {"n_units": 3}
    with pytest.raises(UserError, match="give --env_arg=capability_config="):
        make("smacv2/mine")


class Pitch:
    """gfootball's environment of several players by interface."""

    def __init__(self, players):
        self.action_space = types.SimpleNamespace(nvec=np.full(players, 19))
        self.observation_space = spaces.Box(-np.inf, np.inf, (players, 115))
        scenario = types.SimpleNamespace(game_duration=3)
        self._config = types.SimpleNamespace(ScenarioConfig=lambda: scenario)
        self.unwrapped, self.players, self.scores_at = self, players, 9

    def look(self):
        return np.full([self.players, 115], self.engine, np.float32)

    def reset(self):
        self.engine, self.left = random.randint(0, 1000), 3
        return self.look()

    def step(self, action):
        assert len(action) == self.players
        self.left -= 1
        score = float(3 - self.left == self.scores_at)
        rewards = np.full(self.players, score, np.float32)
        return self.look(), rewards, bool(score) or not self.left, {"score_reward": score}

    def observation(self):
        return [{"steps_left": self.left}] * self.players

    def close(self):
        pass


def test_football_is_a_team_of_the_left_players(monkeypatch):
    asked = {}

    def create_environment(number_of_left_players_agent_controls, **known):
        asked.update(known)
        return Pitch(number_of_left_players_agent_controls)

    stand_in(monkeypatch, "gfootball.env", create_environment=create_environment)
    env = make("football/academy_3_vs_1_with_keeper", team_reward="one")
    assert asked["env_name"] == "academy_3_vs_1_with_keeper" and env.spec.n_agents == 3
    assert (env.spec.n_actions, env.spec.obs_size, env.spec.episode_limit) == (19, 115, 3)
    first = env.reset(5)[0]
    np.testing.assert_array_equal(env.reset(5)[0], first)
    assert (env.reset(6)[0] != first).all()
    ends = [env.step(np.zeros(3, int))[4:6] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]  # no time is left
    env.reset(0)
    env._env.env.scores_at = 1
    *_, reward, terminated, truncated, info = env.step(np.zeros(3, int))
    assert (reward, terminated, truncated, info["score_reward"]) == (1.0, True, False, 1.0)
    with pytest.raises(UserError, match="n_agents"):
        make("football/11_vs_11_stochastic")
    assert make("football/11_vs_11_stochastic", "n_agents=4").spec.n_agents == 4


# The user's own.


class Mover(AECEnv):
    """Two agents that move in turn; the game is over after two rounds."""

    metadata = {"name": "mover", "is_parallelizable": True}
    render_mode = None

    def __init__(self, parallelizable=True):
        super().__init__()
        self.metadata = {**self.metadata, "is_parallelizable": parallelizable}
        self.possible_agents, self.max_cycles = ["x", "y"], 5

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,))

    def action_space(self, agent):
        return spaces.Discrete(2)

    def observe(self, agent):
        return np.full(1, self.round / 10, np.float32)

    def reset(self, seed=None, options=None):
        self.agents, self.round = list(self.possible_agents), 0
        self.rewards = self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.turns = AgentSelector(self.agents)
        self.agent_selection = self.turns.reset()

    def step(self, action):
        if self.terminations[self.agent_selection]:
            return self._was_dead_step(action)
        last = self.turns.is_last()
        self.rewards = {agent: float(last and agent == "x") for agent in self.agents}
        if last:
            self.round += 1
            self.terminations = dict.fromkeys(self.agents, self.round == 2)
        self.agent_selection = self.turns.next()


class Idle:
    """tfmix's own kind."""

    def __init__(self, limit=2):
        self.spec = EnvSpec("idle", 2, 2, 1, 1, limit, (2, 2))

    def reset(self, seed):
        self.t = 0
        return np.zeros([2, 1]), np.zeros(1), np.ones([2, 2], bool)

    def step(self, action):
        self.t += 1
        cut = self.t == self.spec.episode_limit
        return np.zeros([2, 1]), np.zeros(1), np.ones([2, 2], bool), 1.0, False, cut, {}

    def close(self):
        pass


def graph_game():
    return envs.make_graph("two_step", Config(env="two_step"))


def spread(**arguments):
    from pettingzoo.mpe import simple_spread_v3

    return simple_spread_v3.parallel_env(**arguments)


def unequal(**arguments):
    return Unequal(**arguments)


def broken():
    raise RuntimeError("out of order")


def nothing():
    return {}


@pytest.mark.parametrize(
    "function,arguments,limit,agents",
    [
        ("Idle", ("limit=5",), 0, 2),
        ("spread", ("N=4", "max_cycles=7"), 0, 4),
        ("Mover", (), 0, 2),
        ("unequal", ("as_dict=true",), 6, 2),
        ("Battle", ("limit=4",), 0, 3),
    ],
)
def test_an_environment_of_ones_own_is_known_by_what_it_has(function, arguments, limit, agents):
    name = f"{HERE}:{function}"
    assert not envs.is_graph(name)
    env = make(name, *arguments, episode_limit=limit)
    assert env.spec.n_agents == agents
    assert len(play(env, 0)) > 1
    assert env.spec.episode_limit == {"Idle": 5, "spread": 7, "Mover": 5, "unequal": 6}.get(
        function, 4
    )


def test_aec_environments_are_converted(monkeypatch):
    monkeypatch.setitem(sys.modules, "aec_game", types.SimpleNamespace(env=Mover))
    env = make("pettingzoo/aec_game")
    env.reset(0)
    ends = [env.step(np.zeros(2, int))[3:6] for _ in range(2)]
    assert ends == [(1.0, False, False), (1.0, True, False)]
    assert env.spec.version.startswith("mover")
    with pytest.raises(UserError, match="is_parallelizable"):
        make("pettingzoo/aec_game", "parallelizable=false")


@pytest.mark.parametrize(
    "name,arguments,word",
    [
        ("no_such_module:make", (), "cannot import no_such_module"),
        (f"{HERE}:nobody", (), "there is no nobody"),
        (f"{HERE}:HERE", (), "neither a function nor a class"),
        (f"{HERE}:broken", (), "RuntimeError: out of order"),
        (f"{HERE}:nothing", (), "gives a dict, which is not"),
        (f"{HERE}:Idle", ("colour=1",), "colour"),
    ],
)
def test_what_is_no_environment_is_refused_in_one_line(name, arguments, word):
    with pytest.raises(UserError, match=word):
        make(name, *arguments)
    with pytest.raises(UserError, match="its own episode limit"):
        make(f"{HERE}:Idle", episode_limit=3)


def test_names_are_checked_before_anything_is_imported():
    assert not envs.is_graph("some.module:thing")
    for name, word in (
        ("my-module:make", "write module:function"),
        ("module:", "write module:function"),
        ("gymnasum/Foraging-8x8-2p-2f-coop-v3", "mean 'gymnasium/Foraging-8x8-2p-2f-coop-v3'"),
        ("pymarll/module:Class", "did you mean 'pymarl/module:Class'"),
        ("smac", "write smac/<map>"),
    ):
        with pytest.raises(UserError, match=word):
            envs.is_graph(name)


def test_no_flagfile_of_a_task_is_for_ones_own_environment():
    names = [file.name for file in resolve.flagfiles_for("qmix", "stag_hunt:two_step")]
    assert names == ["qmix.flags"]


def test_a_graph_environment_of_ones_own_is_compiled():
    task = open_task(Config(env=f"{HERE}:graph_game"))
    assert isinstance(task.make_collector(algos.make("vdn", task.spec, Config())), GraphCollector)
    assert task.spec.name == "two_step"


# Trained.


@pytest.mark.parametrize(
    "name,arguments,limit",
    [
        (f"{ZOO}.mpe.simple_spread_v3", {}, 10),
        pytest.param(f"{ZOO}.mpe.simple_reference_v3", {}, 10, marks=pytest.mark.slow),
        (f"{ZOO}.mpe.simple_speaker_listener_v4", {}, 10),  # unequal agents
        (f"{ZOO}.butterfly.knights_archers_zombies_v10", {"spawn_rate": 1, "max_zombies": 40}, 160),
        (FORAGING, {}, 10),
        (WAREHOUSE, {}, 10),
        (BATTLE, {"limit": 3}, 0),
    ],
)
def test_teams_are_trained_in_them(tmp_path, name, arguments, limit):
    run = tfmix.train(
        name,
        algo="qmix",
        env_arg=arguments,
        episode_limit=limit,
        env_steps=3 * max(100, limit),
        run_dir=str(tmp_path / "run"),
        recurrent=False,  # compiles faster
        agent_layers=1,
        mixer_embed=4,
        hypernet_embed=4,
        **TINY,
    )
    with (run.folder / "metrics.csv").open() as file:
        assert run.finished and int(list(csv.DictReader(file))[-1]["updates"]) > 0
    assert np.isfinite(run.evaluate(1)).all()
    stored = run.trainer.replay.sample(tf.constant([0, 0]), TINY["buffer_episodes"])
    choices = stored.legal.numpy().sum(-1)[:, :-1][stored.mask.numpy() > 0]
    fewer = (choices < run.spec.agent_n_actions).any(0)  # who was ever masked or gone
    assert fewer.any() == ("zombies" in name or name == BATTLE)
    run.close()


def test_a_module_in_the_current_directory_is_trained_loaded_and_resumed(tmp_path, monkeypatch):
    (tmp_path / "mygame.py").write_text(
        f"from {HERE} import Battle\n\ndef make(limit):\n    return Battle(limit)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mygame", raising=False)
    run = tfmix.train("mygame:make", algo="vdn", env_arg={"limit": 3}, env_steps=6, **TINY)
    assert run.folder.parts[:2] == ("runs", "mygame_make")
    loaded = tfmix.load(run.folder)
    np.testing.assert_array_equal(loaded.evaluate(1), [4.5])
    assert tfmix.resume(run.folder, env_steps=12).env_steps == 12


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "environments.md").read_text()
    files = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"^python main\.py (--env=.*)$", page, re.MULTILINE)
    assert len(files) == len(commands) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module, text in files:
        (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.delitem(sys.modules, module, raising=False)
    for command in commands:
        settings = resolve.resolve(parsing.parse(command.split()))
        assert not envs.is_graph(settings.env)
        env = envs.make_python(settings.env, settings)
        if "matching" not in command:
            assert 1 < len(play(env, 0)) <= env.spec.episode_limit + 1
            continue
        collector = GraphCollector(env, right_call, 1, cut_is_terminal=False)
        seed, first = tf.constant([0, 1]), tf.constant(0, tf.int64)
        episode = collector.collect(seed, first, tf.constant(0.0), 3)
        assert (returns(episode).numpy() == env.spec.episode_limit).all()


def right_call(obs, legal, policy_state, epsilon, seed):
    """Every agent calls the coin that it sees."""
    action = tf.argmax(obs, -1, tf.int32)
    return action, None, policy_state
