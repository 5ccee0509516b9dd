"""Predator-prey with a catch action, the task of Weighted QMIX."""

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


class Hunt(NamedTuple):
    """agents [B, N] and stags [B, M], int32 cells; clock [B] int32 in steps.

    penalties [B] int32 are the failed catches of the episode.
    """

    agents: tf.Tensor
    stags: tf.Tensor
    clock: tf.Tensor
    penalties: tf.Tensor


@built_in
class StagHunt:
    """Predator-prey with a catch action, as in Weighted QMIX (Rashid et al. 2020).

    It is `stag_hunt` of the paper's code (oxwhirl/wqmix, `pred_prey_punish`),
    introduced by Boehmer et al. (2020). Agents move one after the other in random
    order, then the stags do. A stag with two or more catching agents in the
    cells beside it pays 10 and leaves the grid with these agents; a stag with
    one catching agent pays `punishment`. Other stags move to a random free cell
    beside them. No body enters a taken cell.

    Actions: right, down, left, up, stay, catch (legal only beside a stag).
    State: the grid, row by row, with 1 for agent, stag, hare (there are none).
    Observation: the same for the 5x5 cells around the agent; agents that have left
    see zeros and stay. An episode terminates when all stags or all agents have
    left. The metrics are `stags_caught` and `penalties`, the number of failed catches.

    Args:
      name: the environment's name.
      team_reward: unused; the reward is the team's.
      punishment: reward of a catch that fails, 0 or below.
      n_agents: N.
      n_stags: M.
      size: rows, and columns, of the grid.
      max_cycles: length of an episode in steps.

    Raises:
      UserError: an argument is out of bounds, or there are more bodies than cells.
    """

    SIGHT = 2  # cells to each side
    CATCHERS = 2  # agents that it takes to catch a stag
    PRIZE = 10.0
    STAY, CATCH = 4, 5
    metric_names = ("stags_caught", "penalties")

    def __init__(
        self,
        name: str,
        team_reward: str,
        punishment: float = -2.0,
        n_agents: int = 8,
        n_stags: int = 8,
        size: int = 10,
        max_cycles: int = 200,
    ):
        check_count(name, "n_agents", n_agents, 2, MOST_BODIES)
        check_count(name, "n_stags", n_stags, high=MOST_BODIES)
        check_count(name, "size", size, 2, MOST_SIDE)
        check_count(name, "max_cycles", max_cycles)
        if n_agents + n_stags > size * size:
            raise UserError(
                f"{name}: {n_agents} agents and {n_stags} stags do not fit into {size}x{size} "
                "cells: give a larger size"
            )
        self.punishment = check_number(name, "punishment", punishment, -MOST_REWARD, 0)
        self.spec = EnvSpec(
            name=name,
            n_agents=n_agents,
            n_actions=6,
            obs_size=3 * (2 * self.SIGHT + 1) ** 2,
            state_size=3 * size * size,
            episode_limit=max_cycles,
            agent_n_actions=(6,) * n_agents,
        )
        self.n_stags = n_stags
        width = size + 2 * self.SIGHT
        self.moves = np.asarray([1, width, -1, -width], np.int32)
        self.cells = grid.padded_cells(size, self.SIGHT)
        self.gone = width * width  # a cell outside of every window, which no move reaches
        sight = np.arange(-self.SIGHT, self.SIGHT + 1)
        self.window = (sight[:, None] * width + sight).ravel().astype(np.int32)
        # Which actions the walls allow in a cell; agents that have left may stay.
        self.allowed: np.ndarray = np.zeros([self.gone + 1, 6], bool)
        self.allowed[:, self.STAY] = True
        self.allowed[self.cells, self.CATCH] = True
        self.allowed[self.cells, :4] = np.isin(self.cells[:, None] + self.moves, self.cells)

    def beside(self, agents: tf.Tensor, stags: tf.Tensor) -> tf.Tensor:
        """Return which stags are in the four cells around which agents, [B, N, M]."""
        apart = tf.abs(agents[:, :, None] - stags[:, None])
        return (apart == self.moves[0]) | (apart == self.moves[1])

    def move_agents(self, hunt: Hunt, action: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
        """Return the agents' cells after their moves, [B, N]; bits [B, N] decide the order."""
        allowed = tf.gather(tf.constant(self.allowed[:, :4]), hunt.agents)
        going = tf.one_hot(action, 4, True, False) & allowed
        wanted = hunt.agents + tf.reduce_sum(tf.where(going, self.moves, 0), -1)
        return grid.move_in_turn(
            hunt.agents, wanted, grid.move_order(grid.with_index(bits)), hunt.stags
        )

    def move_stags(
        self, agents: tf.Tensor, stags: tf.Tensor, catching: tf.Tensor, bits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Let the stags be caught or move, one after the other.

        Args:
          agents: [B, N], after their moves.
          stags: [B, M].
          catching: [B, N] bool.
          bits: [B, 5 * M] random numbers, for the order and the directions.

        Returns:
          agents and stags afterwards, the reward [B], and the number of failed catches [B].
        """
        batch, m = stags.shape
        turn = grid.move_order(grid.with_index(bits[:, :m]))
        # A stag moves to the free cell with the highest draw.
        draw = grid.with_index(tf.reshape(bits[:, m:], [batch, m, 4]))
        draw = tf.where(tf.gather(tf.constant(self.allowed[:, :4]), stags), draw, -1)
        # Neither catching agents nor stags that wait for their turn have moved.
        reach = self.beside(agents, stags) & catching[:, :, None]
        reward, failed = tf.zeros([batch, 1]), tf.zeros([batch, 1], tf.int32)
        for k in range(m):
            is_mover = turn == k
            at = grid.value_of_mover(is_mover, stags)
            catchers = tf.reduce_any(reach & is_mover[:, None], 2) & (agents != self.gone)  # [B, N]
            count = tf.reduce_sum(tf.cast(catchers, tf.int32), 1, keepdims=True)
            caught = count >= self.CATCHERS
            reward += tf.where(caught, self.PRIZE, tf.where(count > 0, self.punishment, 0.0))
            failed += tf.cast((count > 0) & ~caught, tf.int32)
            agents = tf.where(catchers & caught, self.gone, agents)
            around = at + self.moves  # [B, 4]
            everybody = tf.concat([agents, stags], 1)
            taken = tf.reduce_any(everybody[:, :, None] == around[:, None], 1)
            own_draw = tf.reduce_max(tf.where(is_mover[..., None], draw, -1), 1)
            best = tf.reduce_max(tf.where(taken, -1, own_draw), 1, keepdims=True)
            goes = (best == own_draw) & (best >= 0)
            at += tf.reduce_sum(tf.where(goes, self.moves, 0), 1, keepdims=True)
            stags = tf.where(is_mover, tf.where(caught, self.gone, at), stags)
        return agents, stags, reward[:, 0], failed[:, 0]

    def look(self, hunt: Hunt) -> tuple[tf.Tensor, tf.Tensor]:
        """Return observations [B, N, O] and states [B, S]."""
        batch, spec = hunt.clock.shape[0], self.spec
        around = (hunt.agents[:, :, None] + self.window)[:, :, None]  # [B, N, 1, 25]
        present = (hunt.agents != self.gone)[..., None]
        windows, grids = [], []
        for bodies in (hunt.agents, hunt.stags):
            near = tf.reduce_any(bodies[:, None, :, None] == around, 2)
            windows.append(tf.cast(near & present, tf.float32))
            here = tf.reduce_any(bodies[:, :, None] == self.cells, 1)
            grids.append(tf.cast(here, tf.float32))
        obs = tf.stack([*windows, tf.zeros_like(windows[0])], -1)
        state = tf.stack([*grids, tf.zeros_like(grids[0])], -1)
        return (
            tf.reshape(obs, [batch, spec.n_agents, spec.obs_size]),
            tf.reshape(state, [batch, spec.state_size]),
        )

    def _make_step(self, hunt: Hunt, reward: tf.Tensor) -> Step:
        obs, state = self.look(hunt)
        near = tf.reduce_any(self.beside(hunt.agents, hunt.stags), 2)
        legal = tf.gather(tf.constant(self.allowed), hunt.agents)
        catch = tf.range(6) == self.CATCH
        caught = tf.reduce_sum(tf.cast(hunt.stags == self.gone, tf.int32), 1)
        over = tf.reduce_all(hunt.stags == self.gone, 1) | tf.reduce_all(
            hunt.agents == self.gone, 1
        )
        return Step(
            obs=obs,
            state=state,
            legal=legal & (near[..., None] | ~catch),
            reward=reward,
            terminated=over,
            truncated=(hunt.clock >= self.spec.episode_limit) & ~over,
            metrics=tf.stack([tf.cast(x, tf.float32) for x in (caught, hunt.penalties)], 1),
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[Hunt, Step]:
        """Draw a different cell for every body uniformly."""
        n = self.spec.n_agents
        places = grid.place(seed, batch, self.cells, n + self.n_stags)
        none = tf.zeros([batch], tf.int32)
        hunt = Hunt(places[:, :n], places[:, n:], none, none)
        return hunt, self._make_step(hunt, tf.zeros([batch]))

    def step(self, state: Hunt, action: tf.Tensor, seed: tf.Tensor) -> tuple[Hunt, Step]:
        """Move the agents, then the stags."""
        n, batch = self.spec.n_agents, action.shape[0]
        bits = grid.random_bits(seed, batch, n + 5 * self.n_stags)
        agents = self.move_agents(state, action, bits[:, :n])
        agents, stags, reward, failed = self.move_stags(
            agents, state.stags, action == self.CATCH, bits[:, n:]
        )
        hunt = Hunt(agents, stags, state.clock + 1, state.penalties + failed)
        return hunt, self._make_step(hunt, reward)


def pair_hunt(
    name: str,
    team_reward: str,
    punishment: float = -4.0,
    n_agents: int = 2,
    n_stags: int = 1,
    size: int = 5,
    max_cycles: int = 40,
) -> StagHunt:
    """Make the stag hunt of two agents and one stag on a small grid, the default task.

    The best team catches in nearly every episode and returns 10, one that never tries 0. With
    this punishment a catch costs more than it brings while the other agent explores: the agents
    see relative overgeneralisation, and a team that cannot represent it learns never to try.

    Raises:
      UserError: as `StagHunt`.
    """
    return StagHunt(name, team_reward, punishment, n_agents, n_stags, size, max_cycles)
