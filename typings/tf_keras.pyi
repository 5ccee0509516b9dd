# The types of what tfmix uses of Keras 2, which ships none.

from typing import Any

import tensorflow as tf

class layers:
    class Layer(tf.Module):
        built: bool
        def __init__(self, name: str | None = None) -> None: ...
        # What `call` of a subclass takes. All layers of tfmix return one tensor.
        def __call__(self, *args: Any, **kwargs: Any) -> tf.Tensor: ...
        def add_weight(self, *, name: str, shape: list[int], initializer: str) -> tf.Variable: ...
        @property
        def weights(self) -> list[tf.Variable]: ...

class Model(layers.Layer):
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class optimizers:
    class Optimizer(tf.Module):
        learning_rate: tf.Variable
        def build(self, var_list: Any) -> None: ...
        def apply_gradients(self, grads_and_vars: Any) -> Any: ...

    class Adam(Optimizer):
        def __init__(
            self, learning_rate: float, epsilon: float, adaptive_epsilon: bool
        ) -> None: ...

    class RMSprop(Optimizer):
        rho: float
        epsilon: float
        _velocities: list[tf.Variable]
        _index_dict: dict[Any, int]
        def __init__(self, learning_rate: float, rho: float, epsilon: float) -> None: ...
        def _var_key(self, variable: tf.Variable) -> Any: ...
        def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None: ...
