"""Kinds around PyMARL classes and scripts."""

import numpy as np


class Pm:
    """PyMARL's interface, small."""

    n = 2
    limit = 6

    def reset(self):
        self.t = 0
        return self.get_obs(), self.get_state()

    def step(self, actions):
        self.t += 1
        return 1.0, self.t >= self.limit, {}

    def get_obs(self):
        return [np.float32([self.t, i]) for i in range(self.n)]

    def get_state(self):
        return np.float32([self.t])

    def get_avail_actions(self):
        return [[1, 1]] * self.n

    def get_env_info(self):
        return {
            "n_agents": self.n,
            "n_actions": 2,
            "obs_shape": 2,
            "state_shape": 1,
            "episode_limit": self.limit,
        }

    def close(self):
        pass


class Info(Pm):
    """SMAC's last info has episode_limit and battle_won"""

    def step(self, actions):
        r, over, _ = super().step(actions)
        return r, over, {"episode_limit": over, "battle_won": False}


class EpymarlRewards(Pm):
    """EPyMARL: five values and a reward an agent (common_reward=False)"""

    def reset(self, seed=None, options=None):
        super().reset()
        return self.get_obs(), {}

    def step(self, actions):
        r, over, _ = super().step(actions)
        return self.get_obs(), [1.0, 2.0], False, over, {}


class EpymarlListEnds(EpymarlRewards):
    """EPyMARL before its Gymnasium days: terminated a list"""

    def step(self, actions):
        o, r, e, c, i = super().step(actions)
        return o, 3.0, [c, c], [False, False], i


class ObsShapeTuple(Pm):
    def get_env_info(self):
        return {**super().get_env_info(), "obs_shape": (2,), "n_agents": np.int64(2)}


class ThreeStateWrong(Pm):
    def get_env_info(self):
        return {**super().get_env_info(), "state_shape": 9}


class NoLimit(Pm):
    def get_env_info(self):
        info = super().get_env_info()
        info.pop("episode_limit")
        return info


class InfoNone(Pm):
    def step(self, actions):
        return (*super().step(actions)[:2], None)


class TorchOut(Pm):
    """actions looked at as arrays: actions[0].item(), as PyMARL hands out tensors"""

    def step(self, actions):
        self.t += 1
        total = sum(int(a.item()) for a in actions)
        return float(total), self.t >= self.limit, {}


class StackActions(Pm):
    """wants an array: actions.shape"""

    def step(self, actions):
        self.t += 1
        assert actions.shape == (2,)
        return 1.0, self.t >= self.limit, {}


class CloseRaisesPm(Pm):
    def close(self):
        raise RuntimeError("game is gone")


class MaskFloat(Pm):
    def get_avail_actions(self):
        return np.float32([[1, 0]] * 2)


class DoneNumpy(Pm):
    def step(self, actions):
        self.t += 1
        return np.float32(1), np.array(self.t >= self.limit), {}


class DoneList(Pm):
    """terminated is one flag an agent, [False, False] at first"""

    def step(self, actions):
        self.t += 1
        return 1.0, [self.t >= self.limit] * 2, {}


class RewardList(Pm):
    def step(self, actions):
        self.t += 1
        return [1.0, 1.0], self.t >= self.limit, {}
