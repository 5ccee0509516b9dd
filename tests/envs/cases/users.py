"""Small environments after public reports; each class or function is one case."""

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Base(ParallelEnv):
    metadata = {"name": "case"}
    max_cycles = 6
    names = ["a", "b"]

    def __init__(self):
        self.possible_agents = list(self.names)
        self.agents = []

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (3,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def look(self):
        return {a: np.float32(self.rng.uniform(-1, 1, 3)) for a in self.agents}

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.t = 0
        self.agents = list(self.possible_agents)
        return self.look(), {a: {} for a in self.agents}

    def step(self, actions):
        self.t += 1
        rewards = dict.fromkeys(self.agents, 1.0)
        cut = self.t >= self.max_cycles
        obs = self.look()
        ends = dict.fromkeys(self.agents, False)
        cuts = dict.fromkeys(self.agents, cut)
        infos = {a: {} for a in self.agents}
        if cut:
            self.agents = []
        return obs, rewards, ends, cuts, infos


# sample-factory#305 / RLlib: mask beside an observation of another name
class MaskBesideObs(Base):
    key = "obs"

    def observation_space(self, agent):
        return spaces.Dict(
            {
                self.key: spaces.Box(-1, 1, (3,), np.float32),
                "action_mask": spaces.Box(0, 1, (2,), np.int8),
            }
        )

    def look(self):
        return {
            a: {self.key: np.float32(self.rng.uniform(-1, 1, 3)), "action_mask": np.int8([1, 0])}
            for a in self.agents
        }

    def step(self, actions):
        assert all(x == 0 for x in actions.values()), "illegal action was taken"
        return super().step(actions)


class MaskBesideObservations(MaskBesideObs):
    key = "observations"


# PettingZoo#387, #661: agents that come back, or are followed by others
class Relay(Base):
    """a acts 3 steps, then leaves and b enters for 3 more; the reward comes in b's part."""

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.t = 0
        self.agents = ["a"]
        return self.look(), {"a": {}}

    def step(self, actions):
        self.t += 1
        acting = list(self.agents)
        rewards = {x: float(x == "b") for x in acting}
        ends = {x: (self.t == 3 and x == "a") or self.t == 6 for x in acting}
        cuts = dict.fromkeys(acting, False)
        if self.t == 3:
            self.agents = ["b"]
        if self.t == 6:
            self.agents = []
        obs = {x: np.float32(self.rng.uniform(-1, 1, 3)) for x in set(acting) | set(self.agents)}
        return obs, rewards, ends, cuts, {x: {} for x in obs}


# agents' list says everybody, an observation for one of them is missing (turns: sumo-rl#45)
class SomeLook(Base):
    def look(self):
        turn = self.possible_agents[getattr(self, "t", 0) % 2]
        return {turn: np.float32(self.rng.uniform(-1, 1, 3))}


# reward's keys are not the agents' names
class OtherNames(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, {"agent_" + k: v for k, v in r.items()}, e, c, i


# rewards in a list beside Dict spaces (gymnasium)
class DictSpacesListReward(gymnasium.Env):
    max_steps = 6

    def __init__(self):
        self.action_space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(2)})
        self.observation_space = spaces.Dict({k: spaces.Box(-1, 1, (3,), np.float32) for k in "ab"})

    def look(self):
        return {k: np.float32(self.np_random.uniform(-1, 1, 3)) for k in "ab"}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        return self.look(), [1.0, 1.0], False, self.t >= 6, {}


class DictSpacesArrayEnds(DictSpacesListReward):
    def step(self, action):
        o, r, e, c, i = super().step(action)
        return o, {"a": 1.0, "b": 1.0}, [self.t >= 4] * 2, [False, False], i


# observation space of integers, observations between 0 and 1
class IntSpaceFloatObs(Base):
    def observation_space(self, agent):
        return spaces.Box(0, 255, (3,), np.uint8)

    def look(self):
        return {a: self.rng.uniform(0, 1, 3).astype(np.float32) for a in self.agents}


# RLlib's flags: one "__all__"
class AllFlag(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        over = self.t >= 4
        if over:
            self.agents = []
        return o, r, {"__all__": over}, {"__all__": False}, i


# action_space is an attribute, as in a Gymnasium class
class AttributeSpaces(Base):
    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-1, 1, (3,), np.float32)


class StateAttribute(Base):
    state = None

    def reset(self, seed=None, options=None):
        out = super().reset(seed)
        self.state = np.zeros(4, np.float32)
        return out


class StateNone(Base):
    def state(self):
        pass


class StateDict(Base):
    def state(self):
        return {"grid": np.zeros(4)}


class OnlyAgents(Base):
    """No possible_agents at all."""

    def __init__(self):
        self.agents = ["a", "b"]

    possible_agents = property(
        lambda self: (_ for _ in ()).throw(AttributeError("possible_agents"))
    )

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.t = 0
        self.agents = ["a", "b"]
        return self.look(), {a: {} for a in self.agents}


class NoneInfos(Base):
    def step(self, actions):
        return (*super().step(actions)[:4], None)


class NoneInfosReset(Base):
    def reset(self, seed=None, options=None):
        return super().reset(seed)[0], None


class ListFlags(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, r, list(e.values()), list(c.values()), i


class ArrayEverything(Base):
    names = [0, 1]

    def look(self):
        return np.float32(self.rng.uniform(-1, 1, (2, 3)))

    def step(self, actions):
        self.t += 1
        cut = self.t >= 6
        return self.look(), np.ones(2), np.zeros(2, bool), np.full(2, cut), {}


class ArrayRewards(Base):
    names = [0, 1]

    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, np.array([2.0, 3.0]), e, c, i


class ZeroDReward(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, {k: np.array(int(v)) for k, v in r.items()}, e, c, i


class OneElementReward(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, {k: np.array([v]) for k, v in r.items()}, e, c, i


class NoneReward(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, dict.fromkeys(r), e, c, i


class CloseRaises(Base):
    def close(self):
        raise RuntimeError("viewer is None")


class NoClose:
    """Duck-typed, without close()."""

    def __init__(self):
        self._e = Base()
        self.possible_agents = self._e.possible_agents
        self.max_cycles = 6

    agents = property(lambda self: self._e.agents)

    def observation_space(self, a):
        return self._e.observation_space(a)

    def action_space(self, a):
        return self._e.action_space(a)

    def reset(self, seed=None, options=None):
        return self._e.reset(seed)

    def step(self, actions):
        return self._e.step(actions)


class Printing(Base):
    def reset(self, seed=None, options=None):
        print("Resetting environment ...")
        return super().reset(seed)

    def step(self, actions):
        import sys

        print("reward", 1.0, file=sys.stderr)
        return super().step(actions)


class GlobalRandom(Base):
    """Draws of np.random without using the seed."""

    def look(self):
        return {a: np.float32(np.random.uniform(-1, 1, 3)) for a in self.agents}


class OwnClock(Base):
    """Draws with a generator of its own, started once from the system."""

    gen = np.random.default_rng()

    def look(self):
        return {a: np.float32(self.gen.uniform(-1, 1, 3)) for a in self.agents}


class NotPicklable(Base):
    def __init__(self):
        super().__init__()
        self.f = lambda x: x
        self.file = open("/dev/null")


class StartAtOne(Base):
    def action_space(self, agent):
        return spaces.Discrete(3, start=1)

    def step(self, actions):
        assert all(1 <= x <= 3 for x in actions.values()), actions
        return super().step(actions)


class StartAtOneMask(StartAtOne):
    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {a: {"action_mask": np.int8([0, 1, 0])} for a in o}

    def step(self, actions):
        assert all(x == 2 for x in actions.values()), actions
        o, r, e, c, _ = super().step(actions)
        return o, r, e, c, {a: {"action_mask": np.int8([0, 1, 0])} for a in o}


class MultiDiscreteActions(Base):
    def action_space(self, agent):
        return spaces.MultiDiscrete([3, 2])


class Multi(DictSpacesListReward):
    """One MultiDiscrete for the team, as jumanji's or football's."""

    def __init__(self):
        self.action_space = spaces.MultiDiscrete([2, 2])
        self.observation_space = spaces.Box(-1, 1, (2, 3), np.float32)


class OldSteps(DictSpacesListReward):
    """Gym 0.21's words."""

    def __init__(self):
        self.action_space = spaces.Tuple([spaces.Discrete(2)] * 2)
        self.observation_space = spaces.Tuple([spaces.Box(-1, 1, (3,), np.float32)] * 2)

    def reset(self):
        self.rng = np.random.default_rng(0)
        self.t = 0
        return tuple(np.float32(self.rng.uniform(-1, 1, (2, 3))))

    def step(self, action):
        self.t += 1
        return tuple(np.float32(self.rng.uniform(-1, 1, (2, 3)))), [1.0, 1.0], [self.t >= 6] * 2, {}


class OldGymSpaces(Base):
    def action_space(self, agent):
        import gym.spaces

        return gym.spaces.Discrete(2)


class InfoAvail(Base):
    """Mask under info['available_actions'] (XuanCe's and others' word)."""

    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {a: {"avail_actions": np.int8([1, 0])} for a in o}


class AdditiveMask(Base):
    """Mask of 0 and -inf that is added to values."""

    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {a: {"action_mask": np.float32([0, -np.inf])} for a in o}


class BothEnds(Base):
    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, r, dict(c), c, i


class Image(Base):
    def observation_space(self, agent):
        return spaces.Box(0, 255, (84, 84, 3), np.uint8)

    def look(self):
        return {a: self.rng.integers(0, 256, (84, 84, 3)).astype(np.uint8) for a in self.agents}


class BigImage(Image):
    max_cycles = 1000


class LateAgents(Base):
    """possible_agents is filled by reset only."""

    def __init__(self):
        self.possible_agents = []
        self.agents = []

    def reset(self, seed=None, options=None):
        self.possible_agents = ["a", "b"]
        return super().reset(seed)


class MixedNames(Base):
    names = ["robot", 7, ("team", 1)]


class Shuffled(Base):
    def look(self):
        self.rng.shuffle(self.agents)
        return super().look()


class WrongLimitName(Base):
    """max_iter is of its planner (5); the episode has 40 steps and says so nowhere else."""

    max_cycles = None
    max_iter = 5

    def step(self, actions):
        self.max_cycles = 40
        out = super().step(actions)
        self.max_cycles = None
        return out


class AllGone(Base):
    """Empties `agents` at the end without a flag."""

    def step(self, actions):
        if not actions:
            raise KeyError("no actions")
        o, r, e, c, i = super().step(actions)
        return o, r, e, dict.fromkeys(c, False), i


class Hostage(Base):
    """A dead agent stays in `agents` and in every dict with its flag set (SuperSuit's black death inverted)."""

    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        e["a"] = e["a"] or self.t >= 2
        if self.t > 2:
            r["a"] = 0.0
        return o, r, e, c, i


# RLlib's MultiAgentEnv, new API: get_action_space, __all__
class Rllib:
    max_steps = 6
    possible_agents = ["a", "b"]

    def __init__(self, config=None):
        self.agents = ["a", "b"]
        self.action_spaces = {k: spaces.Discrete(2) for k in "ab"}
        self.observation_spaces = {k: spaces.Box(-1, 1, (3,), np.float32) for k in "ab"}

    def get_action_space(self, a):
        return self.action_spaces[a]

    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.t = 0
        return {k: np.float32(self.rng.uniform(-1, 1, 3)) for k in "ab"}, {}

    def step(self, action_dict):
        self.t += 1
        return (
            {k: np.float32(self.rng.uniform(-1, 1, 3)) for k in "ab"},
            {"a": 1.0, "b": 1.0},
            {"__all__": self.t >= 4},
            {"__all__": False},
            {},
        )


def time_limit():
    env = OldSteps.__mro__[1]()
    return gymnasium.wrappers.TimeLimit(env, 3)


def tuple_gone():
    """Gymnasium, `terminated` a number of numpy's bool, reward 0-d."""

    class E(DictSpacesListReward):
        def step(self, action):
            o, r, e, c, i = super().step(action)
            return o, np.array(2), np.bool_(False), np.bool_(c), i

    return E()
