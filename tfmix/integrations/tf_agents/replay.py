"""Makes a TF-Agents replay buffer of the replay of training, for TF-Agents' drivers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmix import ops
from tfmix.integrations.tf_agents.trajectories import (
    FIRST,
    LAST,
    episodes_from_trajectory,
    trajectory_from_episodes,
    trajectory_spec,
)
from tfmix.training.replay import EpisodeReplay
from tfmix.training.replay_size import HOST
from tfmix.training.seeds import Stream
from tfmix.types import EnvSpec
from tfmix.utils.quiet import quiet_import

_replay_buffer = quiet_import("tf_agents.replay_buffers.replay_buffer")
_BufferInfo = quiet_import("tf_agents.replay_buffers.tf_uniform_replay_buffer").BufferInfo

EMPTY = "the replay holds no whole episode: drive until the frame after an episode's end is added"
TOO_LONG = "an episode has more steps than the task's episode_limit; its rows of the batch:"
NOT_FINITE = "NaN, infinity or a number that the replay's type cannot hold is in an episode"
WAITING = -1  # the time of an environment whose next episode has not begun


class EpisodeReplayBuffer(_replay_buffer.ReplayBuffer):  # type: ignore[name-defined]  # no types
    """TF-Agents replay buffer of whole padded episodes, sampled uniformly.

    A driver adds one frame of each environment at a time; other ways to add are
    refused. Frames wait until their episode is over and its last observation has
    arrived, in the frame after the last step. Frames before the first start of an
    episode are dropped, and so is an episode that another one interrupts. Only the
    discount of the last step is kept, as 0 or 1.

    An item is a trajectory [T+1, ...] of one episode, as `ValueDecompositionAgent.train`
    takes it, padded as by `trajectory_from_episodes`. `get_next` and `as_dataset` draw
    with replacement and take `num_steps` of None or T+1. With `single_deterministic_pass`
    a dataset reads each episode once, the oldest first, as `gather_all` does; its ids
    number the episodes in the order in which they were completed. `capacity` counts
    episodes, and `num_frames` counts the frames of whole episodes without padding.

    Args:
      spec: the task's shape.
      batch_size: B, the number of the driver's parallel environments.
      capacity_episodes: episodes it can hold; new ones replace the oldest.
      number_type: the type of stored observations and states, see `EpisodeReplay`.
      seed: decides what is drawn, together with the count of draws. Parallel calls of
        a dataset share that count, so that their order is not determined.

    Raises:
      UserError: the machine has less memory than the replay needs.
    """

    def __init__(
        self,
        spec: EnvSpec,
        batch_size: int,
        capacity_episodes: int,
        number_type: str = "float32",
        seed: int = 0,
    ):
        super().__init__(trajectory_spec(spec), capacity_episodes)
        self.replay = EpisodeReplay(spec, 1, capacity_episodes, number_type)
        self._stored = self.replay.variables()  # so that a checkpoint of this object holds them
        self._batch_size, self._length = batch_size, spec.episode_limit + 1
        with tf.device(HOST):
            self._unfinished = tf.nest.map_structure(
                lambda s: tf.Variable(
                    tf.zeros([batch_size, self._length, *s.shape], s.dtype), trainable=False
                ),
                self.data_spec,
            )
            self._time = tf.Variable(
                tf.fill([batch_size], tf.constant(WAITING, tf.int64)), trainable=False
            )
            self._seed = tf.Variable(
                [seed, Stream.TF_AGENTS_REPLAY], trainable=False, dtype=tf.int32
            )
            self._draws = tf.Variable(0, dtype=tf.int64, trainable=False)

    def num_episodes(self) -> tf.Tensor:
        """Count the whole episodes it holds, [] int64."""
        return self.replay.num_episodes()

    def _num_frames(self) -> tf.Tensor:
        mask = self.replay.stored.mask.sparse_read(self.replay.rows_in_order())
        return tf.reduce_sum(tf.cast(mask, tf.int64)) + self.num_episodes()

    def _add_batch(self, items: Any) -> tf.Tensor:
        """Add one frame of each environment, [B, ...]; return the count of whole episodes.

        Raises:
          ValueError: the frames have other shapes or another structure.
          tf.errors.InvalidArgumentError: an episode has more than T steps, or
            numbers that the replay cannot hold.
        """
        tf.nest.assert_same_structure(items, self.data_spec)
        frame = tf.nest.map_structure(self._fit, items, self.data_spec)
        time = tf.where(frame.step_type == FIRST, tf.zeros_like(self._time), self._time)
        playing = time != WAITING
        over = playing & (frame.step_type == LAST)
        too_long = playing & ~over & (time >= self._length - 1)
        fits = tf.debugging.Assert(~tf.reduce_any(too_long), [TOO_LONG, tf.where(too_long)])
        with tf.control_dependencies([fits]):
            rows = tf.where(playing)[:, 0]
        places = tf.stack([rows, tf.gather(time, rows)], 1)

        def write(kept: tf.Variable, x: tf.Tensor) -> None:
            kept.scatter_nd_update(places, tf.gather(x, rows))

        tf.nest.map_structure(write, self._unfinished, frame)
        self._time.assign(tf.where(playing & ~over, time + 1, WAITING))
        self._store(tf.where(over)[:, 0])
        return self.num_episodes()

    def _fit(self, x: Any, spec: tf.TensorSpec) -> tf.Tensor:
        """Return a part of the frames as a tensor; raise ValueError if its shape is wrong."""
        x, wanted = tf.convert_to_tensor(x, spec.dtype), [self._batch_size, *spec.shape]
        if not x.shape.is_compatible_with(wanted):
            raise ValueError(
                f"add_batch needs one frame of each environment, {spec.name} of shape {wanted}; "
                f"it has {x.shape.as_list()}"
            )
        return tf.ensure_shape(x, wanted)

    def _store(self, rows: tf.Tensor) -> None:
        """Store the complete episodes of these environments, one after the other."""

        def store(number: tf.Tensor) -> tuple[tf.Tensor]:
            row = tf.gather(rows, [number])
            whole = tf.nest.map_structure(lambda x: x.sparse_read(row), self._unfinished)
            episode = ops.clear_padding(episodes_from_trajectory(whole))
            good = tf.debugging.Assert(self.replay.can_hold(episode), [NOT_FINITE])
            with tf.control_dependencies([good]):
                self.replay.add_batch(episode)
            return (number + 1,)

        tf.while_loop(lambda n: n < tf.size(rows), store, (tf.constant(0),), parallel_iterations=1)

    def _get_next(
        self,
        sample_batch_size: int | None = None,
        num_steps: int | None = None,
        time_stacked: bool = True,
    ) -> tuple[Any, Any]:
        """Draw one episode, [T+1, ...], or a batch of them, [B, T+1, ...], and their ids.

        Raises:
          NotImplementedError: parts of episodes, or frames that are not stacked.
          tf.errors.InvalidArgumentError: the replay holds no episode.
        """
        self._whole_only(num_steps)
        if not time_stacked:
            raise NotImplementedError("the frames of an episode are stacked: time_stacked=True")
        with tf.control_dependencies([self._not_empty()]):
            count = self._draws.assign_add(1).read_value()
        seed = tf.random.experimental.stateless_fold_in(self._seed, count)
        rows = self.replay.draw_rows(seed, sample_batch_size or 1)
        chance = 1.0 / tf.cast(self.num_episodes(), tf.float32)
        probabilities = tf.fill(tf.shape(rows), chance)
        if sample_batch_size is None:
            rows, probabilities = rows[0], probabilities[0]
        return self._read(rows), _BufferInfo(self.replay.numbers(rows), probabilities)

    def _as_dataset(
        self,
        sample_batch_size: int | None = None,
        num_steps: int | None = None,
        sequence_preprocess_fn: Any = None,
        num_parallel_calls: int | None = None,
    ) -> tf.data.Dataset:
        self._whole_only(num_steps, sequence_preprocess_fn)
        return tf.data.Dataset.counter().map(
            lambda _: self._get_next(sample_batch_size), num_parallel_calls=num_parallel_calls
        )

    def _single_deterministic_pass_dataset(
        self,
        sample_batch_size: int | None = None,
        num_steps: int | None = None,
        sequence_preprocess_fn: Any = None,
        num_parallel_calls: int | None = None,
    ) -> tf.data.Dataset:
        self._whole_only(num_steps, sequence_preprocess_fn)

        def all_rows(_: tf.Tensor) -> tf.data.Dataset:  # when a pass begins, not when it is made
            with tf.control_dependencies([self._not_empty()]):
                return tf.data.Dataset.from_tensor_slices(self.replay.rows_in_order())

        rows = tf.data.Dataset.range(1).flat_map(all_rows)
        if sample_batch_size is not None:
            rows = rows.batch(sample_batch_size)
        return rows.map(
            lambda x: (self._read(x), _BufferInfo(self.replay.numbers(x), ())),
            num_parallel_calls=num_parallel_calls,
        )

    def _gather_all(self) -> Any:
        """Return all whole episodes, the oldest first, [E, T+1, ...]."""
        return self._read(self.replay.rows_in_order())

    def _clear(self) -> None:
        """Forget all episodes and all frames; later frames of a begun episode are dropped."""
        self.replay.clear()
        self._time.assign(tf.fill([self._batch_size], tf.constant(WAITING, tf.int64)))

    def _read(self, rows: tf.Tensor) -> Any:
        """Return the episodes of these rows, [] or [B] int64, as frames."""
        items = trajectory_from_episodes(self.replay.read(tf.reshape(rows, [-1])))
        return tf.nest.map_structure(lambda x: x[0], items) if rows.shape.rank == 0 else items

    def _not_empty(self) -> Any:
        """Raise InvalidArgumentError if there is no episode to draw."""
        return tf.debugging.assert_positive(self.num_episodes(), EMPTY)

    def _whole_only(self, num_steps: int | None, sequence_preprocess_fn: Any = None) -> None:
        """Raise NotImplementedError for what needs parts of episodes."""
        if num_steps not in (None, self._length):
            raise NotImplementedError(
                f"items are whole episodes: num_steps must be None or {self._length} (T+1), "
                f"not {num_steps}"
            )
        if sequence_preprocess_fn is not None:
            raise NotImplementedError("sequence_preprocess_fn is not supported: map the dataset")
