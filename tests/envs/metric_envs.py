"""Environments that report metrics; worker processes build them, so no TensorFlow here."""

import numpy as np

from tfmix.types import EnvSpec


class Skirmish:
    """PyMARL's interface: two agents, two rounds; the info counts what the last actions were.

    Args:
      late: the episode from which the info has an entry more, which the first ones lack.
      some: whether `rare` is in the info only if the first agent's last action is 1.
    """

    def __init__(self, late=0, some=False):
        self.late, self.some, self.episodes, self.round = late, some, 0, 0

    def reset(self):
        self.episodes += 1
        self.round, self.start = 0, np.random.random()

    def step(self, actions):
        self.round += 1
        over = self.round == 2
        info = {
            "battle_won": bool(actions[0] == actions[1] == 1),
            "dead_allies": np.int64(2 - sum(actions)),
            "round": np.float32([self.round]),
            "endless": float("inf"),
            "map": "8m",
            "shape": [1, 2],
            3: 4,
            "nested": {"a": 1},
            **({"episode_limit": True} if over else {}),
            **({"late": 1} if self.late and self.episodes >= self.late else {}),
            **({"rare": 5} if self.some and actions[0] == 1 else {}),
        }
        return float(sum(actions)), over, info

    def get_obs(self):
        return [np.float32([self.start, self.round, i]) for i in range(2)]

    def get_state(self):
        return np.float32([self.start, self.round])

    def get_avail_actions(self):
        return [[1, 1]] * 2

    def get_env_info(self):
        shapes = {"obs_shape": 3, "state_shape": 2, "episode_limit": 2}
        return {"n_agents": 2, "n_actions": 2, **shapes}


class Declared(Skirmish):
    """Says which metrics it has; one of them never comes."""

    metric_names = ("dead_allies", "never")


class Misdeclared(Skirmish):
    """Says what are no names."""

    metric_names = ("won", "won")


class Pair:
    """PettingZoo's interface: each agent's info has numbers, of which some only one agent has."""

    metadata = {"name": "pair_v0"}
    possible_agents = ["left", "right"]
    max_cycles = 3

    def action_space(self, agent):
        from gymnasium import spaces

        return spaces.Discrete(2)

    def observation_space(self, agent):
        from gymnasium import spaces

        return spaces.Box(-10, 10, (1,), np.float32)

    def _seen(self):
        return {agent: np.float32([self.clock]) for agent in self.possible_agents}

    def reset(self, seed=None, options=None):
        self.agents, self.clock = list(self.possible_agents), 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.clock += 1
        over = self.clock == 3
        acted = list(self.agents)
        infos = {
            "left": {"speed": 1.0, "only_left": 7, "length": 3},
            "right": {"speed": 4.0, "action_mask": np.ones(2, np.int8)},
        }
        self.agents = [] if over else self.agents
        flags = dict.fromkeys(acted, over)
        return self._seen(), dict.fromkeys(acted, 1.0), flags, dict.fromkeys(acted, False), infos

    def close(self):
        pass


class Own:
    """tfmix's interface: what `metric_names` names is in the info."""

    spec = EnvSpec("own", 2, 2, 1, 1, 2, (2, 2))
    metric_names = ("touched",)

    def reset(self, seed):
        self.clock, self.touched = 0, 0
        return self._look()

    def _look(self):
        return np.full([2, 1], self.clock), np.full([1], self.clock), np.ones([2, 2], bool)

    def step(self, action):
        self.clock += 1
        self.touched += int(action.sum())
        return (*self._look(), 1.0, self.clock == 2, False, {"touched": self.touched, "x": 1})

    def close(self):
        pass
