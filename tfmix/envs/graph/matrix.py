"""Games with a payoff table, and the two-step game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmix.envs.graph import check_count
from tfmix.envs.graph.payoff import read_payoff
from tfmix.envs.kinds import built_in
from tfmix.types import EnvSpec, Step


class Rounds(NamedTuple):
    """Rounds played [B] and those of them with the highest payoff [B], int32."""

    played: tf.Tensor
    best: tf.Tensor


@built_in
class MatrixGame:
    """A game with one payoff table: all agents act at once and the table pays the team.

    A game that is played once terminates; one that is played more often is
    truncated by the time limit. Observations and state are always the same few
    numbers. The metric `optimal_share` is the share of the rounds in which the joint action
    has the highest payoff.

    Args:
      payoff: the table with one axis an agent, a list of lists or an array.
      name: the environment's name.
      max_cycles: number of rounds, one a step.
      sight: the numbers that observations and state consist of.

    Raises:
      UserError: the table is not full, not finite or for fewer than two agents,
        or `max_cycles` is not a whole number of at least 1.
    """

    metric_names = ("optimal_share",)

    def __init__(
        self, payoff: Any, name: str, max_cycles: int = 1, sight: Sequence[float] = (1.0,)
    ):
        table = read_payoff(name, payoff)
        self.table = table.astype(np.float32)
        self.sight = np.asarray(sight, np.float32)
        self.spec = EnvSpec(
            name=name,
            n_agents=table.ndim,
            n_actions=max(table.shape),
            obs_size=self.sight.size,
            state_size=self.sight.size,
            episode_limit=check_count(name, "max_cycles", max_cycles),
            agent_n_actions=tuple(table.shape),
        )

    def _make_step(self, rounds: Rounds, reward: tf.Tensor) -> Step:
        played = rounds.played
        spec, batch = self.spec, played.shape[0]
        over = played >= spec.episode_limit
        once = spec.episode_limit == 1
        return Step(
            obs=tf.tile(self.sight[None, None], [batch, spec.n_agents, 1]),
            state=tf.tile(self.sight[None], [batch, 1]),
            legal=tf.tile(tf.constant(spec.own_actions[None]), [batch, 1, 1]),
            reward=reward,
            terminated=over & once,
            truncated=over & (not once),
            metrics=tf.math.divide_no_nan(
                *(tf.cast(x, tf.float32)[:, None] for x in (rounds.best, played))
            ),
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[Rounds, Step]:
        """Start episodes."""
        rounds = Rounds(tf.zeros([batch], tf.int32), tf.zeros([batch], tf.int32))
        return rounds, self._make_step(rounds, tf.zeros([batch]))

    def step(self, state: Rounds, action: tf.Tensor, seed: tf.Tensor) -> tuple[Rounds, Step]:
        """Play a round and pay the team."""
        paid = tf.gather_nd(tf.constant(self.table), action)
        is_best = tf.cast(paid >= self.table.max(), tf.int32)
        rounds = Rounds(state.played + 1, state.best + is_best)
        return rounds, self._make_step(rounds, paid)


def matrix_game(payoff: Any, name: str, team_reward: str, max_cycles: int = 1) -> MatrixGame:
    """Return a `MatrixGame`; `team_reward` is unused, since the payoff is the team's.

    8/-12/0 (`matrix/qtran`) is table 1 of Son et al. (2019), `matrix/wqmix_1`
    table 1 of Rashid et al. (2020, WQMIX), `matrix/qplex_hard` the harder game
    of QPLEX's authors (Wang et al. 2021).
    """
    return MatrixGame(payoff, name, max_cycles)


def repeated_game(payoff: Any, name: str, team_reward: str, max_cycles: int = 25) -> MatrixGame:
    """Return climbing or penalty (Claus and Boutilier 1998) as EPyMARL plays them.

    An episode has 25 rounds, ends by truncation and shows zeros only
    (Papoudakis et al. 2021; matrix-games' `-nostate` games). The payoff counts
    once, as in their results, and not once for each agent.
    """
    return MatrixGame(payoff, name, max_cycles, sight=(0.0, 0.0))


def qtran_21x21(name: str, team_reward: str) -> MatrixGame:
    """Return the 21 by 21 game on which Son et al. (2019) compare QTRAN-base with QTRAN-alt.

    It has a high and narrow peak, 10 at (5, 15), and a broad one, 5 at (15, 5).
    """
    second = np.arange(21.0)
    first = second[:, None]
    broad = 5.0 - np.square((15.0 - first) / 3.0) - np.square((5.0 - second) / 3.0)
    narrow = 10.0 - np.square(5.0 - first) - np.square(15.0 - second)
    return MatrixGame(np.maximum(broad, narrow), name)


@built_in
class TwoStep:
    """The two-step game of Rashid et al. (2018), section 5.

    In state 1 the first agent's action leads to state 2A or 2B, with reward 0.
    2A pays 7 for all actions, 2B pays [[0, 1], [1, 8]]. Observation and state
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

    def _make_step(self, place: tf.Tensor, reward: tf.Tensor, over: tf.Tensor) -> Step:
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
        """Start episodes in state 1; the state is [B] int32, 0 for 1, 1 for 2A, 2 for 2B."""
        place = tf.zeros([batch], tf.int32)
        return place, self._make_step(place, tf.zeros([batch]), tf.fill([batch], False))

    def step(self, state: tf.Tensor, action: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, Step]:
        """Move from state 1 to 2A or 2B, and from there to the end."""
        second = state > 0
        table = tf.stack([tf.maximum(state - 1, 0), action[:, 0], action[:, 1]], -1)
        paid = tf.gather_nd(tf.constant(self.PAYOFF), table)
        reward = tf.where(second, paid, tf.zeros_like(paid))
        place = tf.where(second, state, 1 + action[:, 0])
        return place, self._make_step(place, reward, second)


def two_step(name: str, team_reward: str) -> TwoStep:
    """Return a `TwoStep` game; `team_reward` is unused, since the reward is the team's."""
    return TwoStep(name)
