"""Says which kind of environment an object is. This is the only place that asks."""

from __future__ import annotations

import enum
import inspect
from typing import Any, TypeVar

from tfmix.types import RehearsingEnv

_BUILT_IN: set[type] = set()
Class = TypeVar("Class", bound=type)


class Kind(enum.Enum):
    """Kinds of environments; the protocols are in `tfmix.types`."""

    BUILT_IN = "a graph environment of tfmix, which needs no AutoGraph"
    GRAPH = "a user's graph environment, which may need AutoGraph"
    PYTHON = "a Python environment with the interface of tfmix"
    ADAPTED = "a Python environment that an adapter checks and can rehearse"

    @property
    def in_graph(self) -> bool:
        """Whether the environment is compiled into the training loop."""
        return self in (Kind.BUILT_IN, Kind.GRAPH)


def built_in(cls: Class) -> Class:
    """Mark a class as a graph environment of tfmix; subclasses are not marked by it."""
    _BUILT_IN.add(cls)
    return cls


def kind_of(env: Any) -> Kind:
    """Return the kind of an environment that tfmix can play.

    Args:
      env: a `GraphEnv` or a `PythonEnv`, as built by `make_graph`, `make_python`
        or `tfmix.envs.python.adapters.custom`.
    """
    if type(env) in _BUILT_IN:
        return Kind.BUILT_IN
    # Both interfaces have the same methods: `batch` is what only one of them takes.
    if "batch" in inspect.signature(env.reset).parameters:
        return Kind.GRAPH
    return Kind.ADAPTED if isinstance(env, RehearsingEnv) else Kind.PYTHON
