"""The arithmetic that algorithms share: pure functions, no variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tensorflow as tf

from tfmix.types import Episode


def check_shapes(
    sizes: Mapping[str, int] | None = None, /, **arguments: tuple[tf.Tensor, str]
) -> None:
    """Checks that arguments have the shapes that their letters say.

    The check reads static shapes: a compiled function pays for it once, when it is
    traced. A size that is not known then fits every letter.

    Args:
      sizes: the sizes of some letters, such as `{"N": 3}`. Any other letter takes its size
        from the first argument that has it.
      arguments: by name, a tensor or array and the letters of its axes, such as `"B T N"`.
        `"T+1"` is one more than T. `"..."` at the start is any number of axes, the same
        for all arguments.

    Raises:
      ValueError: a shape is wrong; it names the argument, its shape and the letters.
    """
    known: dict[str, int | None] = dict(sizes or {})
    rank = None  # how many axes "..." has
    for name, (x, letters) in arguments.items():
        if getattr(x.shape, "rank", 0) is None:
            continue
        shape, axes = list(x.shape), letters.split()
        if axes[0] == "...":
            rank = len(shape) - len(axes) + 1 if rank is None else rank
            axes = [*(f"axis {i}" for i in range(rank)), *axes[1:]]
        if len(shape) != len(axes) or not all(
            _fits(size, axis, known) for size, axis in zip(shape, axes, strict=True)
        ):
            wanted = letters.replace(" ", ", ")
            about = ", ".join(f"{axis} = {known[axis]}" for axis in axes if axis in known)
            raise ValueError(
                f"{name} has shape {shape} and must have [{wanted}]" + (about and f" with {about}")
            )


def _fits(size: int | None, axis: str, known: dict[str, int | None]) -> bool:
    """Compares a size with that of an axis such as `T+1`, which it sets if it is not known."""
    if size is None:
        return True
    letter, _, more = axis.partition("+")
    size -= int(more or 0)
    return known.setdefault(letter, size) == size


def masked_mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Averages `x` over the steps that really happened.

    Args:
      x: [B, T] float, any value allowed on padded steps, NaN included.
      mask: [B, T] float, 1 on real steps and 0 on padding.

    Returns:
      [] float, zero when the batch holds no real step.
    """
    total = tf.reduce_sum(tf.where(mask > 0, x, tf.zeros_like(x)))
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask))


def all_finite(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """Whether no number of any tensor is NaN or infinite, [] bool; whole numbers never are."""
    floats = [x for x in tensors if x.dtype.is_floating]
    return tf.reduce_all([True, *(tf.reduce_all(tf.math.is_finite(x)) for x in floats)])


def clear_padding(episode: Episode) -> Episode:
    """Zeroes whatever lies behind the end of each episode.

    A NaN on a padded step would reach the gradients even through a masked
    loss, because zero times NaN is NaN; so padding is cleared where it enters.

    Args:
      episode: a batch; row t of obs, state and legal is real when t = 0 or
        step t - 1 is.
    """
    real = episode.mask > 0  # [B, T]
    seen = tf.concat([tf.ones_like(real[:, :1]), real], axis=1)  # [B, T+1]

    def clear(x: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(keep), tf.ones([x.shape.rank - 2], tf.int32)], axis=0)
        return tf.where(tf.reshape(keep, shape), x, tf.zeros_like(x))

    return Episode(
        obs=clear(episode.obs, seen),
        state=clear(episode.state, seen),
        legal=clear(episode.legal, seen),
        action=clear(episode.action, real),
        reward=clear(episode.reward, real),
        terminated=clear(episode.terminated, real),
        mask=episode.mask,
    )


def legal_argmax(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """The best action among the allowed ones.

    Args:
      q: [..., A] float; illegal entries may hold anything.
      legal: [..., A] bool. Where nothing is legal (padding) the answer is 0.

    Returns:
      [...] int32.
    """
    return tf.argmax(_hide_illegal(q, legal), -1, tf.int32)


def legal_max(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """The best value among the allowed actions.

    Args:
      q: [..., A] float; illegal entries may hold anything.
      legal: [..., A] bool. Where nothing is legal (padding) the answer is 0.

    Returns:
      [...] float.
    """
    best = tf.reduce_max(_hide_illegal(q, legal), -1)
    return tf.where(tf.reduce_any(legal, -1), best, tf.zeros_like(best))


def _hide_illegal(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """`q` where an action is legal, the lowest number there is elsewhere."""
    return tf.where(legal, q, tf.fill(tf.shape(q), q.dtype.min))


def gather_actions(q: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """`q` at `action`, as a contraction: it compiles better than a gather.

    Args:
      q: [..., A] float; entries that are not taken may hold NaN.
      action: [...] int.

    Returns:
      [...] float.
    """
    chosen = tf.one_hot(action, q.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_sum(tf.where(chosen, q, tf.zeros_like(q)), -1)


def n_step_return(
    reward: tf.Tensor, discount: tf.Tensor, mask: tf.Tensor, next_value: tf.Tensor, n: int
) -> tf.Tensor:
    """G_t = r_t + discount_t r_{t+1} + ... of n rewards, then the value behind them.

    Fewer rewards are counted where the episode ends before; a time limit's
    last value still counts, a terminated step's discount of 0 drops it.

    Args:
      reward: [B, T, ...].
      discount: as reward, gamma times not-terminated.
      mask: as reward, 1 on real steps.
      next_value: as reward, v_{t+1}, the value of what is seen behind step t.
      n: 1 or more; 1 is r_t + discount_t v_{t+1}.
    """
    goes_on = _next(mask) > 0
    found = reward + discount * next_value
    for _ in range(min(n, reward.shape[1]) - 1):  # no episode has more
        found = reward + discount * tf.where(goes_on, _next(found), next_value)
    return found


def lambda_return(
    reward: tf.Tensor,
    discount: tf.Tensor,
    mask: tf.Tensor,
    next_value: tf.Tensor,
    lambda_: float,
    chosen_value: tf.Tensor | None = None,
) -> tf.Tensor:
    """TD(lambda)'s or Q(lambda)'s return of every step.

    TD(lambda) (Sutton 1988; with greedy values Peng's Q(lambda), 1996):

      G_t = r_t + discount_t ((1 - lambda) v_{t+1} + lambda G_{t+1})

    Q(lambda) with off-policy corrections (Harutyunyan et al. 2016, equation 5),
    for the greedy policy: an exploring action's loss against the greedy one is
    taken out of the longer returns,

      G_t = r_t + discount_t (v_{t+1} + lambda (G_{t+1} - Q_{t+1}))

    On an episode's last step G_{t+1} is v_{t+1}, and there is nothing to correct.

    Args:
      reward: [B, T, ...].
      discount: as reward, gamma times not-terminated.
      mask: as reward, 1 on real steps.
      next_value: as reward, v_{t+1}, the greedy value of what is seen behind step t.
      lambda_: from 0 (one step) to 1 (all rewards there are).
      taken_value: as reward, Q_t of the actions taken, for Q(lambda); None: TD(lambda).
    """
    share = lambda_ * tf.cast(_next(mask) > 0, reward.dtype)  # none behind the last step
    correction = tf.zeros_like(reward)
    if chosen_value is not None:
        correction = next_value - _next(chosen_value)
    # G_t = fixed_t + share_t discount_t G_{t+1}.
    fixed = reward + discount * ((1.0 - share) * next_value + share * correction)
    weight = discount * share
    time_first = [1, 0, *range(2, reward.shape.rank)]
    found = tf.scan(
        lambda later, now: now[0] + now[1] * later,
        (tf.transpose(fixed, time_first), tf.transpose(weight, time_first)),
        initializer=tf.zeros_like(fixed[:, 0]),
        reverse=True,
    )
    return tf.transpose(found, time_first)


def _next(x: tf.Tensor) -> tf.Tensor:
    """x_{t+1} in the place of x_t, zeros behind the last; [B, T, ...]."""
    return tf.concat([x[:, 1:], tf.zeros_like(x[:, :1])], 1)


def select_actions(
    q: tf.Tensor, legal: tf.Tensor, epsilon: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Epsilon-greedy, for every agent by itself; random actions are legal ones.

    Args:
      q: [B, N, A] float.
      legal: [B, N, A] bool.
      epsilon: [] float, the chance of a uniformly random legal action.
      seed: [2] int.

    Returns:
      [B, N] int32.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    exploration_scores = tf.random.stateless_uniform(tf.shape(q), seeds[0])
    explore_mask = tf.random.stateless_uniform(tf.shape(q)[:-1], seeds[1]) < epsilon
    return tf.where(explore_mask, legal_argmax(exploration_scores, legal), legal_argmax(q, legal))


def linear_schedule(
    start: float, end: float, duration: tf.Tensor | int, now: tf.Tensor
) -> tf.Tensor:
    """Goes from `start` to `end` over `duration`, then stays; [] float32."""
    share = tf.cast(now, tf.float32) / tf.maximum(tf.cast(duration, tf.float32), 1.0)
    return start + (end - start) * tf.minimum(share, 1.0)
