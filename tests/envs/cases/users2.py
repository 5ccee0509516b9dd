"""More cases."""

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.envs.cases.users import Base


# HighwayEnv#656, #273: one reward, one flag, observations in a tuple
class OneFlagTuple(gymnasium.Env):
    def __init__(self, n=2, limit=6):
        self.action_space = spaces.Tuple([spaces.Discrete(3)] * n)
        self.observation_space = spaces.Tuple([spaces.Box(-1, 1, (3,), np.float32)] * n)
        self.n, self.max_steps = n, limit

    def look(self):
        return tuple(np.float32(self.np_random.uniform(-1, 1, (self.n, 3))))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        return self.look(), 1.0, False, self.t >= self.max_steps, {}


class ArrayReward1(OneFlagTuple):
    """the team's reward in an array of one number"""

    def step(self, action):
        o, r, e, c, i = super().step(action)
        return o, np.array([r]), e, c, i


class ObsArray(OneFlagTuple):
    """observations in one array [N, O], as MiniGrid's or VMAS's"""

    def look(self):
        return np.float32(self.np_random.uniform(-1, 1, (self.n, 3)))


class PerAgentEndsAll(OneFlagTuple):
    """terminated for each agent, only one has ended; the info has the mask as an array"""

    def step(self, action):
        o, r, e, c, i = super().step(action)
        return o, [r, r], [self.t >= 2, False], [c, c], {"action_mask": np.ones((2, 3), np.int8)}


class TimeLimitKey(OneFlagTuple):
    """old baselines' word for the clock: info['TimeLimit.truncated'] beside terminated"""

    def step(self, action):
        o, r, e, c, i = super().step(action)
        return o, r, c, False, {"TimeLimit.truncated": c}


class DiscreteObs(Base):
    def observation_space(self, agent):
        return spaces.Discrete(5)

    def look(self):
        return {a: int(self.rng.integers(5)) for a in self.agents}


class DiscreteObsStart(Base):
    def observation_space(self, agent):
        return spaces.Discrete(5, start=1)

    def look(self):
        return {a: int(self.rng.integers(1, 6)) for a in self.agents}


class MultiBinaryObs(Base):
    def observation_space(self, agent):
        return spaces.Dict(
            {
                "here": spaces.MultiBinary(3),
                "x": spaces.Tuple([spaces.Discrete(2), spaces.MultiDiscrete([2, 3])]),
            }
        )

    def look(self):
        return {a: {"here": np.int8([0, 1, 1]), "x": (1, np.array([1, 2]))} for a in self.agents}


class Nested(Base):
    """PettingZoo's mask beside a Dict observation"""

    def observation_space(self, agent):
        return spaces.Dict(
            {
                "observation": spaces.Dict({"p": spaces.Box(-1, 1, (2,)), "q": spaces.Discrete(3)}),
                "action_mask": spaces.Box(0, 1, (2,), np.int8),
            }
        )

    def look(self):
        return {
            a: {
                "observation": {"p": np.float32(self.rng.uniform(-1, 1, 2)), "q": 1},
                "action_mask": np.int8([0, 1]),
            }
            for a in self.agents
        }

    def step(self, actions):
        assert all(x == 1 for x in actions.values())
        return super().step(actions)


class WideInts(Base):
    """ids beyond 2**24 lose their last digits in float32"""

    def observation_space(self, agent):
        return spaces.Box(0, 2**40, (2,), np.int64)

    def look(self):
        return {a: np.array([2**30 + self.t, 2**30], np.int64) for a in self.agents}

    def reset(self, seed=None, options=None):
        self.t = 0
        return super().reset(seed)


class UnboundedBig(Base):
    def observation_space(self, agent):
        return spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def look(self):
        return {a: np.array([1e39, 0.0]) for a in self.agents}


class SequenceObs(Base):
    """a list of any length"""

    def observation_space(self, agent):
        return spaces.Sequence(spaces.Box(-1, 1, (2,)))

    def look(self):
        return {
            a: tuple(np.float32(self.rng.uniform(-1, 1, 2)) for _ in range(3)) for a in self.agents
        }


class TextObs(Base):
    def observation_space(self, agent):
        return spaces.Text(5)

    def look(self):
        return dict.fromkeys(self.agents, "abc")


class NoMasksForNext(Base):
    """info's mask only at reset, later infos lack it"""

    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {a: {"action_mask": np.int8([0, 1])} for a in o}


class ShortMask(Base):
    """mask of one number"""

    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {a: {"action_mask": np.int8([1])} for a in o}


class MaskList(Base):
    """the mask lists legal actions' numbers, as OpenSpiel's legal_actions"""

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {a: {"action_mask": [0, 1, 2]} for a in o}


class CommonMask(Base):
    """one mask in the info for everybody"""

    def reset(self, seed=None, options=None):
        o, _ = super().reset(seed)
        return o, {"action_mask": np.int8([1, 0])}


class RaisesOnce(Base):
    count = 0

    def step(self, actions):
        type(self).count += 1
        if type(self).count == 9:
            raise ConnectionError("simulator went away")
        return super().step(actions)


class SameArray(Base):
    """observations are views of one array that the next step overwrites; also the space of an agent is made anew and differs by dtype"""

    def look(self):
        if not hasattr(self, "buffer"):
            self.buffer = np.zeros((2, 3), np.float32)
        self.buffer[:] = self.rng.uniform(-1, 1, (2, 3))
        return {a: self.buffer[i] for i, a in enumerate(self.possible_agents)}


class SelfLimit(Base):
    """max_steps as a float, and as a string"""

    max_cycles = 6.0


class LimitMethod(Base):
    """limit kept in a config dict"""

    max_cycles = None
    config = {"max_steps": 6}

    def step(self, actions):
        self.max_cycles = 6
        out = super().step(actions)
        self.max_cycles = None
        return out


class LastRewardOnly(Base):
    """rewards for agents that left are paid at the end to all possible agents"""

    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        e["a"] = self.t >= 2
        if e["a"] and "a" in self.agents:
            self.agents.remove("a")
        if self.t >= 6:
            r = {"a": 5.0, "b": 5.0}
        return o, r, e, c, i


class Reborn(Base):
    """a dies at step 2, is back at step 4 (black-death games, respawn)"""

    def step(self, actions):
        self.t += 1
        here = list(self.agents)
        r = dict.fromkeys(here, 1.0)
        e = {a: a == "a" and self.t == 2 for a in here}
        c = dict.fromkeys(here, self.t >= 6)
        self.agents = [] if self.t >= 6 else (["b"] if self.t in (2, 3) else ["a", "b"])
        names = set(here) | set(self.agents)
        return (
            {a: np.float32(self.rng.uniform(-1, 1, 3)) for a in names},
            r,
            e,
            c,
            {a: {} for a in names},
        )


class SystemExits(Base):
    """leaves the program by sys.exit when its licence is missing"""

    def __init__(self):
        raise SystemExit("no licence")


class AsksInput(Base):
    def __init__(self):
        super().__init__()
        input("press return")


def needs_argument(size):
    return Base()


async def async_factory():
    return Base()


def gives_class():
    return Base


instance = Base()
