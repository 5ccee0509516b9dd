"""The multi-domain Gaussian squeeze of Son et al. (2019)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfmix.envs.graph import MOST_SQUEEZERS, check_count
from tfmix.envs.kinds import built_in
from tfmix.types import EnvSpec, Step


@built_in
class GaussianSqueeze:
    """A one-step task: N agents choose 0 to 10 and together must squeeze out the right amount.

    The state s is drawn from U(0, 2)^N and every agent observes all of it. The
    amount is x = sum_i a_i s_i / N, and the team's reward is the sum over the
    peaks of x exp(-(x - mean)^2 / width^2). `k1` has the peak (8, 0.5), `k2` also
    a broader and lower one, (5, 1). This follows the authors' code; the paper
    draws s_i from U(0, 0.2) and does not divide, which is the same for its ten
    agents. The metric `amount` is x.

    Args:
      name: the environment's name.
      team_reward: unused; the reward is the team's.
      peaks: mean and width of every peak.
      n: agents.

    Raises:
      UserError: `n` is not a whole number of at least 1.
    """

    HIGHEST_ACTION = 10
    metric_names = ("amount",)

    def __init__(
        self, name: str, team_reward: str, peaks: Sequence[tuple[float, float]], n: int = 10
    ):
        check_count(name, "n", n, high=MOST_SQUEEZERS)
        self.peaks = peaks
        self.spec = EnvSpec(
            name=name,
            n_agents=n,
            n_actions=self.HIGHEST_ACTION + 1,
            obs_size=n,
            state_size=n,
            episode_limit=1,
            agent_n_actions=(self.HIGHEST_ACTION + 1,) * n,
        )

    def _make_step(
        self, state: tf.Tensor, reward: tf.Tensor, amount: tf.Tensor, over: bool
    ) -> Step:
        batch, spec = state.shape[0], self.spec
        return Step(
            obs=tf.repeat(state[:, None], spec.n_agents, axis=1),
            state=state,
            legal=tf.fill([batch, spec.n_agents, spec.n_actions], True),
            reward=reward,
            terminated=tf.fill([batch], over),
            truncated=tf.fill([batch], False),
            metrics=amount[:, None],
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[tf.Tensor, Step]:
        """Draw s, [B, N]."""
        state = tf.random.stateless_uniform([batch, self.spec.n_agents], seed, 0.0, 2.0)
        return state, self._make_step(state, tf.zeros([batch]), tf.zeros([batch]), False)

    def step(self, state: tf.Tensor, action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Step]:
        """Pay the team and end the episode."""
        amount = tf.reduce_mean(tf.cast(action, tf.float32) * state, -1)  # [B]
        shares = [tf.exp(-tf.square((amount - mean) / width)) for mean, width in self.peaks]
        return state, self._make_step(state, amount * tf.add_n(shares), amount, True)
