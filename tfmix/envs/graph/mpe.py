"""Multi-agent particle environments (Lowe et al. 2017; Mordatch and Abbeel 2018).

The dynamics are those of PettingZoo's and MPE2's `_v3` tasks: actions and
contacts at the old positions give the forces, then positions move with the old
velocities, then velocities change. This module holds the physics, the base class
of all tasks and simple_spread; the tasks with messages are in `mpe_talk`.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmix.envs.graph import MOST_PARTICLES, check_count, check_number
from tfmix.envs.kinds import built_in
from tfmix.errors import UserError
from tfmix.types import EnvSpec, Step

TIME_STEP = 0.1  # seconds
DAMPING = 0.25  # share of the velocity lost in a step
ACTION_FORCE = 5.0
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 1e-3  # softness of a contact, in units of length
# Directions of the actions: none, left, right, down, up.
DIRECTIONS = np.asarray([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)


class World(NamedTuple):
    """The state of a task with N agents, L landmarks, G goals and a vocabulary of W.

    position [B, N, 2], velocity [B, N, 2], landmark [B, L, 2], goal [B, G] int32
    (indices of landmarks), word [B, N, W] (each agent's message of the last step,
    one-hot; zeros at the start and for silent agents), clock [B] int32 in steps,
    collisions [B] float32 (simple_spread: see there).
    """

    position: tf.Tensor
    velocity: tf.Tensor
    landmark: tf.Tensor
    goal: tf.Tensor
    word: tf.Tensor
    clock: tf.Tensor
    collisions: tf.Tensor


def contact_forces(position: tf.Tensor, size: float) -> tf.Tensor:
    """Return the forces with which agents that touch push each other away.

    Args:
      position: [B, N, 2].
      size: radius of every agent.

    Returns:
      [B, N, 2], summed over the other agents.
    """
    between = (
        position[:, :, None] - position[:, None]
    )  # [B, N, N, 2], from the other agent to this one
    distance = tf.sqrt(tf.reduce_sum(tf.square(between), -1))  # [B, N, N]
    depth = tf.math.softplus((2.0 * size - distance) / CONTACT_MARGIN) * CONTACT_MARGIN
    # Two agents at one point have no direction; divide_no_nan gives a force of 0 instead of NaN.
    strength = tf.math.divide_no_nan(CONTACT_FORCE * depth, distance)
    return tf.reduce_sum(between * strength[..., None], 2)


def moved(world: World, direction: tf.Tensor, force: Any = 0.0) -> World:
    """Return the world after one time step.

    Args:
      world: the present state.
      direction: [B, N] int32, an index into `DIRECTIONS` for every agent.
      force: [B, N, 2], the forces other than the agents' actions.
    """
    force += ACTION_FORCE * tf.gather(tf.constant(DIRECTIONS), direction)
    return world._replace(
        position=world.position + world.velocity * TIME_STEP,
        velocity=world.velocity * (1.0 - DAMPING) + force * TIME_STEP,
        clock=world.clock + 1,
    )


def landmarks_seen(world: World) -> tf.Tensor:
    """Return the landmarks relative to each agent, [B, N, 2 L]."""
    between = world.landmark[:, None] - world.position[:, :, None]  # [B, N, L, 2]
    return tf.reshape(between, [*world.position.shape[:2], 2 * world.landmark.shape[1]])


class ParticleTask(abc.ABC):
    """Base of the particle tasks: the start, the clock, the padding, the team's reward.

    A task defines the effect of actions (`act`), the observations (`observe`) and
    the rewards (`agent_rewards`). Its state is the concatenated observations
    without their padding.

    Args:
      name: the environment's name.
      team_reward: `sum`, `mean` or, if all agents receive the same reward, `one`.
      agent_n_actions: number of actions of every agent.
      obs_sizes: the size of every agent's observation.
      landmarks: L.
      goals: G.
      words: W.
      max_cycles: length of an episode in steps.
      version: the version of the task's source.

    Raises:
      UserError: `max_cycles` is not a whole number of at least 1, or `team_reward` is `one`
        and agents receive different rewards.
    """

    SAME_REWARD = False
    metric_names: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        team_reward: str,
        *,
        agent_n_actions: Sequence[int],
        obs_sizes: Sequence[int],
        landmarks: int,
        goals: int,
        words: int,
        max_cycles: int,
        version: str,
    ):
        if team_reward == "one" and not self.SAME_REWARD:
            raise UserError(
                f"{name}: agents receive different rewards; --team_reward must be sum or mean"
            )
        self.landmarks, self.goals, self.words = landmarks, goals, words
        self.agent_obs_sizes = list(obs_sizes)  # what follows up to O is padding
        self.spec = EnvSpec(
            name=name,
            n_agents=len(obs_sizes),
            n_actions=max(agent_n_actions),
            obs_size=max(obs_sizes),
            state_size=sum(obs_sizes),
            episode_limit=check_count(name, "max_cycles", max_cycles),
            agent_n_actions=tuple(agent_n_actions),
            team_reward=team_reward,
            version=version,
        )

    @abc.abstractmethod
    def act(self, world: World, action: tf.Tensor) -> World:
        """Return the world after the actions [B, N]."""

    @abc.abstractmethod
    def observe(self, world: World) -> list[tf.Tensor]:
        """Return every agent's observation, each [B, size of that agent's]."""

    @abc.abstractmethod
    def agent_rewards(self, world: World) -> tf.Tensor:
        """Return every agent's reward, [B, N]."""

    def _make_step(self, world: World, reward: tf.Tensor) -> Step:
        batch, spec = world.position.shape[0], self.spec
        views = self.observe(world)
        padded = [tf.pad(x, [[0, 0], [0, spec.obs_size - x.shape[1]]]) for x in views]
        return Step(
            obs=tf.stack(padded, 1),
            state=tf.concat(views, 1),
            legal=tf.tile(tf.constant(spec.own_actions[None]), [batch, 1, 1]),
            reward=reward,
            terminated=tf.fill([batch], False),
            truncated=world.clock >= spec.episode_limit,
            metrics=self.measure(world),
        )

    def measure(self, world: World) -> Any:
        """Return the metrics of the episode, [B, M]; () if the task has none."""
        return ()

    def reset(self, seed: tf.Tensor, batch: int) -> tuple[World, Step]:
        """Draw agents at rest and landmarks in [-1, 1]^2, and landmarks as goals."""
        n, landmarks = self.spec.n_agents, self.landmarks
        places = tf.random.stateless_uniform([batch, n + landmarks, 2], seed, -1.0, 1.0)
        seed = tf.random.experimental.stateless_fold_in(seed, 1)
        world = World(
            position=places[:, :n],
            velocity=tf.zeros([batch, n, 2]),
            landmark=places[:, n:],
            goal=tf.random.stateless_uniform([batch, self.goals], seed, 0, landmarks, tf.int32),
            word=tf.zeros([batch, n, self.words]),
            clock=tf.zeros([batch], tf.int32),
            collisions=tf.zeros([batch]),
        )
        return world, self._make_step(world, tf.zeros([batch]))

    def step(self, state: World, action: tf.Tensor, seed: tf.Tensor) -> tuple[World, Step]:
        """Move all agents by one time step."""
        world = self.act(state, action)
        rewards = self.agent_rewards(world)
        if self.spec.team_reward == "one":
            reward = rewards[:, 0]
        else:
            team = tf.reduce_sum if self.spec.team_reward == "sum" else tf.reduce_mean
            reward = team(rewards, -1)
        return world, self._make_step(world, reward)


def check_ratio(name: str, local_ratio: float) -> float:
    """Return the weight of an agent's own reward.

    Raises:
      UserError: it is not a number from 0 to 1.
    """
    return check_number(name, "local_ratio", local_ratio, 0, 1)


@built_in
class SimpleSpread(ParticleTask):
    """Cooperative navigation, `simple_spread_v3`: N agents cover N landmarks.

    Observation: own velocity 2, own position 2, the landmarks and then the
    other agents relative to this agent, and the others' messages (always zeros).
    Reward of agent i: -(1 - local_ratio) times the sum over landmarks of the
    distance to the nearest agent, minus local_ratio times the number of other
    agents that agent i touches. The metrics are `landmarks_covered`, the landmarks that have an
    agent within 0.1 at the end of the episode, and `collisions`, the pairs of agents that touch,
    summed over its steps.

    Args:
      name: the environment's name.
      team_reward: `sum` or `mean` over the agents.
      n: agents, and landmarks.
      local_ratio: weight of an agent's own collisions.
      max_cycles: length of an episode in steps.

    Raises:
      UserError: an argument is out of bounds, or `team_reward` is `one`.
    """

    SIZE = 0.15  # radius of an agent
    COVERED = 0.1  # distance of an agent from a landmark that it covers
    WORDS = 2
    metric_names = ("landmarks_covered", "collisions")

    def __init__(
        self,
        name: str,
        team_reward: str,
        n: int = 3,
        local_ratio: float = 0.5,
        max_cycles: int = 25,
    ):
        check_count(name, "n", n, high=MOST_PARTICLES)
        self.local_ratio = check_ratio(name, local_ratio)
        super().__init__(
            name,
            team_reward,
            agent_n_actions=[len(DIRECTIONS)] * n,
            obs_sizes=[4 + 2 * n + (2 + self.WORDS) * (n - 1)] * n,
            landmarks=n,
            goals=0,
            words=self.WORDS,
            max_cycles=max_cycles,
            version="v3",
        )
        # Row i holds the agents other than i, in order.
        self.others = np.asarray([[j for j in range(n) if j != i] for i in range(n)], np.int32)

    def act(self, world: World, action: tf.Tensor) -> World:
        """Move all agents; those that touch push each other away."""
        world = moved(world, action, contact_forces(world.position, self.SIZE))
        pairs = 0.5 * tf.reduce_sum(self._touching(world), 1)
        return world._replace(collisions=world.collisions + pairs)

    def _touching(self, world: World) -> tf.Tensor:
        """Return the number of other agents that each agent touches, [B, N] float32."""
        between = tf.norm(world.position[:, :, None] - world.position[:, None], axis=-1)
        touch = tf.cast(between < 2 * self.SIZE, tf.float32)  # [B, N, N]
        return tf.reduce_sum(touch, 2) - 1.0  # an agent does not touch itself

    @staticmethod
    def _gaps(world: World) -> tf.Tensor:
        """Return the distance from each landmark to the nearest agent, [B, N]."""
        gaps = tf.norm(world.landmark[:, :, None] - world.position[:, None], axis=-1)
        return tf.reduce_min(gaps, 2)

    def measure(self, world: World) -> tf.Tensor:
        """Return landmarks covered and collisions, [B, 2]."""
        covered = tf.cast(self._gaps(world) < self.COVERED, tf.float32)
        return tf.stack([tf.reduce_sum(covered, 1), world.collisions], 1)

    def observe(self, world: World) -> list[tf.Tensor]:
        """Return every agent's observation, each [B, O]."""
        batch, n = world.position.shape[0], self.spec.n_agents
        others = tf.gather(world.position, self.others, axis=1)  # [B, N, N-1, 2]
        others -= world.position[:, :, None]
        words = tf.gather(world.word, self.others, axis=1)
        views = [
            world.velocity,
            world.position,
            landmarks_seen(world),
            tf.reshape(others, [batch, n, 2 * (n - 1)]),
            tf.reshape(words, [batch, n, self.WORDS * (n - 1)]),
        ]
        return tf.unstack(tf.concat(views, -1), axis=1)

    def agent_rewards(self, world: World) -> tf.Tensor:
        """Return every agent's reward, [B, N]."""
        shared = -tf.reduce_sum(self._gaps(world), 1)  # [B]
        own = -self._touching(world)
        return (1.0 - self.local_ratio) * shared[:, None] + self.local_ratio * own
