"""Modified predator-prey, the task of QTRAN."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmix.envs.graph import (
    MOST_BODIES,
    MOST_REWARD,
    MOST_SIDE,
    check_count,
    check_number,
    grid,
)
from tfmix.envs.kinds import built_in
from tfmix.errors import UserError
from tfmix.types import EnvSpec, Step


class Chase(NamedTuple):
    """bodies [B, N + M] int32 cells, predators first; clock [B] int32 in steps."""

    bodies: tf.Tensor
    clock: tf.Tensor


@built_in
class ModifiedPredatorPrey:
    """Predator-prey with a penalty for hunting alone, of QTRAN (Son et al. 2019).

    It is `endless3` of the authors' code (Sonkyunghwan/QTRAN). Prey walk at
    random. A prey with two or more predators in the cells beside it pays 1 and
    is moved to a random free cell; a prey with one predator beside it pays
    minus `penalty`. An episode ends at the time limit only.

    Bodies move one after the other, predators before prey, but each body first
    lets the body in its way move: a column moves up together, while bodies
    that want to swap cells, or to move in a ring, all stay.

    Actions: up, left, stay, right, down. Every position is (row, column), less
    half a side and divided by a side. State: all positions, predators first.
    Observation: the same minus the agent's own position, its index / N, its own
    position.

    Args:
      name: the environment's name.
      team_reward: `sum` of the predators' rewards, each an N-th of what is paid;
        `mean` or `one` for one such share.
      size: rows, and columns, of the grid.
      n_predators: N.
      n_prey: M.
      penalty: the cost of one predator alone beside a prey; the paper's P.
      max_cycles: length of an episode in steps.

    Raises:
      UserError: an argument is out of bounds, or no cell is left free.
    """

    STAY = 2

    def __init__(
        self,
        name: str,
        team_reward: str,
        size: int = 5,
        n_predators: int = 2,
        n_prey: int = 1,
        penalty: float = 1.5,
        max_cycles: int = 100,
    ):
        check_count(name, "size", size, 2, MOST_SIDE)
        check_count(name, "n_predators", n_predators, 2, MOST_BODIES)
        check_count(name, "n_prey", n_prey, high=MOST_BODIES)
        check_count(name, "max_cycles", max_cycles)
        if n_predators + n_prey >= size * size:
            raise UserError(
                f"{name}: {n_predators} predators and {n_prey} prey leave no free cell of "
                f"{size}x{size}: give a larger size"
            )
        self.penalty = check_number(name, "penalty", penalty, 0, MOST_REWARD)  # is subtracted
        self.size, self.n_prey = size, n_prey
        self.share = 1.0 if team_reward == "sum" else 1.0 / n_predators
        bodies = n_predators + n_prey
        self.spec = EnvSpec(
            name=name,
            n_agents=n_predators,
            n_actions=5,
            obs_size=2 * bodies + 3,
            state_size=2 * bodies,
            episode_limit=max_cycles,
            agent_n_actions=(5,) * n_predators,
            team_reward=team_reward,
        )
        width = size + 2
        self.cells = grid.padded_cells(size, 1)
        self.moves = np.asarray([-width, -1, 0, 1, width], np.int32)
        # The cell that each action leads to from each cell; a wall stops the move.
        ends: np.ndarray = np.arange(width * width)[:, None] + self.moves
        self.ends = np.where(np.isin(ends, self.cells), ends, ends[:, [self.STAY]]).astype(np.int32)
        self.places: np.ndarray = np.zeros([width * width, 2], np.float32)
        self.places[self.cells, 0], self.places[self.cells, 1] = np.divmod(np.arange(size**2), size)
        self.places = (self.places - size / 2) / size

    def order(self, bodies: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        """Return the turn of each body, [B, K], a permutation in each row.

        A body that is called first calls the body in the cell that it wants, and
        so on down the line; the last one called moves first.
        """
        count = bodies.shape[1]
        oneself = tf.eye(count, dtype=tf.bool)[None]
        blocks = (wanted[:, :, None] == bodies[:, None]) & ~oneself  # [B, K, K], j is in i's way
        last = oneself | tf.zeros_like(blocks)  # in the line that i calls
        first_key = (tf.range(count)[:, None] + 1) * count
        key = tf.where(last, first_key, (count + 1) * count)
        for further in range(1, count):
            # A ring is called again and again; in it the order makes no difference.
            last = tf.reduce_any(last[..., None] & blocks[:, None], 2)
            key = tf.where(last, first_key - further, key)
        return grid.move_order(tf.reduce_min(key, 1))

    def pay(self, bodies: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return which prey are caught [B, M], and the reward of the whole team [B]."""
        predators, prey = tf.split(bodies, [self.spec.n_agents, self.n_prey], 1)
        apart = tf.abs(predators[:, :, None] - prey[:, None])
        beside = (apart == self.moves[3]) | (apart == self.moves[4])
        count = tf.reduce_sum(tf.cast(beside, tf.int32), 1)
        caught = count >= 2
        paid = tf.where(caught, 1.0, tf.where(count == 1, -self.penalty, 0.0))
        return caught, tf.reduce_sum(paid, 1)

    def renew(self, bodies: tf.Tensor, caught: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
        """Move caught prey one after the other to free cells; bits is [B, M, cells]."""
        n = self.spec.n_agents
        draw = grid.with_index(bits)
        for m in range(self.n_prey):
            taken = tf.reduce_any(bodies[:, :, None] == self.cells, 1)
            best = tf.reduce_max(tf.where(taken, -1, draw[:, m]), 1)
            new = tf.gather(tf.constant(self.cells), best % len(self.cells))
            is_moved = (tf.range(bodies.shape[1]) == n + m) & caught[:, m, None]
            bodies = tf.where(is_moved, new[:, None], bodies)
        return bodies

    def _make_step(self, chase: Chase, reward: tf.Tensor) -> Step:
        spec, batch = self.spec, chase.clock.shape[0]
        n = spec.n_agents
        places = tf.gather(tf.constant(self.places), chase.bodies)  # [B, K, 2]
        own = places[:, :n]
        apart = tf.reshape(places[:, None] - own[:, :, None], [batch, n, spec.state_size])
        index = tf.broadcast_to(tf.range(n, dtype=tf.float32)[:, None] / n, [batch, n, 1])
        return Step(
            obs=tf.concat([apart, index, own], -1),
            state=tf.reshape(places, [batch, spec.state_size]),
            legal=tf.fill([batch, n, 5], True),
            reward=reward,
            terminated=tf.fill([batch], False),
            truncated=chase.clock >= spec.episode_limit,
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[Chase, Step]:
        """Draw a different cell for every body uniformly."""
        bodies = grid.place(seed, batch, self.cells, self.spec.n_agents + self.n_prey)
        chase = Chase(bodies, tf.zeros([batch], tf.int32))
        return chase, self._make_step(chase, tf.zeros([batch]))

    def step(self, state: Chase, action: tf.Tensor, seed: tf.Tensor) -> tuple[Chase, Step]:
        """Move all bodies, pay the team, and move caught prey to other cells."""
        batch, m, cells = action.shape[0], self.n_prey, len(self.cells)
        bits = grid.random_bits(seed, batch, m + m * cells)
        move = tf.concat([action, bits[:, :m] % 5], 1)
        wanted = tf.gather_nd(tf.constant(self.ends), tf.stack([state.bodies, move], -1))
        bodies = grid.move_in_turn(state.bodies, wanted, self.order(state.bodies, wanted))
        caught, reward = self.pay(bodies)
        bodies = self.renew(bodies, caught, tf.reshape(bits[:, m:], [batch, m, cells]))
        chase = Chase(bodies, state.clock + 1)
        return chase, self._make_step(chase, self.share * reward)
