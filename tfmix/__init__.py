"""tfmix: train teams of agents by value decomposition with TensorFlow.

run = tfmix.train("two_step", "qmix", env_steps=10_000)
run = tfmix.load("runs/two_step/qmix/...")
action = run.act(obs, legal)
values = run.q_values(obs, legal)
returns = run.evaluate(100)
episodes = run.rollout(3)
curves = run.metrics()
run.export()
rows = tfmix.benchmark(["vdn", "qmix"], ["two_step"], seeds=range(3))
files = tfmix.plot("runs/benchmark")
rows = tfmix.list_runs("runs", sort="-best")
print(tfmix.check_env("pettingzoo/pettingzoo.mpe.simple_spread_v3"))
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from tfmix.errors import RunFailedError, UserError

if TYPE_CHECKING:
    from tfmix.envs.check import check_env
    from tfmix.experiments import benchmark
    from tfmix.experiments.plot import plot
    from tfmix.experiments.runs_table import list_runs
    from tfmix.runs.requests import load, resume, train
    from tfmix.runs.run import Run

__version__ = "0.1.0"
__all__ = [
    "Run",
    "RunFailedError",
    "UserError",
    "__version__",
    "benchmark",
    "check_env",
    "list_runs",
    "load",
    "plot",
    "resume",
    "train",
]
# The modules of the names that are imported when they are first used.
_PLACES = {
    "Run": "runs.run",
    "benchmark": "experiments",
    "check_env": "envs.check",
    "list_runs": "experiments.runs_table",
    "load": "runs.requests",
    "plot": "experiments.plot",
    "resume": "runs.requests",
    "train": "runs.requests",
}
_STARTERS = ("benchmark", "check_env", "load", "resume", "train")

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
    """End a worker that imports a script which trains as it is imported."""
    sys.exit(UNGUARDED)


def __dir__() -> list[str]:
    """List what is for users, so that Tab in a notebook shows it."""
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__"])


def __getattr__(name: str) -> Any:
    """Load TensorFlow only when something that needs it is used."""
    if name in _STARTERS and WORKER in os.environ:
        return _refuse
    if name not in _PLACES:
        raise AttributeError(f"module 'tfmix' has no attribute {name!r}")
    if name == "Run":
        from tfmix.utils.quiet import quiet_import

        quiet_import("tensorflow")
    return getattr(importlib.import_module(f"tfmix.{_PLACES[name]}"), name)
