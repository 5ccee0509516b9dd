"""Multi-agent particle environments (Lowe et al. 2017; Mordatch and Abbeel 2018).

The dynamics of PettingZoo's and MPE2's `_v3` tasks: forces from actions and
contacts at the old positions, then positions move with the old velocities,
then velocities change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmix.config import UserError
from tfmix.types import EnvSpec, Step

TIME_STEP = 0.1  # seconds
DAMPING = 0.25  # share of the velocity lost in a step
ACTION_FORCE = 5.0
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 1e-3  # softness of a contact, in units of length
# What the actions push towards: nothing, left, right, down, up.
DIRECTIONS = np.asarray([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)


class World(NamedTuple):
    """position [B, N, 2], velocity [B, N, 2], landmark [B, L, 2], clock [B] int32 in steps."""

    position: tf.Tensor
    velocity: tf.Tensor
    landmark: tf.Tensor
    clock: tf.Tensor


def contact_forces(position: tf.Tensor, size: float) -> tf.Tensor:
    """How agents that touch push each other away.

    Args:
      position: [B, N, 2].
      size: radius of every agent.

    Returns:
      [B, N, 2], the sum over the others.
    """
    between = position[:, :, None] - position[:, None]  # [B, N, N, 2], from the other to oneself
    distance = tf.sqrt(tf.reduce_sum(tf.square(between), -1))  # [B, N, N]
    depth = tf.math.softplus((2.0 * size - distance) / CONTACT_MARGIN) * CONTACT_MARGIN
    # Two bodies at one point have no direction to go; the quotient's zero keeps NaN out.
    strength = tf.math.divide_no_nan(CONTACT_FORCE * depth, distance)
    return tf.reduce_sum(between * strength[..., None], 2)


class SimpleSpread:
    """Cooperative navigation, `simple_spread_v3`: N agents cover N landmarks.

    Observation: own velocity 2, own position 2, the landmarks and then the
    other agents as seen from oneself, and the others' silent words (zeros).
    State: the observations side by side. Reward of agent i: (1 - local_ratio)
    times minus the sum over landmarks of the distance to the nearest agent,
    plus local_ratio times minus the others that agent i touches.

    Args:
      name: the environment's name.
      team_reward: `sum` or `mean` over the agents.
      n: agents, and landmarks.
      local_ratio: weight of an agent's own collisions.
      max_cycles: length of an episode in steps.

    Raises:
      UserError: an argument out of bounds, or `team_reward` of `one`.
    """

    SIZE = 0.15

    def __init__(
        self,
        name: str,
        team_reward: str,
        n: int = 3,
        local_ratio: float = 0.5,
        max_cycles: int = 25,
    ):
        for argument, value in (("n", n), ("max_cycles", max_cycles)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name}: {argument}={value!r} must be a whole number from 1")
        if not isinstance(local_ratio, int | float) or not 0 <= local_ratio <= 1:
            raise UserError(f"{name}: local_ratio={local_ratio!r} must lie between 0 and 1")
        if team_reward == "one":
            raise UserError(
                f"{name}: agents receive different rewards; --team_reward must be sum or mean"
            )
        self.local_ratio, self.team_reward = float(local_ratio), team_reward
        size = 4 + 2 * n + 4 * (n - 1)
        self.spec = EnvSpec(
            name=name,
            n_agents=n,
            n_actions=5,
            obs_size=size,
            state_size=size * n,
            episode_limit=max_cycles,
            agent_n_actions=(5,) * n,
            team_reward=team_reward,
            version="v3",
        )
        # Row i: the others of agent i, in order.
        self.others = np.asarray([[j for j in range(n) if j != i] for i in range(n)], np.int32)

    def observe(self, world: World) -> tf.Tensor:
        """Every agent's observation, [B, N, O]."""
        batch, n = world.position.shape[0], self.spec.n_agents
        landmarks = world.landmark[:, None] - world.position[:, :, None]  # [B, N, N, 2]
        others = tf.gather(world.position, self.others, axis=1)  # [B, N, N-1, 2]
        others -= world.position[:, :, None]
        return tf.concat(
            [
                world.velocity,
                world.position,
                tf.reshape(landmarks, [batch, n, 2 * n]),
                tf.reshape(others, [batch, n, 2 * (n - 1)]),
                tf.zeros([batch, n, 2 * (n - 1)]),
            ],
            -1,
        )

    def agent_rewards(self, world: World) -> tf.Tensor:
        """Every agent's own reward, [B, N]."""
        gaps = tf.norm(world.landmark[:, :, None] - world.position[:, None], axis=-1)
        shared = -tf.reduce_sum(tf.reduce_min(gaps, 2), 1)  # [B]
        between = tf.norm(world.position[:, :, None] - world.position[:, None], axis=-1)
        touch = tf.cast(between < 2 * self.SIZE, tf.float32)  # [B, N, N]
        own = -(tf.reduce_sum(touch, 2) - 1.0)  # oneself does not count
        return (1.0 - self.local_ratio) * shared[:, None] + self.local_ratio * own

    def _seen(self, world: World, reward: tf.Tensor) -> Step:
        batch, spec = world.position.shape[0], self.spec
        obs = self.observe(world)
        return Step(
            obs=obs,
            state=tf.reshape(obs, [batch, spec.state_size]),
            legal=tf.fill([batch, spec.n_agents, spec.n_actions], True),
            reward=reward,
            terminated=tf.fill([batch], False),
            truncated=world.clock >= spec.episode_limit,
        )

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[World, Step]:
        """Agents and landmarks anywhere in [-1, 1]^2, at rest."""
        n = self.spec.n_agents
        places = tf.random.stateless_uniform([batch, 2 * n, 2], seed, -1.0, 1.0)
        world = World(
            position=places[:, :n],
            velocity=tf.zeros([batch, n, 2]),
            landmark=places[:, n:],
            clock=tf.zeros([batch], tf.int32),
        )
        return world, self._seen(world, tf.zeros([batch]))

    def step(self, state: World, action: tf.Tensor, seed: tf.Tensor) -> tuple[World, Step]:
        """Moves everybody by one time step."""
        force = ACTION_FORCE * tf.gather(tf.constant(DIRECTIONS), action)
        force += contact_forces(state.position, self.SIZE)
        world = World(
            position=state.position + state.velocity * TIME_STEP,
            velocity=state.velocity * (1.0 - DAMPING) + force * TIME_STEP,
            landmark=state.landmark,
            clock=state.clock + 1,
        )
        rewards = self.agent_rewards(world)
        team = tf.reduce_sum if self.team_reward == "sum" else tf.reduce_mean
        return world, self._seen(world, team(rewards, -1))
