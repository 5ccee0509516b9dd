"""tfmix: train teams of agents by value decomposition with TensorFlow.

run = tfmix.train(algo="qmix", env="two_step", env_steps=10_000)
run = tfmix.load("runs/two_step/qmix/...")
action = run.act(obs, legal)
returns = run.evaluate(100)
run.export()
rows = tfmix.benchmark(["vdn", "qmix"], ["two_step"], seeds=range(3))
print(tfmix.check_env("pettingzoo/pettingzoo.mpe.simple_spread_v3"))
"""

from __future__ import annotations

import os
import sys
from typing import Any

__version__ = "0.1.0"
__all__ = ["benchmark", "check_env", "load", "resume", "train"]

# Set where a worker process starts (tfmix.envs.python.workers.pool), and how one exits that trains.
WORKER, UNGUARDED = "TFMIX_WORKER", 77

# TF-Agents needs Keras 2, and TensorFlow reads this when it is imported.
_KERAS = os.environ.get("TF_USE_LEGACY_KERAS")
if "tensorflow" in sys.modules and _KERAS not in ("1", "true", "True"):
    raise ImportError(
        "tfmix needs Keras 2: import tfmix before tensorflow, or set TF_USE_LEGACY_KERAS=1"
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _refuse(*_: Any, **__: Any) -> None:
    """Ends a worker that imports a script which trains as it is imported."""
    sys.exit(UNGUARDED)


def __getattr__(name: str) -> Any:
    """Loads TensorFlow only when something that needs it is used."""
    if name in __all__ and WORKER in os.environ:
        return _refuse
    if name == "benchmark":  # starts processes, and needs no TensorFlow itself
        from tfmix.experiments import benchmark

        return benchmark
    if name == "check_env":  # Python's environments need none either
        from tfmix.envs.check import check_env

        return check_env
    if name in __all__:
        from tfmix.runs import requests

        return getattr(requests, name)
    raise AttributeError(f"module 'tfmix' has no attribute {name!r}")
