"""Builds a run's networks, after a check of the memory that they need."""

from __future__ import annotations

import tensorflow as tf

from tfmix import algos
from tfmix.algos.base import Algorithm
from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.types import EnvSpec
from tfmix.utils import memory

COPIES = 5  # of the weights: live, target, the best team and two in the optimiser's state
SMALLER_NETWORKS = "set a smaller --hidden_size, or a smaller size of another network"


def check_networks(config: Config, spec: EnvSpec) -> None:
    """Check that the machine can hold the networks, before they take any memory.

    The networks are built in a graph that never runs: there, variables have shapes and
    no contents.

    Raises:
      UserError: less memory is available.
    """
    with tf.Graph().as_default():
        networks = algos.make(config.algo, spec, config).live
        weights = sum(w.shape.num_elements() * w.dtype.size for w in networks.variables)
    memory.check_memory(COPIES * weights, f"the networks for {spec.name}", SMALLER_NETWORKS)


def make_algorithm(config: Config, spec: EnvSpec) -> Algorithm:
    """Build the networks of a run.

    Raises:
      UserError: no such algorithm, or less memory is available than they need.
    """
    check_networks(config, spec)
    try:
        return algos.make(config.algo, spec, config)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise UserError(
            f"the networks need more memory than is available: {SMALLER_NETWORKS}"
        ) from error
