"""Layers whose weights a seed sets, without another compilation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import tensorflow as tf
import tf_keras

if TYPE_CHECKING:
    from tfmix.networks.agent import AgentTeam


class SeededLayer(tf_keras.layers.Layer):
    """A layer whose weights are drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    PyTorch does the same for Linear (kernels and biases) and for GRU cells (with H as
    fan-in), and the field's published results started from such weights. A layer without
    inputs (a task without a state) draws its bias as if it had one input: with zero, as in
    PyTorch, a hypernetwork of one layer would get no gradients. `reset_weights` draws.
    """

    def __init__(self, name: str):
        super().__init__(name=name)
        self.bounds: list[float] = []

    def add_uniform(self, name: str, shape: list[int], fan_in: int) -> tf.Variable:
        """Add a weight, which is zero until `reset_weights` is called."""
        self.bounds.append(max(fan_in, 1) ** -0.5)
        return self.add_weight(name=name, shape=shape, initializer="zeros")


def matmul(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Multiply x [..., I] by kernel [I, O] as one flat product, [..., O].

    `x @ kernel` would be a batched product if x has more than two axes. Without XLA,
    TensorFlow 2.21 with oneDNN computed some of those wrongly and crashed ([9, 1, 2, 64] with
    [64, 64], on a CPU with AVX512). TF_ENABLE_ONEDNN_OPTS=0 avoids that, and so does the flat
    product.
    """
    return tf.tensordot(x, kernel, 1)


class Linear(SeededLayer):
    """Computes y = x W + b over the last axis.

    Args:
      n_in: size of the last axis of x.
      n_out: size of the last axis of y.
      has_bias: whether there is a b; otherwise `bias` is None.
    """

    def __init__(self, n_in: int, n_out: int, name: str = "linear", has_bias: bool = True):
        super().__init__(name)
        self.has_bias = has_bias
        self.kernel = self.add_uniform("kernel", [n_in, n_out], n_in)
        self.bias: tf.Variable = None  # type: ignore[assignment]  # who reads it asked for it
        if has_bias:
            self.bias = self.add_uniform("bias", [n_out], n_in)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Map x [..., n_in] to [..., n_out]."""
        y = matmul(x, self.kernel)
        return y + self.bias if self.has_bias else y


class Mlp(tf_keras.layers.Layer):
    """Linear layers with ReLU between them and none after the last.

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
        """Map x [..., sizes[0]] to [..., sizes[-1]]."""
        for linear in self.linears[:-1]:
            x = tf.nn.relu(linear(x))
        return self.linears[-1](x)


class Networks(tf.Module):
    """Holds the networks of one algorithm by name, `live` or `target`.

    Attributes:
      agent: the agents' networks. Subclasses name the other networks.
    """

    agent: AgentTeam

    def __init__(self, **parts: tf_keras.layers.Layer):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def reset_weights(networks: tf.Module, seed: tf.Tensor) -> None:
    """Draw every weight of every `SeededLayer` in `networks` from `seed`, [2] int."""
    layers = [m for m in (networks, *networks.submodules) if isinstance(m, SeededLayer)]
    for index, layer in enumerate(layers):
        for number, (weight, bound) in enumerate(zip(layer.weights, layer.bounds, strict=True)):
            draw = tf.random.experimental.stateless_fold_in(seed, 100 * index + number)
            weight.assign(tf.random.stateless_uniform(weight.shape, draw, -bound, bound))
