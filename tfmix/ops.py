"""The arithmetic that algorithms share: pure functions, no variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tensorflow as tf

from tfmix.types import Episode


def check_shapes(
    sizes: Mapping[str, int] | None = None, /, **arguments: tuple[tf.Tensor, str]
) -> None:
    """Check that arguments have the shapes that their letters say.

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
    """Compare a size with that of an axis such as `T+1`, which it sets if it is not known."""
    if size is None:
        return True
    letter, _, more = axis.partition("+")
    size -= int(more or 0)
    return known.setdefault(letter, size) == size


def masked_mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Average `x` over the real steps.

    Args:
      x: [B, T] float, or any other shape. Padded steps may hold anything, also NaN.
      mask: as `x`, 1 on real steps and 0 on padding.

    Returns:
      [] float, zero if there is no real step.

    Raises:
      ValueError: the shapes differ.
    """
    check_shapes(x=(x, "..."), mask=(mask, "..."))
    total = tf.reduce_sum(tf.where(mask > 0, x, tf.zeros_like(x)))
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask))


def mean_over_steps(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Average x [B, T, ...] over the real steps of mask [B, T], [...]; zero if there is none.

    Padded steps may hold anything, also NaN.
    """
    check_shapes(mask=(mask, "B T"))
    axes = [1] * (x.shape.rank - 2)
    real = tf.reshape(mask, tf.concat([tf.shape(mask), axes], 0)) > 0
    total = tf.reduce_sum(tf.where(real, x, tf.zeros_like(x)), [0, 1])
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask))


def all_finite(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """Report whether no tensor holds NaN or infinity, [] bool. Integers are finite."""
    floats = [x for x in tensors if x.dtype.is_floating]
    return tf.reduce_all([True, *(tf.reduce_all(tf.math.is_finite(x)) for x in floats)])


def clear_padding(episode: Episode) -> Episode:
    """Set everything after the end of each episode to zero.

    A NaN on a padded step would reach the gradients even through a masked loss,
    because zero times NaN is NaN. Padding is therefore cleared before it is used.

    Args:
      episode: a batch. Row t of obs, state and legal is real if t = 0 or step t - 1 is real.
    """
    real = episode.mask > 0  # [B, T]
    seen = tf.concat([tf.ones_like(real[:, :1]), real], axis=1)  # [B, T+1]

    def clear(x: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(keep), tf.ones([len(x.shape) - 2], tf.int32)], axis=0)
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
    """Find the legal action with the highest value.

    Args:
      q: [..., A] float; illegal entries may hold anything.
      legal: [..., A] bool. If nothing is legal (padding) the result is 0.

    Returns:
      [...] int32.

    Raises:
      ValueError: the shapes differ.
    """
    check_shapes(q=(q, "... A"), legal=(legal, "... A"))
    return tf.argmax(_hide_illegal(q, legal), -1, tf.int32)


def legal_max(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """Compute the highest value of the legal actions.

    Args:
      q: [..., A] float; illegal entries may hold anything.
      legal: [..., A] bool. If nothing is legal (padding) the result is 0.

    Returns:
      [...] float.

    Raises:
      ValueError: the shapes differ.
    """
    check_shapes(q=(q, "... A"), legal=(legal, "... A"))
    best = tf.reduce_max(_hide_illegal(q, legal), -1)
    return tf.where(tf.reduce_any(legal, -1), best, tf.zeros_like(best))


def _hide_illegal(q: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """Replace the values of illegal actions by the lowest number of their type."""
    return tf.where(legal, q, tf.fill(tf.shape(q), q.dtype.min))


def gather_actions(q: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """Select the values of `action`, by a contraction, which compiles better than a gather.

    Args:
      q: [..., A] float; entries that are not selected may hold NaN.
      action: [...] int.

    Returns:
      [...] float.

    Raises:
      ValueError: the shapes do not fit.
    """
    check_shapes(q=(q, "... A"), action=(action, "..."))
    chosen = tf.one_hot(action, q.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_sum(tf.where(chosen, q, tf.zeros_like(q)), -1)


def n_step_return(
    reward: tf.Tensor, discount: tf.Tensor, mask: tf.Tensor, next_value: tf.Tensor, n: int
) -> tf.Tensor:
    """Compute G_t = r_t + discount_t r_{t+1} + ... with n rewards, then the value after them.

    Near an episode's end there are fewer rewards. If the time limit ended the episode, the
    last value still counts; after termination its discount is 0.

    Args:
      reward: [B, T, ...].
      discount: as `reward`, gamma times not-terminated.
      mask: as `reward`, 1 on real steps.
      next_value: as `reward`, v_{t+1}, the value of the observation after step t.
      n: 1 or more; 1 is r_t + discount_t v_{t+1}.

    Returns:
      as `reward`.

    Raises:
      ValueError: the shapes differ.
    """
    _check_returns(reward, discount, mask, next_value)
    continues = _next(mask) > 0
    found = reward + discount * next_value
    for _ in range(min(n, reward.shape[1]) - 1):  # no episode has more rewards
        found = reward + discount * tf.where(continues, _next(found), next_value)
    return found


def lambda_return(
    reward: tf.Tensor,
    discount: tf.Tensor,
    mask: tf.Tensor,
    next_value: tf.Tensor,
    lambda_: float,
    chosen_value: tf.Tensor | None = None,
) -> tf.Tensor:
    """Compute the return of TD(lambda) or Q(lambda) at every step.

    TD(lambda) (Sutton 1988; with greedy values Peng's Q(lambda), 1996):

      G_t = r_t + discount_t ((1 - lambda) v_{t+1} + lambda G_{t+1})

    Q(lambda) with off-policy corrections (Harutyunyan et al. 2016, equation 5) for the
    greedy policy, which removes from the longer returns what an exploring action loses
    against the greedy one:

      G_t = r_t + discount_t (v_{t+1} + lambda (G_{t+1} - Q_{t+1}))

    On an episode's last step G_{t+1} is v_{t+1}, and there is nothing to correct.

    Args:
      reward: [B, T, ...].
      discount: as `reward`, gamma times not-terminated.
      mask: as `reward`, 1 on real steps.
      next_value: as `reward`, v_{t+1}, the greedy value of the observation after step t.
      lambda_: from 0 (one step) to 1 (all rewards of the episode).
      chosen_value: as `reward`, Q_t of the chosen actions, for Q(lambda). None: TD(lambda).

    Returns:
      as `reward`.

    Raises:
      ValueError: the shapes differ.
    """
    _check_returns(reward, discount, mask, next_value)
    share = lambda_ * tf.cast(_next(mask) > 0, reward.dtype)  # 0 on the last step
    correction = tf.zeros_like(reward)
    if chosen_value is not None:
        check_shapes(reward=(reward, "..."), chosen_value=(chosen_value, "..."))
        correction = next_value - _next(chosen_value)
    # G_t = fixed_t + share_t discount_t G_{t+1}.
    fixed = reward + discount * ((1.0 - share) * next_value + share * correction)
    weight = discount * share
    time_first = [1, 0, *range(2, len(reward.shape))]
    found = tf.scan(
        lambda later, now: now[0] + now[1] * later,
        (tf.transpose(fixed, time_first), tf.transpose(weight, time_first)),
        initializer=tf.zeros_like(fixed[:, 0]),
        reverse=True,
    )
    return tf.transpose(found, time_first)


def _check_returns(
    reward: tf.Tensor, discount: tf.Tensor, mask: tf.Tensor, next_value: tf.Tensor
) -> None:
    """Raise ValueError unless all have the shape of `reward`."""
    check_shapes(
        reward=(reward, "..."),
        discount=(discount, "..."),
        mask=(mask, "..."),
        next_value=(next_value, "..."),
    )


def _next(x: tf.Tensor) -> tf.Tensor:
    """Shift [B, T, ...] by one step: x_{t+1} at t, zeros after the last step."""
    return tf.concat([x[:, 1:], tf.zeros_like(x[:, :1])], 1)


def select_actions(
    q: tf.Tensor,
    legal: tf.Tensor,
    epsilon: tf.Tensor | float,
    seed: tf.Tensor | tuple[int, int],
) -> tf.Tensor:
    """Choose actions epsilon-greedily, for each agent independently.

    Args:
      q: [B, N, A] float.
      legal: [B, N, A] bool.
      epsilon: [] float, the probability of a uniformly random legal action.
      seed: [2] int.

    Returns:
      [B, N] int32.

    Raises:
      ValueError: a shape is wrong.
    """
    check_shapes(q=(q, "B N A"), legal=(legal, "B N A"))
    seeds = tf.random.experimental.stateless_split(seed, 2)
    exploration_scores = tf.random.stateless_uniform(tf.shape(q), seeds[0])
    explore_mask = tf.random.stateless_uniform(tf.shape(q)[:-1], seeds[1]) < epsilon
    return tf.where(explore_mask, legal_argmax(exploration_scores, legal), legal_argmax(q, legal))


def linear_schedule(
    start: float, end: float, duration: tf.Tensor | int, now: tf.Tensor
) -> tf.Tensor:
    """Interpolate from `start` to `end` over `duration`, then stays at `end`; [] float32."""
    share = tf.cast(now, tf.float32) / tf.maximum(tf.cast(duration, tf.float32), 1.0)
    return start + (end - start) * tf.minimum(share, 1.0)
