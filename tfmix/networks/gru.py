"""The recurrent agent's arithmetic: a GRU between two linear layers, step by step and unrolled.

Linear, ReLU, GRU cell, Linear, the agent of every value-decomposition paper
since QMIX (Rashid et al. 2018, section 6.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class RecurrentWeights(NamedTuple):
    """I is the input size: O, then A with the last action, then N with the id.

    encode [I, H], encode_bias [H], gates [H, 3H], gates_bias [3H],
    recur [H, 3H], recur_bias [3H] (in the order reset, update, candidate),
    head [H, A], head_bias [A].
    """

    encode: tf.Tensor
    encode_bias: tf.Tensor
    gates: tf.Tensor
    gates_bias: tf.Tensor
    recur: tf.Tensor
    recur_bias: tf.Tensor
    head: tf.Tensor
    head_bias: tf.Tensor


class Gates(NamedTuple):
    """What a GRU cell computes on its way, each [M, H].

    `recurrent` is the candidate's share of the hidden state, before the reset
    gate is applied to it.
    """

    reset: tf.Tensor
    update: tf.Tensor
    candidate: tf.Tensor
    recurrent: tf.Tensor


def gru_gates(weights: RecurrentWeights, x: tf.Tensor, hidden: tf.Tensor) -> Gates:
    """The gates of a GRU cell whose reset gate stands behind the matrix product.

    The form of Cho et al. (2014) that cuDNN and PyTorch use.

    Args:
      x: [M, H], the encoded input.
      hidden: [M, H].
    """
    from_input = x @ weights.gates + weights.gates_bias
    from_hidden = hidden @ weights.recur + weights.recur_bias
    reset_x, update_x, candidate_x = tf.split(from_input, 3, axis=-1)
    reset_h, update_h, candidate_h = tf.split(from_hidden, 3, axis=-1)
    reset = tf.sigmoid(reset_x + reset_h)
    update = tf.sigmoid(update_x + update_h)
    return Gates(reset, update, tf.tanh(candidate_x + reset * candidate_h), candidate_h)


def recurrent_step(
    weights: RecurrentWeights, inputs: tf.Tensor, hidden: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of the agent network.

    Args:
      inputs: [M, I].
      hidden: [M, H].

    Returns:
      q [M, A] and the new hidden state [M, H].
    """
    q, hidden, _, _ = _step(weights, inputs, hidden)
    return q, hidden


def _step(
    weights: RecurrentWeights, inputs: tf.Tensor, hidden: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, Gates]:
    """`recurrent_step`, and the encoded input and the gates on the way."""
    x = tf.nn.relu(inputs @ weights.encode + weights.encode_bias)
    gates = gru_gates(weights, x, hidden)
    hidden = gates.update * hidden + (1.0 - gates.update) * gates.candidate
    return hidden @ weights.head + weights.head_bias, hidden, x, gates


def _scan(
    length: int,
    step: Callable[..., Any],
    carry: tf.Tensor,
    rows: list[tf.Tensor],
    widths: list[int],
) -> list[tf.Tensor]:
    """Calls `carry, outputs = step(carry, *rows[t])` for each t; returns the outputs.

    Args:
      length: T.
      step: of tensors [M, ...].
      carry: [M, H].
      rows: tensors [T, M, ...].
      widths: last axis of each output.

    Returns:
      the outputs, [T, M, width] each.
    """
    read = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in rows]
    shapes = [[carry.shape[0], width] for width in widths]
    write = [tf.TensorArray(carry.dtype, length, element_shape=shape) for shape in shapes]

    def body(t: tf.Tensor, carry: tf.Tensor, write: list[Any]) -> tuple[Any, Any, Any]:
        carry, outputs = step(carry, *(x.read(t) for x in read))
        return t + 1, carry, [w.write(t, x) for w, x in zip(write, outputs, strict=True)]

    start = (0, carry, write)
    _, _, write = tf.while_loop(lambda t, *_: t < length, body, start, maximum_iterations=length)
    return [x.stack() for x in write]


def recurrent_unroll(weights: RecurrentWeights, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs the agent network over whole episodes from a zero hidden state.

    With a gradient of its own: the way back only carries the hidden state's
    gradient, and every weight's gradient is one product over all steps at the
    end, where automatic differentiation does a small one at every step. The
    gates are kept for it; where no gradient is asked for, XLA drops them.

    Args:
      inputs: [T, M, I], time first, all sizes known.

    Returns:
      q [T, M, A] and the hidden states [T, M, H] behind each step.
    """

    @tf.custom_gradient
    def run(inputs: tf.Tensor, *flat: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        weights = RecurrentWeights(*flat)
        length, rows, _ = inputs.shape
        size, n_actions = weights.head.shape

        def forward(hidden: tf.Tensor, inputs: tf.Tensor) -> tuple[Any, list[tf.Tensor]]:
            q, hidden, x, gates = _step(weights, inputs, hidden)
            return hidden, [q, hidden, x, *gates]

        start = tf.zeros([rows, size])
        q, hidden, x, *gates = _scan(length, forward, start, [inputs], [n_actions] + [size] * 6)
        before = tf.concat([start[None], hidden[:-1]], 0)

        def gradient(of_q: tf.Tensor, of_hidden: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return _unroll_gradient(
                weights, inputs, x, before, hidden, Gates(*gates), of_q, of_hidden
            )

        return (q, hidden), gradient

    return run(inputs, *weights)


def _unroll_gradient(
    weights: RecurrentWeights,
    inputs: tf.Tensor,
    x: tf.Tensor,
    before: tf.Tensor,
    hidden: tf.Tensor,
    gates: Gates,
    of_q: tf.Tensor,
    of_hidden: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Gradients of `recurrent_unroll` in its inputs and in each of the weights.

    Args:
      weights: as there.
      inputs: [T, M, I].
      x: [T, M, H], encoded inputs.
      before: [T, M, H], hidden states ahead of each step.
      hidden: [T, M, H], behind each step.
      gates: [T, M, H] each.
      of_q: [T, M, A], the loss's gradient in q.
      of_hidden: [T, M, H], the loss's gradient in the hidden states.
    """
    length, _, size = before.shape

    def flat(y: tf.Tensor) -> tf.Tensor:
        return tf.reshape(y, [-1, y.shape[-1]])

    def weights_of(y: tf.Tensor, of_output: tf.Tensor) -> list[tf.Tensor]:
        return [tf.matmul(flat(y), of_output, transpose_a=True), tf.reduce_sum(of_output, 0)]

    of_q = flat(of_q)
    of_hidden += tf.reshape(tf.matmul(of_q, weights.head, transpose_b=True), hidden.shape)
    to_reset, to_update, to_recurrent = tf.split(tf.transpose(weights.recur), 3, axis=0)

    def backward(
        carry: tf.Tensor, of_h: tf.Tensor, before: tf.Tensor, *gates: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        reset, update, candidate, recurrent = gates
        of_h = of_h + carry
        of_update = of_h * (before - candidate) * update * (1.0 - update)
        of_candidate = of_h * (1.0 - update) * (1.0 - candidate * candidate)
        of_reset = of_candidate * recurrent * reset * (1.0 - reset)
        of_recurrent = of_candidate * reset
        # Three narrow products compile better than a wide one.
        carry = of_h * update + of_reset @ to_reset
        carry += of_update @ to_update + of_recurrent @ to_recurrent
        return carry, [of_reset, of_update, of_candidate, of_recurrent]

    back = [tf.reverse(y, [0]) for y in (of_hidden, before, *gates)]
    found = _scan(length, backward, tf.zeros_like(before[0]), back, [size] * 4)
    of_reset, of_update, of_candidate, of_recurrent = (flat(tf.reverse(y, [0])) for y in found)
    of_gates_x = tf.concat([of_reset, of_update, of_candidate], -1)
    of_gates_h = tf.concat([of_reset, of_update, of_recurrent], -1)
    of_x = tf.matmul(of_gates_x, weights.gates, transpose_b=True)
    of_x = tf.where(flat(x) > 0, of_x, tf.zeros_like(of_x))
    of_inputs = tf.matmul(of_x, weights.encode, transpose_b=True)
    return (
        tf.reshape(of_inputs, inputs.shape),
        *weights_of(inputs, of_x),
        *weights_of(x, of_gates_x),
        *weights_of(before, of_gates_h),
        *weights_of(hidden, of_q),
    )
