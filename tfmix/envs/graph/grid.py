"""Functions that the tasks on a square grid share.

A position is one number: the index of a cell in a grid that is padded on every
side. Moves, neighbours and windows are differences of such indices, and the
padding keeps them from wrapping around the edge. No two bodies share a cell.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def padded_cells(size: int, pad: int) -> np.ndarray:
    """Return the cells of a square, row by row, in a grid with `pad` more on every side."""
    rows, columns = np.divmod(np.arange(size * size), size)
    return ((rows + pad) * (size + 2 * pad) + columns + pad).astype(np.int32)


def place(seed: tf.Tensor, batch: int, cells: np.ndarray, count: int) -> tf.Tensor:
    """Draw different cells for `count` bodies uniformly, [batch, count]."""
    draw = tf.random.stateless_uniform([batch, len(cells)], seed)
    return tf.gather(tf.constant(cells), tf.math.top_k(draw, count).indices)


def random_bits(seed: tf.Tensor, batch: int, count: int) -> tf.Tensor:
    """Draw non-negative integers, [batch, count] int32."""
    return tf.random.stateless_uniform([batch, count], seed, 0, np.iinfo(np.int32).max, tf.int32)


def with_index(bits: tf.Tensor) -> tf.Tensor:
    """Make random integers in a row distinct; modulo K each is its index, [..., K]."""
    count = bits.shape[-1]
    return bits // count * count + tf.range(count)


def move_order(keys: tf.Tensor) -> tf.Tensor:
    """Return the rank 0..K-1 of each of the distinct keys in a row: who moves when, [B, K]."""
    return tf.reduce_sum(tf.cast(keys[:, None] < keys[:, :, None], tf.int32), 2)


def value_of_mover(is_mover: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return the one of `values` [B, K] at which `is_mover` [B, K] is True, [B, 1]."""
    return tf.reduce_sum(tf.where(is_mover, values, 0), 1, keepdims=True)


def move_in_turn(
    bodies: tf.Tensor, wanted: tf.Tensor, turn: tf.Tensor, *others: tf.Tensor
) -> tf.Tensor:
    """Move bodies one after the other into the cells that they want, if these are free then.

    Args:
      bodies: [B, K] cells.
      wanted: [B, K] cells; a body that stays wants its own cell, which it occupies itself.
      turn: [B, K], a permutation in each row.
      *others: [B, ...] cells of bodies that do not move.

    Returns:
      [B, K] cells.
    """
    for k in range(bodies.shape[1]):
        is_mover = turn == k
        everybody = tf.concat([bodies, *others], 1)
        taken = tf.reduce_any(everybody == value_of_mover(is_mover, wanted), 1, keepdims=True)
        bodies = tf.where(is_mover & ~taken, wanted, bodies)
    return bodies
