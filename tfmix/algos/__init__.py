"""The algorithms: `make(name, spec, config)` builds one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tfmix.config.schema import Config
from tfmix.errors import UserError
from tfmix.types import EnvSpec
from tfmix.utils.text import nearest

if TYPE_CHECKING:  # wrong requests are refused before TensorFlow is imported
    from tfmix.algos.base import Algorithm

# name: (module, class), so that names are known without importing TensorFlow.
REGISTRY: dict[str, tuple[str, str]] = {
    "iql": ("tfmix.algos.value_mixing", "Iql"),
    "vdn": ("tfmix.algos.value_mixing", "Vdn"),
    "qmix": ("tfmix.algos.qmix", "Qmix"),
    "qatten": ("tfmix.algos.qatten", "Qatten"),
    "cw_qmix": ("tfmix.algos.wqmix", "CwQmix"),
    "ow_qmix": ("tfmix.algos.wqmix", "OwQmix"),
    "qtran_base": ("tfmix.algos.qtran", "QtranBase"),
    "qtran_alt": ("tfmix.algos.qtran", "QtranAlt"),
    "qplex": ("tfmix.algos.qplex", "Qplex"),
}


def check_name(name: str) -> None:
    """Raise UserError, with the nearest name, if there is no such algorithm."""
    if name not in REGISTRY:
        raise UserError(f"there is no algorithm {name!r}{nearest(name, REGISTRY)}")


def make(name: str, spec: EnvSpec, config: Config) -> Algorithm:
    """Build an algorithm for a task.

    Raises:
      UserError: there is no algorithm of that name.
    """
    check_name(name)
    module, kind = REGISTRY[name]
    algorithm: Algorithm = getattr(importlib.import_module(module), kind)(spec, config)
    return algorithm
