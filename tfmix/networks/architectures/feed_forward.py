"""Feed-forward agents: linear layers with ReLU between them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfmix.networks.architectures.base import Architecture

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmix.networks.agent_spec import AgentSpec


class FeedForward(Architecture):
    """Linear layers with ReLU between them; the features are the last hidden layer's output."""

    name = "feed_forward"
    settings = frozenset({"hidden_size", "agent_layers"})
    recurrent = False

    def layer_sizes(self, agent_spec: AgentSpec) -> list[tuple[str, int, int]]:
        """Return `layers` hidden layers of H units each and the head."""
        h = agent_spec.hidden_size
        pairs = itertools.pairwise([agent_spec.n_inputs] + [h] * agent_spec.layers)
        hidden = [(f"hidden_{i}", n, m) for i, (n, m) in enumerate(pairs)]
        return [*hidden, ("head", h, agent_spec.n_actions)]

    def step(
        self, weights: Sequence[tf.Tensor], inputs: tf.Tensor, memory: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute one step; see `Architecture.step`."""
        import tensorflow as tf

        *hidden, (head, head_bias) = zip(weights[::2], weights[1::2], strict=True)
        x = inputs
        for kernel, bias in hidden:
            x = tf.nn.relu(x @ kernel + bias)
        return x @ head + head_bias, x

    def unroll(
        self, weights: Sequence[tf.Tensor], parts: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute whole episodes, all steps as one batch; see `Architecture.unroll`."""
        import tensorflow as tf

        lead = parts[0].shape[:-1]
        inputs = tf.concat([tf.broadcast_to(x, [*lead, x.shape[-1]]) for x in parts], -1)
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        q, features = self.step(weights, rows, rows[:, :0])
        return (
            tf.reshape(q, [*lead, q.shape[-1]]),
            tf.reshape(features, [*lead, features.shape[-1]]),
        )

    def numpy_step(
        self,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        inputs: np.ndarray,
        memory: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute one step in NumPy; see `Architecture.numpy_step`."""
        *hidden, (head, head_bias) = layers
        x = inputs
        for kernel, bias in hidden:
            x = np.maximum(x @ kernel + bias, 0.0)
        return x @ head + head_bias, x
