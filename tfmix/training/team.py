"""Builds a run's networks, after a look at the memory that they need."""

from __future__ import annotations

import tensorflow as tf

from tfmix import algos
from tfmix.algos.base import Algorithm
from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.types import EnvSpec
from tfmix.utils import memory

COPIES = 4  # of the weights: live, target and what an optimiser keeps
SMALLER_NETWORKS = "set a smaller --hidden_size, or the size of whatever else was made large"


def check_networks(config: Config, spec: EnvSpec) -> None:
    """Refuses networks that the machine cannot hold, before they take any memory.

    In a graph that is never run variables have shapes and no contents.

    Raises:
      UserError: less memory is available.
    """
    with tf.Graph().as_default():
        networks = algos.make(config.algo, spec, config).live
        weights = sum(w.shape.num_elements() * w.dtype.size for w in networks.variables)
    memory.check_memory(COPIES * weights, f"the networks for {spec.name}", SMALLER_NETWORKS)


def make_algorithm(config: Config, spec: EnvSpec) -> Algorithm:
    """Builds the networks of a run.

    Raises:
      UserError: no such algorithm, or less memory than they need.
    """
    check_networks(config, spec)
    try:
        return algos.make(config.algo, spec, config)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise UserError(
            f"the networks need more memory than there is: {SMALLER_NETWORKS}"
        ) from error
