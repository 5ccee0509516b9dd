"""Environments: `graph` compiles into the training loop, `python` is stepped from outside.

This module imports no TensorFlow.
"""

from tfmix.envs.factory import make_graph, make_python
from tfmix.envs.registry import CUSTOM, GRAPH, PYTHON, is_graph
from tfmix.envs.trust import check_trust, imports_user_code, is_trusted, trust

__all__ = [
    "CUSTOM",
    "GRAPH",
    "PYTHON",
    "check_trust",
    "imports_user_code",
    "is_graph",
    "is_trusted",
    "make_graph",
    "make_python",
    "trust",
]
