"""What tasks on a square grid share.

A position is one number: the cell of a grid that is padded on every side.
Moves, neighbours and windows are then differences of such numbers, and none
of them wraps around the edge. No two bodies share a cell.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def padded_cells(size: int, pad: int) -> np.ndarray:
    """The cells of a square, row by row, in a grid with `pad` more on every side."""
    rows, columns = np.divmod(np.arange(size * size), size)
    return ((rows + pad) * (size + 2 * pad) + columns + pad).astype(np.int32)


def place(seed: tf.Tensor, batch: int, cells: np.ndarray, count: int) -> tf.Tensor:
    """Different cells for `count` bodies, any with the same chance, [batch, count]."""
    draw = tf.random.stateless_uniform([batch, len(cells)], seed)
    return tf.gather(tf.constant(cells), tf.math.top_k(draw, count).indices)


def random_bits(seed: tf.Tensor, batch: int, count: int) -> tf.Tensor:
    """Random numbers from 0, [batch, count] int32."""
    return tf.random.stateless_uniform([batch, count], seed, 0, np.iinfo(np.int32).max, tf.int32)


def with_index(bits: tf.Tensor) -> tf.Tensor:
    """Random numbers that differ within a row; modulo K they are their place in it, [..., K]."""
    count = bits.shape[-1]
    return bits // count * count + tf.range(count)


def move_order(keys: tf.Tensor) -> tf.Tensor:
    """Who moves when: the rank 0..K-1 of each of the different numbers in a row, [B, K]."""
    return tf.reduce_sum(tf.cast(keys[:, None] < keys[:, :, None], tf.int32), 2)


def value_of_mover(mine: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The one of `values` [B, K] at which `mine` [B, K] is True, [B, 1]."""
    return tf.reduce_sum(tf.where(mine, values, 0), 1, keepdims=True)


def move_in_turn(
    bodies: tf.Tensor, wanted: tf.Tensor, turn: tf.Tensor, *others: tf.Tensor
) -> tf.Tensor:
    """Moves bodies one after the other into the cells that they want, if free by then.

    Args:
      bodies: [B, K] cells.
      wanted: [B, K] cells; who stays wants its own, which is taken, by itself.
      turn: [B, K], a permutation in each row.
      *others: [B, ...] cells of who does not move.

    Returns:
      [B, K] cells.
    """
    for k in range(bodies.shape[1]):
        mine = turn == k
        everybody = tf.concat([bodies, *others], 1)
        taken = tf.reduce_any(everybody == value_of_mover(mine, wanted), 1, keepdims=True)
        bodies = tf.where(mine & ~taken, wanted, bodies)
    return bodies
