"""Recurrent agents: linear layer, ReLU, GRU cell, linear layer.

This is the agent of every value-decomposition paper since QMIX (Rashid et al. 2018,
section 6.1). `tfmix.networks.gru` computes it in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfmix.networks.architectures.base import Architecture

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmix.networks.agent_spec import AgentSpec


class Gru(Architecture):
    """A GRU between two linear layers; the features are the GRU's hidden state."""

    name = "gru"
    settings = frozenset({"hidden_size"})
    recurrent = True

    def layer_sizes(self, agent_spec: AgentSpec) -> list[tuple[str, int, int]]:
        """Return the first layer, the GRU's two matrices and the head."""
        h = agent_spec.hidden_size
        return [
            ("encode", agent_spec.n_inputs, h),
            ("gates", h, 3 * h),
            ("recur", h, 3 * h),
            ("head", h, agent_spec.n_actions),
        ]

    def step(
        self, weights: Sequence[tf.Tensor], inputs: tf.Tensor, memory: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute one step; see `Architecture.step`."""
        from tfmix.networks.gru import RecurrentWeights, recurrent_step

        return recurrent_step(RecurrentWeights(*weights), inputs, memory)

    def unroll(
        self, weights: Sequence[tf.Tensor], parts: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute whole episodes; see `Architecture.unroll`.

        The first layer is a sum of one product for each part, so that the joined
        inputs of all steps are never stored.
        """
        import tensorflow as tf

        from tfmix.networks.gru import RecurrentWeights, recurrent_unroll
        from tfmix.networks.layers import matmul

        own = RecurrentWeights(*weights)
        batch, length, agents, _ = parts[0].shape
        kernels = tf.split(own.encode, [x.shape[-1] for x in parts])
        products = [matmul(x, kernel) for x, kernel in zip(parts, kernels, strict=True)]
        encoded = tf.transpose(sum(products, own.encode_bias), [1, 0, 2, 3])
        encoded = tf.reshape(encoded, [length, batch * agents, encoded.shape[-1]])
        q, hidden = recurrent_unroll(own, encoded)

        def by_episode(x: tf.Tensor) -> tf.Tensor:
            x = tf.reshape(x, [length, batch, agents, x.shape[-1]])
            return tf.transpose(x, [1, 0, 2, 3])

        return by_episode(q), by_episode(hidden)

    def numpy_step(
        self,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        inputs: np.ndarray,
        memory: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute one step in NumPy; see `Architecture.numpy_step` and `gru_gates`."""
        (encode, encode_bias), (gates, gates_bias), (recur, recur_bias), (head, head_bias) = layers
        size = memory.shape[-1]
        x = np.maximum(inputs @ encode + encode_bias, 0.0)
        from_input = x @ gates + gates_bias
        from_hidden = memory @ recur + recur_bias
        # The sigmoid of both gates, by a function that does not overflow.
        both = 0.5 * np.tanh(0.5 * (from_input + from_hidden)[..., : 2 * size]) + 0.5
        reset, update = both[..., :size], both[..., size:]
        candidate = np.tanh(from_input[..., 2 * size :] + reset * from_hidden[..., 2 * size :])
        hidden = candidate + update * (memory - candidate)
        return hidden @ head + head_bias, hidden
