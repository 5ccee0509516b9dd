"""Games with a payoff table."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmix.config import UserError
from tfmix.types import EnvSpec, Step


class MatrixGame:
    """One step, one table: all agents act at once and the table pays the team.

    Observation and state are the number 1. The 8/-12/0 game is table 1 of Son
    et al. (2019).

    Args:
      payoff: the table with one axis an agent, a list of lists or an array.
      name: the environment's name.

    Raises:
      UserError: a table that is not full, not finite or for fewer than two agents.
    """

    def __init__(self, payoff: Any, name: str):
        try:
            table = np.asarray(payoff, np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name}: payoff must be a full array of numbers with one axis an agent, such as "
                "[[8,-12],[-12,0]]; its rows differ in length or hold something else"
            ) from error
        if table.ndim < 2 or 0 in table.shape:
            raise UserError(
                f"{name}: payoff has {table.ndim} axes; it needs one for each of two or more agents"
            )
        if not (np.abs(table) < np.finfo(np.float32).max).all():
            raise UserError(f"{name}: payoff holds a number that is not finite")
        self.table = table.astype(np.float32)
        self.spec = EnvSpec(
            name=name,
            n_agents=table.ndim,
            n_actions=max(table.shape),
            obs_size=1,
            state_size=1,
            episode_limit=1,
            agent_n_actions=tuple(table.shape),
        )

    def _seen(self, batch: int, reward: tf.Tensor, over: bool) -> Step:
        spec = self.spec
        return Step(
            obs=tf.ones([batch, spec.n_agents, 1]),
            state=tf.ones([batch, 1]),
            legal=tf.tile(tf.constant([spec.own_actions]), [batch, 1, 1]),
            reward=reward,
            terminated=tf.fill([batch], over),
            truncated=tf.fill([batch], False),
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[tf.Tensor, Step]:
        """Nothing to draw; the state of the game is a placeholder."""
        return tf.zeros([batch]), self._seen(batch, tf.zeros([batch]), False)

    def step(self, state: tf.Tensor, action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Step]:
        """Pays and ends."""
        reward = tf.gather_nd(tf.constant(self.table), action)
        return state, self._seen(action.shape[0], reward, True)


def matrix_game(payoff: Any, name: str, team_reward: str) -> MatrixGame:
    """A `MatrixGame`; its payoff is the team's, whatever `team_reward` says."""
    return MatrixGame(payoff, name)


class TwoStep:
    """The two-step game of Rashid et al. (2018), section 5.

    In state 1 the first agent's action leads to state 2A or 2B, unpaid. 2A
    pays 7 whatever happens, 2B pays [[0, 1], [1, 8]]. Observation and state
    are the one-hot of 1, 2A, 2B.
    """

    PAYOFF = np.asarray([[[7, 7], [7, 7]], [[0, 1], [1, 8]]], np.float32)

    def __init__(self, name: str):
        self.spec = EnvSpec(
            name=name,
            n_agents=2,
            n_actions=2,
            obs_size=3,
            state_size=3,
            episode_limit=2,
            agent_n_actions=(2, 2),
        )

    def _seen(self, place: tf.Tensor, reward: tf.Tensor, over: tf.Tensor) -> Step:
        batch = place.shape[0]
        state = tf.one_hot(place, 3)
        return Step(
            obs=tf.repeat(state[:, None], 2, axis=1),
            state=state,
            legal=tf.fill([batch, 2, 2], True),
            reward=reward,
            terminated=over,
            truncated=tf.fill([batch], False),
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[tf.Tensor, Step]:
        """Everybody starts in state 1; [B] int32, 0 for 1, 1 for 2A, 2 for 2B."""
        place = tf.zeros([batch], tf.int32)
        return place, self._seen(place, tf.zeros([batch]), tf.fill([batch], False))

    def step(self, state: tf.Tensor, action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Step]:
        """From 1 to 2A or 2B; from there to the end."""
        second = state > 0
        table = tf.stack([tf.maximum(state - 1, 0), action[:, 0], action[:, 1]], -1)
        paid = tf.gather_nd(tf.constant(self.PAYOFF), table)
        reward = tf.where(second, paid, tf.zeros_like(paid))
        place = tf.where(second, state, 1 + action[:, 0])
        return place, self._seen(place, reward, second)


def two_step(name: str, team_reward: str) -> TwoStep:
    """A `TwoStep` game; its reward is the team's, whatever `team_reward` says."""
    return TwoStep(name)
