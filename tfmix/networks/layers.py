"""Layers whose weights can be drawn anew from a seed without compiling anew."""

from __future__ import annotations

import itertools

import tensorflow as tf
import tf_keras


class SeededLayer(tf_keras.layers.Layer):
    """A layer whose weights are drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    That is what PyTorch does for Linear (weights and biases) and for GRU
    cells (where the fan is H), and so what the field's published results
    started from. With no inputs (a task without a state) biases are drawn as
    with one: zero, as in PyTorch, would leave a hypernetwork of one layer without
    gradients. `reset_weights` of this module draws them.
    """

    def __init__(self, name: str):
        super().__init__(name=name)
        self.bounds: list[float] = []

    def add_uniform(self, name: str, shape: list[int], fan_in: int) -> tf.Variable:
        """A weight of this layer; zero until `reset_weights` is called."""
        self.bounds.append(max(fan_in, 1) ** -0.5)
        return self.add_weight(name=name, shape=shape, initializer="zeros")


def matmul(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x [..., I] times kernel [I, O] as one flat product, [..., O].

    Not `x @ kernel`: for x of more than two axes that is a batched product.
    Outside of XLA, TensorFlow 2.21 with oneDNN was seen to compute those
    wrongly and to crash ([9, 1, 2, 64] with [64, 64], on a CPU with AVX512);
    TF_ENABLE_ONEDNN_OPTS=0 cured it, and so does the flat product.
    """
    return tf.tensordot(x, kernel, 1)


class Linear(SeededLayer):
    """y = x W + b, over the last axis.

    Args:
      n_in: size of the last axis of x.
      n_out: size of the last axis of y.
      has_bias: whether there is a b.
    """

    def __init__(self, n_in: int, n_out: int, name: str = "linear", has_bias: bool = True):
        super().__init__(name)
        self.kernel = self.add_uniform("kernel", [n_in, n_out], n_in)
        self.bias = self.add_uniform("bias", [n_out], n_in) if has_bias else None
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps x [..., n_in] to [..., n_out]."""
        y = matmul(x, self.kernel)
        return y if self.bias is None else y + self.bias


class Mlp(tf_keras.layers.Layer):
    """Linear layers with ReLU between them and none behind the last.

    Args:
      sizes: of the input, of each hidden layer, of the output.
      last_bias: whether the last layer has a bias.
    """

    def __init__(self, sizes: list[int], name: str = "mlp", last_bias: bool = True):
        super().__init__(name=name)
        self.linears = [
            Linear(n, m, f"linear_{i}", last_bias or i < len(sizes) - 2)
            for i, (n, m) in enumerate(itertools.pairwise(sizes))
        ]
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps x [..., sizes[0]] to [..., sizes[-1]]."""
        for linear in self.linears[:-1]:
            x = tf.nn.relu(linear(x))
        return self.linears[-1](x)


class Networks(tf.Module):
    """The networks of one algorithm by name, `live` or `target`."""

    def __init__(self, **parts: tf_keras.layers.Layer):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def reset_weights(networks: tf.Module, seed: tf.Tensor) -> None:
    """Draws every weight of every `SeededLayer` in `networks` from `seed` [2]."""
    layers = [m for m in (networks, *networks.submodules) if isinstance(m, SeededLayer)]
    for index, layer in enumerate(layers):
        for number, (weight, bound) in enumerate(zip(layer.weights, layer.bounds, strict=True)):
            draw = tf.random.experimental.stateless_fold_in(seed, 100 * index + number)
            weight.assign(tf.random.stateless_uniform(weight.shape, draw, -bound, bound))
