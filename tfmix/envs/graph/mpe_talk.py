"""Particle tasks with messages: only the other agent knows the goal."""

from __future__ import annotations

import tensorflow as tf

from tfmix.envs.graph.mpe import (
    DIRECTIONS,
    ParticleTask,
    World,
    check_ratio,
    landmarks_seen,
    moved,
)
from tfmix.envs.kinds import built_in

LANDMARKS = 3


def colour(goal: tf.Tensor, low: float) -> tf.Tensor:
    """Return landmarks' colours [B, 3]: `low`, and `low` + 0.5 in the channel of `goal` [B]."""
    return tf.one_hot(goal, LANDMARKS, on_value=low + 0.5, off_value=low)


@built_in
class SimpleSpeakerListener(ParticleTask):
    """`simple_speaker_listener_v4`: the speaker sees the goal, the listener must reach it.

    The speaker cannot move; its 3 actions are messages. It observes the goal's
    colour, 3. The listener is silent; its 5 actions are moves. It observes its
    velocity 2, the landmarks relative to itself 6, and the speaker's word of the
    last step 3. Both receive minus the squared distance between the listener and
    the goal.

    Args:
      name: the environment's name.
      team_reward: `sum`, `mean` or `one`.
      max_cycles: length of an episode in steps.

    Raises:
      UserError: an argument is out of bounds.
    """

    SAME_REWARD = True
    WORDS = 3
    agent_names = ("speaker_0", "listener_0")

    def __init__(self, name: str, team_reward: str, max_cycles: int = 25):
        super().__init__(
            name,
            team_reward,
            agent_n_actions=[self.WORDS, len(DIRECTIONS)],
            obs_sizes=[3, 2 + 2 * LANDMARKS + self.WORDS],
            landmarks=LANDMARKS,
            goals=1,
            words=self.WORDS,
            max_cycles=max_cycles,
            version="v4",
        )

    def act(self, world: World, action: tf.Tensor) -> World:
        """Take the speaker's word and move the listener."""
        spoken, steered = action[:, 0], action[:, 1]
        word = tf.one_hot(spoken, self.WORDS)
        world = moved(world, tf.stack([tf.zeros_like(steered), steered], 1))
        return world._replace(word=tf.stack([word, tf.zeros_like(word)], 1))

    def observe(self, world: World) -> list[tf.Tensor]:
        """Return the speaker's observation [B, 3] and the listener's [B, 11]."""
        heard = [world.velocity[:, 1], landmarks_seen(world)[:, 1], world.word[:, 0]]
        return [colour(world.goal[:, 0], 0.15), tf.concat(heard, -1)]

    def agent_rewards(self, world: World) -> tf.Tensor:
        """Return the reward, the same for both agents, [B, 2]."""
        goal = tf.gather(world.landmark, world.goal, axis=1, batch_dims=1)  # [B, 1, 2]
        missed = tf.reduce_sum(tf.square(world.position[:, 1:] - goal), -1)  # [B, 1]
        return -tf.repeat(missed, 2, axis=1)


@built_in
class SimpleReference(ParticleTask):
    """`simple_reference_v3`: each of two agents knows the other's goal, both talk and move.

    An action is a move and a message: action = move + 5 message, with 10 messages.
    Observation: own velocity 2, the landmarks relative to the agent 6, the colour
    of the other's goal 3, the other's word of the last step 10.
    Reward of agent i: minus local_ratio times the distance of the other agent to
    its goal, minus (1 - local_ratio) times the mean of that over both agents.

    Args:
      name: the environment's name.
      team_reward: `sum` or `mean` over the agents.
      local_ratio: weight of an agent's individual part.
      max_cycles: length of an episode in steps.

    Raises:
      UserError: an argument is out of bounds, or `team_reward` is `one`.
    """

    WORDS = 10

    def __init__(self, name: str, team_reward: str, local_ratio: float = 0.5, max_cycles: int = 25):
        self.local_ratio = check_ratio(name, local_ratio)
        super().__init__(
            name,
            team_reward,
            agent_n_actions=[len(DIRECTIONS) * self.WORDS] * 2,
            obs_sizes=[2 + 2 * LANDMARKS + 3 + self.WORDS] * 2,
            landmarks=LANDMARKS,
            goals=2,
            words=self.WORDS,
            max_cycles=max_cycles,
            version="v3",
        )

    def act(self, world: World, action: tf.Tensor) -> World:
        """Move both agents and store their messages."""
        world = moved(world, action % len(DIRECTIONS))
        return world._replace(word=tf.one_hot(action // len(DIRECTIONS), self.WORDS))

    def observe(self, world: World) -> list[tf.Tensor]:
        """Return each agent's observation, [B, 21]; agent i knows goal i."""
        landmarks = landmarks_seen(world)
        return [
            tf.concat(
                [
                    world.velocity[:, i],
                    landmarks[:, i],
                    colour(world.goal[:, i], 0.25),
                    world.word[:, 1 - i],
                ],
                -1,
            )
            for i in range(2)
        ]

    def agent_rewards(self, world: World) -> tf.Tensor:
        """Return every agent's reward, [B, 2]."""
        goal = tf.gather(world.landmark, world.goal, axis=1, batch_dims=1)  # [B, 2, 2]
        own = -tf.norm(world.position[:, ::-1] - goal, axis=-1)  # [B, 2]
        shared = tf.reduce_mean(own, -1, keepdims=True)
        return self.local_ratio * own + (1.0 - self.local_ratio) * shared
