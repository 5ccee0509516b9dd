"""What every architecture of an agent's network defines."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:  # workers act in NumPy and do not import TensorFlow
    import tensorflow as tf

    from tfmix.networks.agent_spec import AgentSpec


class Architecture(abc.ABC):
    """How an agent's network computes values from its inputs, in TensorFlow and in NumPy.

    A network maps inputs [..., I] to values q [..., A] and features [..., H]. Its
    inputs are the parts that `AgentSpec` lists: the observation, the last action,
    the agent's index. Its weights are the kernel and the bias of each layer of
    `layer_sizes`, in that order.

    To add an architecture, subclass this in a new file and list it in `REGISTRY` and
    `chosen_by` of `tfmix.networks.architectures`. `step`, `unroll` and `numpy_step`
    must agree; `tests/networks/test_networks.py` compares them.

    Attributes:
      name: of the architecture.
      settings: the settings that this architecture reads and others may not.
      recurrent: whether the features are the network's memory, an input of the next
        step. Otherwise it has no memory.
    """

    name: ClassVar[str]
    settings: ClassVar[frozenset[str]]
    recurrent: ClassVar[bool]

    @abc.abstractmethod
    def layer_sizes(self, agent_spec: AgentSpec) -> list[tuple[str, int, int]]:
        """Return name, inputs and outputs of each layer, in the order of the weights."""

    @abc.abstractmethod
    def step(
        self, weights: Sequence[tf.Tensor], inputs: tf.Tensor, memory: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute one step.

        Args:
          weights: kernel and bias of each layer.
          inputs: [M, I].
          memory: [M, H], or [M, 0] if the network has no memory.

        Returns:
          q [M, A] and features [M, H].
        """

    @abc.abstractmethod
    def unroll(
        self, weights: Sequence[tf.Tensor], parts: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute whole episodes from a zero memory, all sizes known.

        Args:
          weights: kernel and bias of each layer.
          parts: the parts of the inputs, [B, T, N, F] each or, if they are the same
            at every step, [N, F].

        Returns:
          q [B, T, N, A] and features [B, T, N, H].
        """

    @abc.abstractmethod
    def numpy_step(
        self,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        inputs: np.ndarray,
        memory: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute one step of M networks at once in NumPy.

        Args:
          layers: kernel [M, n_in, n_out] and bias [M, 1, n_out] of each layer.
          inputs: [M, R, I], R rows for each network.
          memory: [M, R, H], or [M, R, 0] if the network has no memory.

        Returns:
          q [M, R, A] and features [M, R, H].
        """
