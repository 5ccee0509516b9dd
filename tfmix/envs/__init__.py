"""Environments: `graph` compiles into the training loop, `python` is stepped from outside.

This module imports no TensorFlow.
"""

from tfmix.envs.factory import check_graph, make_graph, make_python
from tfmix.envs.registry import CUSTOM, GRAPH, PYTHON, is_graph
from tfmix.envs.suggest import check_target
from tfmix.envs.trust import allow_import, check_import, imports_user_code, may_import

__all__ = [
    "CUSTOM",
    "GRAPH",
    "PYTHON",
    "allow_import",
    "check_graph",
    "check_import",
    "check_target",
    "imports_user_code",
    "is_graph",
    "make_graph",
    "make_python",
    "may_import",
]
