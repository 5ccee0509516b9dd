"""An environment with unequal agents and masks, as PettingZoo's ParallelEnv; no TensorFlow."""

import numpy as np
from gymnasium import spaces

LIMIT = 6


class Relay:
    """A scout that sees three numbers calls one of 2; a carrier that sees two does one of 4.

    An action that the mask forbids raises ValueError.
    """

    metadata = {"name": "relay"}
    possible_agents = ("scout", "carrier")
    sizes, counts = {"scout": 3, "carrier": 2}, {"scout": 2, "carrier": 4}

    def __init__(self):
        self.agents = []
        self.max_steps = LIMIT

    def observation_space(self, agent):
        return spaces.Box(-np.inf, np.inf, [self.sizes[agent]], np.float32)

    def action_space(self, agent):
        return spaces.Discrete(self.counts[agent])

    def reset(self, seed=None, options=None):
        self.random, self.clock = np.random.default_rng(seed), 0
        self.agents = list(self.possible_agents)
        return self._look()

    def _look(self):
        draw = self.random
        self.seen = {a: draw.normal(size=self.sizes[a]).astype(np.float32) for a in self.agents}
        self.masks = {a: draw.random(self.counts[a]) < 0.6 for a in self.agents}
        for agent in self.agents:
            self.masks[agent][draw.integers(self.counts[agent])] = True
        return dict(self.seen), {a: {"action_mask": self.masks[a].astype(int)} for a in self.agents}

    def step(self, actions):
        for agent in self.agents:
            if not self.masks[agent][actions[agent]]:
                raise ValueError(f"{agent} did {actions[agent]}, which the mask forbids")
        called, carried = actions["scout"], actions["carrier"]
        reward = float(self.seen["scout"][0]) * (called - 0.5) + float(self.seen["carrier"][1])
        reward *= 1.0 + 0.5 * carried
        self.clock += 1
        before, over = list(self.agents), self.clock >= LIMIT
        flags, no = dict.fromkeys(before, over), dict.fromkeys(before, False)
        observations, infos = self._look()
        if over:
            self.agents = []
        return observations, dict.fromkeys(before, reward / 2), no, flags, infos

    def close(self):
        pass
