"""Implements RMSprop as in PyTorch."""

from __future__ import annotations

import tensorflow as tf
import tf_keras


class TorchRMSprop(tf_keras.optimizers.RMSprop):
    """RMSprop that adds epsilon to the root of the mean square, as in PyTorch.

    Keras adds it to the mean square. With PyMARL's 1e-5 the root would then be at
    least 3e-3, instead of 1e-5.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Do one step of a weight."""
        square = self._velocities[self._index_dict[self._var_key(variable)]]
        square.assign(self.rho * square + (1.0 - self.rho) * tf.square(gradient))
        variable.assign_sub(self.learning_rate * gradient / (tf.sqrt(square) + self.epsilon))
