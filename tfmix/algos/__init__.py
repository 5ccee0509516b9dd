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
    "qtran_base": ("tfmix.algos.qtran_base", "QtranBase"),
    "qtran_alt": ("tfmix.algos.qtran_alt", "QtranAlt"),
    "qplex": ("tfmix.algos.qplex", "Qplex"),
}


def find(name: str) -> str:
    """Return the name of an algorithm; `QMIX` and `qtran-alt` serve for `qmix` and `qtran_alt`.

    Raises:
      UserError: there is no such algorithm; the text has the nearest name and all names.
    """
    folded = str(name).lower().replace("-", "_")
    if folded in REGISTRY:
        return folded
    if "," in folded:
        raise UserError(f"--algo={name} names several: --mode=benchmark trains each of them")
    close = nearest(folded, REGISTRY)
    every = f"{' T' if close else '; t'}here are {', '.join(REGISTRY)}"
    raise UserError(f"there is no algorithm {name!r}{close}{every}")


def make(name: str, spec: EnvSpec, config: Config) -> Algorithm:
    """Build an algorithm for a task.

    Raises:
      UserError: there is no algorithm of that name.
    """
    module, kind = REGISTRY[find(name)]
    algorithm: Algorithm = getattr(importlib.import_module(module), kind)(spec, config)
    return algorithm
