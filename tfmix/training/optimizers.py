"""Adam and RMSprop with the steps that PyTorch has."""

from __future__ import annotations

import tensorflow as tf
import tf_keras


class TorchRMSprop(tf_keras.optimizers.RMSprop):
    """RMSprop with its epsilon outside of the root, as in PyTorch.

    Keras has it inside, where PyMARL's 1e-5 would be a floor of 3e-3 under the
    root of the mean square instead of 1e-5.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """One weight's step."""
        square = self._velocities[self._index_dict[self._var_key(variable)]]
        square.assign(self.rho * square + (1.0 - self.rho) * tf.square(gradient))
        variable.assign_sub(self.learning_rate * gradient / (tf.sqrt(square) + self.epsilon))
