"""The recurrent agent in TensorFlow: a GRU between two linear layers, one step and unrolled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class RecurrentWeights(NamedTuple):
    """Holds the weights of one network.

    I is the input size: O, then A with the last action, then N with the id.

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


# The weights of the GRU itself.
GRU_WEIGHTS = ("gates", "gates_bias", "recur", "recur_bias")


class Gates(NamedTuple):
    """Holds the intermediate results of a GRU cell, [M, H] each.

    `recurrent` is the part of the candidate that comes from the hidden state, before
    the reset gate multiplies it.
    """

    reset: tf.Tensor
    update: tf.Tensor
    candidate: tf.Tensor
    recurrent: tf.Tensor


def gru_gates(weights: RecurrentWeights, x: tf.Tensor, hidden: tf.Tensor) -> Gates:
    """Compute the gates of a GRU cell that applies the reset gate after the matrix product.

    This is the form of Cho et al. (2014) that cuDNN and PyTorch use:

      r = sigmoid(x W_r + h U_r + b_r), z = sigmoid(x W_z + h U_z + b_z),
      c = tanh(x W_c + b_c + r (h U_c + d_c))

    Args:
      weights: of the network.
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
    """Compute one step of the agent network.

    Args:
      weights: of the network.
      inputs: [M, I].
      hidden: [M, H].

    Returns:
      q [M, A] and the new hidden state [M, H].
    """
    x = tf.nn.relu(inputs @ weights.encode + weights.encode_bias)
    hidden = next_hidden(gru_gates(weights, x, hidden), hidden)
    return hidden @ weights.head + weights.head_bias, hidden


def next_hidden(gates: Gates, hidden: tf.Tensor) -> tf.Tensor:
    """Compute the hidden state after a step, h' = z h + (1 - z) c; [M, H] all."""
    return gates.update * hidden + (1.0 - gates.update) * gates.candidate


def recurrent_unroll(weights: RecurrentWeights, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Run the agent network over whole episodes from a zero hidden state.

    Args:
      weights: of the network; those of the first layer are not read.
      encoded: [T, M, H], the first layer's output before the ReLU, time first,
        all sizes known.

    Returns:
      q [T, M, A] and the hidden states [T, M, H] after each step.
    """
    length, rows, size = encoded.shape
    hidden = _gru_unroll(weights, encoded)
    q = tf.reshape(hidden, [-1, size]) @ weights.head + weights.head_bias
    return tf.reshape(q, [length, rows, q.shape[-1]]), hidden


def _scan(
    step: Callable[..., tuple[list[tf.Tensor], list[tf.Tensor]]],
    carry: list[tf.Tensor],
    rows: list[tf.Tensor],
    outputs: int,
    backward: bool = False,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Call `carry, outputs = step(carry, *(x[t] for x in rows))` for each t.

    Args:
      step: returns the next carry and `outputs` tensors [M, H].
      carry: the first carry, tensors of any shape.
      rows: tensors [T, M, H].
      outputs: the number of tensors that a step returns in addition to the carry.
      backward: from the last t to the first.

    Returns:
      the last carry and the outputs, [T, M, H] each, in the order of time.
    """
    length, *shape = rows[0].shape
    dtype = rows[0].dtype
    read = [tf.TensorArray(dtype, length, element_shape=shape).unstack(x) for x in rows]
    write = [tf.TensorArray(dtype, length, element_shape=shape) for _ in range(outputs)]

    def body(i: tf.Tensor, carry: list[tf.Tensor], write: list[Any]) -> tuple[Any, Any, Any]:
        t = length - 1 - i if backward else i  # reads in reverse order, no reversed copies
        carry, found = step(carry, *(x.read(t) for x in read))
        return i + 1, carry, [w.write(t, x) for w, x in zip(write, found, strict=True)]

    start = (0, carry, write)
    _, carry, write = tf.while_loop(
        lambda i, *_: i < length, body, start, maximum_iterations=length
    )
    return carry, [x.stack() for x in write]


def _gru_unroll(weights: RecurrentWeights, encoded: tf.Tensor) -> tf.Tensor:
    """Compute the hidden states [T, M, H] of `recurrent_unroll`, with a custom gradient.

    The forward pass keeps the gates for it (XLA drops them if no gradient is needed).
    The backward pass accumulates the weights' gradients step by step. Automatic
    differentiation would store and read several times as much.
    """
    start = tf.zeros(encoded.shape[1:])

    @tf.custom_gradient
    def run(encoded: tf.Tensor, *flat: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        own = weights._replace(**dict(zip(GRU_WEIGHTS, flat, strict=True)))

        def forward(carry: list[tf.Tensor], encoded: tf.Tensor) -> tuple[Any, Any]:
            gates = gru_gates(own, tf.nn.relu(encoded), carry[0])
            hidden = next_hidden(gates, carry[0])
            return [hidden], [hidden, *gates]

        _, (hidden, *gates) = _scan(forward, [start], [encoded], outputs=5)

        def gradient(of_hidden: tf.Tensor) -> tuple[tf.Tensor, ...]:
            before = tf.concat([start[None], hidden[:-1]], 0)
            return _gru_gradient(own, [of_hidden, encoded, before, *gates])

        return hidden, gradient

    return run(encoded, *(getattr(weights, name) for name in GRU_WEIGHTS))


def _gru_gradient(weights: RecurrentWeights, rows: list[tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """Compute the gradients of `_gru_unroll` with respect to its input and `GRU_WEIGHTS`.

    Args:
      weights: of the network.
      rows: [T, M, H] each: the loss's gradient with respect to the hidden states, the
        encoded inputs, the hidden states before each step, the gates.
    """
    to_reset, to_update, to_recurrent = tf.split(tf.transpose(weights.recur), 3, axis=0)
    to_x = tf.transpose(weights.gates)

    def backward(
        carry: list[tf.Tensor],
        of_hidden: tf.Tensor,
        encoded: tf.Tensor,
        before: tf.Tensor,
        *gates: tf.Tensor,
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        reset, update, candidate, recurrent = gates
        of_hidden += carry[0]
        of_update = of_hidden * (before - candidate) * update * (1.0 - update)
        of_candidate = of_hidden * (1.0 - update) * (1.0 - candidate * candidate)
        of_reset = of_candidate * recurrent * reset * (1.0 - reset)
        of_recurrent = of_candidate * reset
        of_before = of_hidden * update + of_reset @ to_reset
        of_before += of_update @ to_update + of_recurrent @ to_recurrent
        of_from_input = tf.concat([of_reset, of_update, of_candidate], -1)
        of_from_hidden = tf.concat([of_reset, of_update, of_recurrent], -1)
        added = [
            tf.matmul(tf.nn.relu(encoded), of_from_input, transpose_a=True),
            tf.reduce_sum(of_from_input, 0),
            tf.matmul(before, of_from_hidden, transpose_a=True),
            tf.reduce_sum(of_from_hidden, 0),
        ]
        sums = [x + y for x, y in zip(carry[1:], added, strict=True)]
        of_encoded = tf.where(encoded > 0, of_from_input @ to_x, tf.zeros_like(encoded))
        return [of_before, *sums], [of_encoded]

    start = [tf.zeros_like(rows[0][0])]
    start += [tf.zeros_like(getattr(weights, name)) for name in GRU_WEIGHTS]
    (_, *sums), (of_encoded,) = _scan(backward, start, rows, outputs=1, backward=True)
    return of_encoded, *sums
